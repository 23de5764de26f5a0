"""Postbacks as the vendor writes and signs them: the opposite of ``wegetfinancing.postbacks``."""

import itertools
from decimal import Decimal
from typing import Final
from urllib.parse import urlencode

import attrs

from .._json import to_json
from .._rules import member, money, to_decimal, to_member
from ..credentials import Credentials
from ..enums import PostbackVersion
from ..http import Request
from ..models import FinancingRequest
from ..postbacks.events import Approved, Preapproved, Refunded, Rejected
from ..postbacks.signatures import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign_postback

STATUSES: Final = (Approved.status, Preapproved.status, Rejected.status, Refunded.status)
"""The decisions there are, in the vendor's words."""

_LEGACY_WORDS: Final = {
    Approved.status: ("Auth", "purchase"),
    Preapproved.status: ("AuthOnly", "purchase"),
    Rejected.status: ("Auth", "void"),
}


@attrs.frozen(kw_only=True)
class SignedPostback:
    """A postback, ready to be delivered by POST.

    Attributes:
        headers: content type, ``x-signature`` and ``x-timestamp``.
        body: the bytes that are signed.

    """

    headers: dict[str, str]
    body: bytes


def signed_postback(
    status: str,
    credentials: Credentials,
    *,
    inv_id: str,
    merchant_transaction_id: str | None,
    amount: Decimal | int | str | None = None,
    version: PostbackVersion | str = PostbackVersion.V1_9,
    timestamp: str,
) -> SignedPostback:
    """Write and sign a postback.

    Raises:
        ValueError: the status or the version is unknown, the amount is not possible, or such a decision has
            never been seen in this dialect.

    """
    version = to_member(PostbackVersion, version)
    if problem := member(PostbackVersion)(version):
        msg = f"version {problem}"
        raise ValueError(msg)
    dollars = None if amount is None else to_decimal(amount)
    if dollars is not None and (problem := money()(dollars)):
        msg = f"amount {problem}"
        raise ValueError(msg)
    if status not in STATUSES:
        msg = f"status must be one of {', '.join(STATUSES)}"
        raise ValueError(msg)
    if version is PostbackVersion.V1_9:
        content_type = "application/json"
        body = _updates(status, inv_id, merchant_transaction_id, dollars)
    else:
        if status not in _LEGACY_WORDS:
            msg = f"a {status} has never been seen in the dialect {version.value}; use 1.9"
            raise ValueError(msg)
        fields = _legacy_fields(status, inv_id, merchant_transaction_id, version)
        is_form = version is PostbackVersion.V0_2
        content_type = "application/x-www-form-urlencoded" if is_form else "application/json"
        body = urlencode(fields).encode("ascii") if is_form else to_json(fields)
    signature = sign_postback(body, timestamp, credentials)
    headers = {"content-type": content_type, SIGNATURE_HEADER: signature, TIMESTAMP_HEADER: timestamp}
    return SignedPostback(headers=headers, body=body)


def order_named_by(status: str, request: FinancingRequest) -> str | None:
    """Return the order ID that a postback names: the documented rejections and refunds of 1.9 name none."""
    is_left_out = request.version is PostbackVersion.V1_9 and status in (Rejected.status, Refunded.status)
    return None if is_left_out else request.merchant_transaction_id


def timestamp_at(seconds: float) -> str:
    """Return an ``x-timestamp`` that is later than those made before it, in the same second too.

    The vendor's decisions are hours apart; two that are made in one second must not seem to be signed at
    the same time, which would be held, and only on a machine that is fast enough.

    Args:
        seconds: since the epoch; the fraction is replaced.

    """
    return f"{int(seconds)}.{next(_numbers) % 1_000_000:06d}"


_numbers: Final = itertools.count()


def forged(signed: SignedPostback) -> SignedPostback:
    """Return it with a signature that is well formed and wrong."""
    return attrs.evolve(signed, headers=signed.headers | {SIGNATURE_HEADER: "0" * 64})


def delivery(signed: SignedPostback, url: str, deadline: float) -> Request:
    """Make the request that delivers it, as the vendor does."""
    return Request(
        operation="postback",
        method="POST",
        url=url,
        headers=signed.headers,
        body=signed.body,
        deadline=deadline,
    )


def _updates(status: str, inv_id: str, merchant_transaction_id: str | None, amount: Decimal | None) -> bytes:
    return to_json(
        {
            "version": PostbackVersion.V1_9.value,
            "request_token": inv_id,
            **_unless_none("merchant_transaction_id", merchant_transaction_id),
            "updates": {
                "status": status,
                **_unless_none("amount", None if amount is None else f"{amount:.2f}"),
            },
        }
    )


def _legacy_fields(
    status: str, inv_id: str, merchant_transaction_id: str | None, version: PostbackVersion
) -> dict[str, str]:
    inv_status, method = _LEGACY_WORDS[status]
    return {
        "function": "transact",
        "method": method,
        "inv_status": inv_status,
        "inv_id": inv_id,
        "version": version.value,
        **_unless_none("cust_id_ext", merchant_transaction_id),
    }


def _unless_none(name: str, value: str | None) -> dict[str, str]:
    return {} if value is None else {name: value}
