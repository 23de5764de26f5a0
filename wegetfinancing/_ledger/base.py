"""A ledger over any storage: its methods, one transaction each."""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from .._checks import is_async
from .._context import HANDLING
from .._loan import Application, Begun, Loan
from ..credentials import Environment
from ..errors import ConfigurationError, LedgerError, Outcome
from ..models import CreatedRequest
from ..postbacks.decisions import (
    ClaimedDecision,
    Decision,
    Recorded,
    log_failed_attempt,
    log_failed_follow_up,
)
from ..postbacks.events import Postback
from ..postbacks.settings import as_seconds
from ..postbacks.steps import call
from . import applications, decisions, matching, rows, rules
from .operators import OperatedLedger, one_merchant

Apply: TypeAlias = Callable[[Any, Decision], object]
"""What a shop does with a decision, in the ledger's transaction: ``def apply(connection, decision)``."""

LEASE_SECONDS: Final = 60.0
GRACE_SECONDS: Final = 600.0
WORKER_SECONDS: Final = 30.0
_UNDO_ATTEMPTS: Final = 3
_UNDO_PAUSE: Final = 0.05
_BATCH: Final = 200
_STATES: Final = {
    Outcome.NOT_SENT: rows.NOT_SENT,
    Outcome.REFUSED: rows.REFUSED,
    Outcome.UNKNOWN: rows.UNKNOWN,
}


class _NothingToUndoError(Exception):
    """Rolls back the row that was inserted to find out whether one is there."""


