"""What speaks against shipping: checks of the ledger contract."""

import datetime as dt
from decimal import Decimal
from functools import partial

from ...emulator.responses import INV_ID
from ...errors import Outcome
from ...ledger import Ledger
from ..fakes import credentials
from .checking import require
from .ledger_checking import (
    MERCHANT,
    ORDER,
    MakeLedger,
    Shop,
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


def _codes(ledger: Ledger) -> list[str]:
    return [each.code for each in loan_of(ledger).held]


@ledger_check
def only_an_approval_may_ship(make_ledger: MakeLedger) -> None:
    """Nothing ships before the last decision is an approval."""
    for status in ("preapproved", "rejected", "refund"):
        ledger = make_ledger()
        apply_for(ledger)
        require(not loan_of(ledger).may_ship, "it may ship before any decision")
        ledger.record(postback(status))
        require(not loan_of(ledger).may_ship, f"it may ship after {status}")
    ledger = make_ledger()
    apply_for(ledger)
    ledger.record(postback("approved"))
    require(loan_of(ledger).may_ship, "it may not ship after an approval")


@ledger_check
def an_amount_has_to_be_seen(make_ledger: MakeLedger) -> None:
    """An approval whose amount nobody has seen is held, until the amount arrives."""
    ledger = make_ledger()
    apply_for(ledger, amount=None)
    ledger.record(postback())
    require(_codes(ledger) == ["amount_not_seen"], "an answer without an amount is not held")
    ledger = make_ledger()
    intent = begin(ledger)
    ledger.record(postback())
    require(_codes(ledger) == ["amount_not_seen"], "a postback before the answer is not held")
    ledger.record_answer(intent, created())
    loan = loan_of(ledger)
    require(loan.held == () and loan.may_ship, "the amount has arrived, and it is still held")


@ledger_check
def an_amount_has_to_be_as_expected(make_ledger: MakeLedger) -> None:
    """The answer's amount is as expected with or without the request's taxes; any other is held."""
    cases = (("499.00", False), ("499", False), ("518.96", False), ("498.99", True), ("518.97", True))
    for amount, is_held in cases:
        ledger = make_ledger()
        apply_for(ledger, amount=Decimal(amount), taxes=Decimal("19.96"))
        ledger.record(postback())
        codes = _codes(ledger)
        require(codes == ["amount_differs"] * is_held, f"{amount} for 499.00 with 19.96 taxes: held {codes}")
        require(loan_of(ledger).may_ship is not is_held, "may_ship says otherwise")


@ledger_check
def the_same_decision_signed_again_is_held(make_ledger: MakeLedger) -> None:
    """The same decision with another timestamp is neither counted nor dropped: it is held for review."""
    shop = Shop()
    for status in ("approved", "rejected", "preapproved"):
        ledger = make_ledger(apply=shop)
        apply_for(ledger)
        ledger.record(postback(status))
        ledger.record(postback(status, signed=2))
        require(_codes(ledger) == ["repeated"], f"{status}, signed again, is not held")
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    ledger.record(postback())
    for signed in (2, 3):
        ledger.record(postback("refund", signed=signed, amount="50.00"))
    require(_codes(ledger) == ["refund", "repeated"], "a second refund of the same amount is not held")
    require(loan_of(ledger).refunded == Decimal(50), "it was counted, or the first was not")
    handle_all(ledger)
    require(shop.statuses[-2:] == ["approved", "refund"], "it was handled, or the first was not")


@ledger_check
def contradicting_decisions_are_held(make_ledger: MakeLedger) -> None:
    """Decisions that contradict each other are held where their order cannot be told."""
    cases: list[tuple[str, int | str, str, int | str]] = [
        ("approved", 5, "rejected", 5),
        ("approved", 5, "rejected", 4),
        ("approved", "-", "rejected", "+"),
        ("approved", 5, "rejected", "-"),
        ("rejected", "-", "approved", 5),
        ("rejected", 5, "approved", 4),
        ("approved", 5, "preapproved", 5),
        ("preapproved", 5, "approved", 4),
    ]
    for first, first_signed, second, second_signed in cases:
        shop = Shop()
        ledger = make_ledger(apply=shop)
        apply_for(ledger)
        ledger.record(postback(first, signed=first_signed))
        ledger.record(postback(second, signed=second_signed))
        handle_all(ledger)
        case = f"{second} (signed {second_signed}) after {first} (signed {first_signed})"
        require(_codes(ledger) == ["conflict"], f"{case} is not held")
        require(shop.statuses == [first], f"{case}: the handler was told {shop.statuses}")
        require(not loan_of(ledger).may_ship, f"{case} may ship")


@ledger_check
def a_newer_decision_counts(make_ledger: MakeLedger) -> None:
    """A decision that was signed later counts, whatever was said before."""
    cases: list[tuple[str, int | str, str, int | str]] = [
        ("approved", 1, "rejected", 2),
        ("rejected", 1, "approved", 2),
        ("approved", 1, "preapproved", 2),
        ("preapproved", 1, "approved", 2),
        ("preapproved", "-", "approved", "+"),
        ("preapproved", 1, "rejected", 1),
    ]
    for first, first_signed, second, second_signed in cases:
        shop = Shop()
        ledger = make_ledger(apply=shop)
        apply_for(ledger)
        ledger.record(postback(first, signed=first_signed))
        ledger.record(postback(second, signed=second_signed))
        handle_all(ledger)
        loan, case = loan_of(ledger), f"{second} after {first}"
        require(loan.status == second and loan.held == (), f"{case}: it is {loan.status}, held {loan.held}")
        require(shop.statuses == [first, second], f"{case}: the handler was told {shop.statuses}")
        require(loan.may_ship is (second == "approved"), f"{case}: may_ship is {loan.may_ship}")


@ledger_check
def a_late_preapproval_changes_nothing(make_ledger: MakeLedger) -> None:
    """A preapproval that is older than the decision is recorded only."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    ledger.record(postback("approved", signed=2))
    late = postback("preapproved", signed=1)
    require(not ledger.record(late).settled, "nothing is left to do although an earlier decision waits")
    handle_all(ledger)
    is_settled = ledger.record(late).settled
    require(is_settled and shop.statuses == ["approved"], "it was handed to the handler")
    require(loan_of(ledger).may_ship, "it has changed the loan")


@ledger_check
def a_refund_is_a_fact_to_accept(make_ledger: MakeLedger) -> None:
    """A refund is handled and held; once it is accepted, the rest of the order goes on."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    ledger.record(postback())
    ledger.record(postback("refund", signed=2, amount="50.00"))
    ledger.record(postback("refund", signed=3, amount="20.00"))
    handle_all(ledger)
    loan = loan_of(ledger)
    require(shop.statuses == ["approved", "refund", "refund"], "the handler was not told of the refunds")
    require([each.code for each in loan.held] == ["refund", "refund"], "a refund is not held")
    require((loan.status, loan.refunded) == ("approved", Decimal(70)), "a refund ends the loan, or is lost")
    require(ledger.accept(ORDER, loan.held).may_ship, "after the refunds were accepted nothing ships")


@ledger_check
def exactly_the_named_holds_are_accepted(make_ledger: MakeLedger) -> None:
    """Accepting names the holds that were seen: one that arrives meanwhile stays open."""
    ledger = make_ledger()
    apply_for(ledger, amount=Decimal("600.00"))
    ledger.record(postback(signed=5))
    seen = loan_of(ledger).held
    ledger.record(postback("rejected", signed=4))
    loan = ledger.accept(ORDER, seen)
    require([each.code for each in loan.held] == ["conflict"], f"held after accepting one: {loan.held}")
    require(not loan.may_ship, "it may ship although one hold is open")
    require(ledger.accept(ORDER, seen).held == loan.held, "accepting again changes something")
    loan = ledger.accept(ORDER, [each.id for each in loan.held])
    require(loan.may_ship, "after all holds were accepted it may not ship")
    require_refusal(
        lambda: ledger.accept(ORDER, ["conflict:0"]), ValueError, "a hold was accepted that is not there"
    )


@ledger_check
def a_held_decision_can_be_let_count(make_ledger: MakeLedger) -> None:
    """With ``apply`` the decisions behind the accepted holds count, and are handled."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    ledger.record(postback(signed=5))
    ledger.record(postback("rejected", signed=5))
    loan = ledger.accept(ORDER, loan_of(ledger).held, apply=True)
    require((loan.status, loan.held) == ("rejected", ()), "the rejection does not count")
    handle_all(ledger)
    require(shop.statuses == ["approved", "rejected"], "the rejection was not handled")


@ledger_check
def what_waits_is_listed(make_ledger: MakeLedger) -> None:
    """Orders that are held, unknown or overdue are listed, and decisions without an order."""
    ledger = make_ledger()
    apply_for(ledger, "fine", "fine")
    apply_for(ledger, "held", "held", amount=None)
    begin(ledger, "sending")
    begin(ledger, "overdue", seconds=-1.0)
    ledger.record_failure(begin(ledger, "unknown"), Outcome.UNKNOWN)
    ledger.record(postback(inv_id="unmatched", merchant_transaction_id=None))
    review = ledger.review()
    loans = sorted(each.order_id for each in review.loans)
    require(loans == ["held", "overdue", "unknown"], f"these orders are listed: {loans}")
    decisions = [each.inv_id for each in review.decisions]
    require(decisions == ["unmatched"], f"these decisions are listed: {decisions}")


@ledger_check
def what_stays_undecided_is_listed(make_ledger: MakeLedger) -> None:
    """Applications that were created so long ago and have had no final decision are listed when asked for."""
    ledger = make_ledger()
    apply_for(ledger, "nothing", "nothing")
    for status in ("preapproved", "approved", "rejected"):
        apply_for(ledger, status, status)
        ledger.record(postback(status, inv_id=status, merchant_transaction_id=status))
    begin(ledger, "sending")
    apply_for(ledger, "forgotten", "forgotten")
    ledger.forget("forgotten")
    require(ledger.review().undecided == (), "undecided applications are listed although nobody asked")
    require(ledger.review(undecided_for=dt.timedelta(days=1)).undecided == (), "what is new is listed")
    listed = [each.order_id for each in ledger.review(undecided_for=dt.timedelta(seconds=-5)).undecided]
    require(sorted(listed) == ["nothing", "preapproved"], f"these orders are listed: {listed}")


@ledger_check
def what_is_old_is_erased(make_ledger: MakeLedger) -> None:
    """Purging erases the details of loans with nothing open, once, and of no other."""
    ledger = make_ledger(apply=Shop())
    apply_for(ledger)
    ledger.record(postback())
    apply_for(ledger, "held", "held", amount=None)
    begin(ledger, "sending")
    require(ledger.purge(dt.timedelta(days=1)) == 0, "a loan of today was erased")
    require(ledger.purge(dt.timedelta(seconds=-5)) == 0, "a loan was erased whose decision waits")
    handle_all(ledger)
    erased = [ledger.purge(dt.timedelta(seconds=-5)) for _ in range(2)]
    require(erased == [1, 0], f"purging twice has erased {erased}")
    loan = loan_of(ledger)
    require(loan.forgotten and loan.inv_id == INV_ID, "the details are there, or the keys are not")


@ledger_check
def operators_see_one_merchant_or_all(make_ledger: MakeLedger) -> None:
    """What is listed, tried again, dismissed or erased for one merchant is no other merchant's."""
    ledger = make_ledger(apply=Shop(failures=1))
    other = credentials(merchant_id="other")
    for merchant_id in (MERCHANT, other.merchant_id):
        apply_for(ledger, merchant_id=merchant_id)
        apply_for(ledger, "held", "held", amount=None, merchant_id=merchant_id)
    failing = ledger.record(postback())
    handle(ledger, failing)
    lost = ledger.record(postback(inv_id="lost", merchant_transaction_id=None, credentials=other))
    long_ago = dt.timedelta(seconds=-5)
    for merchant_id, decision_id in ((MERCHANT, failing.id), (other.merchant_id, lost.id)):
        review = ledger.review(undecided_for=long_ago, merchant_id=merchant_id)
        for loans in (review.loans, review.undecided):
            listed = {each.merchant_id for each in loans}
            require(listed == {merchant_id}, f"orders of {listed} are listed for {merchant_id}")
        decisions = [each.id for each in review.decisions]
        require(decisions == [decision_id], f"the decisions {decisions} are listed for {merchant_id}")
    for operate in (ledger.retry, ledger.dismiss):
        require_refusal(
            partial(operate, failing.id, merchant_id="other"), ValueError, "another's decision was changed"
        )
    ledger.dismiss(failing.id, merchant_id=MERCHANT)
    require(ledger.purge(long_ago, merchant_id=MERCHANT) == 1, "not exactly one loan was erased")
    require(loan_of(ledger).forgotten, "another loan was erased")
