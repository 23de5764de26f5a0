"""The transport on httpx: what was sent is known, not guessed, and nothing leaks.

This is the one module that knows httpx, and it imports it only when the first request is sent. Its
rules, each with the reason:

- Whether bytes left is read off httpcore's ``trace`` extension
  (https://www.encode.io/httpcore/extensions/#trace). Exception classes do not tell: a proxy that
  fails looks like a read timeout though nothing was sent, and a read timeout says nothing about
  what the server did.
- Every connection of our own is a one-connection client that serves one call at a time and waits on
  a stack in between. There is no shared queue that a cancelled call could wedge
  (https://github.com/encode/httpcore/issues/1093), and a call that fails takes only its own
  connection with it.
- A request that must not be repeated gets a fresh connection: a kept-alive one may be closed by the
  server just as we write, and bytes left over from an earlier answer would be read as this one's.
- httpx's exceptions carry the request with its credentials and body. None stays reachable from
  ours: errors are raised only after the ``except`` block has been left.
"""

import contextlib
import functools
import importlib
import math
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel

from .errors import ConfigurationError, DeadlineExceededError, Outcome, TransportError
from .event_loop import current_event_loop
from .transport import Headers, Request, Response

if TYPE_CHECKING:
    import ssl

    import httpx

_LIBRARIES: Final = ("httpx", "httpx2")
_BELOW: Final = ("", "httpcore", "httpcore2")
_BODY_LIMIT: Final = 1024 * 1024
# Above 32 connections at once a shared pool only costs more, since its scan is quadratic; and below
# a ready client's default of 100 its pool never has a queue of its own.
_MAX_CONNECTIONS: Final = 32
_KEEPALIVE_SECONDS: Final = 5.0
# Our own end comes this much before the call's deadline, so that the error can say what was sent.
_MARGIN_SECONDS: Final = 0.02
_CLOSE_SECONDS: Final = 1.0
# What httpx and httpx2 raise before there is a connection. Asked only where nothing was traced, as
# with the stand-ins MockTransport and respx.
_BEFORE_ANY_CONNECTION: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
)


