"""A ledger in memory: for tests, and to see what a ledger does."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from .._loan import APPROVED
from ..credentials import Environment
from ..errors import LedgerError
from . import rows
from .base import GRACE_SECONDS, LEASE_SECONDS, Apply, StoredLedger
from .rows import DecisionRow, LoanRow, Transaction
from .rules import PREAPPROVED

_LOCK_SECONDS = 5.0


class MemoryLedger(StoredLedger):
    """A ``Ledger`` for **one process**, which a restart forgets: for tests and trials, never for money.

    Args:
        environment: the one whose orders are kept.
        apply: ``def apply(connection, decision)``; ``connection`` is ``None``, and nothing that it does
            outside the ledger is rolled back.
        lease: seconds that a claimed decision is left alone.
        grace: seconds after its deadline before an application can be resolved as absent.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: a setting that cannot be right.

    """

    def __init__(
        self,
        *,
        environment: Environment | str = Environment.SANDBOX,
        apply: Apply | None = None,
        lease: float = LEASE_SECONDS,
        grace: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start with nothing remembered."""
        super().__init__(environment=environment, apply=apply, lease=lease, grace=grace)
        self._lock = threading.RLock()
        self._memory = _Memory(clock)

    @contextlib.contextmanager
    def transaction(
        self,
        *,
        write: bool,  # noqa: ARG002 - one lock for all
        timeout: float | None = None,
        connection: Any = None,  # noqa: ANN401, ARG002 - there is none
        handler: bool = False,  # noqa: ARG002 - nothing to interrupt
    ) -> Iterator[Transaction]:
        """Keep every other thread out; undo what was done when the block raises."""
        if not self._lock.acquire(timeout=_LOCK_SECONDS if timeout is None else timeout):
            msg = "the ledger in memory is locked by another thread"
            raise LedgerError(msg)
        memory = self._memory
        before = memory.tables()
        try:
            yield memory
        except BaseException:
            memory.restore(before)
            raise
        finally:
            self._lock.release()


def _has_failed(row: DecisionRow) -> bool:
    return row.attempts > 0 and row.lease is None


def _is_ahead(moment: float, now: float) -> bool:
    return now < moment <= now + rows.MAX_AHEAD


