"""A handler that keeps what it was given, and an ASGI server's part of a request."""

from typing import Any

import anyio
import anyio.lowlevel

from wegetfinancing import Postback
from wegetfinancing.postbacks import PostbackApp
from wegetfinancing.testing import SignedPostback


class Shop:
    """A handler that keeps what it was given."""

    def __init__(self, *failures: BaseException) -> None:
        self.handled: list[Postback] = []
        self.calls = 0
        self.failures = list(failures)

    async def __call__(self, postback: Postback) -> None:
        self.calls += 1
        await anyio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        self.handled.append(postback)


async def call(
    app: PostbackApp,
    body: bytes | list[bytes] = b"",
    headers: dict[str, str] | list[tuple[bytes, bytes]] | None = None,
    *,
    end: dict[str, Any] | None = None,
    **scope: Any,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Serve one request; a list of bodies comes in pieces, ``end`` in place of the last."""
    pieces = body if isinstance(body, list) else [body]
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, start=1)
    ]
    if end is not None:
        messages[-1] = end
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await anyio.sleep_forever()
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = (
        [(k.encode(), v.encode("latin-1")) for k, v in headers.items()]
        if isinstance(headers, dict)
        else headers
    )
    complete = {"type": "http", "method": "POST", "path": "/postbacks", "headers": pairs or []} | scope
    try:
        await app(complete, receive, send)
    finally:
        if sent:
            assert [each["type"] for each in sent] == ["http.response.start", "http.response.body"]
    if not sent:
        return 0, {}, b""
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


async def deliver(app: PostbackApp, postback: SignedPostback) -> int:
    return (await call(app, postback.body, postback.headers))[0]
