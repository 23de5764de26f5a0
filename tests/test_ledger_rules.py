"""The rules of the ledger in the corners that the contract does not visit."""

import contextlib
import datetime as dt
import decimal
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import attrs
import pytest

from support.ledgers import leave_three_to_review, orders_to_review
from wegetfinancing import (
    CartItem,
    ConfigurationError,
    LedgerError,
    Outcome,
    parse_postback,
    sign_postback,
)
from wegetfinancing._ledger import decisions, matching, rows
from wegetfinancing._ledger.rows import Transaction
from wegetfinancing._ledger.rules import pause_after
from wegetfinancing._loan import Verdict
from wegetfinancing.client.intents import application_of
from wegetfinancing.ledger import ApplicationState, Loan, MemoryLedger
from wegetfinancing.testing import INV_ID, credentials, financing_request
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


def codes(ledger: MemoryLedger, order_id: str = ORDER) -> list[str]:
    return [each.code for each in loan_of(ledger, order_id).held]


def applied(ledger: MemoryLedger, order_id: str = ORDER, inv_id: str = INV_ID) -> None:
    apply_for(ledger, order_id, inv_id)


def test_nobody_waits_for_a_process_that_is_gone() -> None:
    now = [1_700_000_000.0]
    ledger = MemoryLedger(clock=lambda: now[0])
    intent = application(seconds=30.0)
    ledger.begin(intent)
    now[0] += 33.0  # its result may be on its way into the database
    assert ledger.begin(application()).verdict is Verdict.WAIT
    now[0] += 3.0
    begun = ledger.begin(application())
    assert (begun.verdict, begun.loan.state) == (Verdict.UNKNOWN, ApplicationState.SENDING)
    assert ledger.record_answer(intent, created()).state is ApplicationState.CREATED  # it was only slow
    assert ledger.begin(application()).verdict is Verdict.STORED


def test_who_does_not_name_a_merchant_is_told_two_that_the_ledger_knows() -> None:
    ledger = MemoryLedger()
    for merchant_id in (MERCHANT, "mistyped"):
        ledger.begin(application(merchant_id=merchant_id))
    with pytest.raises(ConfigurationError, match=f"several merchants, such as {MERCHANT} and mistyped; say"):
        ledger.loan(ORDER)


def test_an_answer_whose_intent_a_restore_has_lost_is_recorded() -> None:
    ledger = MemoryLedger()
    loan = ledger.record_answer(application(), created())
    assert (loan.state, loan.inv_id, loan.amount) == (ApplicationState.CREATED, INV_ID, Decimal(499))
    assert ledger.begin(application()).verdict is Verdict.STORED
    assert ledger.record_failure(application("ORDER-9"), Outcome.NOT_SENT) is None


def test_an_answer_that_names_another_id_than_a_postback_is_held() -> None:
    ledger = MemoryLedger()
    intent = application()
    ledger.begin(intent)
    ledger.record(postback(inv_id="said"))
    ledger.record_answer(intent, created("answered"))
    assert codes(ledger) == ["foreign_inv_id"]
    assert not loan_of(ledger).may_ship


def test_a_postback_that_names_another_id_than_the_answer_is_held_and_not_handled() -> None:
    ledger = MemoryLedger(apply=Shop())
    applied(ledger)
    ledger.record(postback())
    assert ledger.record(postback("rejected", signed=2, inv_id="other")).settled
    ledger.record(postback("refund", signed=3, inv_id="other"))
    assert codes(ledger) == ["foreign_inv_id"]
    assert loan_of(ledger).status == "approved"
    assert [each.state for each in ledger.review().decisions] == ["held", "held"]


def test_an_early_postback_that_named_another_order_holds_both() -> None:
    ledger = MemoryLedger()
    first = application()
    ledger.begin(first)
    ledger.record(postback(merchant_transaction_id="ORDER-124"))
    ledger.record(postback("rejected", merchant_transaction_id="ORDER-125"))
    applied(ledger, "ORDER-126", "another")
    other = application("ORDER-124")
    assert ledger.begin(other).verdict is Verdict.EXISTS
    loan = ledger.record_answer(first, created())
    assert [each.code for each in loan.held] == ["foreign_inv_id"]
    assert "foreign_inv_id" in codes(ledger, "ORDER-124")
    assert ledger.begin(application("ORDER-125")).verdict is Verdict.SEND


def test_an_unmatched_postback_of_another_order_is_held_when_its_id_is_adopted() -> None:
    ledger = MemoryLedger()
    ledger.record(postback(merchant_transaction_id="ORDER-124"))
    ledger.adopt(ORDER, INV_ID, 499, merchant_id=MERCHANT)
    assert codes(ledger) == ["foreign_inv_id"]
    assert loan_of(ledger).status is None


