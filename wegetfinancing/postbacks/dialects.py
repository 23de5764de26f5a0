"""The vendor's postbacks: what was decided about a request, in any of the three dialects.

A postback has no id and no sequence number; any status may follow any other, and one may come before
``create_request`` has returned. Facts are from https://docs.wegetfinancing.com, or seen in the
vendor's official clients where a comment says so.
"""

import contextlib
import datetime as dt
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl

from .._json import NO_TEXT, from_json, read_amount, to_json
from .._tracebacks import clears_locals
from ..credentials import Credentials
from ..enums import PostbackVersion
from ..errors import MalformedPostbackError
from .events import Approved, Postback, Preapproved, Refunded, Rejected, UnknownPostback
from .signatures import check_signature, require_bytes

_MAX_FORM_FIELDS: Final = 100  # real ones have nine


_WITHOUT_AMOUNT: Final[Mapping[str, type[Approved | Preapproved | Rejected]]] = {
    kind.status: kind for kind in (Approved, Preapproved, Rejected)
}


@clears_locals
def parse_postback(
    body: bytes,
    headers: Mapping[str, str],
    credentials: Credentials | Iterable[Credentials],
    *,
    max_age: float | dt.timedelta | None = None,
    clock: Callable[[], float] = time.time,
) -> Postback:
    """Verify the signature of a postback, then read it.

    The signed bytes alone decide how they are read: a body whose first byte after any whitespace is ``{`` or
    ``[`` is JSON, any other is a form. No header but ``x-signature`` and ``x-timestamp`` is looked at.

    Args:
        body: the raw bytes of the request; text or re-serialised JSON does not verify.
        headers: the request's headers, in any spelling.
        credentials: one, or several while a password is being rotated.
        max_age: seconds, or a ``timedelta``, that ``x-timestamp`` may lie in the past or the future;
            ``None`` for any.
        clock: seconds since the epoch.

    Raises:
        SignatureError: do not act on it; answer 401.
        MalformedPostbackError: authentic, but it cannot be read; answer 400.
        ConfigurationError: no credentials, a username that consists of characters of a timestamp only, or
            a ``max_age`` that is not a length of time.
        TypeError: ``body`` is not bytes, or ``headers`` is not a mapping.

    """
    delivery = check_signature(body, headers, credentials, max_age, clock)
    return _read(body, delivery._asdict())


@clears_locals
def parse_unverified_postback(body: bytes) -> Postback:
    """Read a postback without verifying it: for tools and tests, never to act upon.

    Args:
        body: the raw bytes.

    Raises:
        MalformedPostbackError: it cannot be read.
        TypeError: ``body`` is not bytes.

    """
    require_bytes(body)
    return _read(body, {})


def _read(body: bytes, verified: Mapping[str, Any]) -> Postback:
    # The Content-Type is not signed: if it selected the parser, whoever replays a signed JSON rejection as a
    # form could have an approval read out of a text that the vendor echoes.
    is_json = body.lstrip().startswith((b"{", b"["))
    try:
        return _read_json(body, verified) if is_json else _read_form(body, verified)
    except ValueError as error:
        problem = str(error)
    msg = f"the postback {problem}"
    raise MalformedPostbackError(msg)


def _read_json(body: bytes, verified: Mapping[str, Any]) -> Postback:
    raw = from_json(body)
    if not isinstance(raw, dict):
        msg = "is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004 - a fault of the postback, not of the caller
    if "updates" in raw:
        return _read_updates(raw, verified)
    return _read_legacy(raw, PostbackVersion.V1_0, verified)


def _read_form(body: bytes, verified: Mapping[str, Any]) -> Postback:
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_FORM_FIELDS,
        )
    except ValueError:
        pairs = []
    raw = dict(pairs)
    if not raw or len(raw) != len(pairs):
        msg = "names a field twice" if raw else "is neither JSON nor a form"
        raise ValueError(msg)
    return _read_legacy(raw, PostbackVersion.V0_2, verified)


def _read_updates(raw: dict[str, Any], verified: Mapping[str, Any]) -> Postback:
    """Dialect 1.9."""
    updates = raw["updates"]
    if not isinstance(updates, dict):
        msg = "has updates that are not an object"
        raise ValueError(msg)  # noqa: TRY004 - a fault of the postback, not of the caller
    common: dict[str, Any] = {
        "inv_id": _required_text(raw.get("request_token") or raw.get("inv_id")),
        "merchant_transaction_id": _text(raw.get("merchant_transaction_id")),
        "version": _text(raw.get("version")) or PostbackVersion.V1_9.value,
        "raw": raw,
        **verified,
    }
    status, action = _text(updates.get("status")), _text(updates.get("action"))
    kind = _WITHOUT_AMOUNT.get(status or "")
    if kind and action in (None, status):
        return kind(**common)
    # An old form says action="refund" in place of a status (seen in the official clients).
    if Refunded.status in (status, action) and (status is None or action in (None, status)):
        return Refunded(amount=_refunded_amount(updates.get("amount")), **common)
    return _unknown(status or action, common)


def _refunded_amount(value: object) -> Decimal | None:
    # Were the refund refused because its amount cannot be read, the loan would stay approved.
    with contextlib.suppress(ValueError):
        return read_amount(value, "amount")
    return None


def _read_legacy(raw: dict[str, Any], version: PostbackVersion, verified: Mapping[str, Any]) -> Postback:
    """Dialects 0.2 (real bodies say 0.3) and 1.0.

    Of 1.0 only ``inv_id`` and ``inv_status`` are documented; that its other names are those of 0.2 is
    inferred, so there ``function`` and ``method`` may be missing.
    """
    common: dict[str, Any] = {
        "inv_id": _required_text(raw.get("inv_id")),
        "merchant_transaction_id": _text(raw.get("cust_id_ext")),
        "version": _text(raw.get("version")) or version.value,
        "raw": raw,
        **verified,
    }
    function, method, status = (_text(raw.get(name)) for name in ("function", "method", "inv_status"))
    may_be_missing = (None,) if version is PostbackVersion.V1_0 else ()
    if function in ("transact", *may_be_missing):
        # Before the status: real bodies say inv_status=Auth&method=void (seen in the official clients).
        if method == "void":
            return Rejected(**common)
        kind = _LEGACY_STATUSES.get(status or "")
        if kind and method in ("purchase", *may_be_missing):
            return kind(**common)
    return _unknown(status, common)


def _unknown(status: str | None, common: dict[str, Any]) -> UnknownPostback:
    content_hash = hashlib.sha256(to_json(common["raw"], sort_keys=True)).hexdigest()
    return UnknownPostback(reported_status=status, content_hash=content_hash, **common)


_LEGACY_STATUSES: Final[Mapping[str, type[Approved | Preapproved]]] = {
    "Auth": Approved,
    "AuthOnly": Preapproved,
}


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
    if not value.strip():
        return None
    if NO_TEXT.search(value):
        msg = "holds control characters or half of a surrogate pair"
        raise ValueError(msg)
    return value


def _required_text(value: object) -> str:
    text = _text(value)
    if text is None:
        msg = "names no request"
        raise ValueError(msg)
    return text