class HttpxTransport:
    """A ``Transport`` on httpx.

    Without ``client`` it makes its own connections: certificates and proxies come from the
    environment, as httpx's users know it.

    With a ready ``httpx.AsyncClient`` or ``httpx2.AsyncClient`` that client's transport, proxies and
    certificates are used and its event hooks run, but not its base URL, headers, cookies, auth,
    timeout or redirects. Each request then goes out with ``Connection: close``, since nothing else
    keeps a client from reusing a connection. It must not speak HTTP/2 or repeat by itself, its maker
    closes it, and nothing else may use it. Behind a proxy rather use ``proxy`` or the environment:
    httpx's pool keeps the place of every tunnel whose TLS handshake failed, until it is full.

    Args:
        client: a ready client of httpx or httpx2.
        limits: ``max_connections`` bounds the requests at once (32 unless told otherwise); for a
            ready client it must not exceed that client's own. ``max_keepalive_connections`` and
            ``keepalive_expiry`` (seconds) are about connections of our own.
        ssl_context: for connections of our own, in place of httpx's default.
        proxy: URL of a proxy for connections of our own, in place of the environment's.

    Raises:
        ConfigurationError: ``client`` is of another kind, or comes with ``ssl_context`` or ``proxy``.

    """

    __slots__ = (
        "_client",
        "_closed",
        "_event_loop",
        "_idle",
        "_library",
        "_limiter",
        "_limits",
        "_proxy",
        "_ssl",
    )

    def __init__(
        self,
        client: "httpx.AsyncClient | Any | None" = None,  # noqa: ANN401 - httpx2 need not be installed
        *,
        limits: "httpx.Limits | None" = None,
        ssl_context: "ssl.SSLContext | None" = None,
        proxy: str | None = None,
    ) -> None:
        """Open nothing yet."""
        if client is not None and (ssl_context is not None or proxy is not None):
            msg = "ssl_context and proxy are for connections of our own; set them on the client given"
            raise ConfigurationError(msg)
        most = getattr(limits, "max_connections", None)
        if most is not None and (not isinstance(most, int) or most < 1):
            msg = "limits.max_connections must be a whole number from 1 on, or None"
            raise ConfigurationError(msg)
        self._client = client
        self._library = None if client is None else _library_of(client)
        self._limits = limits
        self._ssl = ssl_context
        self._proxy = proxy
        self._limiter: anyio.CapacityLimiter | None = None
        self._idle: list[tuple[httpx.AsyncClient, Any]] = []  # each with its socket
        self._event_loop: object = None
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Send ``request`` once, on a fresh connection if it must not be repeated.

        Raises:
            TransportError: no answer came; ``NOT_SENT`` only if no byte of the request left.

        """
        exchange = _Exchange(request)
        handled_by_caller = sys.exception()
        if problem := self._why_unusable():
            raise TransportError(
                problem, outcome=exchange.outcome, operation=request.operation, permanent=True
            )
        if self._limiter is None:
            self._event_loop = current_event_loop()
            self._limiter = anyio.CapacityLimiter(self._limit("max_connections", _MAX_CONNECTIONS))
        fault: str | None = None
        with anyio.CancelScope(deadline=request.deadline - exchange.margin):
            try:
                # On behalf of the exchange, since one task may have several of them in flight. Without
                # waiting first: before 4.16 anyio loses a slot that is granted and cancelled at once.
                await anyio.lowlevel.checkpoint_if_cancelled()
                try:
                    self._limiter.acquire_on_behalf_of_nowait(exchange)
                except anyio.WouldBlock:
                    await self._limiter.acquire_on_behalf_of(exchange)
                try:
                    return await self._carry(exchange)
                finally:
                    self._limiter.release_on_behalf_of(exchange)
            except Exception as error:  # noqa: BLE001 - the one border to httpx: it also lets out RuntimeError, ssl.SSLError and others
                fault = exchange.describe(error, handled_by_caller)
        if exchange.status is not None:
            return exchange.answer_without_body(fault or "did not end before the deadline")
        if fault is None or exchange.timed_out:
            # A connection of our own would have traced its first step.
            exchange.traced = exchange.traced or self._client is None
            msg = "no answer came before the deadline"
            raise DeadlineExceededError(msg, outcome=exchange.outcome, operation=request.operation)
        raise TransportError(
            fault,
            outcome=exchange.outcome,
            operation=request.operation,
            permanent=exchange.permanent,
        )

    async def aclose(self) -> None:
        """Close the idle connections of our own; those in use close when their call ends."""
        self._closed = True
        while self._idle:
            await _close_quietly(self._idle.pop()[0])

    def _why_unusable(self) -> str | None:
        if self._closed or (self._client is not None and self._client.is_closed):
            return "the transport or its client is closed; make a new one"
        if self._limiter is not None and self._event_loop is not current_event_loop():
            return "the transport belongs to another event loop; make one in each"
        return None

    async def _carry(self, exchange: "_Exchange") -> Response:
        request = exchange.request
        own = self._client is None
        keep_alive = own and request.repeatable
        client = self._connection(exchange, keep_alive=keep_alive) if self._client is None else self._client
        whole = False
        try:
            response = await client.send(
                exchange.prepare(self._library or importlib.import_module("httpx"), keep_alive=keep_alive),
                stream=True,
                auth=None,
                follow_redirects=False,
            )
            try:
                answer = await exchange.read(response)
            finally:
                await _close_quietly(response)
            whole = answer.body_error is None
        finally:
            if not whole:
                await exchange.close_socket()
            if own:
                await self._put_back(client, exchange.socket, reusable=whole and keep_alive)
        return answer

    def _connection(self, exchange: "_Exchange", *, keep_alive: bool) -> "httpx.AsyncClient":
        if keep_alive and self._idle:
            client, exchange.socket = self._idle.pop()
            return client
        import httpx  # noqa: PLC0415 - not before it is needed

        return httpx.AsyncClient(
            verify=self._ssl or _shared_ssl_context(*map(os.environ.get, _CA_VARIABLES)),
            proxy=self._proxy,
            limits=httpx.Limits(
                max_connections=1,
                keepalive_expiry=self._limit("keepalive_expiry", _KEEPALIVE_SECONDS),
            ),
        )

    async def _put_back(self, client: "httpx.AsyncClient", socket: object, *, reusable: bool) -> None:
        room = self._limit("max_keepalive_connections", _MAX_CONNECTIONS)
        if reusable and not self._closed and len(self._idle) < room:
            self._idle.append((client, socket))
        else:
            await _close_quietly(client)

    def _limit(self, name: str, default: float) -> float:
        limit = getattr(self._limits, name, None)
        return default if limit is None else limit


class _Exchange:
    """One request on the wire: what is known of it at each moment."""

    __slots__ = (
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
        self.request = request
        self.margin = min(_MARGIN_SECONDS, max(0.0, self._time_left()) / 10)
        self.socket: Any = None
        self._tunnelling = False
        self.begun = False
        self.traced = False
        self.sending_began = False
        self.connected_never = False
        self.permanent = False
        self.timed_out = False
        self.status: int | None = None
        self.headers = Headers()

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

    def prepare(self, library: ModuleType, *, keep_alive: bool) -> Any:  # noqa: ANN401 - a Request of either library
        """Make the library's own request, past the client's defaults for headers and the like."""
        headers = list(self.request.headers.items())
        if not keep_alive:
            headers.append(("connection", "close"))
        # httpx ends a little before our own scope: it then cleans up itself, and says how far it was.
        left = self._time_left() - 2 * self.margin
        seconds = None if left == math.inf else max(0.0, left)
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        prepared = library.Request(
            self.request.method,
            self.request.url,
            headers=headers,
            content=self.request.body,
            extensions={"timeout": timeout, "trace": self.trace},
        )
        self.begun = True
        return prepared

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take httpcore's word for how far the request is."""
        self.traced = True
        if event.endswith(("connect_tcp.complete", "connect_unix_socket.complete")):
            self.socket = info["return_value"]
        elif event == "http11.send_request_headers.started":
            self._tunnelling = info["request"].method == b"CONNECT"
            if self.socket is None and not self.request.repeatable:
                msg = "the client given reused a connection; give it to HttpxTransport and to nothing else"
                raise ConfigurationError(msg)
            if self.sending_began:
                msg = "the client given sends requests again by itself; repeating is up to Retry"
                raise ConfigurationError(msg)
            self.sending_began = not self._tunnelling
        elif event == "http11.receive_response_headers.complete" and not self._tunnelling:
            _, self.status, _, headers = info["return_value"]
            self.headers = Headers(
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers
            )
        elif event.startswith("http2."):
            msg = "the client given speaks HTTP/2, which may send a request twice; make it with http2=False"
            raise ConfigurationError(msg)

    async def read(self, response: Any) -> Response:  # noqa: ANN401 - a Response of either library
        """Read the answer's body, raw and bounded."""
        self.status = status = response.status_code
        self.headers = headers = Headers(response.headers.multi_items())
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            return Response(status, headers, body_error="came compressed, which was not asked for")
        if response.is_stream_consumed:  # MockTransport and respx hand out answers already read
            return _bounded(status, headers, response.content)
        body = bytearray()
        try:
            async for chunk in response.aiter_raw():
                if len(body) <= _BODY_LIMIT:
                    body += chunk
                if len(body) > _BODY_LIMIT:
                    # A break would leave httpx's generators open; a read that fails unwinds them.
                    await self.close_socket()
        except Exception:
            if len(body) <= _BODY_LIMIT:
                raise
        return _bounded(status, headers, bytes(body))

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
            await _close_quietly(self.socket)


def _bounded(status: int, headers: Headers, body: bytes) -> Response:
    if len(body) > _BODY_LIMIT:
        return Response(status, headers, body_error="is larger than 1 MiB")
    return Response(status, headers, body)


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


async def _close_quietly(closable: Any) -> None:  # noqa: ANN401 - a client or a stream of either library
    with anyio.move_on_after(_CLOSE_SECONDS, shield=True), contextlib.suppress(Exception):
        await closable.aclose()


def _library_of(client: object) -> ModuleType:
    for cls in type(client).__mro__:
        root = cls.__module__.partition(".")[0]
        if root in _LIBRARIES and cls.__name__ == "AsyncClient":
            return importlib.import_module(root)
    msg = "client must be an AsyncClient of httpx or httpx2"
    raise ConfigurationError(msg)


_CA_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@functools.lru_cache(maxsize=4)
def _shared_ssl_context(_file: str | None, _directory: str | None) -> "ssl.SSLContext":
    """Make httpx's default context once for each CA setting: it costs 13 ms and 0.7 MB a time."""
    import httpx  # noqa: PLC0415 - not before it is needed

    return httpx.create_ssl_context()
