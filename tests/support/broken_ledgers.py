"""Ledgers that break one rule each. The contract has to notice every one of them."""

import contextlib
import contextvars
import datetime as dt
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from wegetfinancing import Outcome
from wegetfinancing._loan import Begun, Verdict
from wegetfinancing.ledger import Loan, MemoryLedger, Review


class Broken(MemoryLedger):
    """Everything but its own fault is as it should be."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.settings = settings


class SendsAlways(Broken):
    def begin(self, *args: Any, **settings: Any) -> Begun:
        return attrs.evolve(super().begin(*args, **settings), verdict=Verdict.SEND)


class LooksBeforeItWrites(Broken):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.looked = threading.Barrier(2)

    def begin(self, application: Any, **settings: Any) -> Begun:
        is_new = self.loan(application.order_id) is None
        with contextlib.suppress(threading.BrokenBarrierError):  # a single one waits for nobody
            self.looked.wait(timeout=1)
        begun = super().begin(application, **settings)
        return attrs.evolve(begun, verdict=Verdict.SEND) if is_new else begun


class LosesTheAmount(Broken):
    def record_answer(self, application: Any, created: Any, **settings: Any) -> Loan:
        return super().record_answer(application, attrs.evolve(created, amount=None), **settings)


class IgnoresContents(Broken):
    def begin(self, application: Any, **settings: Any) -> Begun:
        return super().begin(attrs.evolve(application, fingerprint="the same"), **settings)


class CallsEveryFailureUnknown(Broken):
    def record_failure(self, application: Any, outcome: Any, **settings: Any) -> Loan | None:
        return super().record_failure(application, Outcome.UNKNOWN, **settings)


class CallsNoFailureUnknown(Broken):
    def record_failure(self, application: Any, outcome: Any, **settings: Any) -> Loan | None:
        return super().record_failure(application, Outcome.NOT_SENT, **settings)


class IgnoresTokens(Broken):
    def begin(self, application: Any, **settings: Any) -> Begun:
        return super().begin(attrs.evolve(application, token="the same"), **settings)

    def record_failure(self, application: Any, outcome: Any, **settings: Any) -> Loan | None:
        return super().record_failure(attrs.evolve(application, token="the same"), outcome, **settings)


class RefusesLateAnswers(Broken):
    def record_answer(self, application: Any, created: Any, **settings: Any) -> Loan:
        loan = self.loan(application.order_id)
        if loan is not None and loan.deadline < dt.datetime.now(dt.UTC):
            return loan
        return super().record_answer(application, created, **settings)


class ResolvesAtOnce(Broken):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "grace": 1e-9})


class MixesMerchants(Broken):
    def begin(self, application: Any, **settings: Any) -> Begun:
        return super().begin(attrs.evolve(application, merchant_id="1234"), **settings)


class AdoptsWhatIsTaken(Broken):
    def adopt(self, *args: Any, **settings: Any) -> Any:
        with contextlib.suppress(ValueError):
            return super().adopt(*args, **settings)


class AdoptsForTheFirst(Broken):
    def adopt(self, *args: Any, merchant_id: str | None = None, **settings: Any) -> Any:
        return super().adopt(*args, merchant_id=merchant_id or "1234", **settings)


class ForgetsEverything(Broken):
    def forget(self, *_: Any, **__: Any) -> None:
        self.__init__(**self.settings)  # type: ignore[misc] # nothing is left


class CreatesInsideHandlers(Broken):
    def begin(self, *args: Any, **settings: Any) -> Begun:
        return contextvars.Context().run(super().begin, *args, **settings)


class HandsNothingOut(Broken):
    """Breaks many rules, and is in none of the pairs below."""

    def claim(self, *_: Any, **__: Any) -> None:
        pass


class Reads(Broken):
    """Changes what it reads of a postback."""

    def read(self, postback: Any) -> Any:
        raise NotImplementedError

    def record(self, postback: Any) -> Any:
        return super().record(self.read(postback))


class TakesRepeatsForNew(Reads):
    def read(self, postback: Any) -> Any:
        return attrs.evolve(postback, digest=secrets.token_hex(32))


class TrustsAnyone(Reads):
    def read(self, postback: Any) -> Any:
        return attrs.evolve(postback, merchant_id="1234")


class IgnoresOrders(Reads):
    def read(self, postback: Any) -> Any:
        return attrs.evolve(postback, merchant_transaction_id=None)


class IgnoresTimestamps(Reads):
    def read(self, postback: Any) -> Any:
        return attrs.evolve(postback, signed_at=None)


class DropsWhatIsEarly(Broken):
    def record(self, postback: Any) -> Any:
        recorded = super().record(postback)
        if recorded.order_id is None:
            self.dismiss(recorded.id)
        return recorded


class HandlesTwice(Broken):
    def apply(self, claim: Any) -> bool:
        is_done = super().apply(claim)
        if is_done:
            self.settings["apply"](None, claim.decision)
        return is_done


class TransactionProxy:
    def __init__(self, transaction: Any) -> None:
        self.transaction = transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transaction, name)


class CountsLate(TransactionProxy):
    def save_decision(self, row: Any) -> None:
        is_counted = row.state == "handled" or row.error is not None
        self.transaction.save_decision(row if is_counted else attrs.evolve(row, attempts=0))


class Storing(Broken):
    """Has another storage."""

    proxy: type[TransactionProxy]

    @contextlib.contextmanager
    def transaction(self, **settings: Any) -> Iterator[Any]:
        with super().transaction(**settings) as tx:
            yield self.proxy(tx)


class HandlesTheLatestFirst(Broken):
    def claim(self, decision_id: int | None = None) -> Any:
        if decision_id is None:
            return super().claim()
        claim = super().claim(decision_id)
        if claim is not None and claim.decision.id != decision_id:
            self.complete(claim)
            return super().claim(decision_id)
        return claim


class CountsAttemptsLate(Storing):
    proxy = CountsLate


class ServesInOrderOfArrival(Broken):
    def claim(self, decision_id: int | None = None) -> Any:
        if decision_id is not None:
            return super().claim(decision_id)
        return next(filter(None, map(super().claim, range(1, 20))), None)


class GivesUp(Broken):
    def fail(self, claim: Any, error: str) -> None:
        self.complete(claim)


class CompletesForAnyone(Broken):
    def complete(self, claim: Any) -> bool:
        super().complete(claim)
        return True


class RenewsNothing(Broken):
    def renew(self, claim: Any) -> bool:
        return False


class SeesWorkersEverywhere(Broken):
    def has_worker(self) -> bool:
        return True


class RetriesNothing(Broken):
    def retry(self, decision_id: int, **_: Any) -> None:
        pass


class DismissesNothing(Broken):
    def dismiss(self, decision_id: int, **_: Any) -> None:
        pass


class Shows(Broken):
    """Shows loans as they are not."""

    def show(self, loan: Loan) -> Loan:
        raise NotImplementedError

    def loans(self, *args: Any, **settings: Any) -> dict[str, Loan]:
        return {name: self.show(loan) for name, loan in super().loans(*args, **settings).items()}


class HoldsNothing(Shows):
    def show(self, loan: Loan) -> Loan:
        return attrs.evolve(loan, held=())


class ApprovesEverything(Shows):
    def show(self, loan: Loan) -> Loan:
        return attrs.evolve(loan, status="approved")


class EndsWithARefund(Shows):
    def show(self, loan: Loan) -> Loan:
        return attrs.evolve(loan, status="refund") if loan.refunded else loan


class AcceptsEverything(Broken):
    def accept(self, order_id: str, holds: Any, **settings: Any) -> Loan:
        loan = self.loan(order_id)
        assert loan is not None
        return super().accept(order_id, loan.held, **settings)


class LetsNothingCount(Broken):
    def accept(self, order_id: str, holds: Any, *, apply: bool = False, **settings: Any) -> Loan:
        return super().accept(order_id, holds, **settings)


class ListsNothing(Broken):
    def review(self, **_: Any) -> Review:
        return Review(loans=(), decisions=())


class ListsAllMerchants(Broken):
    def review(self, *, merchant_id: str | None = None, **settings: Any) -> Review:
        return super().review(**settings)


class ErasesNothing(Broken):
    def purge(self, older_than: dt.timedelta, **_: Any) -> int:
        return 0


BROKEN: list[tuple[Callable[..., MemoryLedger], str]] = [
    (SendsAlways, "an_order_is_sent_once"),
    (LooksBeforeItWrites, "of_many_at_once_one_sends"),
    (LosesTheAmount, "an_answer_is_stored"),
    (IgnoresContents, "other_contents_conflict"),
    (CallsEveryFailureUnknown, "what_was_not_done_may_be_tried_again"),
    (CallsNoFailureUnknown, "what_may_exist_is_not_tried_again"),
    (IgnoresTokens, "only_its_own_attempt_changes_an_application"),
    (HoldsNothing, "an_answer_to_an_older_attempt_replaces_no_application"),
    (RefusesLateAnswers, "a_late_answer_is_recorded"),
    (ResolvesAtOnce, "an_absent_order_is_closed"),
    (MixesMerchants, "merchants_are_kept_apart"),
    (AdoptsWhatIsTaken, "an_adopted_application_is_known"),
    (AdoptsForTheFirst, "another_merchants_application_is_not_adopted"),
    (ForgetsEverything, "a_forgotten_order_does_not_become_new"),
    (CreatesInsideHandlers, "creating_inside_a_handler_is_refused"),
    (TakesRepeatsForNew, "a_repeat_is_recognised"),
    (TrustsAnyone, "an_unverified_postback_is_refused"),
    (IgnoresOrders, "a_decision_is_matched_by_order_or_by_id"),
    (DropsWhatIsEarly, "an_early_decision_is_matched_by_the_answer"),
    (SendsAlways, "a_decision_that_named_an_order_forbids_a_new_attempt"),
    (IgnoresOrders, "an_id_of_another_order_is_applied_to_neither"),
    (TrustsAnyone, "another_merchants_postback_is_not_matched"),
    (HandlesTwice, "a_decision_is_handled_once"),
    (HandlesTheLatestFirst, "decisions_are_handled_in_order"),
    (ServesInOrderOfArrival, "merchants_take_turns"),
    (GivesUp, "a_failed_handler_is_tried_again"),
    (CountsAttemptsLate, "an_attempt_is_counted_before_it_runs"),
    (CompletesForAnyone, "a_lost_lease_completes_nothing"),
    (RenewsNothing, "a_lease_can_be_renewed"),
    (SeesWorkersEverywhere, "a_worker_is_seen_while_it_lives"),
    (RetriesNothing, "a_failing_decision_can_be_tried_now"),
    (DismissesNothing, "a_dismissed_decision_is_not_handled"),
    (ApprovesEverything, "only_an_approval_may_ship"),
    (HoldsNothing, "an_amount_has_to_be_seen"),
    (HoldsNothing, "an_amount_has_to_be_as_expected"),
    (HoldsNothing, "the_same_decision_signed_again_is_held"),
    (HoldsNothing, "contradicting_decisions_are_held"),
    (IgnoresTimestamps, "a_newer_decision_counts"),
    (IgnoresTimestamps, "a_late_preapproval_changes_nothing"),
    (EndsWithARefund, "a_refund_is_a_fact_to_accept"),
    (AcceptsEverything, "exactly_the_named_holds_are_accepted"),
    (LetsNothingCount, "a_held_decision_can_be_let_count"),
    (ListsNothing, "what_waits_is_listed"),
    (ListsNothing, "what_stays_undecided_is_listed"),
    (ErasesNothing, "what_is_old_is_erased"),
    (ListsAllMerchants, "operators_see_one_merchant_or_all"),
]
