"""One transaction on Django's ORM: the statements behind the rules. Imported once the apps are ready.

What each method does is described at ``Transaction`` in ``_ledger.rows``.
"""
# ruff: noqa: D102 - as above

import time
from collections.abc import Sequence
from typing import Any

import attrs
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, Exists, Max, Min, OuterRef, Q, When

from ..._ledger import rows
from ..._ledger.rows import DecisionRow, LoanRow, decision_from_columns, loan_from_columns, to_columns
from ..._loan import APPROVED
from .models import UNDECIDED, Decision, Inv, Loan, Worker


def _not_ahead(column: str, now: float) -> Q:
    return Q(**{f"{column}__lte": now}) | Q(**{f"{column}__gt": now + rows.MAX_AHEAD})


def _of(merchant_id: str | None) -> Q:
    return Q() if merchant_id is None else Q(merchant_id=merchant_id)


def loans_to_review(now: float) -> Q:
    """Select loans that are held, unknown, or sending although their deadline has passed."""
    return ~Q(holds="[]") | Q(state=rows.UNKNOWN) | (Q(state=rows.SENDING) & _not_ahead("deadline", now))


def decisions_to_review(now: float) -> Q:
    """Select decisions that are unmatched, failing, waiting for long, or held without a loan."""
    failing = Q(attempts__gt=0, lease__isnull=True) | Q(received_at__lt=now - rows.LONG_WAIT)
    is_lost = Q(state=rows.HELD, loan__isnull=True)
    return Q(state=rows.UNMATCHED) | (Q(state=rows.WAITING) & failing) | is_lost


