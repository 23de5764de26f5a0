"""The shop's orders, in SQLite. Each method is one transaction: all of it or nothing."""

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs

from wegetfinancing import Approved, CreatedRequest, Postback, Refunded
from wegetfinancing.postbacks import Advice, LoanState

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY,            -- our merchant_transaction_id
    contents TEXT NOT NULL,         -- who bought what, as JSON
    amount TEXT NOT NULL,           -- USD
    checkout TEXT NOT NULL,         -- started, applied, unknown or failed
    inv_id TEXT UNIQUE,             -- the vendor's, as soon as it is known
    href TEXT,                      -- the application page, as soon as it is known
    loan_status TEXT,               -- LoanState
    loan_handled TEXT NOT NULL DEFAULT '[]',
    loan_surprises TEXT NOT NULL DEFAULT '[]',
    refunded TEXT NOT NULL DEFAULT '0',
    held INTEGER NOT NULL DEFAULT 0,            -- until the notes have been reviewed
    shipping_until REAL NOT NULL DEFAULT 0,     -- a call to the vendor is under way until then
    shipped INTEGER NOT NULL DEFAULT 0,
    changed REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS notes (
    order_id TEXT NOT NULL, text TEXT NOT NULL,
    times INTEGER NOT NULL DEFAULT 1,           -- the vendor may repeat a postback as often as it likes
    UNIQUE (order_id, text)
);
"""
_SHIPPING_SECONDS: Final = 120.0
_CERTAINLY_OVER_SECONDS: Final = 600.0
_LOCKED_SECONDS: Final = 3.0


@attrs.frozen(kw_only=True)
class Order:
    """One order; it is saved before the vendor is called."""

    id: str
    contents: dict[str, Any]
    amount: Decimal
    checkout: str
    inv_id: str | None
    href: str | None
    loan: LoanState
    refunded: Decimal
    held: bool
    shipped: bool
    changed: float
    notes: list[str]

    @property
    def may_ship(self) -> bool:
        """Whether goods may leave: approved, nothing refunded, nothing left to review."""
        return self.loan.may_ship and not (self.refunded or self.held or self.shipped or not self.inv_id)

    @property
    def is_lost(self) -> bool:
        """Whether nobody knows if the vendor has it, and its call is certainly over."""
        over = self.checkout == "unknown" or (
            self.checkout == "started" and self.changed + _CERTAINLY_OVER_SECONDS < time.time()
        )
        return over and self.loan.status is None and not self.loan.surprises

    @property
    def told_to_the_customer(self) -> str:
        """The state that the order page shows."""
        if self.shipped:
            return "shipped"
        if self.loan.surprises or self.held:
            return "in review"
        if self.loan.status is not None:
            return self.loan.status
        return {"applied": "waiting", "failed": "failed"}.get(self.checkout, "pending")


class Database:
    """The orders of one shop. Its methods block: await them in a thread."""

    def __init__(self, path: Path | str, *, clock: Callable[[], float] = time.time) -> None:
        self._path = str(path)
        self._clock = clock
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            connection.executescript(SCHEMA)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=_LOCKED_SECONDS)
        connection.row_factory = sqlite3.Row
        try:
            cursor = connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            connection.commit()
        finally:
            connection.close()

    def begin(self, order_id: str, amount: Decimal, contents: Mapping[str, Any]) -> bool:
        """Save an order; ``False`` if it is under way already, as after a double click.

        An order that failed may begin again, unless a postback has since shown that the vendor has it.
        """
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO orders (id, amount, contents, checkout, changed) VALUES (?, ?, ?, 'started', ?) "
                "ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, contents = excluded.contents, "
                "checkout = 'started', changed = excluded.changed "
                "WHERE checkout = 'failed' AND inv_id IS NULL AND loan_status IS NULL",
                (order_id, str(amount), json.dumps(contents), self._clock()),
            )
            return cursor.rowcount == 1

    def applied(self, order_id: str, created: CreatedRequest) -> None:
        """Save the vendor's answer; hold the order for review if it is not as expected."""
        with self._transaction() as cursor:
            order = _read(cursor, order_id)
            if order.inv_id not in {None, created.inv_id}:
                _hold(
                    cursor,
                    order_id,
                    f"the vendor answered {created.inv_id}, a postback another ID",
                )
                return
            _set(cursor, order_id, checkout="applied", inv_id=created.inv_id, href=created.href)
            if created.amount not in {None, order.amount}:
                _hold(cursor, order_id, f"the vendor finances {created.amount}")

    def failed(self, order_id: str, *, checkout: str, note: str) -> None:
        """Record that the checkout certainly ``failed``, or that its outcome is ``unknown``."""
        with self._transaction() as cursor:
            _set(cursor, order_id, checkout=checkout, changed=self._clock())
            _note(cursor, order_id, note)

    def order(self, order_id: str) -> Order | None:
        """Return the order, if there is one."""
        with self._transaction() as cursor:
            row = cursor.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
            return None if row is None else _order(cursor, row)

    def orders(self) -> list[Order]:
        """Return all orders, the newest first."""
        with self._transaction() as cursor:
            rows = cursor.execute("SELECT * FROM orders ORDER BY rowid DESC").fetchall()
            return [_order(cursor, row) for row in rows]

    def record(self, postback: Postback) -> bool:
        """Record a postback; ``False`` if its order is not here yet."""
        with self._transaction() as cursor:
            row = cursor.execute(
                "SELECT * FROM orders WHERE inv_id = ? OR id = ? ORDER BY inv_id = ? DESC",
                (postback.inv_id, postback.merchant_transaction_id, postback.inv_id),
            ).fetchone()
            if row is None:
                return False
            order = _order(cursor, row)
            if order.inv_id not in {None, postback.inv_id}:
                text = f"{postback.status}, for another request of this order: {postback.inv_id}"
                _hold(cursor, order.id, text)
                return True
            advice = order.loan.advise(postback)
            _save_loan(cursor, order.id, order.loan.after(postback))
            _set(cursor, order.id, inv_id=postback.inv_id)
            if advice is Advice.SURPRISING:
                _note(cursor, order.id, f"surprising after {order.loan.status}: {_description(postback)}")
            elif isinstance(postback, Approved) and order.checkout in {"started", "unknown"}:
                _note(cursor, order.id, "approved, but the financed amount was never seen")
            elif isinstance(postback, Refunded):
                _record_refund(cursor, order, postback, is_repeat=advice is Advice.DUPLICATE)
            return True

    def resolve(self, order_id: str, status: str) -> bool:
        """Record which decision stands after manual review; ``False`` if nothing was in conflict."""
        with self._transaction() as cursor:
            order = _read(cursor, order_id)
            if not order.loan.surprises:
                return False
            _save_loan(cursor, order_id, order.loan.resolved(status))
            _note(cursor, order_id, f"reviewed: the decision is {status}")
            return True

    def let_go(self, order_id: str) -> None:
        """Record that the notes were reviewed and the order may go on."""
        with self._transaction() as cursor:
            _set(cursor, order_id, held=0)
            _note(cursor, order_id, "reviewed: the order may go on")

    def give_up(self, order_id: str) -> bool:
        """Record that the vendor does not have the request; ``False`` if the order is not lost."""
        with self._transaction() as cursor:
            if not _read(cursor, order_id).is_lost:
                return False
            _set(cursor, order_id, checkout="failed")
            _note(cursor, order_id, "reviewed: the vendor does not have the request")
            return True

    def claim_shipping(self, order_id: str) -> bool:
        """Begin to ship; ``False`` if that is not allowed or under way already."""
        with self._transaction() as cursor:
            order = _read(cursor, order_id)
            now = self._clock()
            free = "SELECT 1 FROM orders WHERE id = ? AND shipping_until < ?"
            if not order.may_ship or cursor.execute(free, (order_id, now)).fetchone() is None:
                return False
            _set(cursor, order_id, shipping_until=now + _SHIPPING_SECONDS)
            return True

    def shipping_failed(self, order_id: str, note: str) -> None:
        """Record the failure, so that it can be tried again."""
        with self._transaction() as cursor:
            _set(cursor, order_id, shipping_until=0)
            _note(cursor, order_id, note)

    def shipped(self, order_id: str) -> None:
        """Record that the goods have left and the vendor knows."""
        with self._transaction() as cursor:
            if not _read(cursor, order_id).may_ship:
                _hold(cursor, order_id, "the loan changed while it was shipped: stop the parcel")
            _set(cursor, order_id, shipped=1)