def test_what_a_postback_has_named_while_it_was_sending_is_not_called_unsent() -> None:
    ledger = MemoryLedger()
    applied(ledger)
    intent = application("ORDER-124")
    ledger.begin(intent)
    ledger.record(postback(merchant_transaction_id="ORDER-124"))  # with the ID of the other order
    loan = ledger.record_failure(intent, Outcome.NOT_SENT)
    assert loan is not None
    assert loan.state is ApplicationState.UNKNOWN


def test_postbacks_are_matched_again_when_their_order_turned_up_meanwhile() -> None:
    """As when a create's intent and a postback were committed at the same time."""
    ledger = MemoryLedger(apply=Shop())
    recorded = ledger.record(postback())
    intent = application()
    with ledger.transaction(write=True) as tx:
        early = tx.decision(recorded.id)
        assert early is not None
        tx.save_decision(attrs.evolve(early, order_id="hidden", inv_id="hidden"))
    ledger.begin(intent)
    with ledger.transaction(write=True) as tx:
        tx.save_decision(early)
    assert ledger.match_again() == 1
    assert ledger.match_again() == 0
    assert loan_of(ledger).status == "approved"


def test_an_amount_that_nobody_expected_is_held() -> None:
    ledger = MemoryLedger()
    loan = ledger.adopt(ORDER, INV_ID, merchant_id=MERCHANT)
    assert [each.code for each in loan.held] == ["amount_not_seen"]
    loan = ledger.adopt(ORDER, INV_ID, "12.50")
    assert [each.code for each in loan.held] == ["amount_not_expected"]
    assert ledger.accept(ORDER, loan.held).held == ()


def test_a_refund_that_names_no_amount_is_a_fact_too() -> None:
    ledger = MemoryLedger(apply=Shop())
    applied(ledger)
    ledger.record(postback("refund"))
    loan = loan_of(ledger)
    assert (loan.refunded, [each.code for each in loan.held]) == (Decimal(0), ["refund"])
    assert "an amount that it does not name" in loan.held[0].text


@pytest.fixture
def coarse_decimals() -> Iterator[None]:
    """An application that calculates with four digits."""
    with decimal.localcontext(decimal.Context(prec=4)):
        yield


@pytest.mark.usefixtures("coarse_decimals")
def test_amounts_are_added_to_the_cent_whatever_context_the_application_has_set() -> None:
    item = CartItem(display_name="Sofa", unit_price="1234.56", unit_tax="1234.56", quantity=3)
    intent = application_of(financing_request(cart_items=[item]), MERCHANT, None, 30.0)
    assert (intent.expected_amount, intent.taxes) == (Decimal("3703.68"), Decimal("3703.68"))
    ledger = MemoryLedger(apply=Shop())
    ledger.begin(intent)
    ledger.record_answer(intent, created(amount=Decimal("7407.36")))
    assert loan_of(ledger).held == ()
    ledger.record(postback("refund", signed=1, amount="1234.56"))
    ledger.record(postback("refund", signed=2, amount="0.06"))
    assert loan_of(ledger).refunded == Decimal("1234.62")


def test_where_a_list_is_cut_off_what_a_customer_waits_for_comes_first() -> None:
    ledger = MemoryLedger(apply=Shop())
    leave_three_to_review(ledger)
    listed = [orders_to_review(ledger, limit) for limit in (1, 2, 3)]
    assert listed == [["ORDER-2"], ["ORDER-2", "ORDER-3"], ["ORDER-2", "ORDER-3", "ORDER-1"]]


@pytest.mark.parametrize("amount", [Decimal(499), None], ids=["seen", "accepted without being seen"])
def test_an_order_whose_loan_was_refunded_as_a_whole_never_ships(amount: Decimal | None) -> None:
    """An operator accepts its holds to have them off the list, not to give the goods away."""
    ledger = MemoryLedger(apply=Shop())
    intent = application(taxes=None)
    ledger.begin(intent)
    ledger.record_answer(intent, attrs.evolve(created(), amount=amount))
    ledger.record(postback("approved", signed=1))
    ledger.record(postback("refund", signed=2, amount="400"))
    assert ledger.accept(ORDER, loan_of(ledger).held).may_ship
    ledger.record(postback("refund", signed=3, amount="99"))
    loan = ledger.accept(ORDER, loan_of(ledger).held)
    assert (loan.held, loan.refunded, loan.may_ship) == ((), Decimal(499), False)


