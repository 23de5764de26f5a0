"""The shop's orders, in SQLite. Each function is one transaction: all of it or nothing."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import attrs

from wegetfinancing import CreatedRequest, Postback, Refunded
from wegetfinancing.decisions import Advice, LoanState

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY,            -- our merchant_transaction_id
    inv_id TEXT UNIQUE,             -- the vendor's, as soon as it is known
    href TEXT,                      -- the application page, likewise
    amount TEXT NOT NULL,           -- USD
    checkout TEXT NOT NULL,         -- started, applied, unknown, mismatch or failed
    loan_status TEXT,               -- LoanState
    loan_handled TEXT NOT NULL DEFAULT '[]',
    loan_surprises TEXT NOT NULL DEFAULT '[]',
    refunded TEXT NOT NULL DEFAULT '0',
    shipped INTEGER NOT NULL DEFAULT 0,
    note TEXT NOT NULL DEFAULT '',  -- for the people of the shop
    created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
"""


@attrs.frozen(kw_only=True)
class Order:
    """One order; it is written down before the vendor is called."""

    id: str
    inv_id: str | None
    href: str | None
    amount: Decimal
    checkout: str
    loan: LoanState
    refunded: Decimal
    shipped: bool
    note: str

    @property
    def may_ship(self) -> bool:
        """Whether goods may leave: approved, nothing surprising, not shipped yet."""
        return self.loan.may_ship and self.inv_id is not None and not self.shipped

    @property
    def told_to_the_customer(self) -> str:
        """What the order page says."""
        if self.shipped:
            return "shipped"
        if self.loan.surprises:
            return "in review"
        if self.loan.status is not None:
            return self.loan.status
        return {"applied": "waiting", "failed": "failed"}.get(self.checkout, "pending")


class Database:
    """The orders of one shop."""

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        with self._transaction() as cursor:
            cursor.execute(SCHEMA)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            cursor = connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            connection.commit()
        finally:
            connection.close()

    def begin(self, order_id: str, amount: Decimal) -> bool:
        """Write an order down; ``False`` if it is under way already, as after a double click.

        An order that failed may begin again: the vendor has no request of it.
        """
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO orders (id, amount, checkout) VALUES (?, ?, 'started') ON CONFLICT (id) "
                "DO UPDATE SET amount = excluded.amount, checkout = 'started', note = '' "
                "WHERE checkout = 'failed'",
                (order_id, str(amount)),
            )
            return cursor.rowcount == 1

    def applied(self, order_id: str, created: CreatedRequest, *, checkout: str = "applied") -> None:
        """Keep what the vendor answered."""
        with self._transaction() as cursor:
            cursor.execute(
                "UPDATE orders SET checkout = ?, inv_id = ?, href = ? WHERE id = ?",
                (checkout, created.inv_id, created.href, order_id),
            )

    def failed(self, order_id: str, *, checkout: str, note: str) -> None:
        """Note that the checkout is ``failed`` for certain, or that its outcome is ``unknown``."""
        with self._transaction() as cursor:
            cursor.execute(
                "UPDATE orders SET checkout = ?, note = ? WHERE id = ?", (checkout, note, order_id)
            )

    def note(self, order_id: str, note: str) -> None:
        """Leave a note for the people of the shop."""
        with self._transaction() as cursor:
            cursor.execute("UPDATE orders SET note = ? WHERE id = ?", (note, order_id))

    def order(self, order_id: str) -> Order | None:
        """Return the order, if there is one."""
        with self._transaction() as cursor:
            row = cursor.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
            return None if row is None else _order(row)

    def orders(self) -> list[Order]:
        """Return all orders, the newest first."""
        with self._transaction() as cursor:
            return [_order(row) for row in cursor.execute("SELECT * FROM orders ORDER BY rowid DESC")]

    def record(self, postback: Postback) -> bool:
        """Take in a postback; ``False`` if it is about no order that stands here yet."""
        with self._transaction() as cursor:
            row = cursor.execute(
                "SELECT * FROM orders WHERE inv_id = ? OR id = ? ORDER BY inv_id = ? DESC",
                (postback.inv_id, postback.merchant_transaction_id, postback.inv_id),
            ).fetchone()
            if row is None:
                return False
            order = _order(row)
            if order.inv_id not in {None, postback.inv_id}:
                note = f"{postback.status} for another request of this order: {postback.inv_id}"
                cursor.execute("UPDATE orders SET note = ? WHERE id = ?", (note, order.id))
                return True
            refunded = order.refunded
            if order.loan.advise(postback) is Advice.APPLY and isinstance(postback, Refunded):
                refunded += postback.amount or 0  # the vendor may leave the amount out: ask a person
            _save_loan(cursor, order.id, order.loan.after(postback))
            cursor.execute(
                "UPDATE orders SET refunded = ?, inv_id = coalesce(inv_id, ?) WHERE id = ?",
                (str(refunded), postback.inv_id, order.id),
            )
            return True

    def resolve(self, order_id: str, status: str) -> None:
        """Note which decision stands, after a person has looked it up at the vendor's."""
        with self._transaction() as cursor:
            row = cursor.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
            if row is not None:
                _save_loan(cursor, order_id, _order(row).loan.resolved(status))

    def shipped(self, order_id: str) -> None:
        """Note that the goods have left and the vendor knows."""
        with self._transaction() as cursor:
            cursor.execute("UPDATE orders SET shipped = 1, note = '' WHERE id = ?", (order_id,))


def _save_loan(cursor: sqlite3.Cursor, order_id: str, loan: LoanState) -> None:
    cursor.execute(
        "UPDATE orders SET loan_status = ?, loan_handled = ?, loan_surprises = ? WHERE id = ?",
        (loan.status, json.dumps(sorted(loan.handled)), json.dumps(sorted(loan.surprises)), order_id),
    )


def _order(row: sqlite3.Row) -> Order:
    return Order(
        id=row["id"],
        inv_id=row["inv_id"],
        href=row["href"],
        amount=Decimal(row["amount"]),
        checkout=row["checkout"],
        loan=LoanState(
            status=row["loan_status"],
            handled=frozenset(json.loads(row["loan_handled"])),
            surprises=frozenset(json.loads(row["loan_surprises"])),
        ),
        refunded=Decimal(row["refunded"]),
        shipped=bool(row["shipped"]),
        note=row["note"],
    )