def _record_refund(cursor: sqlite3.Cursor, order: Order, postback: Refunded, *, is_repeat: bool) -> None:
    # A report: the vendor has paid it. The goods of a refunded order stay in stock, and nobody is paid here.
    if is_repeat:
        _note(cursor, order.id, f"another {_description(postback)}: a repeat, or a second refund?")
    elif postback.amount is None or postback.amount > order.amount - order.refunded:
        _hold(cursor, order.id, f"{_description(postback)}, with {order.amount - order.refunded} remaining")
    else:
        _set(cursor, order.id, refunded=str(order.refunded + postback.amount))


def _description(postback: Postback) -> str:
    if isinstance(postback, Refunded):
        return f"refund of {'an unnamed amount' if postback.amount is None else postback.amount}"
    return str(postback.status)


def _read(cursor: sqlite3.Cursor, order_id: str) -> Order:
    return _order(cursor, cursor.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone())


def _set(cursor: sqlite3.Cursor, order_id: str, **columns: str | float | None) -> None:
    names = ", ".join(f"{name} = ?" for name in columns)
    cursor.execute(f"UPDATE orders SET {names} WHERE id = ?", (*columns.values(), order_id))  # noqa: S608 - our own names


def _note(cursor: sqlite3.Cursor, order_id: str, text: str) -> None:
    cursor.execute(
        "INSERT INTO notes (order_id, text) VALUES (?, ?) "
        "ON CONFLICT (order_id, text) DO UPDATE SET times = times + 1",
        (order_id, text),
    )


def _hold(cursor: sqlite3.Cursor, order_id: str, text: str) -> None:
    _note(cursor, order_id, text)
    _set(cursor, order_id, held=1)


def _save_loan(cursor: sqlite3.Cursor, order_id: str, loan: LoanState) -> None:
    _set(
        cursor,
        order_id,
        loan_status=loan.status,
        loan_handled=json.dumps(sorted(loan.handled)),
        loan_surprises=json.dumps(sorted(loan.surprises)),
    )


def _order(cursor: sqlite3.Cursor, row: sqlite3.Row) -> Order:
    notes = cursor.execute("SELECT text, times FROM notes WHERE order_id = ? ORDER BY rowid", (row["id"],))
    return Order(
        id=row["id"],
        contents=json.loads(row["contents"]),
        amount=Decimal(row["amount"]),
        checkout=row["checkout"],
        inv_id=row["inv_id"],
        href=row["href"],
        loan=LoanState(
            status=row["loan_status"],
            handled=frozenset(json.loads(row["loan_handled"])),
            surprises=frozenset(json.loads(row["loan_surprises"])),
        ),
        refunded=Decimal(row["refunded"]),
        held=bool(row["held"]),
        shipped=bool(row["shipped"]),
        changed=row["changed"],
        notes=[text if times == 1 else f"{text} ({times} times)" for text, times in notes],
    )
