"""The shop's own orders: who bought what, and what has left. The ledger keeps the loans in the same file."""

import secrets
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    create_engine,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

from wegetfinancing import Approved, Environment, Refunded, Rejected
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.ledger import ApplicationState, Decision, Loan

_METADATA: Final = MetaData()
_ORDERS: Final = Table(
    "orders",
    _METADATA,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),  # our merchant_transaction_id
    Column("contents", JSON, nullable=False),  # who bought what
    Column("amount", String, nullable=False),  # USD
    Column(
        "shipping_until", Float, nullable=False, default=0.0
    ),  # a call to the vendor is under way until then
    Column("shipped", Boolean, nullable=False, default=False),
    Column("by_transfer", Boolean, nullable=False, default=False),
    Column("replaced_by", String),  # the order that the customer pays in another way
)
_HISTORY: Final = Table(
    "history",
    _METADATA,
    Column("number", Integer, primary_key=True),
    Column("order_id", String, nullable=False, index=True),
    Column("text", String, nullable=False),
)
_SHIPPING_SECONDS: Final = 120.0
_LOCKED_SECONDS: Final = 3.0
_NOTHING_APPLIED: Final = frozenset({ApplicationState.REFUSED, ApplicationState.NOT_SENT})
_AMOUNTS: Final = frozenset({"amount_not_seen", "amount_differs", "amount_not_expected"})


@attrs.frozen(kw_only=True)
class Order:
    """One order and its loan; it is saved before the vendor is called."""

    id: str
    contents: dict[str, Any]
    amount: Decimal
    shipped: bool
    is_by_transfer: bool
    replaced_by: str | None
    history: list[str]
    loan: Loan | None

    @property
    def may_ship(self) -> bool:
        """Whether goods may leave."""
        over = self.shipped or self._is_refunded or self.replaced_by is not None
        return self.loan is not None and self.loan.may_ship and not over

    @property
    def is_paid_otherwise(self) -> bool:
        """Whether a bank transfer pays it, or another order in its place."""
        return self.is_by_transfer or self.replaced_by is not None

    @property
    def is_approved_in_vain(self) -> bool:
        """Whether the lender has approved what the customer pays in another way meanwhile."""
        return self.replaced_by is not None and self.loan is not None and self.loan.status == Approved.status

    @property
    def may_apply(self) -> bool:
        """Whether the vendor certainly has no application of it, and it may still be applied for."""
        is_free = self.loan is None or self.loan.state in _NOTHING_APPLIED
        return is_free and not self.is_paid_otherwise

    @property
    def is_in_doubt(self) -> bool:
        """Whether the vendor may or may not have an application of it."""
        return self.loan is not None and self.loan.state in {
            ApplicationState.SENDING,
            ApplicationState.UNKNOWN,
        }

    @property
    def is_closed(self) -> bool:
        """Whether its application was looked for at the vendor's, was not there, and has not turned up."""
        loan = self.loan
        if loan is None or loan.state is not ApplicationState.ABSENT:
            return False
        return loan.inv_id is None and not loan.held

    @property
    def told_to_the_customer(self) -> str:
        """The state that the order page shows."""
        if self.shipped or self.is_paid_otherwise:
            return self._without_a_loan
        if self.loan is None or self.may_apply or self.is_closed:
            return "failed"
        if self._is_refunded:
            return "refund"
        if self._is_reviewed(self.loan):
            return "in review"
        if self.loan.status is not None:
            return self.loan.status
        return "pending" if self.is_in_doubt else "waiting"

    @property
    def _without_a_loan(self) -> str:
        if self.shipped:
            return "shipped"
        return "replaced" if self.replaced_by is not None else "awaiting payment"

    @property
    def _is_refunded(self) -> bool:
        return self.loan is not None and self.loan.refunded >= self.amount

    @staticmethod
    def _is_reviewed(loan: Loan) -> bool:
        """Whether a hold concerns the customer: an amount that nobody saw does not, before an approval."""
        ignored = {Approved.status: frozenset[str](), Rejected.status: _AMOUNTS}
        return any(
            hold.code not in ignored.get(loan.status or "", frozenset({"amount_not_seen"}))
            for hold in loan.held
        )


