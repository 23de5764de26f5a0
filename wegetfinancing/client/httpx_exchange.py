"""One request on an HTTP connection of httpx or httpx2: how far it is, and what a failure means.

It knows httpcore's ``trace`` events (https://www.encode.io/httpcore/extensions/#trace) and the shapes both
libraries share, and imports neither.
"""

import contextlib
import functools
import math
from collections.abc import AsyncIterator, Callable, Iterable
from types import ModuleType
from typing import Any, Final, Self

import anyio

from .._checks import is_loopback
from ..errors import ConfigurationError, Outcome
from ..http import Headers, Request, Response
from .event_loop import Beside
from .httpx_errors import Behind, ErrorReport, Failure

_BODY_LIMIT: Final = 1024 * 1024
# A read of 64 KiB can hold ten thousand chunks of a byte, which are taken apart without a pause for the
# event loop and its clocks; an honest answer comes in a few.
_MAX_CHUNKS: Final = 4096
# Our own end comes this much before the call's deadline, so that the error can say what was sent.
_MARGIN_SECONDS: Final = 0.02
_CLOSE_SECONDS: Final = 1.0
_SENDS_AGAIN: Final = "the client given sends requests again by itself; repeating is up to Retry"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Exchange:
    """One request on the wire: what has been seen of it so far.

    Attributes:
        request: what is to be sent.
        margin: seconds before the call's deadline at which our own end comes.
        socket: the connection's raw stream, once there is one.
        traced: httpcore has reported something.
        opening_seconds: how long its connection took to open; ``None`` if it was open before.
        when_it_waits: what may be done while it waits for its answer.
        opened_ahead: the connections for other requests that were opened in the meantime.
        answer_seconds: how long its answer was waited for; ``None`` until it came.

    """

    __slots__ = (
        "_address",
        "_asked",
        "_begun",
        "_body_began",
        "_head",
        "_host",
        "_is_connect",
        "_opening_began",
        "_own",
        "_plain_loopback",
        "_sending_began",
        "_through",
        "_tunnelling",
        "answer_seconds",
        "margin",
        "opened_ahead",
        "opening_seconds",
        "request",
        "socket",
        "traced",
        "when_it_waits",
    )

    def __init__(self, request: Request, *, own: bool) -> None:
        """Start with nothing seen. ``own`` says whether it uses a connection of our own."""
        self.request: Request = request
        self.margin: float = min(_MARGIN_SECONDS, max(0.0, self._time_left()) / 10)
        self.socket: Any = None
        self.traced: bool = False
        self.opening_seconds: float | None = None
        self.when_it_waits: Beside = Beside()
        self.opened_ahead: list[Any] = []
        self.answer_seconds: float | None = None
        self._own = own
        self._head: tuple[int, Iterable[tuple[bytes, bytes]]] | None = None
        self._opening_began: float | None = None
        self._asked = 0.0  # when the answer began to be waited for
        self._begun = False  # handed to the library
        self._sending_began = False  # its first byte may have left
        self._body_began = False  # its body was read, presumably to be sent
        self._is_connect = request.method.upper() == "CONNECT"
        self._plain_loopback = False
        self._host = ""  # in readable form
        self._address: tuple[str, int] | None = None
        self._through = ""  # the proxy, if any, in the words of an error
        self._tunnelling = False

    def _time_left(self) -> float:
        return self.request.deadline - anyio.current_time()

    @property
    def head(self) -> Response | None:
        """The answer's status and headers, once they were read."""
        if self._head is None:
            return None
        status, headers = self._head
        return Response(status, _decoded(headers))

    def failure(self, error: ErrorReport) -> Failure:
        """Say why there is no answer, given what was raised and what was seen of the exchange."""
        if self._head is not None:
            return Failure("was cut short", Outcome.UNKNOWN)
        outcome = self._outcome(failed_before_connecting=self._failed_before_connecting(error))
        if error.timed_out and (self.traced or error.behind is not Behind.OTHER):
            return self._no_answer(outcome)
        if not self._begun:
            what = "no connection could be prepared"
            if not error.misuse:
                what += "; are HTTPS_PROXY and SSL_CERT_FILE right?"
        elif outcome is Outcome.UNKNOWN:
            what = f"the connection to {self._host}{self._through} was lost"
        else:
            what = f"no connection to {self._host}{self._through} was made"
        text = f"{what} ({error.name}{': ' if error.detail else ''}{error.detail})"
        return Failure(text, outcome, permanent=error.incurable or not self._begun)

    def out_of_time(self) -> Failure:
        """Say why there is no answer when our own end came."""
        if self._head is not None:
            return Failure("did not end before the deadline", Outcome.UNKNOWN)
        # A connection of our own would have traced its first step.
        outcome = self._outcome(failed_before_connecting=self._own and not self.traced)
        return self._no_answer(outcome)

    def _no_answer(self, outcome: Outcome) -> Failure:
        text = f"no answer came before the deadline{self._through}"
        if not self._own:
            text += " (AsyncClient's timeout sets it; that of the client given is not used)"
        return Failure(text, outcome, timed_out=True)

    def _outcome(self, *, failed_before_connecting: bool) -> Outcome:
        """``NOT_SENT`` only where it is certain; if it cannot be determined, it counts as sent."""
        if self._sending_began or self._body_began:
            return Outcome.UNKNOWN
        if self.traced or not self._begun or failed_before_connecting:
            return Outcome.NOT_SENT
        return Outcome.UNKNOWN

    def _failed_before_connecting(self, error: ErrorReport) -> bool:
        """Believe what an exception is called only where that says what became of the whole exchange."""
        if error.behind is Behind.NOTHING or self._own or self.traced:
            return error.before_connecting
        # A client that drops the trace may have sent the request before: the name tells of its last attempt.
        return error.behind is Behind.HTTPCORE and error.in_pool

    def prepare(self, library: ModuleType, url: Any, *, keep_alive: bool) -> Any:  # noqa: ANN401 - types of either library
        """Make a request of httpx or httpx2, past the client's defaults for headers and the like."""
        body = self.request.body
        prepared = library.Request(
            self.request.method,
            url,
            headers=library.Headers(self._headers(url, keep_alive=keep_alive)),
            stream=library.ByteStream(body),
            extensions=self._extensions(url),
        )
        prepared.read()  # what looks at it, such as an event hook or a stand-in, finds its content
        prepared.stream = _body_class(library)(body, self._start_body)
        self._begun = True
        return prepared

    def prepare_direct(self, library: ModuleType, url: Any, *, keep_alive: bool) -> Any:  # noqa: ANN401 - types of the library
        """Make a request of httpcore."""
        prepared = library.Request(
            self.request.method,
            library.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=[
                (name.encode("ascii"), value.encode("ascii"))
                for name, value in self._headers(url, keep_alive=keep_alive)
            ],
            content=_Body(self.request.body, self._start_body),
            extensions=self._extensions(url),
        )
        self._begun = True
        return prepared

    def _headers(self, url: Any, *, keep_alive: bool) -> list[tuple[str, str]]:  # noqa: ANN401 - a URL of either library
        request = self.request
        headers = [] if "host" in request.headers else [("Host", url.netloc.decode("ascii"))]
        headers += request.headers.items()
        if "content-length" not in request.headers:
            headers.append(("Content-Length", str(len(request.body))))
        if not keep_alive:
            headers.append(("connection", "close"))
        return headers

    def _extensions(self, url: Any) -> dict[str, Any]:  # noqa: ANN401 - a URL of either library
        """Return the time left and the trace, which is about ``url``."""
        self._host = url.netloc.decode("ascii")
        self._address = url.raw_host.decode("ascii"), url.port or _DEFAULT_PORTS.get(url.scheme, 0)
        self._plain_loopback = is_plain_loopback(url)
        # httpcore ends a little before our own scope: it then cleans up itself, and says how far it was.
        left = self._time_left() - 2 * self.margin
        seconds = None if left == math.inf else max(0.0, left)
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        return {"timeout": timeout, "trace": self.trace}

    def _start_body(self) -> None:
        """Notice that the body is read, and let that happen once where no trace tells what for."""
        if self._body_began and not self.traced:
            raise ConfigurationError(_SENDS_AGAIN)
        self._body_began = True

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take httpcore's word for how far the request is."""
        self.traced = True
        by, _, step = event.partition(".")
        if by == "http2":
            msg = "the client given speaks HTTP/2, which may send a request twice; make it with http2=False"
            raise ConfigurationError(msg)
        match step:
            case "connect_tcp.started":
                if self.socket is None:  # else httpcore is handed one that is open
                    self._opening_began = anyio.current_time()
                host, port = info["host"], info["port"]
                is_proxy = (host, port) != self._address
                literal = f"[{host}]" if ":" in host else host
                self._through = f" through the proxy {literal}:{port}" if is_proxy else ""
            case "connect_tcp.complete" | "connect_unix_socket.complete":
                self.socket = info["return_value"]
            case "send_request_headers.started":
                self._start_sending(info["request"])
            case "receive_response_headers.started":
                self._asked = anyio.current_time()
                self.when_it_waits.start()
            case "receive_response_headers.complete" if not self._tunnelling:
                _, status, _, headers = info["return_value"]
                self._head = status, headers
                self.answer_seconds = anyio.current_time() - self._asked

    def _start_sending(self, request: Any) -> None:  # noqa: ANN401 - of either library's httpcore
        if self._opening_began is not None:
            self.opening_seconds = anyio.current_time() - self._opening_began
        # A proxy's CONNECT sends nothing of ours, unless a middleware has made CONNECT our own method.
        self._tunnelling = request.method == b"CONNECT" and not self._is_connect
        # A proxy that passes plain http on is sent the whole URL in place of the path.
        if self._plain_loopback and not request.url.target.startswith(b"/"):
            msg = "the client given sends plain http to this machine through a proxy; make it without"
            raise ConfigurationError(msg)
        if self.socket is None and not self.request.repeatable:
            msg = "the client given reused a connection; give it to HttpxTransport and to nothing else"
            raise ConfigurationError(msg)
        if self._sending_began:
            raise ConfigurationError(_SENDS_AGAIN)
        self._sending_began = not self._tunnelling

    async def read(self, response: Any) -> Response:  # noqa: ANN401 - a Response of either library
        """Read the answer's body, raw and bounded."""
        status, headers = response.status_code, _decoded(response.headers.raw)
        self._head = status, response.headers.raw
        if "content-encoding" in headers and headers["content-encoding"].strip().lower() != "identity":
            return Response(status, headers, body_error="came compressed, which was not asked for")
        if response.is_stream_consumed:  # MockTransport and respx hand out answers already read
            content = response.content
            problem = _body_error(len(content), chunks=1)
            return Response(status, headers, b"" if problem else content, body_error=problem)
        body = bytearray()
        chunks = 0
        problem = None
        try:
            async for chunk in response.aiter_raw():
                if problem is None:
                    body += chunk
                    chunks += 1
                    problem = _body_error(len(body), chunks)
                    if problem is not None:
                        # A break would leave httpx's generators open; a read that fails unwinds them.
                        await self.close_socket()
        except Exception:
            if problem is None:
                raise
        return Response(status, headers, b"" if problem else bytes(body), body_error=problem)

    async def close_socket(self) -> None:
        """Close what may still be open: a handshake that was cancelled leaves its socket behind."""
        if self.socket is not None:
            await close_quietly(self.socket)


