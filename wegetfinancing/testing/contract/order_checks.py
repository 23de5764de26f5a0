"""A decision is handled once, in order, until that succeeds: checks of the ledger contract."""

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ..fakes import credentials
from .checking import require
from .ledger_checking import (
    MAX_CLAIMS,
    MakeLedger,
    Shop,
    apply_for,
    claim_of,
    handle,
    handle_all,
    ledger_check,
    postback,
    require_refusal,
)

_WORKERS: Final = 6
_ORDERS: Final = 6
_PATIENCE: Final = 5.0


@ledger_check
def a_decision_is_handled_once(make_ledger: MakeLedger) -> None:
    """However many workers there are, each decision is handed to the handler once."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    for number in range(_ORDERS):
        apply_for(ledger, f"ORDER-{number}", f"id-{number}")
        ledger.record(postback(inv_id=f"id-{number}", merchant_transaction_id=None))
    with ThreadPoolExecutor(_WORKERS) as threads:
        list(threads.map(lambda _: handle_all(ledger), range(_WORKERS)))
    handle_all(ledger)
    told = sorted(each.order_id for each in shop.told)
    require(told == [f"ORDER-{number}" for number in range(_ORDERS)], f"the handler was told of {told}")


@ledger_check
def decisions_are_handled_in_order(make_ledger: MakeLedger) -> None:
    """A later decision of a loan waits until the earlier one has been handled; others do not wait."""
    shop = Shop(failures=1)
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    apply_for(ledger, "ORDER-124", "other")
    ledger.record(postback("preapproved"))
    last = ledger.record(postback("approved", signed=2))
    require(handle(ledger, last) == [False], "the later decision was handled before the earlier one")
    ledger.record(postback("rejected", inv_id="other", merchant_transaction_id=None))
    handle_all(ledger)
    require(shop.statuses == ["rejected"], "another loan's decision waits too, or this one's does not")
    handle(ledger, last)
    require(shop.statuses == ["rejected", "preapproved", "approved"], "they were not handled in order")


@ledger_check
def merchants_take_turns(make_ledger: MakeLedger) -> None:
    """One merchant's backlog does not delay another merchant's decision by more than one."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    others = [credentials(merchant_id=each) for each in ("0", "other")]
    for number in range(_ORDERS):
        apply_for(ledger, f"ORDER-{number}", f"id-{number}")
        ledger.record(postback(inv_id=f"id-{number}", merchant_transaction_id=None))
    for each in others:
        apply_for(ledger, f"ORDER-{each.merchant_id}", each.merchant_id, merchant_id=each.merchant_id)
        inv_id = each.merchant_id
        ledger.record(postback(inv_id=inv_id, merchant_transaction_id=None, credentials=each))
    handle_all(ledger)
    told = [each.merchant_id for each in shop.told]
    require(len(told) == _ORDERS + len(others), f"of the decisions, {len(told)} were handled")
    first = {*told[: len(others) + 1]}
    require(first > {each.merchant_id for each in others}, "a merchant waited behind another one's backlog")


@ledger_check
def a_failed_handler_is_tried_again(make_ledger: MakeLedger) -> None:
    """A decision whose handler fails waits, is not due at once, and is handled when it is tried again."""
    shop = Shop(failures=2)
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    recorded = ledger.record(postback())
    require(handle(ledger, recorded) == [False], "a handler that raises has succeeded")
    require(not ledger.record(postback()).settled, "a decision whose handler failed is settled")
    require(ledger.claim() is None, "it is due again without a pause")
    require([each.error for each in ledger.review().decisions] == ["RuntimeError"], "it is not listed")
    handle(ledger, recorded)
    require(handle(ledger, recorded) == [True], "it is not tried again")
    require([each.attempt for each in shop.told] == [3], "the attempts were not counted")


@ledger_check
def an_attempt_is_counted_before_it_runs(make_ledger: MakeLedger) -> None:
    """Claiming counts the attempt, so that a handler that kills its process does not loop uncounted."""
    ledger = make_ledger(apply=Shop(), lease=0.001)
    apply_for(ledger)
    recorded = ledger.record(postback())
    give_up = time.monotonic() + _PATIENCE
    for number in range(1, 3):
        claim = ledger.claim(recorded.id)
        while claim is None:
            require(time.monotonic() < give_up, "it cannot be claimed although the lease has ended")
            claim = ledger.claim(recorded.id)
        counted = claim.decision.attempt
        require(counted == number, f"attempt {number} was counted as {counted}")