@pytest.mark.parametrize(
    ("answered", "held"), [("499", []), ("500", ["amount_differs"]), ("498", ["amount_differs"])]
)
def test_an_amount_without_taxes_is_compared_to_the_cent(answered: str, held: list[str]) -> None:
    ledger = MemoryLedger()
    intent = application(taxes=None)
    ledger.begin(intent)
    loan = ledger.record_answer(intent, attrs.evolve(created(), amount=Decimal(answered)))
    assert [each.code for each in loan.held] == held


def test_each_fact_is_noted_whatever_was_noted_before() -> None:
    ledger = MemoryLedger()
    applied(ledger)
    body = b'{"request_token": "%s", "updates": {"status": "paused"}}' % INV_ID.encode()
    headers = {"x-timestamp": "1700000001", "x-signature": sign_postback(body, "1700000001", credentials())}
    ledger.record(parse_postback(body, headers, credentials()))
    ledger.record(postback("refund", signed=2, amount="5"))
    assert codes(ledger) == ["unknown_status", "refund"]


@pytest.mark.parametrize(
    ("status", "amount", "words"),
    [
        ("approved", None, "(approved)"),
        ("rejected", None, "(rejected)"),
        ("refund", "5", "(refund of $5.00)"),
    ],
)
def test_a_decision_that_comes_again_is_named_in_its_hold(
    status: str, amount: str | None, words: str
) -> None:
    ledger = MemoryLedger()
    applied(ledger)
    for signed in (1, 2):
        ledger.record(postback(status, signed=signed, amount=amount))
    (text,) = [each.text for each in loan_of(ledger).held if each.code == "repeated"]
    assert words in text


def test_where_the_customer_applies_is_kept_until_the_loan_is_decided() -> None:
    ledger = MemoryLedger()
    applied(ledger)
    ledger.record(postback("preapproved"))
    assert ledger.begin(application()).verdict is Verdict.STORED
    ledger.record(postback("approved", signed=2))
    assert ledger.begin(application()).verdict is Verdict.EXISTS


def test_nobody_is_sent_to_a_new_order_id_when_a_postback_has_named_the_absent_one() -> None:
    ledger = MemoryLedger(grace=0.001)
    applied(ledger, "ORDER-124", "other")
    ledger.begin(application(seconds=-1))
    ledger.resolve(ORDER)
    ledger.record(postback(inv_id="other"))
    assert loan_of(ledger).inv_id is None
    assert ledger.begin(application()).verdict is Verdict.EXISTS


def test_what_was_refunded_is_forgotten_too() -> None:
    ledger = MemoryLedger(apply=Shop())
    applied(ledger)
    claim = ledger.claim(ledger.record(postback("refund", amount="5")).id)
    assert claim is not None
    assert ledger.apply(claim)
    assert loan_of(ledger).refunded == 5
    ledger.forget(ORDER)
    assert loan_of(ledger).refunded == 0


def refuses(function: Any, *args: Any, way_out: str, **settings: Any) -> None:
    with pytest.raises(ValueError, match=way_out):
        function(*args, **settings)


def test_operators_are_told_what_cannot_be() -> None:
    ledger = MemoryLedger(apply=Shop())
    refuses(ledger.resolve, ORDER, way_out="the ledger is empty")
    refuses(ledger.adopt, ORDER, INV_ID, "1.234", merchant_id=MERCHANT, way_out="amount ")
    applied(ledger)
    refuses(ledger.resolve, ORDER, way_out="is created")
    refuses(ledger.resolve, ORDER, "present", way_out="adopt")
    refuses(ledger.resolve, "ORDER-9", way_out="does not know this order")
    refuses(ledger.adopt, ORDER, "other", way_out=f"has {INV_ID}")
    refuses(ledger.accept, "ORDER-9", [], way_out="does not know this order")
    ledger.begin(application("ORDER-124"))
    refuses(ledger.forget, "ORDER-124", way_out="still be on its way")
    ledger.record(postback())
    refuses(ledger.forget, ORDER, way_out="waits for its handler")


def test_many_old_loans_are_erased_in_several_transactions() -> None:
    ledger = MemoryLedger()
    for number in range(201):
        applied(ledger, f"ORDER-{number}", f"id-{number}")
    assert ledger.purge(dt.timedelta(seconds=-5)) == 201


def test_a_ledger_without_apply_applies_nothing() -> None:
    ledger = MemoryLedger()
    applied(ledger)
    claim = ledger.claim(ledger.record(postback()).id)
    assert claim is not None
    with pytest.raises(ConfigurationError, match="has no apply"):
        ledger.apply(claim)


def test_an_environment_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigurationError, match=r"^environment must be 'sandbox' or 'live'"):
        MemoryLedger(environment="production")