class StoredLedger(OperatedLedger):
    """What every ledger does; a storage adds ``transaction``. The settings are those of ``MemoryLedger``."""

    def __init__(
        self,
        *,
        environment: Environment | str,
        apply: Apply | None = None,
        lease: float = LEASE_SECONDS,
        grace: float = GRACE_SECONDS,
    ) -> None:
        """Check the settings."""
        try:
            self._environment = Environment(environment)
        except ValueError:
            msg = "environment must be 'sandbox' or 'live', or a member of Environment"
            raise ConfigurationError(msg) from None
        if not (apply is None or callable(apply)) or is_async(apply):
            msg = "apply must be 'def apply(connection, decision)', plain and not 'async def'"
            raise ConfigurationError(msg)
        self._apply = apply
        self._lease = as_seconds("lease", lease)
        self._grace = as_seconds("grace", grace)
        if lease > rows.MAX_AHEAD:
            msg = "lease must be at most a day"
            raise ConfigurationError(msg)
        self._last_merchant = ""  # whose decision was claimed
        self._identity = f"{type(self).__name__}:{id(self)}"

    @property
    def environment(self) -> Environment:
        return self._environment

    @property
    def applies(self) -> bool:
        return self._apply is not None

    # Applications

    def begin(self, application: Application, *, timeout: float | None = None) -> Begun:
        if self._identity in HANDLING.get():
            msg = "create_request was called inside the ledger's own handler; call it after the transaction"
            raise ConfigurationError(msg)
        with self.transaction(write=False, timeout=timeout) as tx:
            begun = applications.look(tx, application)
        if begun is not None:
            return begun
        try:
            with self.transaction(write=True, timeout=timeout) as tx:
                return applications.begin(tx, application)
        except LedgerError as error:
            if not error.uncertain:
                raise
            failure = str(error)
        self._undo_lost_intent(application, timeout)
        raise LedgerError(failure)

    def _undo_lost_intent(self, application: Application, timeout: float | None) -> None:
        attempts = 0
        while True:
            try:
                with (
                    contextlib.suppress(_NothingToUndoError),
                    self.transaction(write=True, timeout=timeout) as tx,
                ):
                    if not applications.undo(tx, application):
                        raise _NothingToUndoError
            except LedgerError as error:
                attempts += 1
                if attempts == _UNDO_ATTEMPTS:
                    msg = f"an intent may have been committed, and could not be undone: {error}"
                    raise LedgerError(msg, uncertain=True) from None
            else:
                return
            time.sleep(_UNDO_PAUSE)

    def record_answer(
        self, application: Application, created: CreatedRequest, *, timeout: float | None = None
    ) -> Loan:
        with self.transaction(write=True, timeout=timeout) as tx:
            return rules.loan(applications.record_answer(tx, application, created))

    def record_failure(
        self, application: Application, outcome: Outcome, *, timeout: float | None = None
    ) -> Loan | None:
        with self.transaction(write=True, timeout=timeout) as tx:
            row = applications.record_failure(tx, application, _STATES[outcome])
            return None if row is None else rules.loan(row)

    # What a shop asks

    def loan(self, order_id: str, *, merchant_id: str | None = None, connection: Any = None) -> Loan | None:  # noqa: ANN401 - the shop's own
        """Do what ``Ledger.loan`` does; with ``connection`` in the shop's transaction there."""
        return self.loans([order_id], merchant_id=merchant_id, connection=connection).get(order_id)

    def loans(
        self,
        order_ids: Iterable[str],
        *,
        merchant_id: str | None = None,
        connection: Any = None,  # noqa: ANN401 - the shop's own
    ) -> dict[str, Loan]:
        """Do what ``Ledger.loans`` does; with ``connection`` in the shop's transaction there."""
        with self.transaction(write=False, connection=connection) as tx:
            merchant_id = one_merchant(tx, merchant_id)
            return {row.order_id: rules.loan(row) for row in tx.loans(list(order_ids), merchant_id)}

    # Decisions

    def record(self, postback: Postback) -> Recorded:
        with self.transaction(write=True) as tx:
            return decisions.recorded(tx, decisions.record(tx, postback))

    def once(self, connection: Any, postback: Postback) -> Decision | None:  # noqa: ANN401 - the shop's own
        with self.transaction(write=True, connection=connection) as tx:
            return decisions.once(tx, postback)

    def claim(self, decision_id: int | None = None) -> ClaimedDecision | None:
        with self.transaction(write=False) as tx:  # idle workers must not take a lock
            # Merchants take turns, so that none waits behind another one's backlog.
            candidates = decisions.claimable(tx, decision_id, self._last_merchant)
        for candidate in candidates:
            with self.transaction(write=True) as tx:
                claim = decisions.claim(tx, candidate, secrets.token_hex(16), self._lease)
            if claim is not None:
                self._last_merchant = claim.decision.merchant_id
                return claim
        return None

    def apply(self, claim: ClaimedDecision) -> bool:
        if self._apply is None:
            msg = "this ledger has no apply"
            raise ConfigurationError(msg)
        token = HANDLING.set(HANDLING.get() | {self._identity})
        try:
            with self.transaction(write=True, handler=True) as tx:
                row = decisions.mine(tx, claim)
                if row is None or row.loan_id is None:
                    return False
                # Before the handler, so that even one that commits by itself is not run again.
                decision = decisions.decision_of(decisions.handled(tx, row), tx.loan_by_id(row.loan_id))
                call(self._apply, tx.connection, decision)
        except Exception as error:  # noqa: BLE001 - the border to the shop's code
            return self._is_handled_despite(claim, error)
        finally:
            HANDLING.reset(token)
        return True

    def _is_handled_despite(self, claim: ClaimedDecision, error: Exception) -> bool:
        """Note that the handler has failed, unless its transaction was committed before, and log it."""
        is_handled = False
        with contextlib.suppress(LedgerError):  # the lease ends by itself
            self.fail(claim, type(error).__name__)  # unless it is handled, and the claim settled
            with self.transaction(write=False) as tx:
                is_handled = decisions.is_handled(tx, claim)
        (log_failed_follow_up if is_handled else log_failed_attempt)(claim, error)
        return is_handled

    def renew(self, claim: ClaimedDecision) -> bool:
        with self.transaction(write=True) as tx:
            row = decisions.mine(tx, claim)
            if row is not None:
                decisions.renewed(tx, row, self._lease)
            return row is not None

    def complete(self, claim: ClaimedDecision) -> bool:
        with self.transaction(write=True) as tx:
            row = decisions.mine(tx, claim)
            if row is not None:
                decisions.handled(tx, row)
            return row is not None

    def fail(self, claim: ClaimedDecision, error: str) -> None:
        with self.transaction(write=True) as tx:
            row = decisions.mine(tx, claim)
            if row is not None:
                decisions.failed(tx, row, error)

    def match_again(self) -> int:
        with self.transaction(write=False) as tx:
            candidates = tx.matchable(_BATCH)
        matched = 0
        for candidate in candidates:
            with self.transaction(write=True) as tx:
                matched += matching.rematch(tx, candidate)
        return matched

    def beat(self, worker: str) -> None:
        with self.transaction(write=True) as tx:
            tx.beat(worker, tx.now())

    def end_beat(self, worker: str) -> None:
        with self.transaction(write=True) as tx:
            tx.beat(worker, None)

    def has_worker(self) -> bool:
        with self.transaction(write=False) as tx:
            now = tx.now()
            # A beat that is further ahead was written by a clock that was wrong, and its worker may be gone.
            return now - tx.last_beat(now + WORKER_SECONDS) < WORKER_SECONDS
