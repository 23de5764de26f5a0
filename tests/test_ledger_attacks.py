"""Ways to lose money with a ledger that were tried; none of them works any more."""

from collections.abc import Callable
from functools import partial

import pytest

from wegetfinancing import ConfigurationError, Credentials, Outcome, parse_postback
from wegetfinancing._ledger.operators import REVIEW_LIMIT
from wegetfinancing._loan import Verdict
from wegetfinancing.ledger import ApplicationState, Decision, Loan, MemoryLedger
from wegetfinancing.testing import INV_ID, signed_postback
from wegetfinancing.testing.contract.ledger_checking import (
    MERCHANT,
    ORDER,
    Shop,
    application,
    apply_for,
    created,
    postback,
)


def loan_of(ledger: MemoryLedger, order_id: str = ORDER) -> Loan:
    loan = ledger.loan(order_id)
    assert loan is not None
    return loan


def codes(ledger: MemoryLedger) -> list[str]:
    return [each.code for each in loan_of(ledger).held]


def applied(ledger: MemoryLedger) -> None:
    apply_for(ledger)


def handle(ledger: MemoryLedger) -> None:
    claim = ledger.claim()
    assert claim is not None
    assert ledger.apply(claim)


def test_nobody_is_sent_to_a_new_order_id_when_the_absent_application_turns_up() -> None:
    """``CLOSED`` says that nothing exists and that a new order ID is to be used: a second loan."""
    ledger = MemoryLedger(grace=0.001)
    ledger.begin(application(seconds=-1))
    ledger.resolve(ORDER)
    assert ledger.begin(application()).verdict is Verdict.CLOSED
    ledger.record(postback())
    assert ledger.begin(application()).verdict is Verdict.EXISTS


def test_an_order_whose_intent_was_lost_during_the_call_is_not_applied_for_again() -> None:
    """A failover has forgotten the intent, and the call has failed so that nobody knows."""
    intent = application()
    MemoryLedger().begin(intent)
    ledger = MemoryLedger()
    for outcome in (Outcome.NOT_SENT, Outcome.REFUSED):
        assert ledger.record_failure(intent, outcome) is None
    loan = ledger.record_failure(intent, Outcome.UNKNOWN)
    assert loan is not None
    assert loan.state is ApplicationState.UNKNOWN
    assert ledger.begin(application()).verdict is Verdict.UNKNOWN
    assert [each.order_id for each in ledger.review().loans] == [ORDER]


def test_a_decision_that_is_delivered_again_finds_the_order_that_is_known_by_now() -> None:
    """Only a worker looked again: without one the vendor heard 500 for ever, and nothing was handled."""
    ledger = MemoryLedger(apply=Shop())
    assert ledger.record(postback()).order_id is None
    ledger.record_failure(application(), Outcome.UNKNOWN)  # whose intent a failover has lost
    assert ledger.record(postback()).order_id == ORDER
    assert loan_of(ledger).state is ApplicationState.CREATED
    handle(ledger)


async def awaited(_connection: object, _decision: Decision) -> None:
    """An apply as somebody writes it who awaits everything else."""


@pytest.mark.parametrize("apply", [awaited, partial(awaited)], ids=["async def", "partial"])
def test_an_apply_that_is_async_is_refused(apply: Callable[..., object]) -> None:
    """Nobody awaits it: every decision would count as handled, and nothing would ever happen."""
    with pytest.raises(ConfigurationError, match="apply must be 'def apply"):
        MemoryLedger(apply=apply)


def test_an_apply_that_returns_an_awaitable_has_failed() -> None:
    def wrapped(connection: object, decision: Decision) -> object:
        return awaited(connection, decision)

    ledger = MemoryLedger(apply=wrapped)
    applied(ledger)
    claim = ledger.claim(ledger.record(postback()).id)
    assert claim is not None
    assert not ledger.apply(claim)
    assert [each.error for each in ledger.review().decisions] == ["ConfigurationError"]


