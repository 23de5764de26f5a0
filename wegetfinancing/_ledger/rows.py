"""What a ledger's storage keeps and does. Every storage supplies this, and all rules use only this.

Times are seconds since the epoch on the database's clock. Rows are values: a change is a new row that is
saved under the same ``id``.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Protocol

import attrs

SENDING: Final = "sending"
CREATED: Final = "created"
REFUSED: Final = "refused"
NOT_SENT: Final = "not_sent"
UNKNOWN: Final = "unknown"
ABSENT: Final = "absent"

UNMATCHED: Final = "unmatched"
"""It belongs to no loan yet."""
WAITING: Final = "waiting"
"""The handler has to see it."""
HANDLED: Final = "handled"
"""The handler has seen it."""
HELD: Final = "held"
"""Someone must review it; the handler has not seen it."""
RECORDED: Final = "recorded"
"""It changes nothing."""
DISMISSED: Final = "dismissed"
"""An operator has said that it is not to be handled."""

MAX_AHEAD: Final = 86_400.0
"""Seconds. A lease, a due time or a deadline further ahead was written by a clock that was wrong."""

LONG_WAIT: Final = 60.0
"""Seconds after which a decision that still waits is listed for review."""

Fact = tuple[str, str]
"""The ID of a fact that was noted, ``code:detail``, and its sentence."""


@attrs.frozen(kw_only=True)
class LoanRow:
    """One order of one merchant. ``may_ship`` and ``holds`` are derived, for queries and the view."""

    id: int = 0
    merchant_id: str
    order_id: str
    state: str
    token: str | None = None
    fingerprint: str | None = None
    expected_amount: Decimal | None = None
    taxes: Decimal | None = None
    inv_id: str | None = None
    href: str | None = attrs.field(default=None, repr=False)
    amount: Decimal | None = None
    deadline: float
    created_at: float
    updated_at: float
    status: str | None = None
    signed_at: float | None = None
    refunded: Decimal = Decimal(0)
    noted: tuple[Fact, ...] = ()
    accepted: tuple[str, ...] = ()
    forgotten: bool = False
    may_ship: bool = False
    holds: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class DecisionRow:
    """One delivery of a postback: parsed fields and hashes, never the body."""

    id: int = 0
    merchant_id: str
    inv_id: str
    order_id: str | None
    loan_id: int | None = None
    state: str = UNMATCHED
    status: str
    reported_status: str | None = None
    amount: Decimal | None = None
    version: str
    key: str
    digest: str
    signed_at: float | None
    received_at: float
    attempts: int = 0
    due: float = 0.0
    lease: str | None = None
    lease_until: float = 0.0
    error: str | None = None
    handled_at: float | None = None


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _pairs(text: str) -> tuple[Any, ...]:
    return tuple(tuple(each) if isinstance(each, list) else each for each in json.loads(text))


def to_columns(row: LoanRow | DecisionRow) -> dict[str, Any]:
    """Turn a row into columns of plain types: amounts and lists are texts. ``id`` is left out."""
    columns: dict[str, Any] = {}
    for field in attrs.fields(type(row)):
        value = getattr(row, field.name)
        if isinstance(value, Decimal):
            value = f"{value:f}"
        elif isinstance(value, tuple):
            value = json.dumps(value)
        columns[field.name] = value
    del columns["id"]
    return columns


def loan_from_columns(columns: Mapping[str, Any]) -> LoanRow:
    """Turn columns back into a row."""
    values = dict(columns)
    for name in ("expected_amount", "taxes", "amount"):
        values[name] = _amount(values[name])
    values["refunded"] = Decimal(values["refunded"])
    for name in ("noted", "accepted", "holds"):
        values[name] = _pairs(values[name])
    for name in ("forgotten", "may_ship"):
        values[name] = bool(values[name])
    return LoanRow(**values)


def decision_from_columns(columns: Mapping[str, Any]) -> DecisionRow:
    """Turn columns back into a row."""
    return DecisionRow(**{**columns, "amount": _amount(columns["amount"])})


class Transaction(Protocol):
    """What the rules need inside one transaction.

    ``lock`` keeps the row from any other writer until the end of the transaction, and reads what was
    committed last. Rows are locked in the order ``lock_inv_id``, loan, decision; several loans by ``id``.
    """

    @property
    def connection(self) -> Any:  # noqa: ANN401 - whatever the shop's handler writes through
        """What the shop's ``apply`` writes through."""
        ...

    def now(self) -> float:
        """Read the database's clock."""
        ...

    def loan(self, merchant_id: str, order_id: str, *, lock: bool = False) -> LoanRow | None:
        """Read the loan of an order."""
        ...

    def loan_by_id(self, loan_id: int, *, lock: bool = False) -> LoanRow:
        """Read a loan that exists."""
        ...

    def loans(self, order_ids: Sequence[str], merchant_id: str | None) -> list[LoanRow]:
        """Read the loans of several orders."""
        ...

    def insert_loan(self, row: LoanRow) -> bool:
        """Insert a loan; ``False`` if there is one of this merchant and order already."""
        ...

    def save_loan(self, row: LoanRow) -> None:
        """Replace a loan."""
        ...

    def merchants(self) -> set[str]:
        """Name up to two merchants that have loans here."""
        ...

    def lock_inv_id(self, merchant_id: str, inv_id: str) -> int | None:
        """Insert or lock the row of the vendor's ID, and return the ``id`` of the loan it belongs to."""
        ...

    def merchants_of(self, inv_id: str) -> set[str]:
        """Name the merchants from whose decisions or loans this ID of the vendor's is known."""
        ...

    def assign_inv_id(self, merchant_id: str, inv_id: str, loan_id: int) -> None:
        """Note that the vendor's ID, whose row is locked, belongs to this loan."""
        ...

    def decision(self, decision_id: int, *, lock: bool = False) -> DecisionRow | None:
        """Read a decision."""
        ...

    def delivery(self, merchant_id: str, digest: str) -> DecisionRow | None:
        """Read the decision that was delivered with this body and timestamp."""
        ...

    def insert_decision(self, row: DecisionRow) -> DecisionRow:
        """Append a decision, and return it with its ``id``. Later ones have greater ones."""
        ...

    def save_decision(self, row: DecisionRow) -> None:
        """Replace a decision."""
        ...

    def decisions(self, loan_id: int) -> list[DecisionRow]:
        """Read the decisions of a loan, the oldest first."""
        ...

    def unmatched(
        self, merchant_id: str, *, inv_id: str | None = None, order_id: str | None = None
    ) -> list[DecisionRow]:
        """Read unmatched decisions that name this ID or this order, the oldest first."""
        ...

    def matchable(self, limit: int) -> list[DecisionRow]:
        """Read unmatched decisions whose ID or order has a loan by now."""
        ...

    def due(self, now: float, limit: int, after: str) -> list[DecisionRow]:
        """Read waiting decisions that are due, not leased, and the first waiting ones of their loans.

        Those of the merchant whose ID comes next after ``after`` are first, and those of the first merchant
        follow those of the last one, so that merchants take turns.
        """
        ...

    def lock_waiting(self, decision_id: int) -> DecisionRow | None:
        """Lock a waiting decision unless someone else has; ``None`` then."""
        ...

    def loans_to_review(self, now: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        """Read loans that are held, unknown, or sending although their deadline has passed.

        Where there are more than ``limit``, those for which a customer may be waiting come before the others:
        what is approved, and what the vendor may or may not have.
        """
        ...

    def decisions_to_review(self, now: float, limit: int, merchant_id: str | None) -> list[DecisionRow]:
        """Read decisions that are unmatched, failing, waiting for long, or held without a loan."""
        ...

    def undecided(self, before: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        """Read loans that were created before and have had no final decision, the oldest first."""
        ...

    def purgeable(self, before: float, limit: int, merchant_id: str | None) -> list[LoanRow]:
        """Read loans unchanged since, with nothing open, unknown or waiting."""
        ...

    def beat(self, worker: str, now: float | None) -> None:
        """Note that a worker is alive; ``None`` when it ends."""
        ...

    def last_beat(self, until: float) -> float:
        """Say when a worker was last alive, of the times up to ``until``; 0 for never."""
        ...
