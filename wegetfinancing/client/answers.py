"""Reading an answer: the JSON of a success, or the error that any other status means."""

import re
import time
from collections.abc import Mapping
from datetime import UTC
from types import MappingProxyType
from typing import Any, Final

from .._json import from_json, read_amount, read_text
from .._rules import paths
from ..errors import (
    APIError,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    outcome_of_status,
)
from ..http import Response
from ..models import CreatedRequest, FinancingRequest, ShippingEvent, ShippingReceipt

# Real answers hold a dozen values. A mebibyte of `{},` would become 30 MiB of objects and block the event
# loop for half a second.
_MAX_VALUES: Final = 20_000


def read_json(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Read the JSON of an answer.

    Raises:
        ValueError: it cannot be read; the message begins with a verb.

    """
    if sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        msg = "holds too many values"
        raise ValueError(msg)
    return from_json(body)


def _as_object(answer: object) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        msg = "is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004 - the answer is wrong, not the caller
    return answer


def read_created(answer: object) -> CreatedRequest:
    """Read the answer to ``create_request``.

    Raises:
        ValueError: not an object, or a member is missing or of the wrong type.

    """
    members = _as_object(answer)
    # One guide of the vendor shows `request_token` in place of `inv_id`, and no amount.
    inv_id = members.get("inv_id") or members.get("request_token")
    amount = members.get("amount")
    return CreatedRequest(
        inv_id=read_text(inv_id, "inv_id"),
        href=read_text(members.get("href"), "href"),
        amount=None if amount is None else read_amount(amount, "amount"),
        raw=members,
    )


def read_receipt(answer: object) -> ShippingReceipt:
    """Read the answer to ``update_shipping``.

    Raises:
        ValueError: not an object, or a member is missing or of the wrong type.

    """
    members = _as_object(answer)
    return ShippingReceipt(loan=read_text(members.get("loan"), "loan"), raw=members)


_ERRORS: Final[Mapping[int, type[APIError]]] = MappingProxyType(
    {
        400: InvalidRequestError,
        401: AuthenticationError,
        403: PermissionDeniedError,
        404: NotFoundError,
        429: RateLimitError,
    }
)


# An error's text shows these names and no others: any other text of an answer may be personal data.
_ERROR_NAMES: Final = frozenset({"generic", "http", "missing_parameters", "invalid_parameters"})
_PATHS: Final = (
    *paths(FinancingRequest),
    "loan_id",
    "shipping_event",
    *(f"shipping_event.{path}" for path in paths(ShippingEvent)),
)
# The vendor is believed to name items of a list without an index (inferred), this package adds one.
_KNOWN_PATH: Final = re.compile(
    "|".join(re.escape(path).replace(re.escape("[]"), r"(\[[0-9]{1,3}\])?") for path in _PATHS)
)
_MAX_FIELDS_SHOWN: Final = 10

# Headers by which the vendor's support, or the host in front of it, finds a call; others may hold cookies.
_HEADERS: Final = (
    "cf-ray",
    "date",
    "retry-after",
    "server",
    "x-amz-cf-id",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-correlation-id",
    "x-request-id",
)
_HINTS: Final = MappingProxyType(
    {
        401: "; check username and password: the sandbox and live each have their own",
        403: "; check that these credentials are of this merchant_id and environment",
        404: "; check base_url and, in an update, that the inv_id is of this merchant_id and environment",
    }
)


def api_error(operation: str, response: Response) -> APIError:
    """Return the error for an answer whose status is not 2xx."""
    status = response.status
    try:
        members = _as_object(read_json(response.body))
    except ValueError:
        members = {}
    error, message, stamp = (_text(members.get(name)) for name in ("error", "message", "stamp"))
    code, subjects, reasons = (members.get(name) for name in ("code", "subjects", "reasons"))
    fields = tuple(each for each in subjects if isinstance(each, str)) if isinstance(subjects, list) else ()
    kind = _ERRORS.get(status, ServerError if 500 <= status <= 599 else APIError)  # noqa: PLR2004 - the 5xx class
    return kind(
        _summary(status, error, fields),
        status=status,
        outcome=outcome_of_status(status),
        operation=operation,
        error=error,
        code=code if isinstance(code, int) and not isinstance(code, bool) else None,
        message=message,
        subjects=fields,
        reasons=_texts(reasons),
        debug=members.get("debug"),
        stamp=stamp,
        body=response.body,
        retry_after=retry_after(response, time.time()),
        headers={name: response.headers[name] for name in _HEADERS if name in response.headers},
    )


def _summary(status: int, error: str | None, fields: tuple[str, ...]) -> str:
    name = f" {error}" if error in _ERROR_NAMES else ""
    shown = [each for each in fields if _KNOWN_PATH.fullmatch(each)][:_MAX_FIELDS_SHOWN]
    return f"HTTP {status}{name}" + (f": {', '.join(shown)}" if shown else "") + _HINTS.get(status, "")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {name: text for name, text in value.items() if isinstance(text, str)}


# str.isdigit() also accepts "²", which int() refuses.
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def retry_after(response: Response, now: float) -> float | None:
    """Read the ``Retry-After`` header in seconds from now; ``None`` if it is missing or unreadable.

    A date counts from the answer's own ``Date`` if it has one, so that a wrong clock does no harm, else
    from ``now``, in seconds since the epoch. A date in the past is 0.
    """
    value = response.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _http_date(value)
    if until is None:
        return None
    since = _http_date(response.headers.get("date", ""))
    return max(0.0, until - (now if since is None else since))


def _http_date(value: str) -> float | None:
    import email.utils  # noqa: PLC0415 - slow to import, and few answers need it

    try:
        date = email.utils.parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
