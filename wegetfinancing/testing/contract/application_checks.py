"""An order is applied for at most once: checks of the ledger contract."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ..._loan import ApplicationState, Verdict
from ...emulator.responses import INV_ID
from ...errors import ConfigurationError, Outcome
from ...ledger import Decision, Ledger
from ..fakes import credentials
from .checking import require
from .ledger_checking import (
    MERCHANT,
    ORDER,
    MakeLedger,
    Shop,
    application,
    apply_for,
    begin,
    created,
    handle,
    handle_all,
    ledger_check,
    loan_of,
    postback,
    require_refusal,
)

_AT_ONCE: Final = 24
_PATIENCE: Final = 5.0


@ledger_check
def an_order_is_sent_once(make_ledger: MakeLedger) -> None:
    """While one attempt is sending, another one of the same order waits."""
    ledger = make_ledger()
    begin(ledger)
    again = ledger.begin(application())
    require(again.verdict is Verdict.WAIT, f"a second attempt was answered {again.verdict.value}")
    require(again.loan.state is ApplicationState.SENDING, "the order is not shown as sending")
    other = ledger.begin(application("ORDER-124"))
    require(other.verdict is Verdict.SEND, "another order may not be sent")


@ledger_check
def of_many_at_once_one_sends(make_ledger: MakeLedger) -> None:
    """Of many threads that begin one order at the same time, exactly one may send."""
    ledger = make_ledger()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        verdicts = list(threads.map(lambda _: ledger.begin(application()).verdict, range(_AT_ONCE)))
    require(verdicts.count(Verdict.SEND) == 1, f"{verdicts.count(Verdict.SEND)} of {_AT_ONCE} may send")


@ledger_check
def an_answer_is_stored(make_ledger: MakeLedger) -> None:
    """Once the vendor has answered, a later create gets the stored answer; recording it twice is harmless."""
    ledger = make_ledger()
    intent = apply_for(ledger)
    ledger.record_answer(intent, created())
    again = ledger.begin(application())
    stored = (again.verdict, again.href, again.loan.inv_id, again.loan.amount)
    expected = (Verdict.STORED, created().href, INV_ID, created().amount)
    require(stored == expected, f"a later create was answered {again.verdict.value}, or not with what came")
    require(loan_of(ledger).held == (), "an amount as expected is held")


@ledger_check
def other_contents_conflict(make_ledger: MakeLedger) -> None:
    """The same order with other contents conflicts while its application exists or may exist."""
    ledger = make_ledger()
    intent = begin(ledger)
    for step in ("sending", "unknown", "created"):
        if step == "unknown":
            ledger.record_failure(intent, Outcome.UNKNOWN)
        elif step == "created":
            ledger.record_answer(intent, created())
        verdict = ledger.begin(application(fingerprint="others")).verdict
        require(verdict is Verdict.CONFLICT, f"other contents were answered {verdict.value} while {step}")


@ledger_check
def what_was_not_done_may_be_tried_again(make_ledger: MakeLedger) -> None:
    """After an attempt that was refused or not sent, a new one may be sent, with other contents too."""
    ledger = make_ledger()
    for outcome in (Outcome.NOT_SENT, Outcome.REFUSED):
        for fingerprint in ("contents", "corrected"):
            intent = application(fingerprint=fingerprint)
            verdict = ledger.begin(intent).verdict
            require(verdict is Verdict.SEND, f"after {outcome.value} it was answered {verdict.value}")
            ledger.record_failure(intent, outcome)


@ledger_check
def what_may_exist_is_not_tried_again(make_ledger: MakeLedger) -> None:
    """After an outcome that nobody knows nothing more is sent."""
    ledger = make_ledger()
    intent = begin(ledger)
    loan = ledger.record_failure(intent, Outcome.UNKNOWN)
    is_unknown = loan is not None and loan.state is ApplicationState.UNKNOWN
    require(is_unknown, "the application is not unknown")
    lost = application("ORDER-124")  # a failover has forgotten it during the call
    ledger.record_failure(lost, Outcome.UNKNOWN)
    for order_id in (ORDER, "ORDER-124"):
        verdict = ledger.begin(application(order_id)).verdict
        require(verdict is Verdict.UNKNOWN, f"a new attempt was answered {verdict.value}")


@ledger_check
def only_its_own_attempt_changes_an_application(make_ledger: MakeLedger) -> None:
    """A failure is recorded by the token of the attempt that is sending, and by no other."""
    ledger = make_ledger()
    first = begin(ledger)
    ledger.record_failure(first, Outcome.NOT_SENT)
    second = begin(ledger)
    ledger.record_failure(first, Outcome.NOT_SENT)
    state = loan_of(ledger).state
    require(state is ApplicationState.SENDING, f"an older attempt made it {state.value}")
    ledger.record_failure(second, Outcome.REFUSED)
    require(loan_of(ledger).state is ApplicationState.REFUSED, "its own attempt did not")
    third = begin(ledger)
    ledger.record_answer(second, created("second"))
    held = {each.code for each in ledger.record_answer(third, created("third")).held}
    require("second_application" in held, "two attempts of one order were answered, and it is not held")


@ledger_check
def an_answer_to_an_older_attempt_replaces_no_application(make_ledger: MakeLedger) -> None:
    """The application of the last attempt stays the order's; the other one is what holds it."""
    ledger = make_ledger()
    older = begin(ledger)
    ledger.record_failure(older, Outcome.NOT_SENT)
    ledger.record_answer(begin(ledger), created("newer"))
    ledger.record_answer(older, created("older"))
    loan = loan_of(ledger)
    require(loan.inv_id == "newer", f"the order's application became {loan.inv_id}")
    codes = {each.code for each in loan.held}
    require("second_application" in codes, "two attempts of one order were answered, and it is not held")


