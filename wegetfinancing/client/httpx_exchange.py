"""One request on an HTTP connection of httpx or httpx2: how far it is, and what a failure means.

It knows httpcore's ``trace`` events (https://www.encode.io/httpcore/extensions/#trace) and the shapes both
libraries share, and imports neither.
"""

import contextlib
import functools
import math
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from types import ModuleType
from typing import Any, Final, Self

import anyio

from .._rules import is_loopback
from ..errors import ConfigurationError, Outcome
from ..http import Headers, Request, Response

_BODY_LIMIT: Final = 1024 * 1024
# A read of 64 KiB can hold ten thousand chunks of a byte, which are taken apart without a pause for the
# event loop and its clocks; an honest answer comes in a few.
_MOST_PIECES: Final = 4096
# Our own end comes this much before the call's deadline, so that the error can say what was sent.
_MARGIN_SECONDS: Final = 0.02
_CLOSE_SECONDS: Final = 1.0
_BELOW: Final = ("", "httpcore", "httpcore2")
_NO_HEADERS: Final = Headers()
# What httpx and httpx2 raise before there is a connection. Asked only where nothing was traced, as
# with the stand-ins MockTransport and respx.
_BEFORE_ANY_CONNECTION: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
)


class Exchange:
    """One request on the wire: what is known of it at each moment.

    Attributes:
        request: what is to be sent.
        margin: seconds before the call's deadline at which our own end comes.
        socket: the connection's raw stream, once there is one.
        begun: the request was handed to the library.
        traced: httpcore said something of it.
        sending_began: its first byte may have left.
        connected_never: it failed before there was a connection.
        permanent: no repeat cures the failure.
        timed_out: the library's own clock ended it.
        status: of the answer, once its head was read.
        headers: likewise.

    """

    __slots__ = (
        "_plain_loopback",
        "_tunnelling",
        "begun",
        "connected_never",
        "headers",
        "margin",
        "permanent",
        "request",
        "sending_began",
        "socket",
        "status",
        "timed_out",
        "traced",
    )

    def __init__(self, request: Request) -> None:
        """Start with nothing known."""
        self.request: Request = request
        self.margin: float = min(_MARGIN_SECONDS, max(0.0, self._time_left()) / 10)
        self.socket: Any = None
        self._plain_loopback = False
        self._tunnelling = False
        self.begun: bool = False
        self.traced: bool = False
        self.sending_began: bool = False
        self.connected_never: bool = False
        self.permanent: bool = False
        self.timed_out: bool = False
        self.status: int | None = None
        self.headers: Headers = _NO_HEADERS

    def _time_left(self) -> float:
        return self.request.deadline - anyio.current_time()

    @property
    def outcome(self) -> Outcome:
        """``NOT_SENT`` only where it is certain; who cannot tell counts as having sent."""
        if self.sending_began:
            return Outcome.UNKNOWN
        if self.traced or not self.begun or self.connected_never:
            return Outcome.NOT_SENT
        return Outcome.UNKNOWN

    def prepare(self, library: ModuleType, url: Any, *, keep_alive: bool) -> Any:  # noqa: ANN401 - types of either library
        """Make the library's own request, past the client's defaults for headers and the like."""
        self._plain_loopback = is_plain_loopback(url)
        # httpx ends a little before our own scope: it then cleans up itself, and says how far it was.
        left = self._time_left() - 2 * self.margin
        seconds = None if left == math.inf else max(0.0, left)
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        prepared = library.Request(
            self.request.method,
            url,
            headers=_library_headers(library, self.request, url, keep_alive=keep_alive),
            stream=_body_class(library)(self.request.body),
            extensions={"timeout": timeout, "trace": self.trace},
        )
        prepared.read()  # what looks at it, such as an event hook or a stand-in, finds its content
        self.begun = True
        return prepared

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take httpcore's word for how far the request is."""
        self.traced = True
        if event.endswith(("connect_tcp.complete", "connect_unix_socket.complete")):
            self.socket = info["return_value"]
        elif event == "http11.send_request_headers.started":
            self._tunnelling = info["request"].method == b"CONNECT"
            # A proxy that passes plain http on is sent the whole URL in place of the path.
            if self._plain_loopback and not info["request"].url.target.startswith(b"/"):
                msg = "the client given sends plain http to this machine through a proxy; make it without"
                raise ConfigurationError(msg)
            if self.socket is None and not self.request.repeatable:
                msg = "the client given reused a connection; give it to HttpxTransport and to nothing else"
                raise ConfigurationError(msg)
            if self.sending_began:
                msg = "the client given sends requests again by itself; repeating is up to Retry"
                raise ConfigurationError(msg)
            self.sending_began = not self._tunnelling
        elif event == "http11.receive_response_headers.complete" and not self._tunnelling:
            _, self.status, _, headers = info["return_value"]
            self.headers = _decoded(headers)
        elif event.startswith("http2."):
            msg = "the client given speaks HTTP/2, which may send a request twice; make it with http2=False"
            raise ConfigurationError(msg)

    async def read(self, response: Any) -> Response:  # noqa: ANN401 - a Response of either library
        """Read the answer's body, raw and bounded."""
        self.status = status = response.status_code
        self.headers = headers = _decoded(response.headers.raw)
        if "content-encoding" in headers and headers["content-encoding"].strip().lower() != "identity":
            return Response(status, headers, body_error="came compressed, which was not asked for")
        if response.is_stream_consumed:  # MockTransport and respx hand out answers already read
            content = response.content
            problem = _problem_of(len(content), pieces=1)
            return Response(status, headers, b"" if problem else content, body_error=problem)
        body = bytearray()
        pieces = 0
        problem = None
        try:
            async for chunk in response.aiter_raw():
                if problem is None:
                    body += chunk
                    pieces += 1
                    problem = _problem_of(len(body), pieces)
                    if problem is not None:
                        # A break would leave httpx's generators open; a read that fails unwinds them.
                        await self.close_socket()
        except Exception:
            if problem is None:
                raise
        return Response(status, headers, b"" if problem else bytes(body), body_error=problem)

    def answer_without_body(self, body_error: str) -> Response:
        """Give back the head alone: it came, so its status decides."""
        return Response(self.status or 0, self.headers, body_error=body_error)

    def describe(self, error: Exception, until: BaseException | None) -> str:
        """Note what kind of failure it is and put it in words that hold nothing of the request."""
        names = {cls.__name__ for cls in type(error).__mro__}
        causes = list(_causes(error, until))
        # Other transports take httpx's names for failures of their own, sent or not. A name counts
        # where httpcore stands behind it, or nothing, as with what a stand-in raises.
        library = type(causes[1]).__module__.partition(".")[0] if len(causes) > 1 else ""
        known = self.traced or library in _BELOW
        self.connected_never = known and not _BEFORE_ANY_CONNECTION.isdisjoint(names)
        self.timed_out = known and "TimeoutException" in names
        if self.status is not None:
            return "was cut short"
        if isinstance(error, ConfigurationError) or not self.begun:
            self.permanent = True
        detail = ""
        for cause in causes:
            if reason := getattr(cause, "verify_message", None):  # ssl.SSLCertVerificationError
                self.permanent = True
                detail = f"the server's certificate does not verify: {reason}; is SSL_CERT_FILE right?"
            elif isinstance(cause, ConfigurationError):
                detail = str(cause)
            elif reason := getattr(cause, "reason", None):  # ssl.SSLError
                detail = f"TLS failed: {reason}"
            elif isinstance(cause, OSError) and cause.errno:
                # Numbers below zero are the resolver's; asyncio puts an address into the others' text.
                detail = os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        from urllib.parse import urlsplit  # noqa: PLC0415 - for the rare failure only

        host = urlsplit(self.request.url).netloc
        if not self.begun:
            what = "no connection could be prepared; are HTTPS_PROXY and SSL_CERT_FILE right?"
        elif self.outcome is Outcome.UNKNOWN:
            what = f"the connection to {host} was lost"
        else:
            what = f"no connection to {host} was made"
        return f"{what} ({type(error).__name__}{': ' if detail else ''}{detail})"

    async def close_socket(self) -> None:
        """Close what may still be open: a handshake that was cancelled leaves its socket behind."""
        if self.socket is not None:
            await close_quietly(self.socket)