class Database:
    """The orders of one shop. Its methods block: await them in a thread."""

    def __init__(
        self,
        path: Path | str,
        environment: Environment = Environment.SANDBOX,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _LOCKED_SECONDS})
        _METADATA.create_all(self._engine)
        self.ledger = SQLLedger(f"sqlite:///{path}", environment=environment, apply=apply)
        self.ledger.create_tables()

    def close(self) -> None:
        self.ledger.close()
        self._engine.dispose()

    def save(self, order_id: str, amount: Decimal, contents: dict[str, Any]) -> Order:
        """Save an order before the vendor is called, and return it as it stands.

        Its cart never changes. The rest of the form may be corrected until the vendor may have it.
        """
        values = {"amount": str(amount), "contents": contents}
        with self._engine.begin() as connection:
            new = sqlite.insert(_ORDERS).values(id=order_id, **values).on_conflict_do_nothing()
            connection.execute(new)  # from here on this transaction is the only writer
            order = self._read(connection, order_id)
            if order.may_apply and order.contents["cart"] == contents["cart"]:
                connection.execute(update(_ORDERS).where(_ORDERS.c.id == order_id).values(**values))
            return self._read(connection, order_id)

    def order(self, order_id: str) -> Order | None:
        """Return the order, if there is one."""
        with self._engine.begin() as connection:
            row = connection.execute(select(_ORDERS).where(_ORDERS.c.id == order_id)).first()
            return None if row is None else self._read(connection, row.id)

    def orders(self) -> list[Order]:
        """Return all orders, the newest first."""
        with self._engine.begin() as connection:
            rows = connection.execute(select(_ORDERS).order_by(_ORDERS.c.number.desc())).all()
            loans = self.ledger.loans([row.id for row in rows], connection=connection)
            return [_order(connection, row, loans.get(row.id)) for row in rows]

    def claim_shipping(self, order_id: str) -> bool:
        """Begin to ship; ``False`` if that is not allowed or under way already."""
        now = self._clock()
        free = (_ORDERS.c.id == order_id) & ~_ORDERS.c.shipped & (_ORDERS.c.shipping_until < now)
        claiming = update(_ORDERS).where(free).values(shipping_until=now + _SHIPPING_SECONDS)
        with self._engine.connect() as connection:
            # The claim first: it keeps every other writer out while the loan is read.
            if connection.execute(claiming).rowcount != 1 or not self._read(connection, order_id).may_ship:
                return False  # leaving the block rolls back
            connection.commit()
            return True

    def replace(self, order_id: str) -> str | None:
        """Replace a declined order by one that is paid by bank transfer, once, and return the new one's ID.

        ``None`` if the order is not declined.
        """
        new_id = new_order_id()
        is_free = (_ORDERS.c.id == order_id) & _ORDERS.c.replaced_by.is_(None)
        with self._engine.connect() as connection:
            # The claim first: it keeps every other writer out while the loan is read.
            before = connection.execute(update(_ORDERS).where(is_free).values(replaced_by=new_id)).rowcount
            order = self._read(connection, order_id)
            if before != 1:
                return order.replaced_by
            if attrs.evolve(order, replaced_by=None).told_to_the_customer != "rejected":
                return None  # leaving the block rolls back
            values = {"amount": str(order.amount), "contents": order.contents, "by_transfer": True}
            connection.execute(insert(_ORDERS).values(id=new_id, **values))
            _note(connection, order_id, f"the customer pays in another way, as {new_id}")
            connection.commit()
            return new_id

    def transferred(self, order_id: str) -> bool:
        """Record that a transfer has arrived and the goods have left; ``False`` if there is none to come."""
        is_open = (_ORDERS.c.id == order_id) & _ORDERS.c.by_transfer & ~_ORDERS.c.shipped
        with self._engine.begin() as connection:
            changed = connection.execute(update(_ORDERS).where(is_open).values(shipped=True)).rowcount
        return changed == 1

    def shipping_failed(self, order_id: str, note: str) -> None:
        """Record the failure, so that it can be tried again."""
        with self._engine.begin() as connection:
            connection.execute(update(_ORDERS).where(_ORDERS.c.id == order_id).values(shipping_until=0.0))
            _note(connection, order_id, note)

    def shipped(self, order_id: str) -> None:
        """Record that the goods have left and the vendor knows."""
        with self._engine.begin() as connection:
            if not self._read(connection, order_id).may_ship:
                _note(connection, order_id, "the loan changed while it was shipped: stop the parcel")
            connection.execute(update(_ORDERS).where(_ORDERS.c.id == order_id).values(shipped=True))

    def _read(self, connection: Connection, order_id: str) -> Order:
        row = connection.execute(select(_ORDERS).where(_ORDERS.c.id == order_id)).one()
        return _order(connection, row, self.ledger.loan(order_id, connection=connection))


def _order(connection: Connection, row: Row[Any], loan: Loan | None) -> Order:
    texts = select(_HISTORY.c.text).where(_HISTORY.c.order_id == row.id).order_by(_HISTORY.c.number)
    return Order(
        id=row.id,
        contents=row.contents,
        amount=Decimal(row.amount),
        shipped=row.shipped,
        is_by_transfer=row.by_transfer,
        replaced_by=row.replaced_by,
        history=list(connection.scalars(texts)),
        loan=loan,
    )


def new_order_id() -> str:
    """Make an ID that nobody guesses: whoever knows it sees the order's page."""
    return f"ORDER-{secrets.token_hex(8)}"


def apply(connection: Connection, decision: Decision) -> None:
    """Record a decision in the ledger's transaction: exactly once. A refund was paid by the vendor."""
    text = decision.postback.status
    if isinstance(decision.postback, Refunded):
        text = f"refund of {decision.postback.amount or 'an unnamed amount'}"
    shipped = connection.scalar(select(_ORDERS.c.shipped).where(_ORDERS.c.id == decision.order_id))
    _note(connection, decision.order_id, f"{text}, after the goods left" if shipped else text)


def _note(connection: Connection, order_id: str, text: str) -> None:
    connection.execute(insert(_HISTORY).values(order_id=order_id, text=text))
