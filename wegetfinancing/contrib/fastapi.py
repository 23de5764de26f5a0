"""Postbacks in FastAPI. Needs ``wegetfinancing[fastapi]``."""

import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final

import anyio
from fastapi import Header, HTTPException, Request
from starlette.requests import ClientDisconnect

from ..credentials import Credentials
from ..errors import ConfigurationError
from ..postbacks.events import Postback
from ..postbacks.receiving import (
    BAD_SIGNATURE,
    BODY_SECONDS,
    MALFORMED,
    TOO_LARGE,
    TOO_SLOW,
    Answer,
    BoundedBody,
    Refusal,
    read_postback,
)
from ..postbacks.settings import as_max_age, as_seconds
from ..postbacks.signatures import as_credentials_tuple

__all__ = ["OPENAPI", "RESPONSES", "postback_from"]

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

_DISCONNECTED: Final = Answer(MALFORMED, "the sender has gone")


def postback_from(
    credentials: Credentials | Iterable[Credentials],
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
        credentials: one, or several while a password is being rotated.
        max_age: seconds, or a ``timedelta``, that ``x-timestamp`` may lie in the past or the future;
            ``None`` for any.
        body_seconds: how long the body may take to arrive.

    Raises:
        ConfigurationError: no credentials, or a setting out of range.

    """
    accepted = as_credentials_tuple(credentials)
    max_seconds = as_max_age(max_age)
    body_seconds = as_seconds("body_seconds", body_seconds)

    async def verified_postback(
        request: Request,
        x_signature: Annotated[str | None, Header(description="SHA-256, 64 hex digits.")] = None,
        x_timestamp: Annotated[str | None, Header(description="Part of what is signed.")] = None,
    ) -> Postback:
        """Verify and parse the postback of a request."""
        del x_signature, x_timestamp  # for the schema only, and crash reporters show local variables
        body = BoundedBody()
        try:
            await _collect(request, body, body_seconds)
            return read_postback(bytes(body), request.headers, accepted, max_seconds)
        except Refusal as refusal:
            answer = refusal.answer
        if answer.status == BAD_SIGNATURE and not bytes(body):
            _check_body_was_left(request)
        raise HTTPException(answer.status, answer.text)

    return verified_postback


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