class _Memory:
    """The tables. Rows are values, so that a copy of the tables is a copy of what they hold."""

    connection: Any = None

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self.restore(({}, {}, {}, {}))

    def tables(self) -> tuple[dict[Any, Any], ...]:
        return (dict(self._loans), dict(self._decisions), dict(self._inv_ids), dict(self._beats))

    def restore(self, tables: tuple[dict[Any, Any], ...]) -> None:
        self._loans: dict[int, LoanRow] = tables[0]
        self._decisions: dict[int, DecisionRow] = tables[1]
        self._inv_ids: dict[tuple[str, str], int | None] = tables[2]
        self._beats: dict[str, float] = tables[3]

    def loan(self, merchant_id: str, order_id: str, *, lock: bool = False) -> LoanRow | None:  # noqa: ARG002 - one lock for all
        key = (merchant_id, order_id)
        return next((row for row in self._loans.values() if (row.merchant_id, row.order_id) == key), None)

    def loan_by_id(self, loan_id: int, *, lock: bool = False) -> LoanRow:  # noqa: ARG002 - one lock for all
        return self._loans[loan_id]

    def loans(self, order_ids: Sequence[str], merchant_id: str | None) -> list[LoanRow]:
        rows = self._loans.values()
        return [row for row in rows if row.merchant_id == merchant_id and row.order_id in order_ids]

    def insert_loan(self, row: LoanRow) -> bool:
        if self.loan(row.merchant_id, row.order_id) is not None:
            return False
        number = len(self._loans) + 1
        self._loans[number] = attrs.evolve(row, id=number)
        return True

    def save_loan(self, row: LoanRow) -> None:
        self._loans[row.id] = row

    def merchants(self) -> set[str]:
        return {row.merchant_id for row in self._loans.values()}

    def lock_inv_id(self, merchant_id: str, inv_id: str) -> int | None:
        return self._inv_ids.setdefault((merchant_id, inv_id), None)

    def merchants_of(self, inv_id: str) -> set[str]:
        return {merchant_id for merchant_id, known in self._inv_ids if known == inv_id}

    def assign_inv_id(self, merchant_id: str, inv_id: str, loan_id: int) -> None:
        self._inv_ids[merchant_id, inv_id] = loan_id

    def decision(self, decision_id: int, *, lock: bool = False) -> DecisionRow | None:  # noqa: ARG002 - one lock for all
        return self._decisions.get(decision_id)

    def delivery(self, merchant_id: str, digest: str) -> DecisionRow | None:
        key = (merchant_id, digest)
        return next((row for row in self._decisions.values() if (row.merchant_id, row.digest) == key), None)

    def insert_decision(self, row: DecisionRow) -> DecisionRow:
        row = attrs.evolve(row, id=len(self._decisions) + 1)
        self._decisions[row.id] = row
        return row

    def save_decision(self, row: DecisionRow) -> None:
        self._decisions[row.id] = row

    def decisions(self, loan_id: int) -> list[DecisionRow]:
        return [row for row in self._decisions.values() if row.loan_id == loan_id]

    def unmatched(
        self, merchant_id: str, *, inv_id: str | None = None, order_id: str | None = None
    ) -> list[DecisionRow]:
        return [
            row
            for row in self._decisions.values()
            if row.state == rows.UNMATCHED
            and row.merchant_id == merchant_id
            and (row.inv_id == inv_id if order_id is None else row.order_id == order_id)
        ]

    def matchable(self, limit: int) -> list[DecisionRow]:
        return [
            row
            for row in self._decisions.values()
            if row.state == rows.UNMATCHED
            and (
                self._inv_ids.get((row.merchant_id, row.inv_id)) is not None
                or (row.order_id is not None and self.loan(row.merchant_id, row.order_id) is not None)
            )
        ][:limit]

    def due(self, now: float, limit: int, after: str) -> list[DecisionRow]:
        first: dict[int | None, DecisionRow] = {}
        for row in self._decisions.values():
            if row.state == rows.WAITING:
                first.setdefault(row.loan_id, row)
        due = [
            row for row in first.values() if not (_is_ahead(row.due, now) or _is_ahead(row.lease_until, now))
        ]
        return sorted(due, key=lambda row: (row.merchant_id <= after, row.merchant_id, row.due))[:limit]

    def lock_waiting(self, decision_id: int) -> DecisionRow | None:
        row = self._decisions.get(decision_id)
        return row if row is not None and row.state == rows.WAITING else None

    def loans_to_review(self, now: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        found = [
            row
            for row in self._loans.values()
            if merchant_id in (None, row.merchant_id)
            and (
                row.holds
                or row.state == rows.UNKNOWN
                or (row.state == rows.SENDING and not _is_ahead(row.deadline, now))
            )
        ]
        urgent = (rows.SENDING, rows.UNKNOWN)
        return sorted(found, key=lambda row: row.status != APPROVED and row.state not in urgent)[:limit]

    def decisions_to_review(self, now: float, limit: int, merchant_id: str | None) -> list[DecisionRow]:
        return [
            row
            for row in self._decisions.values()
            if merchant_id in (None, row.merchant_id)
            and (
                row.state == rows.UNMATCHED
                or (
                    row.state == rows.WAITING and (_has_failed(row) or row.received_at < now - rows.LONG_WAIT)
                )
                or (row.state == rows.HELD and row.loan_id is None)
            )
        ][:limit]

    def undecided(self, before: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        return [
            row
            for row in self._loans.values()
            if merchant_id in (None, row.merchant_id)
            and row.state == rows.CREATED
            and row.status in (None, PREAPPROVED)
            and not row.forgotten
            and row.created_at < before
        ][:limit]

    def purgeable(self, before: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        waiting = {row.loan_id for row in self._decisions.values() if row.state == rows.WAITING}
        return [
            row
            for row in self._loans.values()
            if merchant_id in (None, row.merchant_id)
            and row.updated_at < before
            and not row.forgotten
            and not row.holds
            and row.state not in (rows.SENDING, rows.UNKNOWN)
            and row.id not in waiting
        ][:limit]

    def beat(self, worker: str, now: float | None) -> None:
        self._beats.pop(worker, None)
        if now is not None:
            self._beats[worker] = now

    def last_beat(self, until: float) -> float:
        return max((each for each in self._beats.values() if each <= until), default=0.0)
