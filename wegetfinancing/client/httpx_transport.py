"""The transport on httpx: what was sent is known, not guessed, and nothing leaks.

This is the one module that imports httpx, and only when the first request is sent. Its rules, each with
the reason:

- Whether bytes left is read off httpcore's ``trace`` extension
  (https://www.encode.io/httpcore/extensions/#trace). Exception classes do not tell: a proxy that
  fails looks like a read timeout though nothing was sent, and a read timeout says nothing about
  what the server did.
- Every connection of our own is a one-connection transport that serves one call at a time and waits on
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
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import anyio
import anyio.lowlevel
import attrs

from ..errors import ConfigurationError, DeadlineExceededError, Outcome, TransportError
from ..http import Request, Response
from .event_loop import current_event_loop, in_child_task
from .httpx_errors import Behind, Failure, is_of_httpcore, read_error
from .httpx_exchange import Exchange, close_quietly, is_plain_loopback
from .places import Places

if TYPE_CHECKING:
    import ssl

    import httpx

    Connection: TypeAlias = httpx.AsyncClient | httpx.AsyncBaseTransport

_LIBRARIES: Final = ("httpx", "httpx2")
# Above 32 connections at once a shared pool only costs more, since its scan is quadratic; and below
# a ready client's default of 100 its pool never has a queue of its own.
_MAX_CONNECTIONS: Final = 32
_KEEPALIVE_SECONDS: Final = 5.0


@attrs.frozen
class _Idle:
    """A connection of our own that waits for its next request to the same origin."""

    origin: tuple[str, str, int | None]
    connection: "Connection"
    socket: Any


class HttpxTransport:
    """A ``Transport`` on httpx.

    Without ``client`` it makes its own connections: certificates and proxies come from the
    environment, as httpx's users know it. Plain ``http`` to a loopback address never goes through a
    proxy, whatever the environment or ``proxy`` say; a ready client that would do so is refused.

    With a ready ``httpx.AsyncClient`` or ``httpx2.AsyncClient`` that client's transport, proxies and
    certificates are used and its event hooks run, but not its base URL, headers, cookies, auth or
    redirects, and **not its timeout**: ``AsyncClient(timeout=...)`` bounds the whole call. Each
    request then goes out with ``Connection: close``, since nothing else keeps a client from reusing a
    connection. The client must not speak HTTP/2 or repeat by itself, and must pass the ``trace``
    extension on. Whoever made it closes it, and nothing else may use it. Behind a proxy rather use
    ``proxy`` or the environment: httpx's pool keeps the place of every tunnel whose TLS handshake
    failed, until it is full.

    A transport of theirs, such as ``httpx.MockTransport(handler)``, can be passed in place of a client.

    Args:
        client: a ready client of httpx or httpx2, or a transport of theirs. A timeout set on it is
            not used.
        limits: ``max_connections`` bounds the requests at once (32 by default), a quarter of which is
            reserved for requests that must not be repeated; for a ready client it must not exceed that
            client's own. ``max_keepalive_connections`` and
            ``keepalive_expiry`` (seconds) are about connections of our own.
        ssl_context: for connections of our own, instead of httpx's default.
        proxy: URL of a proxy for connections of our own, instead of the environment's.

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
        "_no_proxies",
        "_process",
        "_proxy",
        "_ssl",
        "_trace_is_dropped",
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
        self._client = client
        self._limits = limits
        self._ssl = ssl_context
        self._proxy = proxy
        # A traceback with local variables must not show a proxy's password.
        del client, limits, ssl_context, proxy
        if self._client is not None and (self._ssl is not None or self._proxy is not None):
            msg = "ssl_context and proxy are for connections of our own; set them on the client given"
            raise ConfigurationError(msg)
        most = getattr(self._limits, "max_connections", None)
        if most is not None and (not isinstance(most, int) or most < 1):
            msg = "limits.max_connections must be a whole number from 1 on, or None"
            raise ConfigurationError(msg)
        self._library = None if self._client is None else _library_of(type(self._client))
        self._limiter: Places | None = None
        self._idle: list[_Idle] = []
        self._no_proxies: bool | None = None  # whether none is configured, once that was looked up
        self._event_loop: object = None
        self._process: int | None = None
        self._trace_is_dropped = False  # by the client given, as one exchange has shown
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Send ``request`` once, on a fresh connection if it must not be repeated.

        Raises:
            TransportError: no answer came; ``NOT_SENT`` only if no byte of the request left.

        """
        if problem := self._why_unusable(request):
            raise TransportError(
                problem, outcome=Outcome.NOT_SENT, operation=request.operation, permanent=True
            )
        if self._limiter is None:
            self._event_loop, self._process = current_event_loop(), os.getpid()
            self._limiter = Places(self._limit("max_connections", _MAX_CONNECTIONS))
        exchange = Exchange(request, own=self._client is None)
        attempt = functools.partial(self._attempt, exchange, sys.exception())
        result: Response | Failure | None = None
        with anyio.CancelScope(deadline=request.deadline - exchange.margin):
            await anyio.lowlevel.checkpoint_if_cancelled()
            # On behalf of the exchange, since one task may have several in flight.
            await self._limiter.acquire_on_behalf_of(exchange)
            try:
                # Cancelled by asyncio while it connects, the pool of a ready client loses a place for good.
                result = await (attempt() if self._client is None else in_child_task(attempt))
            finally:
                self._limiter.release_on_behalf_of(exchange)
        if isinstance(result, Response):
            return result
        failure = exchange.out_of_time() if result is None else result
        if exchange.head is not None:  # its status decides
            return attrs.evolve(exchange.head, body_error=failure.text)
        if failure.timed_out:
            raise DeadlineExceededError(failure.text, outcome=failure.outcome, operation=request.operation)
        raise TransportError(
            failure.text,
            outcome=failure.outcome,
            operation=request.operation,
            permanent=failure.permanent,
        )

    async def aclose(self) -> None:
        """Close the idle connections of our own; those in use close when their call ends."""
        self._closed = True
        if self._is_forked():
            return  # they are the parent's
        while self._idle:
            await close_quietly(self._idle.pop().connection)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: it holds connections, and ``proxy`` may hold a password."""
        msg = "an HttpxTransport cannot be copied or pickled: it holds connections; make one per process"
        raise TypeError(msg)

    def _is_forked(self) -> bool:
        return self._process not in (None, os.getpid())

    def _why_unusable(self, request: Request) -> str | None:
        # First of all: asyncio has no running loop in a fork, and trio goes on with the parent's sockets.
        if self._is_forked():
            return "the transport was used before the process forked; make one in each process"
        if math.isnan(request.deadline):
            return "the request's deadline is not a number"
        if self._closed or getattr(self._client, "is_closed", False):
            return "the transport or its client is closed; make a new one"
        if self._limiter is not None and self._event_loop is not current_event_loop():
            return "the transport belongs to another event loop; make one in each"
        return None

    async def _attempt(
        self, exchange: Exchange, handled_by_caller: BaseException | None
    ) -> Response | Failure:
        try:
            return await self._send_on_connection(exchange)
        except Exception as error:  # noqa: BLE001 - the one border to httpx: it also lets out RuntimeError, ssl.SSLError and others
            report = read_error(error, handled_by_caller)
            # Before the pool has a place for it, httpcore has nothing to report.
            self._check_trace(exchange, by_httpcore=report.behind is Behind.HTTPCORE and not report.in_pool)
            return exchange.failure(report)

    def _check_trace(self, exchange: Exchange, *, by_httpcore: bool) -> None:
        if by_httpcore and not exchange.traced and self._client is not None:
            self._trace_is_dropped = True

    async def _send_on_connection(self, exchange: Exchange) -> Response:
        request = exchange.request
        own = self._client is None
        keep_alive = own and request.repeatable
        if self._trace_is_dropped and not request.repeatable:
            msg = "the client given drops the 'trace' extension, so nobody can tell what it sends; pass it on"
            raise ConfigurationError(msg)
        library = self._library or importlib.import_module("httpx")
        url = _parsed_url(library, request.url)
        connection: Any = self._own_connection(exchange, url, keep_alive=keep_alive) if own else self._client
        whole = False
        try:
            prepared = exchange.prepare(library, url, keep_alive=keep_alive)
            if hasattr(connection, "handle_async_request"):
                response = await connection.handle_async_request(prepared)
            else:
                response = await connection.send(prepared, stream=True, auth=None, follow_redirects=False)
            self._check_trace(exchange, by_httpcore=is_of_httpcore(response.extensions.get("network_stream")))
            try:
                answer = await exchange.read(response)
            finally:
                if not response.is_closed:
                    await close_quietly(response)
            whole = answer.body_error is None
        finally:
            if not whole:
                await exchange.close_socket()
            if own:
                idle = _Idle(_origin(url), connection, exchange.socket)
                await self._put_back(idle, reusable=whole and keep_alive)
        return answer

    def _own_connection(self, exchange: Exchange, url: "httpx.URL", *, keep_alive: bool) -> "Connection":
        if keep_alive:
            for place in reversed(range(len(self._idle))):
                # One for another origin may go through a proxy, or past the proxy this one needs.
                if self._idle[place].origin == _origin(url):
                    idle = self._idle.pop(place)
                    exchange.socket = idle.socket
                    return idle.connection
        import httpx  # noqa: PLC0415 - not before it is needed

        context = self._ssl or _shared_ssl_context(*map(os.environ.get, _CA_VARIABLES))
        expiry = self._limit("keepalive_expiry", _KEEPALIVE_SECONDS)
        limits = httpx.Limits(max_connections=1, keepalive_expiry=expiry)
        if self._no_proxies is None:
            import urllib.request  # noqa: PLC0415 - it brings ssl and email, which few processes need

            self._no_proxies = self._proxy is None and not urllib.request.getproxies()
        if self._no_proxies or is_plain_loopback(url):
            return httpx.AsyncHTTPTransport(verify=context, limits=limits)
        # Which proxy the environment means for an address is for httpx to say, as its users know it.
        return httpx.AsyncClient(verify=context, proxy=self._proxy, limits=limits)

    async def _put_back(self, idle: _Idle, *, reusable: bool) -> None:
        room = self._limit("max_keepalive_connections", _MAX_CONNECTIONS)
        if reusable and not self._closed and len(self._idle) < room:
            self._idle.append(idle)
        else:
            await close_quietly(idle.connection)

    def _limit(self, name: str, default: float) -> float:
        limit = getattr(self._limits, name, None)
        return default if limit is None else limit