def test_a_ledger_in_memory_that_is_locked_says_so() -> None:
    ledger = MemoryLedger()
    failures: list[LedgerError] = []

    def begin() -> None:
        try:
            ledger.begin(application(), timeout=0.01)
        except LedgerError as error:
            failures.append(error)

    with ledger.transaction(write=True):
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
    assert [str(each) for each in failures] == ["the ledger in memory is locked by another thread"]


def test_a_transaction_that_fails_leaves_nothing() -> None:
    ledger = MemoryLedger()
    with contextlib.suppress(ZeroDivisionError), ledger.transaction(write=True) as tx:
        tx.beat("one", tx.now())
        raise ZeroDivisionError
    assert not ledger.has_worker()


def test_pauses_grow_to_an_hour() -> None:
    assert [pause_after(attempts) for attempts in (1, 2, 3, 11, 12, 10**6)] == [2, 4, 8, 2048, 3600, 3600]


def test_a_loan_that_is_forgotten_holds_what_comes_later() -> None:
    ledger = MemoryLedger(apply=Shop())
    applied(ledger)
    ledger.forget(ORDER)
    ledger.record(postback())
    assert codes(ledger) == ["forgotten"]
    assert ledger.claim() is None


def test_an_early_decision_and_an_answer_of_another_order_hold_both() -> None:
    ledger = MemoryLedger()
    applied(ledger, "ORDER-124", "own")
    with ledger.transaction(write=True) as tx:  # recorded before either order was there
        early = decisions.row_of(postback(merchant_transaction_id="ORDER-124"), tx.now())
        tx.insert_decision(early)
    intent = application()
    ledger.begin(intent)
    ledger.record_answer(intent, created())
    for order_id in (ORDER, "ORDER-124"):
        assert codes(ledger, order_id) == ["foreign_inv_id"]


def test_what_someone_else_has_done_meanwhile_is_not_done_again() -> None:
    ledger = MemoryLedger(apply=Shop())
    applied(ledger)
    first, second = ledger.record(postback("preapproved")), ledger.record(postback(signed=2))
    with ledger.transaction(write=True) as tx:
        row = tx.decision(first.id)
        assert row is not None
        assert not matching.rematch(tx, row)
        assert decisions.claim(tx, second.id, "token", 60.0) is None


class Losing(MemoryLedger):
    """Its transactions fail as listed: ``"commit"`` after they were committed, ``"open"`` before anything."""

    def __init__(self, *failures: str | None) -> None:
        super().__init__()
        self.failures = list(failures)

    @contextlib.contextmanager
    def transaction(self, **settings: Any) -> Iterator[Any]:
        failure = self.failures.pop(0) if self.failures else None
        if failure == "open":
            raise LedgerError("the database is gone")
        with super().transaction(**settings) as tx:
            yield tx
        if failure == "commit":
            raise LedgerError("the answer to COMMIT was lost", uncertain=True)


def test_an_intent_whose_acknowledgement_was_lost_is_undone_once_the_database_answers_again() -> None:
    ledger = Losing(None, "commit", "open", "open")
    with pytest.raises(LedgerError, match="COMMIT was lost") as caught:
        ledger.begin(application())
    assert not caught.value.uncertain
    assert loan_of(ledger).state is ApplicationState.NOT_SENT


def test_an_intent_that_cannot_be_undone_is_uncertain() -> None:
    ledger = Losing(None, "commit", "open", "open", "open")
    with pytest.raises(LedgerError, match="could not be undone: the database is gone") as caught:
        ledger.begin(application())
    assert caught.value.uncertain
    assert loan_of(ledger).state is ApplicationState.SENDING


def test_an_intent_that_was_refused_for_certain_is_not_looked_for() -> None:
    ledger = Losing(None, "open")
    with pytest.raises(LedgerError, match="the database is gone") as caught:
        ledger.begin(application())
    assert not caught.value.uncertain
    assert ledger.loan(ORDER) is None


class Overtaken:
    """A transaction in which another process has handled a decision just before it was locked."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def decision(self, decision_id: int, *, lock: bool = False) -> Any:
        row = self._tx.decision(decision_id, lock=lock)
        return row if row is None or not lock else attrs.evolve(row, state=rows.HANDLED)


def test_once_applies_nothing_that_another_process_has_handled_in_between() -> None:
    ledger = MemoryLedger()
    applied(ledger)
    with ledger.transaction(write=True) as tx:
        overtaken: Any = Overtaken(tx)
        assert decisions.once(overtaken, postback()) is None
    with ledger.transaction(write=True) as tx:
        decision = decisions.once(tx, postback())
        assert decision is not None
        assert decision.order_id == ORDER
