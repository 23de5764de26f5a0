"""What a postback can say: the vendor's decisions about a financing request."""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final, TypeAlias
from urllib.parse import quote

import attrs

from .._dicts import from_dict, malformed, to_dict
from .._tracebacks import clears_locals


@attrs.frozen(kw_only=True)
class _Postback:
    inv_id: str
    merchant_transaction_id: str | None
    version: str
    raw: Mapping[str, Any] = attrs.field(repr=False, eq=False)
    merchant_id: str | None = None
    signed_at: dt.datetime | None = attrs.field(default=None, eq=False)
    digest: str = attrs.field(default="", repr=False, eq=False)

    status: ClassVar[str]

    @property
    def key(self) -> str:
        """A text that is equal for two deliveries of the same decision.

        Deliveries have no id, so this is made of the merchant and of what was decided. Two partial refunds
        of the same amount for one request therefore have the same key.
        """
        merchant = "" if self.merchant_id is None else f"{self.merchant_id}:"
        return f"{merchant}{quote(self.inv_id, safe='')}:{self._decision()}"

    def to_dict(self) -> dict[str, Any]:
        """Return the postback as a dict that JSON can hold, for ``postback_from_dict``.

        It holds the whole postback, and no signature: whoever can write to your queue can write an approval.
        """
        return {"status": self.status, **to_dict(self)}

    def _decision(self) -> str:
        return self.status


class Approved(_Postback):
    """The lender approved. Create the order only now, then ship.

    Attributes:
        inv_id: the vendor's id of the request, as ``CreatedRequest.inv_id``.
        merchant_transaction_id: your order id; ``None`` where the vendor left it out.
        version: the dialect's version, as the postback names it.
        raw: the whole postback, decoded.
        merchant_id: the merchant whose credentials the signature matches; ``None`` if it was not verified.
        signed_at: when it was signed, in UTC, from the signed ``x-timestamp``; ``None`` where that has a
            form that is not understood, or if it was not verified.
        digest: a hash of the signed body and timestamp, equal for repeats of one delivery; empty if it was
            not verified.

    """

    __slots__ = ()
    status: ClassVar[str] = "approved"


class Preapproved(_Postback):
    """Not final: hold, do not ship (seen in the official clients). Attributes as on ``Approved``."""

    __slots__ = ()
    status: ClassVar[str] = "preapproved"


class Rejected(_Postback):
    """Let the customer choose another way to pay. Attributes as on ``Approved``."""

    __slots__ = ()
    status: ClassVar[str] = "rejected"


@attrs.frozen(kw_only=True)
class Refunded(_Postback):
    """The vendor has refunded ``amount`` to the customer; it may be a part of the loan.

    This reports what has happened and asks for no payment: record it, restock, and pay nobody. The official
    clients do the same.

    Attributes:
        amount: USD; ``None`` where the vendor named none that can be read: look it up in the vendor's
            back-office.

    The others are as on ``Approved``.
    """

    amount: Decimal | None

    status: ClassVar[str] = "refund"

    def _decision(self) -> str:
        # Several refunds may follow one approval; "1200" and "1200.00" are the same one.
        digits = "" if self.amount is None else f"{self.amount:f}"
        return f"{self.status}:{digits.rstrip('0').rstrip('.') if '.' in digits else digits}"


@attrs.frozen(kw_only=True)
class UnknownPostback(_Postback):
    """Its status is missing or unknown to this package. Log it for manual review; it is never an approval.

    Attributes:
        reported_status: the vendor's word; ``None`` where there is none.
        content_hash: of the whole postback, which tells two of them apart.

    The others are as on ``Approved``.
    """

    reported_status: str | None
    content_hash: str

    status: ClassVar[str] = "unknown"

    def _decision(self) -> str:
        return f"{self.status}:{self.content_hash}"


Postback: TypeAlias = Approved | Preapproved | Rejected | Refunded | UnknownPostback
"""What a postback can say. ``match`` on it; type checkers see when a case is missing."""

_KINDS: Final[tuple[type[Postback], ...]] = (Approved, Preapproved, Rejected, Refunded, UnknownPostback)


@clears_locals  # a signed body's contents
def postback_from_dict(data: Mapping[str, Any]) -> Postback:
    """Return the postback that ``to_dict()`` was called on. It verifies nothing.

    Raises:
        MalformedDictError: a key is unknown or missing, or a value cannot be read.

    """
    status = data.get("status") if isinstance(data, Mapping) else None
    for kind in _KINDS:
        if kind.status == status:
            return from_dict(kind, {key: data[key] for key in data if key != "status"})
    msg = "it has no known status"
    raise malformed(msg, name="postback")
