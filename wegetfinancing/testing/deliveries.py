"""Deliver a postback to an app as the vendor would, without a server or a port."""

import inspect
import io
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

import anyio

from ..emulator.postbacks import SignedPostback
from ..http import Response

ASGIApp: TypeAlias = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]
WSGIApp: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]

_PORTS: Final = {"http": 80, "https": 443}
_VENDOR: Final = ("192.0.2.1", 50000)  # an address for documentation, RFC 5737


class Deliver(Protocol):
    """Delivers postbacks to the ASGI app under test.

    ``await deliver(postback, *, url=None, raise_app_exceptions=True)`` returns the app's answer as a
    ``wegetfinancing.http.Response``.

    - ``postback``: what ``signed_postback`` or ``Emulator.decide`` returned.
    - ``url``: the endpoint's; by default that of the fixture ``wegetfinancing_postback_url``.
    - ``raise_app_exceptions``: what the app raises reaches the test, as it would reach the app's server. With
      ``False`` the test sees the answer that was sent before.
    """

    async def __call__(
        self, postback: SignedPostback, *, url: str | None = None, raise_app_exceptions: bool = True
    ) -> Response:
        """Deliver a postback and return the app's answer."""
        ...


class SyncDeliver(Protocol):
    """Delivers postbacks to the WSGI app under test.

    ``deliver(postback, *, url=None, raise_app_exceptions=True)`` accepts and returns what ``Deliver`` does.
    """

    def __call__(
        self, postback: SignedPostback, *, url: str | None = None, raise_app_exceptions: bool = True
    ) -> Response:
        """Deliver a postback and return the app's answer."""
        ...


class _Received:
    """What an app has sent so far."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()

    def response(self, failure: Exception | None, *, raise_app_exceptions: bool) -> Response:
        if failure is not None and (raise_app_exceptions or self.status is None):
            raise failure
        if self.status is None:
            msg = "the app sent no answer"
            raise AssertionError(msg)
        return Response(self.status, self.headers, bytes(self.body))


async def deliver_to_asgi(
    app: ASGIApp, postback: SignedPostback, url: str, *, raise_app_exceptions: bool
) -> Response:
    """Deliver a postback to an ASGI app. Its lifespan is not run.

    Raises:
        TypeError: it is not an ASGI app.
        Exception: what the app raised.

    """
    if not _accepts(app, arguments=3):
        msg = f"{app!r} is not an ASGI app; for a WSGI app use wegetfinancing_sync_deliver"
        raise TypeError(msg)
    parts = urlsplit(url)
    received, is_complete = _Received(), anyio.Event()
    body = [postback.body]

    async def receive() -> MutableMapping[str, Any]:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await is_complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            received.status = message["status"]
            pairs = message.get("headers", ())
            received.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
        elif message["type"] == "http.response.body":
            received.body += message.get("body", b"")
            if not message.get("more_body", False):
                is_complete.set()

    headers = {"host": parts.netloc, "content-length": str(len(postback.body)), **postback.headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": parts.scheme,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode("ascii"),
        "query_string": parts.query.encode("ascii"),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": _VENDOR,
        "server": (parts.hostname, _port(url)),
    }
    failure = None
    try:
        await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - raised again, unless the caller asked for the answer
        failure = error
    return received.response(failure, raise_app_exceptions=raise_app_exceptions)


def deliver_to_wsgi(
    app: WSGIApp, postback: SignedPostback, url: str, *, raise_app_exceptions: bool
) -> Response:
    """Deliver a postback to a WSGI app.

    Raises:
        TypeError: it is not a WSGI app.
        Exception: what the app raised.

    """
    if not _accepts(app, arguments=2):
        msg = f"{app!r} is not a WSGI app; for an ASGI app use wegetfinancing_deliver"
        raise TypeError(msg)
    received = _Received()

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:  # noqa: ANN401 - perhaps an exception
        received.status, received.headers = int(status.partition(" ")[0]), headers
        return received.body.extend

    failure = None
    try:
        chunks = app(_environ(postback, url), start_response)
        try:
            for chunk in chunks:
                received.body += chunk
        finally:
            if close := getattr(chunks, "close", None):  # a list has none
                close()
    except Exception as error:  # noqa: BLE001 - as above
        failure = error
    return received.response(failure, raise_app_exceptions=raise_app_exceptions)


def _accepts(app: Callable[..., Any], *, arguments: int) -> bool:
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):  # it cannot be determined; a call will tell
        return True
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def _environ(postback: SignedPostback, url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    headers = dict(postback.headers)
    content_type = headers.pop("content-type")
    named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    return named | {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(parts.path, "latin-1"),
        "QUERY_STRING": parts.query,
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(postback.body)),
        "SERVER_NAME": str(parts.hostname),
        "SERVER_PORT": str(_port(url)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": _VENDOR[0],
        "HTTP_HOST": parts.netloc,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": parts.scheme,
        "wsgi.input": io.BytesIO(postback.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or _PORTS[parts.scheme]