def test_a_decision_about_another_application_of_the_order_is_held() -> None:
    """The first application was rejected; the approval of the second one must not ship the first one's."""
    ledger = MemoryLedger(apply=Shop())
    intent = application()
    ledger.begin(intent)
    ledger.record(postback(inv_id="second"))  # it names the order, and comes before the answer
    ledger.record_answer(intent, created())
    ledger.record(postback("rejected", signed=2, merchant_transaction_id=None))
    assert ledger.accept(ORDER, loan_of(ledger).held).status == "rejected"
    ledger.record(postback("preapproved", signed=3, inv_id="second", merchant_transaction_id=None))
    loan = loan_of(ledger)
    assert (loan.inv_id, loan.status) == (INV_ID, "rejected")
    assert codes(ledger) == ["other_application"]
    assert ledger.accept(ORDER, loan.held, apply=True).status == "preapproved"


def test_a_held_decision_cannot_be_handled_before_a_later_one_that_waits() -> None:
    """The rejection stands, and the shop's table would end with the approval, which is handled after it."""
    shop = Shop()
    ledger = MemoryLedger(apply=shop)
    applied(ledger)
    ledger.record(postback("preapproved", signed=5))
    handle(ledger)
    ledger.record(postback("rejected", signed=3))
    ledger.record(postback("approved", signed=6))
    with pytest.raises(ValueError, match="waits for its handler"):
        ledger.accept(ORDER, loan_of(ledger).held, apply=True)
    handle(ledger)
    assert ledger.accept(ORDER, loan_of(ledger).held, apply=True).status == "rejected"
    handle(ledger)
    assert shop.statuses == ["preapproved", "approved", "rejected"]


def test_an_application_of_a_merchant_without_an_order_is_not_adopted_for_another() -> None:
    """After a restore, say: an operator adopts it, and the list of what waits is longer than is shown."""
    ledger = MemoryLedger()
    applied(ledger)
    for number in range(REVIEW_LIMIT + 1):
        ledger.record(postback(inv_id=f"waiting-{number}", merchant_transaction_id=None))
    other = Credentials("5678", "other", "invented")
    made = signed_postback("approved", inv_id="theirs", timestamp="1700000001", credentials=other)
    ledger.record(parse_postback(made.body, made.headers, other))
    with pytest.raises(ConfigurationError, match="say whose order it is"):
        ledger.adopt("ORDER-9", "theirs", "499")
    ledger.adopt("ORDER-8", "ours", "499")
    assert ledger.adopt("ORDER-9", "theirs", "499", merchant_id="5678").merchant_id == "5678"


@pytest.mark.parametrize("ahead", [3600.0, 365 * 86_400.0])
def test_a_clock_that_was_ahead_for_a_while_blocks_nothing_for_long(ahead: float) -> None:
    """A decision was claimed, and an order written down, just before the clock was set right."""
    times = [1_700_000_000.0 + ahead]
    ledger = MemoryLedger(apply=Shop(), clock=lambda: times[-1])
    applied(ledger)
    ledger.record(postback())
    assert ledger.claim() is not None  # and its process is killed
    ledger.begin(application("ORDER-124"))
    times.append(times[0] - ahead + 86_400)
    handle(ledger)
    assert [each.order_id for each in ledger.review().loans] == ["ORDER-124"]
    assert ledger.resolve("ORDER-124").state is ApplicationState.ABSENT


def test_a_clock_that_was_ahead_when_an_order_was_written_down_lets_it_be_forgotten() -> None:
    times = [1_700_000_000.0 + 365 * 86_400]
    ledger = MemoryLedger(clock=lambda: times[-1])
    ledger.begin(application())
    times.append(1_700_000_000.0)
    ledger.forget(ORDER)
    assert loan_of(ledger).forgotten