@ledger_check
def a_lost_lease_completes_nothing(make_ledger: MakeLedger) -> None:
    """Who has lost the lease to another can neither complete, fail, renew nor apply the decision."""
    shop = Shop()
    ledger = make_ledger(apply=shop, lease=0.001)
    apply_for(ledger)
    recorded = ledger.record(postback())
    lost = claim_of(ledger, recorded)
    taken, give_up = None, time.monotonic() + _PATIENCE
    while taken is None:
        require(time.monotonic() < give_up, "it cannot be claimed although the lease has ended")
        taken = ledger.claim(recorded.id)
    did = ledger.complete(lost) or ledger.renew(lost) or ledger.apply(lost)
    ledger.fail(lost, "late")
    require(not did and shop.told == [], "a lost lease was accepted")
    require(ledger.complete(taken), "the lease that was taken over was not accepted")
    require(not ledger.complete(taken), "a decision was completed twice")
    require(ledger.record(postback()).settled, "a decision that was completed is not settled")


@ledger_check
def a_lease_can_be_renewed(make_ledger: MakeLedger) -> None:
    """While it is leased, nobody else can claim a decision; a renewed lease is kept."""
    ledger = make_ledger(lease=60.0)
    apply_for(ledger)
    recorded = ledger.record(postback())
    claim = claim_of(ledger, recorded)
    require(ledger.claim(recorded.id) is None and ledger.claim() is None, "it was claimed twice")
    require(ledger.renew(claim), "a lease that is held cannot be renewed")
    ledger.fail(claim, "RuntimeError")
    require(not ledger.complete(claim), "a claim that has failed was completed")
    require(ledger.claim(recorded.id) is not None, "what has failed cannot be claimed again")


@ledger_check
def a_worker_is_seen_while_it_lives(make_ledger: MakeLedger) -> None:
    """A worker that beats is alive, until it ends; another one's end changes nothing."""
    ledger = make_ledger()
    require(not ledger.has_worker(), "a worker is alive that never was")
    ledger.beat("one")
    ledger.beat("two")
    ledger.beat("two")
    ledger.end_beat("two")
    require(ledger.has_worker(), "a worker that beats is not seen")
    ledger.end_beat("one")
    require(not ledger.has_worker(), "a worker that has ended is still alive")


@ledger_check
def a_failing_decision_can_be_tried_now(make_ledger: MakeLedger) -> None:
    """An operator can end the pause of a decision that waits, and of no other."""
    shop = Shop(failures=3)
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    recorded = ledger.record(postback())
    for _ in range(3):
        handle(ledger, recorded)
    require(ledger.claim() is None, "it is due although the handler has just failed for the third time")
    ledger.retry(recorded.id)
    require(handle_all(ledger) == 1 and shop.statuses == ["approved"], "it was not tried again")
    for unknown in (recorded.id, 10**6):
        what = "a decision was to be tried again that was handled, or is not there"
        require_refusal(functools.partial(ledger.retry, unknown), ValueError, what)


@ledger_check
def a_dismissed_decision_is_not_handled(make_ledger: MakeLedger) -> None:
    """What an operator dismisses is not handled, and lets later decisions go on; handled ones stay so."""
    shop = Shop()
    ledger = make_ledger(apply=shop)
    apply_for(ledger)
    first = ledger.record(postback("preapproved"))
    second = ledger.record(postback("approved", signed=2))
    stray = ledger.record(postback(inv_id="of another system", merchant_transaction_id=None))
    ledger.dismiss(first.id)
    ledger.dismiss(stray.id)
    require(handle_all(ledger) < MAX_CLAIMS and shop.statuses == ["approved"], "it was handled")
    require(ledger.review().decisions == (), "a dismissed decision is still listed")
    for unknown in (second.id, 10**6):
        require_refusal(
            functools.partial(ledger.dismiss, unknown),
            ValueError,
            "a decision was dismissed that was handled, or is not there",
        )
