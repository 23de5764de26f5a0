"""The signature of the vendor's postbacks: how it is made and verified.

``x-signature`` is the lower-case hex of ``SHA-256(x-timestamp + username + body + password)``, as
seen in the vendor's official WooCommerce plugin; the documentation asks to verify it without showing
how. Nothing separates the parts, so a captured message could be split elsewhere: part of the username
and the body could be moved into the timestamp, and the hash would be the same. What prevents it is the
first character of the username that cannot be part of a timestamp: it marks where the username begins. So
the timestamp's alphabet and length are checked before anything is hashed, and a username without such a
character is refused.
"""

import datetime as dt
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, TypeGuard

from .._tracebacks import clears_locals
from ..credentials import Credentials
from ..errors import ConfigurationError, SignatureError
from .settings import as_max_age

SIGNATURE_HEADER: Final = "x-signature"
TIMESTAMP_HEADER: Final = "x-timestamp"
_SIGNED_HEADERS: Final = (SIGNATURE_HEADER, TIMESTAMP_HEADER)
_NO_CREDENTIALS: Final = "credentials must be Credentials, or one or more of them in a list"

_TIMESTAMP_ALPHABET: Final = "[0-9TZ:+. -]"
_TIMESTAMP: Final = re.compile(f"{_TIMESTAMP_ALPHABET}{{1,40}}")
_AMBIGUOUS_USERNAME: Final = re.compile(f"{_TIMESTAMP_ALPHABET}+")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")
_EPOCH: Final = re.compile(r"[0-9]{9,11}(\.[0-9]{1,9})?")
_EPOCH_MILLISECONDS: Final = re.compile(r"[0-9]{12,14}")


def require_bytes(body: object) -> None:
    """Refuse a body that has been decoded.

    Raises:
        TypeError: ``body`` is not bytes.

    """
    if not isinstance(body, bytes):
        msg = (
            f"body must be the raw bytes of the request, not {type(body).__name__}: the signature is"
            " over the bytes as they came, and text or re-serialised JSON does not verify"
        )
        raise TypeError(msg)