def is_plain_loopback(url: Any) -> bool:  # noqa: ANN401 - a URL of either library
    """Tell whether a URL names plain ``http`` on this machine, which must never meet a proxy."""
    return url.scheme == "http" and is_loopback(url.host)


def _library_headers(library: ModuleType, request: Request, url: Any, *, keep_alive: bool) -> Any:  # noqa: ANN401 - types of either library
    headers = [] if "host" in request.headers else [("Host", url.netloc.decode("ascii"))]
    headers += request.headers.items()
    if "content-length" not in request.headers:
        headers.append(("Content-Length", str(len(request.body))))
    if not keep_alive:
        headers.append(("connection", "close"))
    return library.Headers(headers)


@functools.cache
def _body_class(library: ModuleType) -> Any:  # noqa: ANN401 - a class of either library
    """Make a body whose iterator needs no closing.

    The library's own is an async generator, left to the collector when a body is not sent to its end;
    trio then gives a ``ResourceWarning``.
    """

    class Body(library.ByteStream):  # type: ignore[misc,name-defined] # either library
        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            self._data = data

        def __aiter__(self) -> AsyncIterator[bytes]:
            return aiter(_Once(self._data))

    return Body


class _Once:
    """Gives one piece."""

    __slots__ = ("_pieces",)

    def __init__(self, piece: bytes) -> None:
        self._pieces = [piece]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])


def _problem_of(size: int, pieces: int) -> str | None:
    if size > _BODY_LIMIT:
        return "is larger than 1 MiB"
    return "came in too many pieces" if pieces > _MOST_PIECES else None


def _causes(error: BaseException, until: BaseException | None) -> Iterator[BaseException]:
    """Walk down to what went wrong first, but not into what the caller was handling already."""
    seen: list[BaseException | None] = [None, until]
    following: BaseException | None = error
    while following not in seen:
        seen.append(following)
        assert following is not None  # noqa: S101 - for the type checker: None is among the seen
        yield following
        inside = following.exceptions[0] if isinstance(following, BaseExceptionGroup) else None
        # httpcore's pool raises "from None", which leaves the context as the only way down.
        following = inside or following.__cause__ or following.__context__


async def close_quietly(closable: Any) -> None:  # noqa: ANN401 - a client or a stream of either library
    """Close a client, a response or a stream, even while being cancelled."""
    with anyio.move_on_after(_CLOSE_SECONDS, shield=True), contextlib.suppress(Exception):
        await closable.aclose()
