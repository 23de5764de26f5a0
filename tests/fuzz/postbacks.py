"""Coverage-guided fuzzing of everything that reads a postback: ``python -m nox -s fuzz [-- SECONDS]``.

The input is cut into headers and a body. What comes out must be a postback with a key, or one of the two
documented errors; ``PostbackApp`` must answer 200, 400, 401 or 413.
"""

import sys
from typing import Any

import anyio
import atheris

with atheris.instrument_imports(include=["wegetfinancing"]):
    from wegetfinancing import (
        MalformedPostbackError,
        SignatureError,
        parse_postback,
        parse_unverified_postback,
        sign_postback,
    )
    from wegetfinancing.postbacks import PostbackApp
    from wegetfinancing.testing import credentials

CREDENTIALS = credentials()
CONTENT_TYPES = ["application/json", "application/x-www-form-urlencoded", "text/plain"]


async def handle(postback: object) -> None:
    """Accept anything."""


async def answer(body: bytes, headers: dict[str, str]) -> int:
    """Serve one request as an ASGI server would."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": pairs}
    await PostbackApp(CREDENTIALS, handle)(scope, receive, send)
    return statuses[0]


def check(data: bytes) -> None:
    """Try one input everywhere."""
    source = atheris.FuzzedDataProvider(data)
    content_type = source.PickValueInList(CONTENT_TYPES)
    forged = {
        "x-signature": source.ConsumeUnicodeNoSurrogates(70),
        "x-timestamp": source.ConsumeUnicodeNoSurrogates(45),
        "content-type": content_type,
    }
    body = source.ConsumeBytes(4096)
    try:
        assert parse_unverified_postback(body).key
    except MalformedPostbackError:
        pass
    try:
        parse_postback(body, forged, CREDENTIALS, max_age=300)
    except (SignatureError, MalformedPostbackError):
        pass
    signature = sign_postback(body, "1", CREDENTIALS)
    signed = {"x-signature": signature, "x-timestamp": "1", "content-type": content_type}
    assert anyio.run(answer, body, forged) in {200, 400, 401, 413}
    status = anyio.run(answer, body, signed)
    assert status in {200, 400, 413}
    del signed["content-type"]
    assert anyio.run(answer, body, signed) == status, "an unsigned header changed the result"


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