def test_a_worker_whose_clock_was_ahead_when_it_was_killed_is_not_alive() -> None:
    """Otherwise the vendor would be answered OK, and nobody would try again, for as long as it was ahead."""
    times = [1_700_000_000.0 + 3600]
    ledger = MemoryLedger(apply=Shop(), clock=lambda: times[-1])
    ledger.beat("killed")
    times.append(1_700_000_000.0)
    assert not ledger.has_worker()
    ledger.beat("alive")
    assert ledger.has_worker()


def in_conflict() -> MemoryLedger:
    """An approval that counts, and a rejection that was signed before it and is held."""
    ledger = MemoryLedger(apply=Shop())
    applied(ledger)
    ledger.record(postback("approved", signed=2))
    handle(ledger)
    ledger.record(postback("rejected", signed=1))
    assert codes(ledger) == ["conflict"]
    return ledger


def test_a_decision_whose_hold_was_accepted_before_can_still_be_let_count() -> None:
    """An operator accepts, looks once more, and says that the rejection counts: nothing may ship then."""
    ledger = in_conflict()
    holds = loan_of(ledger).held
    assert ledger.accept(ORDER, holds).may_ship
    loan = ledger.accept(ORDER, holds, apply=True)
    assert (loan.status, loan.may_ship) == ("rejected", False)
    handle(ledger)
    assert ledger.accept(ORDER, holds, apply=True).status == "rejected"  # once more changes nothing
    assert ledger.claim() is None


def test_a_decision_that_was_dismissed_is_not_said_to_count() -> None:
    ledger = in_conflict()
    ledger.dismiss(2)
    with pytest.raises(ValueError, match="decision 2 was dismissed"):
        ledger.accept(ORDER, loan_of(ledger).held, apply=True)
    assert not loan_of(ledger).may_ship


def test_a_lease_that_looks_like_a_wrong_clock_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at most a day"):
        MemoryLedger(lease=86_401)


@pytest.mark.parametrize("order_id", [ORDER, None], ids=["that names its order", "that names none"])
def test_an_adoption_is_not_lost_to_a_postback_that_came_before(order_id: str | None) -> None:
    """The loan was read again when the postback was matched, without what the adoption had changed."""
    ledger = MemoryLedger()
    ledger.record(postback(merchant_transaction_id=order_id))
    adopted = ledger.adopt(ORDER, INV_ID, "499.00", merchant_id=MERCHANT)
    assert (adopted.state, adopted.inv_id, adopted.status) == (ApplicationState.CREATED, INV_ID, "approved")
    assert adopted.may_ship
    assert loan_of(ledger) == adopted


@pytest.mark.parametrize("knows_them", ["create", "adopt"])
def test_decisions_that_named_their_order_before_it_was_there_are_each_handled_once(knows_them: str) -> None:
    """All but the first one were received twice: held as if they had come again, and never handled."""
    shop = Shop()
    ledger = MemoryLedger(apply=shop)
    ledger.record(postback("preapproved"))
    ledger.record(postback("approved", signed=2))
    ledger.record(postback("refund", signed=3, amount="50.00"))
    if knows_them == "create":
        assert ledger.begin(application()).verdict is Verdict.EXISTS
    else:
        ledger.adopt(ORDER, INV_ID, merchant_id=MERCHANT)
    for _ in range(3):
        handle(ledger)
    assert shop.statuses == ["preapproved", "approved", "refund"]
    assert codes(ledger) == ["amount_not_seen", "refund"]
    assert loan_of(ledger).refunded == 50


def test_a_postback_that_came_before_does_not_change_which_application_is_adopted() -> None:
    ledger = MemoryLedger()
    ledger.record(postback(inv_id="another"))
    adopted = ledger.adopt(ORDER, INV_ID, "499.00", merchant_id=MERCHANT)
    assert (adopted.inv_id, adopted.status) == (INV_ID, None)
    assert codes(ledger) == ["foreign_inv_id"]