@ledger_check
def a_late_answer_is_recorded(make_ledger: MakeLedger) -> None:
    """An answer after the deadline turns an application that is sending or unknown into a created one."""
    ledger = make_ledger()
    late = begin(ledger, seconds=0.0)
    ledger.record_answer(late, created())
    require(loan_of(ledger).state is ApplicationState.CREATED, "a late answer was not recorded")
    unknown = begin(ledger, "ORDER-124")
    ledger.record_failure(unknown, Outcome.UNKNOWN)
    loan = ledger.record_answer(unknown, created("other"))
    require(loan.state is ApplicationState.CREATED, "an answer after unknown was not recorded")


@ledger_check
def an_absent_order_is_closed(make_ledger: MakeLedger) -> None:
    """Only after deadline and grace an order can be resolved as absent; its ID is closed for ever then."""
    ledger = make_ledger(grace=1000.0)
    begin(ledger, seconds=0.0)
    require(_cannot_be_absent(ledger), "it was resolved as absent before the grace had passed")
    ledger = make_ledger(grace=0.001)
    begin(ledger)
    require(_cannot_be_absent(ledger), "it was resolved as absent before its deadline")
    ledger = make_ledger(grace=0.001)
    intent = begin(ledger, seconds=0.0)
    give_up = time.monotonic() + _PATIENCE
    while _cannot_be_absent(ledger):
        require(time.monotonic() < give_up, "it could not be resolved as absent after deadline and grace")
    for fingerprint in ("contents", "others"):
        verdict = ledger.begin(application(fingerprint=fingerprint)).verdict
        require(verdict is Verdict.CLOSED, f"a closed order was answered {verdict.value}")
    loan = ledger.record_answer(intent, created())
    codes = [each.code for each in loan.held]
    require("not_absent" in codes, "an answer came although the order was absent, and it is not held")
    # Nor may anybody be sent to a new order ID now, which would be a second loan.
    verdict = ledger.begin(application()).verdict
    require(verdict is Verdict.EXISTS, f"an application that turned up was answered {verdict.value}")


def _cannot_be_absent(ledger: Ledger) -> bool:
    try:
        ledger.resolve(ORDER, "absent", merchant_id=MERCHANT)
    except ValueError:
        return True
    return False


