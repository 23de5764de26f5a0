"""A decision is recorded, and finds its order: checks of the ledger contract."""

from ..._loan import ApplicationState, Verdict
from ...emulator.responses import INV_ID
from ...errors import ConfigurationError, Outcome
from ...ledger import Ledger
from ...postbacks.dialects import parse_unverified_postback
from ..fakes import credentials, signed_postback
from .checking import require
from .ledger_checking import (
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
)


@ledger_check
def a_repeat_is_recognised(make_ledger: MakeLedger) -> None:
    """The same body with the same timestamp is one delivery, however often it comes."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    first = ledger.record(postback())
    again = ledger.record(postback())
    require(first.id == again.id, "a repeat was recorded as another decision")
    handle(ledger, first)
    repeated = ledger.record(postback())
    require(repeated.settled and shop.statuses == ["approved"], "a repeat is not settled once it was handled")
    require(loan_of(ledger).held == (), "a repeat is held")


@ledger_check
def an_unverified_postback_is_refused(make_ledger: MakeLedger) -> None:
    """A postback that nobody has verified is not recorded."""
    ledger = make_ledger()
    apply_for(ledger)
    try:
        ledger.record(parse_unverified_postback(signed_postback().body))
    except ConfigurationError:
        require(loan_of(ledger).status is None, "it was refused, and recorded")
        return
    require(condition=False, what="record() accepted an unverified postback")


@ledger_check
def a_decision_is_matched_by_order_or_by_id(make_ledger: MakeLedger) -> None:
    """A postback belongs to the order it names, or to the order whose ID it names."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    by_id = ledger.record(postback("preapproved", merchant_transaction_id=None))
    require(by_id.order_id == "ORDER-123", "a postback without an order was not matched by its ID")
    unknown = begin(ledger, "ORDER-124")
    ledger.record_failure(unknown, Outcome.UNKNOWN)
    by_order = ledger.record(postback(inv_id="new", merchant_transaction_id="ORDER-124"))
    require(by_order.order_id == "ORDER-124", "a postback was not matched by the order it names")
    loan = loan_of(ledger, "ORDER-124")
    confirmed = (loan.state, loan.inv_id) == (ApplicationState.CREATED, "new")
    require(confirmed, "a postback that names the order has not resolved it")
    require(ledger.begin(application("ORDER-124")).verdict is Verdict.EXISTS, "it may be sent again")
    handle_all(ledger)
    told = {each.order_id for each in shop.told}
    require(told == {"ORDER-123", "ORDER-124"}, "the handler was not told whose decision it is")


@ledger_check
def an_early_decision_is_matched_by_the_answer(make_ledger: MakeLedger) -> None:
    """A postback without an order that comes before the answer is matched when the answer is recorded."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    intent = begin(ledger)
    early = ledger.record(postback(merchant_transaction_id=None))
    require(early.order_id is None and not early.settled, "a postback of no known order counts as settled")
    require(handle_all(ledger) == 0, "an unmatched decision was handled")
    ledger.record_answer(intent, created())
    require(loan_of(ledger).may_ship, "the answer did not match the decision that came before it")
    handle_all(ledger)
    require(shop.statuses == ["approved"], "a decision that was matched late is not handled")


@ledger_check
def a_decision_that_named_an_order_forbids_a_new_attempt(make_ledger: MakeLedger) -> None:
    """After a failure that was certain, a postback that names the order says that it exists all the same."""
    ledger = make_ledger()
    for outcome in (Outcome.NOT_SENT, Outcome.REFUSED):
        order_id = f"ORDER-{outcome.value}"
        ledger.record_failure(begin(ledger, order_id), outcome)
        ledger.record(postback(inv_id=outcome.value, merchant_transaction_id=order_id))
        verdict = ledger.begin(application(order_id)).verdict
        require(verdict is Verdict.EXISTS, f"a new attempt was answered {verdict.value}")
    ledger.record(postback(inv_id="before", merchant_transaction_id="ORDER-124"))
    verdict = ledger.begin(application("ORDER-124")).verdict
    require(verdict is Verdict.EXISTS, "a postback named the order before it was begun, and it is sent")


@ledger_check
def an_id_of_another_order_is_applied_to_neither(make_ledger: MakeLedger) -> None:
    """A postback that names one order with the ID of another is applied to neither, and holds both."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    apply_for(ledger, "ORDER-123")
    apply_for(ledger, "ORDER-124", "other")
    ledger.record(postback(merchant_transaction_id="ORDER-124"))
    handle_all(ledger)
    require(shop.told == [], "it was handled")
    _require_both_held(ledger)
    ledger = make_ledger(apply=shop)
    apply_for(ledger, "ORDER-123")
    begin(ledger, "ORDER-124")
    ledger.record(postback(merchant_transaction_id="ORDER-124"))
    _require_both_held(ledger)
    ledger = make_ledger(apply=shop)
    apply_for(ledger, "ORDER-123")
    intent = begin(ledger, "ORDER-124")
    ledger.record_answer(intent, created(INV_ID))
    _require_both_held(ledger)


def _require_both_held(ledger: Ledger) -> None:
    for order_id in ("ORDER-123", "ORDER-124"):
        loan = loan_of(ledger, order_id)
        require("foreign_inv_id" in [each.code for each in loan.held], f"{order_id} is not held")
        require(loan.status is None and not loan.may_ship, f"it was applied to {order_id}")


@ledger_check
def another_merchants_postback_is_not_matched(make_ledger: MakeLedger) -> None:
    """A postback that another merchant's credentials have signed belongs to that merchant's orders only."""
    ledger = make_ledger()
    apply_for(ledger)
    recorded = ledger.record(postback(credentials=credentials(merchant_id="other")))
    require(recorded.order_id is None, "it was matched to this merchant's order")
    require(loan_of(ledger).status is None, "it was applied to this merchant's order")
