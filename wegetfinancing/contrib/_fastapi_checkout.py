"""The dependency of ``contrib.fastapi`` that reads a checkout form, or the same as JSON."""

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Annotated, Any, Final

from fastapi import Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError

from .._json import from_json
from .._tracebacks import capture
from ..models import FinancingRequest
from ..postbacks.receiving import BODY_LIMIT, TOO_LARGE
from ._checkout import (
    FORM_SCHEMA,
    JSON_SCHEMA,
    BodyField,
    OrderFields,
    Problem,
    as_accepted,
    from_form,
    read_checkout,
)

_PROBLEM: Final = {
    "type": "object",
    "properties": {
        "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
        "msg": {"type": "string"},
        "type": {"type": "string"},
    },
}
_PROBLEMS: Final = {
    "type": "object",
    "properties": {"detail": {"type": "array", "items": _PROBLEM}},
}
CHECKOUT_OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": JSON_SCHEMA},
            "application/x-www-form-urlencoded": {"schema": FORM_SCHEMA},
        },
    },
    "responses": {
        "422": {
            "description": "What is wrong with the fields.",
            "content": {"application/json": {"schema": _PROBLEMS}},
        },
    },
}
"""For the ``openapi_extra`` of a route with ``financing_request_from``: what a customer fills in."""


def financing_request_from(
    order: Callable[..., OrderFields | Awaitable[OrderFields]],
    *,
    also_from_body: Iterable[BodyField] = (),
) -> Callable[..., AsyncIterator[FinancingRequest]]:
    """Make a dependency that passes the customer's form or JSON body to a route as a ``FinancingRequest``.

        async def order_of(order_id: Annotated[str, Form()], shop: Shop) -> OrderFields:
            order = await shop.order(order_id)
            return {"merchant_transaction_id": order.id, "cart_items": order.items}

        Checkout = Annotated[FinancingRequest, Depends(financing_request_from(order_of))]

        @app.post("/checkout", openapi_extra=CHECKOUT_OPENAPI)
        async def check_out(request: Checkout) -> RedirectResponse: ...

    From the body come the customer's name, e-mail address, phone number and addresses, and nothing else: a
    customer chooses neither the amount nor the order. A body that has a field which the shop sets is refused.
    In a form the fields are named as ``problems()`` names them, ``billing_address.street1``; in JSON they are
    nested. Text is stripped, blank text counts as left out, and a phone number may have spaces, dots, hyphens
    and parentheses. Fields that are not of a ``FinancingRequest`` are yours and left alone.

    What is wrong is answered with 422 in FastAPI's own form, by ``RequestValidationError``, for which an app
    may have a handler that shows the form again. No value is repeated.

    Args:
        order: a dependency of yours that returns what the shop knows of the order, above all its ID, and
            the items or the amount. It may have dependencies and fields of the form itself.
        also_from_body: further fields to read from the body unless ``order`` sets them, such as ``amount``.
            **Only where your own staff or systems fill it in**, never for what a customer sends. In JSON,
            amounts are text or whole numbers. ``cart_items`` come in JSON only.

    Raises:
        ConfigurationError: ``also_from_body`` names another field. When a request is made: ``order`` sets no
            ``merchant_transaction_id``, or something that the vendor would refuse.

    """
    accepted = as_accepted(also_from_body)

    async def financing_request(
        request: Request, order_fields: Annotated[OrderFields, Depends(order)]
    ) -> AsyncIterator[FinancingRequest]:
        """Read the customer's form or JSON body."""
        try:
            yield await _read_financing_request(request, order_fields, accepted)
        finally:
            await request.close()  # files that came with the form

    return financing_request


async def _read_financing_request(
    request: Request, order_fields: OrderFields, accepted: frozenset[str]
) -> FinancingRequest:
    body, is_form, problems = await _checkout_body(request)
    read = capture(read_checkout, body, order_fields, accepted)
    del body  # customer data: a traceback with local variables must not show it
    made, found = read.unwrap()
    if problems or found:
        raise RequestValidationError([_shown(each, is_form=is_form) for each in (*problems, *found)])
    return made


_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


async def _checkout_body(request: Request) -> tuple[dict[str, Any], bool, list[Problem]]:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in _FORMS:
        form, problems = from_form((await request.form()).multi_items())
        return form, True, problems
    # Other sites can send a form or text with a customer's cookies, but no JSON.
    if content_type != "application/json":
        raise HTTPException(415, "send a form, or JSON as application/json")
    data = await request.body()
    if len(data) > BODY_LIMIT:
        raise HTTPException(TOO_LARGE.status, TOO_LARGE.text)
    body: Any = None
    with contextlib.suppress(ValueError):
        body = from_json(data)
    del data  # customer data: a traceback with local variables must not show it
    if not isinstance(body, dict):
        problem = Problem(
            "",
            "must be one JSON object in UTF-8, no name in it twice, without NaN or Infinity",
            "json_invalid",
        )
        raise RequestValidationError([_shown(problem, is_form=False)])
    return body, False, []


def _shown(problem: Problem, *, is_form: bool) -> dict[str, Any]:
    parts = [problem.path] if is_form else _PART.findall(problem.path)
    location = [int(each) if each.isdecimal() else each for each in parts]
    return {"loc": ("body", *location), "msg": problem.text, "type": problem.kind}


_PART: Final = re.compile(r"[^.\[\]]+")
