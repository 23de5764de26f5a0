"""A handler for apps that do not await, and a WSGI server's part of a request, checked by wsgiref."""

import contextlib
import io
import threading
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from wegetfinancing import Postback
from wegetfinancing.testing import SignedPostback, signed_postback

GOOD = signed_postback()


class SyncShop:
    """A handler that keeps what it was given, and the thread that it ran in."""

    def __init__(self, *failures: BaseException) -> None:
        self.handled: list[Postback] = []
        self.threads: list[int] = []
        self.failures = list(failures)

    def __call__(self, postback: Postback) -> None:
        self.threads.append(threading.get_ident())
        if self.failures:
            raise self.failures.pop(0)
        self.handled.append(postback)


class Input(io.BytesIO):
    """A body whose reads are counted; ``failure`` in place of its end."""

    def __init__(self, body: bytes, failure: Exception | None = None) -> None:
        super().__init__(body)
        self.failure = failure
        self.asked: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked.append(-1 if size is None else size)
        read = super().read(size)
        if not read and self.failure is not None:
            raise self.failure
        return read


class AppServer:
    """Keeps what an app answered, even when it raises afterwards."""

    status = 0
    headers: dict[str, str]
    body = b""

    def __init__(self, app: Any) -> None:
        self.app = validator(app)

    def serve(self, environ: dict[str, Any]) -> int:
        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
            self.status, self.headers = int(status[:3]), dict(headers)
            return lambda _: None

        setup_testing_defaults(environ)
        answer: Any = self.app(environ, start_response)
        with contextlib.closing(answer):
            for chunk in answer:
                self.body += chunk
        return self.status


def environ_of(
    body: bytes | Input = GOOD.body, headers: dict[str, str] | None = None, **environ: Any
) -> dict[str, Any]:
    stream = body if isinstance(body, Input) else Input(body)
    given = GOOD.headers if headers is None else headers
    named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in given.items()}
    named.pop("HTTP_CONTENT_TYPE", None)
    length = str(len(stream.getvalue()))
    made = {"REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": ""}
    made["CONTENT_LENGTH"] = length
    return made | named | {"wsgi.input": stream} | environ


def call(app: Any, body: bytes | Input = GOOD.body, **environ: Any) -> tuple[int, bytes]:
    server = AppServer(app)
    server.serve(environ_of(body, **environ))
    return server.status, server.body


def deliver(app: Any, postback: SignedPostback) -> int:
    return call(app, postback.body, headers=postback.headers)[0]


async def handle_async(postback: Postback) -> None:
    """What a WSGI app cannot await."""
