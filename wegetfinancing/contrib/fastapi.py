"""Checkout forms and postbacks in FastAPI. Needs ``wegetfinancing[fastapi]``."""

import contextlib
import datetime as dt
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Annotated, Any, Final

import anyio
from fastapi import Depends, Header, HTTPException, Path, Request
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from .._json import from_json
from .._tracebacks import capture
from ..credentials import Credentials
from ..errors import ConfigurationError
from ..models import FinancingRequest
from ..postbacks.events import Postback
from ..postbacks.lookups import AwaitedLookup
from ..postbacks.receiving import (
    BAD_SIGNATURE,
    BODY_LIMIT,
    BODY_SECONDS,
    MALFORMED,
    MERCHANT_PLACEHOLDER,
    TOO_LARGE,
    TOO_SLOW,
    UNAVAILABLE,
    Answer,
    BoundedBody,
    CredentialsLookup,
    CredentialsUnavailableError,
    Refusal,
    as_credentials_source,
    check_merchant_id,
    read_postback,
)
from ..postbacks.settings import as_max_age, as_seconds
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

__all__ = [
    "CHECKOUT_OPENAPI",
    "OPENAPI",
    "RESPONSES",
    "BodyField",
    "OrderFields",
    "financing_request_from",
    "postback_from",
]

_BODY: Final = {"schema": {"type": "object"}}
OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": _BODY, "application/x-www-form-urlencoded": _BODY},
    },
}
"""For a route's ``openapi_extra``: the body, which a dependency that reads raw bytes cannot declare."""

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    MALFORMED: {"description": "The postback cannot be read."},
    BAD_SIGNATURE: {"description": "The signature is missing, malformed, wrong or too old."},
    TOO_LARGE.status: {"description": "The body is over 64 KiB."},
}
"""For a route's ``responses``."""

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

_LOGGER: Final = logging.getLogger("wegetfinancing")
_DISCONNECTED: Final = Answer(MALFORMED, "the sender has gone")


def postback_from(
    credentials: Credentials | Iterable[Credentials] | CredentialsLookup,
    *,
    max_age: float | dt.timedelta | None = None,
    body_seconds: float = BODY_SECONDS,
) -> Callable[..., Awaitable[Postback]]:
    """Make a dependency that passes the verified postback to a route.

        VerifiedPostback = Annotated[Postback, Depends(postback_from(credentials))]

        @app.post("/postbacks", openapi_extra=OPENAPI, responses=RESPONSES)
        async def receive(postback: VerifiedPostback) -> PlainTextResponse: ...

    The route itself has to handle each ``postback.key`` once; ``PostbackApp`` does that for you.

    Args:
        credentials: one merchant's, several while a password is being rotated. For several merchants, a
            function as ``PostbackApp`` accepts it; the route's path then names the merchant, as in
            ``/postbacks/{merchant_id}``. What it raises is logged, and answered with 503.
        max_age: seconds, or a ``timedelta``, that ``x-timestamp`` may lie in the past or the future;
            ``None`` for any.
        body_seconds: how long the body may take to arrive.

    Raises:
        ConfigurationError: no credentials, several merchants', or a setting out of range.

    """
    # Which path it is, the route says.
    path = MERCHANT_PLACEHOLDER if callable(credentials) else None
    accepted, found_by = as_credentials_source(credentials, path=path)
    lookup = None if found_by is None else AwaitedLookup(found_by)
    max_seconds = as_max_age(max_age)
    body_seconds = as_seconds("body_seconds", body_seconds)

    async def receive(request: Request, merchant_id: str | None) -> Postback:
        body = BoundedBody()
        try:
            if merchant_id is not None:
                check_merchant_id(merchant_id)
            await _collect(request, body, body_seconds)
            credentials = accepted
            if lookup is not None and merchant_id is not None:
                credentials = await lookup(merchant_id)
            return read_postback(bytes(body), request.headers, credentials, max_seconds, merchant_id)
        except Refusal as refusal:
            answer = refusal.answer
        except CredentialsUnavailableError as error:
            _LOGGER.exception("a lookup of credentials failed", exc_info=error.__cause__)
            answer = UNAVAILABLE
        if answer.status == BAD_SIGNATURE and not bytes(body):
            _check_body_was_left(request)
        raise HTTPException(answer.status, answer.text)

    async def verified_postback(
        request: Request,
        x_signature: Annotated[str | None, Header(description="SHA-256, 64 hex digits.")] = None,
        x_timestamp: Annotated[str | None, Header(description="Part of what is signed.")] = None,
    ) -> Postback:
        """Verify and parse the postback of a request."""
        del x_signature, x_timestamp  # for the schema only, and crash reporters show local variables
        return await receive(request, None)

    async def verified_postback_of_a_merchant(
        request: Request,
        merchant_id: Annotated[str, Path(description="Whose postback it is.")],
        x_signature: Annotated[str | None, Header(description="SHA-256, 64 hex digits.")] = None,
        x_timestamp: Annotated[str | None, Header(description="Part of what is signed.")] = None,
    ) -> Postback:
        """Verify and parse the postback of a request, signed by the merchant of its path."""
        del x_signature, x_timestamp  # as above
        return await receive(request, merchant_id)

    return verified_postback if lookup is None else verified_postback_of_a_merchant


async def _collect(request: Request, body: BoundedBody, body_seconds: float) -> None:
    with anyio.move_on_after(body_seconds) as scope:
        try:
            async with contextlib.aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body.add(chunk)
        except ClientDisconnect:
            raise Refusal(_DISCONNECTED) from None
        except RuntimeError:  # "Stream consumed": then nothing was collected
            pass
    if scope.cancelled_caught:
        raise Refusal(TOO_SLOW)


def _check_body_was_left(request: Request) -> None:
    # Only once the signature did not match: for a signed body no unsigned header changes the result.
    if request.headers.get("content-length", "0") != "0":
        msg = "the raw body was read as a form before the postback could be verified; read request.body()"
        raise ConfigurationError(msg)


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
        problem = Problem("", "must be a JSON object that everyone reads in the same way", "json_invalid")
        raise RequestValidationError([_shown(problem, is_form=False)])
    return body, False, []


def _shown(problem: Problem, *, is_form: bool) -> dict[str, Any]:
    parts = [problem.path] if is_form else _PART.findall(problem.path)
    location = [int(each) if each.isdecimal() else each for each in parts]
    return {"loc": ("body", *location), "msg": problem.text, "type": problem.kind}


_PART: Final = re.compile(r"[^.\[\]]+")
