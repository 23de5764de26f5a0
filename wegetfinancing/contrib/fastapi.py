"""Checkout forms and postbacks in FastAPI. Needs ``wegetfinancing[fastapi]``."""

import contextlib
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final

import anyio
from fastapi import Header, HTTPException, Path, Request
from starlette.requests import ClientDisconnect

from ..credentials import Credentials
from ..errors import ConfigurationError
from ..postbacks.events import Postback
from ..postbacks.lookups import AwaitedSource
from ..postbacks.receiving import (
    BAD_SIGNATURE,
    BODY_SECONDS,
    MALFORMED,
    TOO_LARGE,
    TOO_SLOW,
    UNAVAILABLE,
    Answer,
    BoundedBody,
    CredentialsUnavailableError,
    Refusal,
)
from ..postbacks.settings import as_max_age, as_seconds
from ..postbacks.sources import CredentialsLookup, as_routed_source, check_routed_merchant
from ._checkout import BodyField, OrderFields
from ._fastapi_checkout import CHECKOUT_OPENAPI, financing_request_from

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
    accepted, lookup = as_routed_source(credentials)
    source = AwaitedSource(accepted, lookup, as_max_age(max_age))
    body_seconds = as_seconds("body_seconds", body_seconds)

    async def receive(request: Request, merchant_id: str | None) -> Postback:
        body = BoundedBody()
        try:
            check_routed_merchant(lookup, merchant_id)
            await _collect(request, body, body_seconds)
            return await source.read(bytes(body), request.headers, merchant_id)
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