class DjangoTransaction:
    """A ``Transaction`` of the ledger on one of Django's connections."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        """Use the transaction that the connection is in."""
        self.connection = connection
        self._loan = Loan.objects.using(connection.alias)
        self._inv = Inv.objects.using(connection.alias)
        self._decision = Decision.objects.using(connection.alias)
        self._worker = Worker.objects.using(connection.alias)

    def now(self) -> float:
        if self.connection.vendor != "postgresql":  # SQLite's clock is that of this machine
            return time.time()
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
            return float(cursor.fetchone()[0])

    def loan(self, merchant_id: str, order_id: str, *, lock: bool = False) -> LoanRow | None:
        found = self._loan.filter(merchant_id=merchant_id, order_id=order_id)
        return next(iter(_loans(_locking(found, lock))), None)

    def loan_by_id(self, loan_id: int, *, lock: bool = False) -> LoanRow:
        return _loans(_locking(self._loan.filter(id=loan_id), lock))[0]

    def loans(self, order_ids: Sequence[str], merchant_id: str | None) -> list[LoanRow]:
        return _loans(self._loan.filter(merchant_id=merchant_id, order_id__in=order_ids))

    def insert_loan(self, row: LoanRow) -> bool:
        columns = to_columns(row)
        names = ", ".join(columns)  # those of the row, none from outside
        places = ", ".join(["%s"] * len(columns))
        # The ORM does not say whether a row that it inserts without conflicts was inserted.
        statement = f"INSERT INTO wgf_loan ({names}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608
        with self.connection.cursor() as cursor:
            cursor.execute(statement, list(columns.values()))
            return bool(cursor.rowcount == 1)

    def save_loan(self, row: LoanRow) -> None:
        self._loan.filter(id=row.id).update(**to_columns(row))

    def merchants(self) -> set[str]:
        # Either end of an index.
        ends = self._loan.aggregate(first=Min("merchant_id"), last=Max("merchant_id"))
        return {each for each in ends.values() if each is not None}

    def lock_inv_id(self, merchant_id: str, inv_id: str) -> int | None:
        self._inv.bulk_create(
            [Inv(merchant_id=merchant_id, inv_id=inv_id)],
            update_conflicts=True,
            unique_fields=["merchant_id", "inv_id"],
            update_fields=["inv_id"],
        )
        key = {"merchant_id": merchant_id, "inv_id": inv_id}
        loan_id: int | None = self._inv.filter(**key).values_list("loan_id", flat=True).get()
        return loan_id

    def merchants_of(self, inv_id: str) -> set[str]:
        return {*self._inv.filter(inv_id=inv_id).values_list("merchant_id", flat=True)}

    def assign_inv_id(self, merchant_id: str, inv_id: str, loan_id: int) -> None:
        self._inv.filter(merchant_id=merchant_id, inv_id=inv_id).update(loan_id=loan_id)

    def decision(self, decision_id: int, *, lock: bool = False) -> DecisionRow | None:
        return next(iter(_decisions(_locking(self._decision.filter(id=decision_id), lock))), None)

    def delivery(self, merchant_id: str, digest: str) -> DecisionRow | None:
        return next(iter(_decisions(self._decision.filter(merchant_id=merchant_id, digest=digest))), None)

    def insert_decision(self, row: DecisionRow) -> DecisionRow:
        return attrs.evolve(row, id=self._decision.create(**to_columns(row)).pk)

    def save_decision(self, row: DecisionRow) -> None:
        self._decision.filter(id=row.id).update(**to_columns(row))

    def decisions(self, loan_id: int) -> list[DecisionRow]:
        return _decisions(self._decision.filter(loan_id=loan_id).order_by("id"))

    def unmatched(
        self, merchant_id: str, *, inv_id: str | None = None, order_id: str | None = None
    ) -> list[DecisionRow]:
        named = {"inv_id": inv_id} if order_id is None else {"order_id": order_id}
        found = self._decision.filter(state=rows.UNMATCHED, merchant_id=merchant_id, **named)
        return _decisions(found.order_by("id"))

    def matchable(self, limit: int) -> list[DecisionRow]:
        merchant = OuterRef("merchant_id")
        by_id = Exists(self._inv.filter(merchant_id=merchant, inv_id=OuterRef("inv_id"), loan__isnull=False))
        by_order = Exists(self._loan.filter(merchant_id=merchant, order_id=OuterRef("order_id")))
        found = self._decision.filter(Q(by_id) | Q(by_order), state=rows.UNMATCHED)
        return _decisions(found.order_by("id")[:limit])

    def due(self, now: float, limit: int, after: str) -> list[DecisionRow]:
        earlier = self._decision.filter(
            loan_id=OuterRef("loan_id"), state=rows.WAITING, id__lt=OuterRef("id")
        )
        waiting = self._decision.filter(
            _not_ahead("due", now), _not_ahead("lease_until", now), ~Exists(earlier), state=rows.WAITING
        ).order_by("merchant_id", "due", "id")
        # Two statements, so that each one reads an index in its order and ends after a few rows.
        found = _decisions(waiting.filter(merchant_id__gt=after)[:limit])
        if after and len(found) < limit:
            found += _decisions(waiting.filter(merchant_id__lte=after)[: limit - len(found)])
        return found

    def lock_waiting(self, decision_id: int) -> DecisionRow | None:
        found = self._decision.filter(id=decision_id, state=rows.WAITING)
        return next(iter(_decisions(found.select_for_update(skip_locked=True))), None)

    def loans_to_review(self, now: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        is_urgent = Q(status=APPROVED) | Q(state__in=[rows.SENDING, rows.UNKNOWN])
        found = self._loan.filter(loans_to_review(now), _of(merchant_id))
        return _loans(found.order_by(Case(When(is_urgent, then=0), default=1), "id")[:limit])

    def decisions_to_review(self, now: float, limit: int, merchant_id: str | None) -> list[DecisionRow]:
        return _decisions(
            self._decision.filter(decisions_to_review(now), _of(merchant_id)).order_by("id")[:limit]
        )

    def undecided(self, before: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        found = self._loan.filter(UNDECIDED, _of(merchant_id), forgotten=False, created_at__lt=before)
        return _loans(found.order_by("created_at")[:limit])

    def purgeable(self, before: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        waits = self._decision.filter(loan_id=OuterRef("id"), state=rows.WAITING)
        found = self._loan.filter(
            ~Exists(waits), _of(merchant_id), updated_at__lt=before, forgotten=False, holds="[]"
        )
        found = found.exclude(state__in=[rows.SENDING, rows.UNKNOWN])
        return _loans(found.order_by("id")[:limit].select_for_update())

    def beat(self, worker: str, now: float | None) -> None:
        if now is None:
            self._worker.filter(id=worker).delete()
            return
        self._worker.bulk_create(
            [Worker(id=worker, seen_at=now)],
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["seen_at"],
        )

    def last_beat(self, until: float) -> float:
        return self._worker.filter(seen_at__lte=until).aggregate(last=Max("seen_at"))["last"] or 0.0


def _loans(found: Any) -> list[LoanRow]:  # noqa: ANN401 - a QuerySet
    return [loan_from_columns(columns) for columns in found.values()]


def _decisions(found: Any) -> list[DecisionRow]:  # noqa: ANN401 - a QuerySet
    return [decision_from_columns(columns) for columns in found.values()]


def _locking(found: Any, lock: bool) -> Any:  # noqa: ANN401, FBT001 - a QuerySet; private
    # Django leaves it out on SQLite, which needs none: the lock of a write keeps every other writer out.
    return found.select_for_update() if lock else found
