"""What a ledger knows of one order's loan, and the values that a create exchanges with it."""

import datetime as dt
import enum
from decimal import Decimal

import attrs

APPROVED = "approved"


class ApplicationState(enum.StrEnum):
    """How far the application of an order has come. It equals its text."""

    SENDING = "sending"
    """The intent is on disk; the request may be on its way."""

    CREATED = "created"
    """The vendor has it, as its answer, a postback or an operator has said."""

    REFUSED = "refused"
    """The vendor said no. The order may be tried again, with other contents too."""

    NOT_SENT = "not_sent"
    """Nothing reached the vendor. The order may be tried again, with other contents too."""

    UNKNOWN = "unknown"
    """It may exist. Nothing more is sent until a postback or an operator resolves it."""

    ABSENT = "absent"
    """An operator has found no application at the vendor's. The order ID is closed for ever."""


@attrs.frozen
class Hold:
    """One open fact that speaks against shipping, until it clears itself or an operator accepts it.

    Attributes:
        code: a stable name, such as ``"amount_differs"``.
        text: a sentence for operators, without personal data.
        id: names this one fact; pass it to ``accept``.

    """

    code: str
    text: str
    id: str


@attrs.frozen(kw_only=True)
class Loan:
    """What a ledger knows of one order's loan, as it was when it was read.

    Attributes:
        order_id: the shop's order ID, ``merchant_transaction_id``.
        merchant_id: the merchant who applied.
        state: how far the application has come.
        inv_id: the vendor's ID; ``None`` until it is known.
        amount: what the vendor finances, in USD; ``None`` until it was seen.
        expected_amount: what the shop expects to be financed, in USD; ``None`` where nobody said.
        status: the last decision that counts, such as ``"approved"``; ``None`` before the first.
        refunded: what the vendor has refunded so far, in USD.
        held: open facts that speak against shipping.
        deadline: when the last attempt certainly ends, in UTC.
        created_at: when the order was first applied for, in UTC.
        updated_at: when anything last changed, in UTC.
        forgotten: whether its details were erased; such a loan never ships.

    """

    order_id: str
    merchant_id: str
    state: ApplicationState
    inv_id: str | None
    amount: Decimal | None
    expected_amount: Decimal | None
    status: str | None
    refunded: Decimal
    held: tuple[Hold, ...]
    deadline: dt.datetime
    created_at: dt.datetime
    updated_at: dt.datetime
    forgotten: bool

    @property
    def may_ship(self) -> bool:
        """Whether the last decision is an approval and nothing speaks against shipping.

        Once all that was financed has been refunded it never is, whichever holds were accepted.
        """
        over = self.forgotten or self._is_refunded
        return self.status == APPROVED and self.inv_id is not None and not self.held and not over

    @property
    def _is_refunded(self) -> bool:
        financed = self.expected_amount if self.amount is None else self.amount
        return financed is not None and 0 < self.refunded >= financed


@attrs.frozen(kw_only=True)
class Application:
    """The intent to apply for an order, as the client hands it to a ledger.

    Attributes:
        merchant_id: the merchant who applies.
        order_id: ``merchant_transaction_id``.
        token: names this attempt and no other.
        fingerprint: equal for equal amount and items; holds no personal data.
        expected_amount: USD.
        taxes: USD that the answer may exceed ``expected_amount`` by.
        seconds: until the call's deadline.

    """

    merchant_id: str
    order_id: str
    token: str
    fingerprint: str
    expected_amount: Decimal
    taxes: Decimal
    seconds: float


class Verdict(enum.Enum):
    """What a create has to do next."""

    SEND = "send"
    """The intent is committed: put the request on the wire."""

    WAIT = "wait"
    """Another call is sending: look again soon."""

    STORED = "stored"
    """The application exists, and its answer is stored."""

    EXISTS = "exists"
    """The application exists, and the address of its page is not known or no longer needed."""

    CONFLICT = "conflict"
    """The application of this order has other contents."""

    UNKNOWN = "unknown"
    """The application may exist."""

    CLOSED = "closed"
    """The order ID is closed."""


@attrs.frozen
class Begun:
    """A ledger's answer to an intent.

    Attributes:
        verdict: what to do next.
        loan: what the ledger knows now.
        href: the application page, where ``verdict`` is ``STORED``.

    """

    verdict: Verdict
    loan: Loan
    href: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class PendingDecision:
    """A decision that waits: for its order, for a handler that has failed, or for someone to review it.

    Attributes:
        id: pass it to ``retry`` or ``dismiss``.
        merchant_id: the merchant whose credentials signed it.
        inv_id: the vendor's ID.
        order_id: the order it names, or is matched to; ``None`` where neither is known.
        status: what it says, such as ``"approved"``.
        state: ``"unmatched"``, ``"waiting"`` or ``"held"``.
        attempts: how often a handler has seen it.
        error: what the last attempt failed with, by name.
        received_at: UTC.
        due: when it is tried again, in UTC.

    """

    id: int
    merchant_id: str
    inv_id: str
    order_id: str | None
    status: str
    state: str
    attempts: int
    error: str | None
    received_at: dt.datetime
    due: dt.datetime


@attrs.frozen(kw_only=True)
class Review:
    """What someone should look at.

    Attributes:
        loans: held, unknown, or sending although their deadline has passed; the oldest first.
        decisions: unmatched, failing, or held without an order; the oldest first.
        undecided: created long ago, and no final decision has come; the oldest first.

    """

    loans: tuple[Loan, ...]
    decisions: tuple[PendingDecision, ...]
    undecided: tuple[Loan, ...] = ()