def is_plain_loopback(url: Any) -> bool:  # noqa: ANN401 - a URL of either library
    """Tell whether a URL names plain ``http`` on this machine, which must never meet a proxy."""
    return url.scheme == "http" and is_loopback(url.host)


class _Body:
    """A body that says when it is sent, and whose iterator needs no closing.

    The library's own is an async generator, left to the collector when a body is not sent to its end;
    trio then emits a ``ResourceWarning``.
    """

    def __init__(self, data: bytes, start: Callable[[], None]) -> None:
        self._data = data
        self._start = start

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._start()
        return aiter(_Once(self._data))


@functools.cache
def _body_class(library: ModuleType) -> Any:  # noqa: ANN401 - a class of either library
    return type("Body", (_Body, library.AsyncByteStream), {})


class _Once:
    """Yields one piece."""

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


def _body_error(size: int, chunks: int) -> str | None:
    if size > _BODY_LIMIT:
        return "is larger than 1 MiB"
    return "came in too many pieces" if chunks > _MAX_CHUNKS else None


async def close_quietly(closable: Any) -> None:  # noqa: ANN401 - a client or a stream of either library
    """Close a client, a response or a stream, even while being cancelled."""
    with anyio.move_on_after(_CLOSE_SECONDS, shield=True), contextlib.suppress(Exception):
        await closable.aclose()
