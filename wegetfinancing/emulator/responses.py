"""The answers of the API, in the vendor's form."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from .._json import to_json
from ..http import Response

INV_ID: Final = "df0c3186b69be8aad35ff837a841d347"
"""The ID that the answers and postbacks made here name by default."""

STAMP: Final = "0123456789abcdef"
"""The vendor's support asks for the stamp of an error; here it is always the same."""


def created_response(
    inv_id: str = INV_ID, *, href: str | None = None, amount: Decimal | int | str = "499.00"
) -> Response:
    """Make the answer to a ``create_request`` that succeeded; ``amount`` is in USD."""
    href = f"https://emulator.invalid/lc/{inv_id}" if href is None else href
    return _json_response(200, {"inv_id": inv_id, "href": href, "amount": f"{Decimal(amount):.2f}"})


def shipping_response(loan: str = INV_ID) -> Response:
    """Make the answer to an ``update_shipping`` that succeeded."""
    return _json_response(200, {"loan": loan, "type": "done", "http_code": 200})


def done_response() -> Response:
    """Make the answer to a ``create_test_postback`` that succeeded. Its form is our own choice."""
    return _json_response(200, {"type": "done", "http_code": 200})


def error_response(
    status: int,
    error: str = "generic",
    *,
    message: str = "",
    reasons: Mapping[str, str] | None = None,
    retry_after: str | None = None,
) -> Response:
    """Make an error answer.

    Args:
        status: the HTTP status.
        error: ``generic``, ``http``, ``missing_parameters`` or ``invalid_parameters``.
        message: what went wrong.
        reasons: the path of each field at fault, and what is wrong with it.
        retry_after: the text of the header; ``None`` leaves it out.

    """
    fields = {"subjects": list(reasons), "reasons": dict(reasons)} if reasons else {}
    body = {"type": "error", "error": error, "code": status, "message": message, **fields, "stamp": STAMP}
    return _json_response(status, body, {} if retry_after is None else {"retry-after": retry_after})


def _json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, {"content-type": "application/json", **(headers or {})}, to_json(value))