@ledger_check
def merchants_are_kept_apart(make_ledger: MakeLedger) -> None:
    """Two merchants may use one order ID; without the merchant's name it is an error."""
    ledger = make_ledger()
    apply_for(ledger)
    other = application(merchant_id="other")
    require(ledger.begin(other).verdict is Verdict.SEND, "another merchant's order counts as this one's")
    loan = ledger.loan(ORDER, merchant_id="other")
    require(loan is not None and loan.state is ApplicationState.SENDING, "the merchants share a loan")
    require_refusal(
        lambda: ledger.loan(ORDER), ConfigurationError, "loan() without a merchant chose one of two"
    )


@ledger_check
def an_adopted_application_is_known(make_ledger: MakeLedger) -> None:
    """An application that was found at the vendor's can be taken over, and matches its postbacks."""
    ledger = make_ledger()
    ledger.record(postback(merchant_transaction_id=None))
    loan = ledger.adopt(ORDER, INV_ID, "499.00", merchant_id=MERCHANT)
    require(loan.may_ship, "an adopted application with an approval and its amount may not ship")
    verdict = ledger.begin(application()).verdict
    require(verdict is Verdict.EXISTS, f"a create of it was answered {verdict.value}")
    apply_for(ledger, "ORDER-124", "taken")
    require_refusal(
        lambda: ledger.adopt("ORDER-125", "taken", merchant_id=MERCHANT),
        ValueError,
        "an ID of another order was adopted",
    )


@ledger_check
def another_merchants_application_is_not_adopted(make_ledger: MakeLedger) -> None:
    """Whose order it is has to be said where the ID is known from another merchant's postback."""
    ledger = make_ledger()
    apply_for(ledger)
    other = credentials(merchant_id="other")
    ledger.record(postback(inv_id="theirs", merchant_transaction_id=None, credentials=other))
    require_refusal(
        lambda: ledger.adopt("ORDER-124", "theirs", "499.00"),
        ConfigurationError,
        "adopt() without a merchant took over another merchant's application",
    )
    ledger.adopt("ORDER-124", "ours", "499.00")
    loan = ledger.adopt("ORDER-125", "theirs", "499.00", merchant_id="other")
    require(loan.may_ship, "the merchant whose it is could not adopt it")


@ledger_check
def a_forgotten_order_does_not_become_new(make_ledger: MakeLedger) -> None:
    """After its details were erased, an order may not be sent again, and an old approval does not count."""
    ledger = make_ledger(apply=Shop())
    apply_for(ledger)
    ledger.record(postback())
    try:
        ledger.forget(ORDER, merchant_id=MERCHANT)
    except ValueError:
        handle_all(ledger)
    require(loan_of(ledger).may_ship, "an order was forgotten whose decision waits")
    ledger.forget(ORDER, merchant_id=MERCHANT)
    loan = loan_of(ledger)
    erased = loan.forgotten and loan.amount is None and loan.status is None and not loan.may_ship
    require(erased, "the details are still there")
    require(ledger.begin(application()).verdict is Verdict.EXISTS, "a forgotten order may be sent again")
    require(ledger.record(postback()).settled, "a repeat of a forgotten decision is new")
    ledger.record(postback(signed=2))
    require(not loan_of(ledger).may_ship, "a forgotten order may ship")
    for outcome in (Outcome.REFUSED, Outcome.NOT_SENT):
        intent = begin(ledger, outcome.value)
        ledger.record_failure(intent, outcome)
        ledger.forget(outcome.value, merchant_id=MERCHANT)
        verdict = ledger.begin(application(outcome.value)).verdict
        require(verdict is not Verdict.SEND, "a forgotten order may be sent again")


@ledger_check
def creating_inside_a_handler_is_refused(make_ledger: MakeLedger) -> None:
    """A create inside ``apply`` would wait for the transaction that it is in: it is refused at once."""
    refused: list[bool] = []

    def apply(_connection: object, _decision: Decision) -> None:
        try:
            ledger.begin(application("ORDER-124"))
        except ConfigurationError:
            refused.append(True)

    ledger = make_ledger(apply=apply)
    apply_for(ledger)
    handle(ledger, ledger.record(postback()))
    require(refused == [True], "begin() inside apply was not refused")
    require(ledger.begin(application("ORDER-124")).verdict is Verdict.SEND, "begin() after it is refused")
