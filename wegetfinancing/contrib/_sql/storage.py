"""One transaction on SQLAlchemy Core: the statements behind the rules.

What each method does is described at ``Transaction`` in ``_ledger.rows``.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import attrs
from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from ..._ledger import rows
from ..._ledger.rows import DecisionRow, LoanRow, decision_from_columns, loan_from_columns, to_columns
from ..._loan import APPROVED
from . import tables

_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())")


# What a create needs is built once: building a statement costs more than running it.
_INSERTS: Final[dict[str, Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_LOAN_OF_ORDER: Final = select(tables.loan).where(
    tables.loan.c.merchant_id == bindparam("merchant"), tables.loan.c.order_id == bindparam("order")
)
# SQLite has no FOR UPDATE and needs none: BEGIN IMMEDIATE keeps every other writer out.
_LOAN_OF_ORDER_LOCKED: Final = _LOAN_OF_ORDER.with_for_update()
_LOAN_BY_ID: Final = select(tables.loan).where(tables.loan.c.id == bindparam("loan"))
_LOAN_BY_ID_LOCKED: Final = _LOAN_BY_ID.with_for_update()
_INSERT_LOAN: Final = {
    name: insert_into(tables.loan).on_conflict_do_nothing().returning(tables.loan.c.id)
    for name, insert_into in _INSERTS.items()
}
_SAVE_LOAN: Final = update(tables.loan).where(tables.loan.c.id == bindparam("row"))
_SAVE_DECISION: Final = update(tables.decision).where(tables.decision.c.id == bindparam("row"))
_LOCK_INV_ID: Final = {
    name: insert_into(tables.inv)
    .on_conflict_do_update(index_elements=["merchant_id", "inv_id"], set_={"inv_id": text("excluded.inv_id")})
    .returning(tables.inv.c.loan_id)
    for name, insert_into in _INSERTS.items()
}
_ASSIGN_INV_ID: Final = update(tables.inv).where(
    tables.inv.c.merchant_id == bindparam("merchant"), tables.inv.c.inv_id == bindparam("inv")
)
_UNMATCHED: Final = (
    select(tables.decision)
    .where(tables.decision.c.state == rows.UNMATCHED, tables.decision.c.merchant_id == bindparam("merchant"))
    .order_by(tables.decision.c.id)
)
_UNMATCHED_OF_INV: Final = _UNMATCHED.where(tables.decision.c.inv_id == bindparam("named"))
_UNMATCHED_OF_ORDER: Final = _UNMATCHED.where(tables.decision.c.order_id == bindparam("named"))


class SQLTransaction:
    """A ``Transaction`` of the ledger on one connection."""

    def __init__(self, connection: Connection) -> None:
        """Use the transaction that the connection is in."""
        self.connection = connection
        self._on_postgresql = connection.dialect.name == "postgresql"

    def now(self) -> float:
        # SQLite's clock is that of this machine.
        return float(self.connection.scalar(_CLOCK) or 0.0) if self._on_postgresql else time.time()

    def loan(self, merchant_id: str, order_id: str, *, lock: bool = False) -> LoanRow | None:
        statement = _LOAN_OF_ORDER_LOCKED if lock else _LOAN_OF_ORDER
        return next(iter(self._loans(statement, {"merchant": merchant_id, "order": order_id})), None)

    def loan_by_id(self, loan_id: int, *, lock: bool = False) -> LoanRow:
        return self._loans(_LOAN_BY_ID_LOCKED if lock else _LOAN_BY_ID, {"loan": loan_id})[0]

    def loans(self, order_ids: Sequence[str], merchant_id: str | None) -> list[LoanRow]:
        key = and_(tables.loan.c.merchant_id == merchant_id, tables.loan.c.order_id.in_(order_ids))
        return self._loans(select(tables.loan).where(key))

    def insert_loan(self, row: LoanRow) -> bool:
        statement = _INSERT_LOAN[self.connection.dialect.name]
        return self.connection.execute(statement, to_columns(row)).first() is not None

    def save_loan(self, row: LoanRow) -> None:
        self.connection.execute(_SAVE_LOAN, {**to_columns(row), "row": row.id})

    def merchants(self) -> set[str]:
        # Either end of an index.
        ends = [select(end(tables.loan.c.merchant_id)).scalar_subquery() for end in (func.min, func.max)]
        return {each for each in self.connection.execute(select(*ends)).one() if each is not None}

    def lock_inv_id(self, merchant_id: str, inv_id: str) -> int | None:
        values = {"merchant_id": merchant_id, "inv_id": inv_id}
        statement = _LOCK_INV_ID[self.connection.dialect.name]
        loan_id: int | None = self.connection.execute(statement, values).scalar_one()
        return loan_id

    def merchants_of(self, inv_id: str) -> set[str]:
        statement = select(tables.inv.c.merchant_id).where(tables.inv.c.inv_id == inv_id)
        return {*self.connection.scalars(statement)}

    def assign_inv_id(self, merchant_id: str, inv_id: str, loan_id: int) -> None:
        values = {"merchant": merchant_id, "inv": inv_id, "loan_id": loan_id}
        self.connection.execute(_ASSIGN_INV_ID, values)

    def decision(self, decision_id: int, *, lock: bool = False) -> DecisionRow | None:
        statement = select(tables.decision).where(tables.decision.c.id == decision_id)
        return next(iter(self._decisions(statement.with_for_update() if lock else statement)), None)

    def delivery(self, merchant_id: str, digest: str) -> DecisionRow | None:
        key = and_(tables.decision.c.merchant_id == merchant_id, tables.decision.c.digest == digest)
        return next(iter(self._decisions(select(tables.decision).where(key))), None)

    def insert_decision(self, row: DecisionRow) -> DecisionRow:
        statement = insert(tables.decision).values(**to_columns(row)).returning(tables.decision.c.id)
        return attrs.evolve(row, id=self.connection.execute(statement).scalar_one())

    def save_decision(self, row: DecisionRow) -> None:
        self.connection.execute(_SAVE_DECISION, {**to_columns(row), "row": row.id})

    def decisions(self, loan_id: int) -> list[DecisionRow]:
        statement = select(tables.decision).where(tables.decision.c.loan_id == loan_id)
        return self._decisions(statement.order_by(tables.decision.c.id))

    def unmatched(
        self, merchant_id: str, *, inv_id: str | None = None, order_id: str | None = None
    ) -> list[DecisionRow]:
        values = {"merchant": merchant_id, "named": inv_id if order_id is None else order_id}
        return self._decisions(_UNMATCHED_OF_INV if order_id is None else _UNMATCHED_OF_ORDER, values)

    def matchable(self, limit: int) -> list[DecisionRow]:
        decision, inv, loan = tables.decision.c, tables.inv.c, tables.loan.c
        by_id = exists().where(
            inv.merchant_id == decision.merchant_id, inv.inv_id == decision.inv_id, inv.loan_id.is_not(None)
        )
        by_order = exists().where(
            loan.merchant_id == decision.merchant_id, loan.order_id == decision.order_id
        )
        statement = select(tables.decision).where(decision.state == rows.UNMATCHED, or_(by_id, by_order))
        return self._decisions(statement.order_by(decision.id).limit(limit))

    def due(self, now: float, limit: int, after: str) -> list[DecisionRow]:
        decision, earlier = tables.decision.c, tables.decision.alias().c
        is_behind = exists().where(
            earlier.loan_id == decision.loan_id, earlier.state == rows.WAITING, earlier.id < decision.id
        )
        statement = select(tables.decision).where(
            decision.state == rows.WAITING,
            _not_ahead(decision.due, now),
            _not_ahead(decision.lease_until, now),
            ~is_behind,
        )
        statement = statement.order_by(decision.merchant_id, decision.due, decision.id)
        # Two statements, so that each one reads an index in its order and ends after a few rows.
        found = self._decisions(statement.where(decision.merchant_id > after).limit(limit))
        if after and len(found) < limit:
            up_to_it = statement.where(decision.merchant_id <= after)
            found += self._decisions(up_to_it.limit(limit - len(found)))
        return found

    def lock_waiting(self, decision_id: int) -> DecisionRow | None:
        key = and_(tables.decision.c.id == decision_id, tables.decision.c.state == rows.WAITING)
        return next(
            iter(self._decisions(select(tables.decision).where(key).with_for_update(skip_locked=True))), None
        )

    def loans_to_review(self, now: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        loan = tables.loan.c
        overdue = and_(loan.state == rows.SENDING, _not_ahead(loan.deadline, now))
        condition = or_(loan.holds != "[]", loan.state == rows.UNKNOWN, overdue)
        statement = _of(merchant_id, tables.loan).where(condition)
        is_urgent = or_(loan.status == APPROVED, loan.state.in_([rows.SENDING, rows.UNKNOWN]))
        return self._loans(statement.order_by(case((is_urgent, 0), else_=1), loan.id).limit(limit))

    def decisions_to_review(self, now: float, limit: int, merchant_id: str | None) -> list[DecisionRow]:
        decision = tables.decision.c
        has_failed = and_(decision.attempts > 0, decision.lease.is_(None))
        failing = or_(has_failed, decision.received_at < now - rows.LONG_WAIT)
        condition = or_(
            decision.state == rows.UNMATCHED,
            and_(decision.state == rows.WAITING, failing),
            and_(decision.state == rows.HELD, decision.loan_id.is_(None)),
        )
        statement = _of(merchant_id, tables.decision).where(condition)
        return self._decisions(statement.order_by(decision.id).limit(limit))

    def undecided(self, before: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        loan = tables.loan.c
        condition = and_(tables.undecided, ~loan.forgotten, loan.created_at < before)
        statement = _of(merchant_id, tables.loan).where(condition)
        return self._loans(statement.order_by(loan.created_at).limit(limit))

    def purgeable(self, before: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        loan, decision = tables.loan.c, tables.decision.c
        waits = exists().where(decision.loan_id == loan.id, decision.state == rows.WAITING)
        statement = _of(merchant_id, tables.loan).where(
            loan.updated_at < before,
            ~loan.forgotten,
            loan.holds == "[]",
            loan.state.not_in([rows.SENDING, rows.UNKNOWN]),
            ~waits,
        )
        return self._loans(statement.order_by(loan.id).limit(limit).with_for_update())

    def beat(self, worker: str, now: float | None) -> None:
        if now is None:
            self.connection.execute(delete(tables.worker).where(tables.worker.c.id == worker))
            return
        statement = _INSERTS[self.connection.dialect.name](tables.worker).values(id=worker, seen_at=now)
        self.connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": now}))

    def last_beat(self, until: float) -> float:
        seen_at = tables.worker.c.seen_at
        return self.connection.scalar(select(func.max(seen_at)).where(seen_at <= until)) or 0.0

    def _loans(self, statement: Select[Any], values: dict[str, Any] | None = None) -> list[LoanRow]:
        return [loan_from_columns(row._asdict()) for row in self.connection.execute(statement, values)]

    def _decisions(self, statement: Select[Any], values: dict[str, Any] | None = None) -> list[DecisionRow]:
        return [decision_from_columns(row._asdict()) for row in self.connection.execute(statement, values)]


def _of(merchant_id: str | None, table: Table) -> Select[Any]:
    statement = select(table)
    return statement if merchant_id is None else statement.where(table.c.merchant_id == merchant_id)


def _not_ahead(column: ColumnElement[float], now: float) -> ColumnElement[bool]:
    return or_(column <= now, column > now + rows.MAX_AHEAD)