def _is_timestamp(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _TIMESTAMP.fullmatch(value) is not None


def _signature(body: bytes, timestamp: str, credentials: Credentials) -> str:
    before = f"{timestamp}{credentials.username}".encode()
    return hashlib.sha256(before + body + credentials.password.encode()).hexdigest()


@clears_locals
def sign_postback(body: bytes, timestamp: str, credentials: Credentials) -> str:
    """Make the ``x-signature`` of a postback, as the vendor does.

    Args:
        body: the raw body.
        timestamp: the text of ``x-timestamp``: up to 40 of ``0-9 T Z : + . -`` and space.
        credentials: whose username and password sign.

    Returns:
        64 lower-case hex digits.

    Raises:
        SignatureError: the timestamp has another form.
        ConfigurationError: the username consists of characters of a timestamp only.
        TypeError: ``body`` is not bytes.

    """
    require_bytes(body)
    _check_username(credentials)
    if not _is_timestamp(timestamp):
        msg = "the timestamp must be 1 to 40 of the characters 0-9 T Z : + . - and space"
        raise SignatureError(msg)
    return _signature(body, timestamp, credentials)


@clears_locals
def verify_postback(
    body: bytes,
    headers: Mapping[str, str],
    credentials: Credentials | Iterable[Credentials],
    *,
    max_age: float | dt.timedelta | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Return if the postback was signed with one of the credentials; raise if not.

    Args:
        body: the raw bytes of the request.
        headers: the request's headers, in any spelling.
        credentials: one, or several while a password is being rotated.
        max_age: seconds, or a ``timedelta``, that the timestamp may lie in the past or the future. The
            vendor does not say which form it has: epoch seconds, epoch milliseconds and ISO 8601 are
            understood, and with ``max_age`` any other is refused. ``None`` checks no age.
        clock: seconds since the epoch.

    Raises:
        SignatureError: missing, malformed or wrong, or too old.
        ConfigurationError: no credentials, a username that consists of characters of a timestamp only, or
            a ``max_age`` that is not a length of time.
        TypeError: ``body`` is not bytes, or ``headers`` is not a mapping.

    """
    check_signature(body, headers, credentials, max_age, clock)


class Delivery(NamedTuple):
    """What the signature of a postback proves besides its body.

    Attributes:
        merchant_id: the merchant whose credentials it matches.
        signed_at: UTC; ``None`` where the timestamp has a form that is not understood.
        digest: a hash of body and timestamp, the same whatever the credentials are.

    """

    merchant_id: str
    signed_at: dt.datetime | None
    digest: str


def check_signature(
    body: bytes,
    headers: Mapping[str, str],
    credentials: Credentials | Iterable[Credentials],
    max_age: float | dt.timedelta | None,
    clock: Callable[[], float],
) -> Delivery:
    """Do what ``verify_postback`` does, for callers that clear the local variables themselves."""
    require_bytes(body)
    accepted = as_credentials_tuple(credentials)
    max_seconds = as_max_age(max_age)
    signature, timestamp = _read_headers(headers)
    if not _signed_by_any(body, timestamp, signature, accepted):
        if not _SIGNATURE.fullmatch(signature):
            raise _header_error(SIGNATURE_HEADER, signature)
        msg = (
            "x-signature does not match the body and the timestamp:"
            " they were signed with other credentials, or changed on the way"
        )
        raise SignatureError(msg)
    if max_seconds is not None:
        _check_age(timestamp, max_seconds, clock())
    signed_at = _read_timestamp(timestamp)
    # No timestamp holds a line end, so that no two pairs of timestamp and body become the same bytes.
    digest = hashlib.sha256(timestamp.encode() + b"\n" + body).hexdigest()
    return Delivery(accepted[0].merchant_id, signed_at, digest)


def as_credentials_tuple(credentials: Credentials | Iterable[Credentials]) -> tuple[Credentials, ...]:
    """Return one or several credentials as a tuple.

    Raises:
        ConfigurationError: none, several merchants', something else, or a username with which signatures are
            ambiguous.

    """
    accepted = (credentials,) if isinstance(credentials, Credentials) else tuple(credentials)
    if not accepted:
        raise ConfigurationError(_NO_CREDENTIALS)
    for each in accepted:
        if not isinstance(each, Credentials):
            raise ConfigurationError(_NO_CREDENTIALS)
        _check_username(each)
    if len({each.merchant_id for each in accepted}) > 1:
        # Two merchants may share a password: which of them has signed could not be determined.
        msg = "credentials must all be of one merchant; each merchant has an endpoint of its own"
        raise ConfigurationError(msg)
    return accepted


def _check_username(credentials: Credentials) -> None:
    if _AMBIGUOUS_USERNAME.fullmatch(credentials.username):
        msg = (
            "the username consists of characters of a timestamp only (0-9 T Z : + . - and space), so that a"
            " signed postback could be split in several ways: ask the vendor for another username"
        )
        raise ConfigurationError(msg)


def _signed_by_any(body: bytes, timestamp: str, signature: str, credentials: tuple[Credentials, ...]) -> bool:
    matches = False
    for each in credentials:
        matches |= hmac.compare_digest(_signature(body, timestamp, each), signature)
    return matches


def _read_headers(headers: Mapping[str, str]) -> tuple[str, str]:
    values = _signed_headers(headers)
    signature, timestamp = values.get(SIGNATURE_HEADER), values.get(TIMESTAMP_HEADER)
    if not isinstance(signature, str) or not signature.isascii():  # hmac.compare_digest accepts nothing else
        raise _header_error(SIGNATURE_HEADER, signature)
    if not _is_timestamp(timestamp):
        raise _header_error(TIMESTAMP_HEADER, timestamp)
    return signature, timestamp


def _signed_headers(headers: Mapping[str, str]) -> dict[str, object]:
    items = getattr(headers, "items", None)
    if items is None:
        msg = f"headers must be a mapping of names to values, not {type(headers).__name__}"
        raise TypeError(msg)
    values: dict[str, object] = {}
    for name, value in items():
        key = str(name).lower()
        if key in _SIGNED_HEADERS:
            if key in values:
                msg = f"the header {key} came more than once"
                raise SignatureError(msg)
            values[key] = value
    return values


def _header_error(name: str, value: object) -> SignatureError:
    return SignatureError(f"the header {name} is {'missing' if value is None else 'malformed'}")


def _check_age(timestamp: str, max_age: float, now: float) -> None:
    signed_at = _read_timestamp(timestamp)
    if signed_at is None:
        msg = "the age of the postback cannot be determined from its x-timestamp; max_age=None accepts it"
        raise SignatureError(msg)
    if not abs(now - signed_at.timestamp()) <= max_age:
        msg = "the postback's x-timestamp is too far from now"
        raise SignatureError(msg)


def _read_timestamp(timestamp: str) -> dt.datetime | None:
    """Read a timestamp in UTC: seconds or milliseconds since the epoch, or ISO 8601."""
    try:
        if _EPOCH.fullmatch(timestamp):
            return dt.datetime.fromtimestamp(float(timestamp), dt.UTC)
        if _EPOCH_MILLISECONDS.fullmatch(timestamp):
            return dt.datetime.fromtimestamp(int(timestamp) / 1000, dt.UTC)
        moment = dt.datetime.fromisoformat(timestamp)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):  # a year that no calendar has, too
        return None