def _origin(url: "httpx.URL") -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def load_libraries() -> None:
    """Do at once what would be done while the first request is sent: imports and the TLS context.

    In a process that forks in the middle of either, the child would wait for a lock for ever.
    """
    importlib.import_module("httpcore")  # httpx itself imports it for its first transport
    with contextlib.suppress(Exception):  # a call says what is wrong with the certificates
        _shared_ssl_context(*map(os.environ.get, _CA_VARIABLES))


def _library_of(client_class: type) -> ModuleType:
    for cls in client_class.__mro__:
        root = cls.__module__.partition(".")[0]
        if root in _LIBRARIES and cls.__name__ in {"AsyncClient", "AsyncBaseTransport"}:
            return importlib.import_module(root)
    msg = "client must be an AsyncClient of httpx or httpx2, or a transport of theirs"
    raise ConfigurationError(msg)


@functools.lru_cache(maxsize=8)  # a client calls three addresses
def _parsed_url(library: ModuleType, url: str) -> Any:  # noqa: ANN401 - a URL of either library
    return library.URL(url)


_CA_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@functools.lru_cache(maxsize=4)
def _shared_ssl_context(_file: str | None, _directory: str | None) -> "ssl.SSLContext":
    """Make httpx's default context once for each CA setting: it costs 13 ms and 0.7 MB a time."""
    import httpx  # noqa: PLC0415 - not before it is needed

    return httpx.create_ssl_context()
