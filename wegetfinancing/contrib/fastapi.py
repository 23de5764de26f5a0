"""Postbacks in FastAPI. Needs ``wegetfinancing[fastapi]``."""

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final

from fastapi import Header, HTTPException, Request

from ..asgi import Answers, Refusal, check_media_type, read_bounded, read_postback
from ..config import Credentials
from ..postbacks import FORM, JSON, Postback
from ..signatures import check_accepted, check_max_age

_BODY: Final = {"schema": {"type": "object"}}
OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {JSON: _BODY, FORM: _BODY}},
}
"""For a route's ``openapi_extra``: the body, which a dependency that reads raw bytes cannot declare."""

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    Answers().malformed: {"description": "The postback cannot be read."},
    Answers().bad_signature: {"description": "The signature is missing, malformed, wrong or too old."},
    Answers().too_large: {"description": "The body is over 64 KiB."},
    Answers().wrong_type: {"description": "The body is neither JSON nor form-encoded."},
}
"""For a route's ``responses``."""


def postback_from(
    credentials: Credentials | Iterable[Credentials], *, max_age: float | None = None
) -> Callable[..., Awaitable[Postback]]:
    """Make a dependency that gives a route its postback, verified.

    ::

        VerifiedPostback = Annotated[Postback, Depends(postback_from(credentials))]

        @app.post("/postbacks", openapi_extra=OPENAPI, responses=RESPONSES)
        async def receive(postback: VerifiedPostback) -> PlainTextResponse: ...

    The route itself has to handle each ``postback.key`` once; ``PostbackApp`` does that for you.

    Args:
        credentials: one, or several while a password is being rotated.
        max_age: seconds that ``x-timestamp`` may lie in the past or the future; ``None`` for any.

    Raises:
        ConfigurationError: no credentials, or a ``max_age`` that is no number of seconds.

    """
    accepted = check_accepted(credentials)
    if max_age is not None:
        max_age = check_max_age(max_age)

    async def verified_postback(
        request: Request,
        x_signature: Annotated[str | None, Header(description="SHA-256, 64 hex digits.")] = None,  # noqa: ARG001 - for the schema
        x_timestamp: Annotated[str | None, Header(description="Part of what is signed.")] = None,  # noqa: ARG001 - for the schema
    ) -> Postback:
        answers = Answers()
        try:
            check_media_type(request.headers, answers)
            async with contextlib.aclosing(request.stream()) as chunks:
                body = await read_bounded(chunks, answers)
            return read_postback(body, request.headers, accepted, max_age, answers)
        except Refusal as refusal:
            raise HTTPException(refusal.status, str(refusal)) from None

    return verified_postback
