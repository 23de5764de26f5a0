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
- A request that must not be repeated gets a connection that has carried no other: a kept-alive one may be
  closed by the server just as we write, and bytes left over from an earlier answer would be read as this
  one's. So that its customer does not wait for a handshake, the next such connection is opened ahead.
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
from .direct_connection import DirectConnection, HandOver, Origin, default_network
from .event_loop import beside, current_event_loop, in_child_task
from .httpx_errors import Behind, Failure, is_of_httpcore, read_error
from .httpx_exchange import Exchange, close_quietly, is_plain_loopback
from .places import Places
from .ready_connections import (
    OPEN_AHEAD_FROM,
    READY_CONNECTIONS,
    READY_SECONDS,
    ReadyConnections,
    is_untouched,
)

if TYPE_CHECKING:
    import ssl

    import httpcore
    import httpx

    Connection: TypeAlias = httpx.AsyncClient | DirectConnection

_LIBRARIES: Final = ("httpx", "httpx2")
# Above 32 connections at once a shared pool only costs more, since its scan is quadratic; and below
# a ready client's default of 100 its pool never has a queue of its own.
_MAX_CONNECTIONS: Final = 32
_KEEPALIVE_SECONDS: Final = 5.0


@attrs.frozen
class _Idle:
    """A connection of our own that waits for its next request to the same origin."""

    origin: Origin
    connection: "Connection"
    socket: Any

    @property
    def is_reusable(self) -> bool:
        # A client of httpx looks at its connection by itself.
        return not isinstance(self.connection, DirectConnection) or self.connection.is_reusable


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

    While a request that must not be repeated waits for its answer, the connection for the next one is opened,
    if the last one took at least ``open_ahead_from`` seconds to open; ``preconnect`` does that ahead of the
    first. Such a connection has carried no request, and is inspected
    before it is used. None is opened ahead through a proxy or for a ready client.

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
        ready_connections: how many connections opened ahead may wait at once; 0 for none. Two serve two
            buyers at a time.
        ready_seconds: how long one may wait. Servers end a connection on which no request comes, many after
            20 or 60 seconds, and a create that is written just then ends as ``UNKNOWN``.
        open_ahead_from: seconds that the last connection must have taken to open, TLS included, for the next
            one to be opened while a request waits; 0 for always. Below 5 ms nobody notices, and opening
            one ahead costs more CPU than it saves time.
        network_backend: opens the connections of our own that go through no proxy, instead of httpcore's
            backend for the running event loop.

    Raises:
        ConfigurationError: ``client`` is of another kind, or comes with ``ssl_context``, ``proxy`` or
            ``network_backend``; or a number cannot be right.

    """

    __slots__ = (
        "_client",
        "_closed",
        "_event_loop",
        "_idle",
        "_library",
        "_limiter",
        "_limits",
        "_network",
        "_no_proxies",
        "_process",
        "_proxy",
        "_ready",
        "_ssl",
        "_trace_is_dropped",
    )

    def __init__(  # noqa: PLR0913 - keyword-only settings
        self,
        client: "httpx.AsyncClient | Any | None" = None,  # noqa: ANN401 - httpx2 need not be installed
        *,
        limits: "httpx.Limits | None" = None,
        ssl_context: "ssl.SSLContext | None" = None,
        proxy: str | None = None,
        ready_connections: int = READY_CONNECTIONS,
        ready_seconds: float = READY_SECONDS,
        open_ahead_from: float = OPEN_AHEAD_FROM,
        network_backend: "httpcore.AsyncNetworkBackend | None" = None,
    ) -> None:
        """Open nothing yet."""
        self._client = client
        self._limits = limits
        self._ssl = ssl_context
        self._proxy = proxy
        self._network = network_backend
        # A traceback with local variables must not show a proxy's password.
        del client, limits, ssl_context, proxy
        of_our_own = any(each is not None for each in (self._ssl, self._proxy, self._network))
        if self._client is not None and of_our_own:
            msg = (
                "ssl_context, proxy and network_backend are for connections of our own; "
                "set them on the client given"
            )
            raise ConfigurationError(msg)
        self._ready = ReadyConnections(
            count=ready_connections, seconds=ready_seconds, open_ahead_from=open_ahead_from
        )
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
        if problem := self._why_unusable(request.deadline):
            raise TransportError(
                problem, outcome=Outcome.NOT_SENT, operation=request.operation, permanent=True
            )
        limiter = self._enter()
        exchange = Exchange(request, own=self._client is None)
        attempt = functools.partial(self._attempt, exchange, sys.exception())
        result: Response | Failure | None = None
        with anyio.CancelScope(deadline=request.deadline - exchange.margin):
            # On behalf of the exchange, since one task may have several in flight.
            await limiter.acquire_on_behalf_of(exchange)
            try:
                if self._client is not None:
                    # Cancelled by asyncio while it connects, the pool of a ready client loses a place for
                    # good.
                    result = await in_child_task(attempt)
                elif request.repeatable or not self._ready.is_worthwhile:
                    result = await attempt()
                else:
                    result = await beside(attempt, exchange.when_it_waits)
            finally:
                limiter.release_on_behalf_of(exchange)
                if exchange.opening_seconds is not None:
                    self._ready.note_opening(exchange.opening_seconds)
                if not isinstance(result, Response):  # such a call leaves nothing open
                    await self._ready.discard(exchange.opened_ahead)
        if isinstance(result, Response):
            return result
        failure = exchange.out_of_time() if result is None else result
        if (head := exchange.head) is not None:  # its status decides
            return attrs.evolve(head, body_error=failure.text)
        if failure.timed_out:
            raise DeadlineExceededError(failure.text, outcome=failure.outcome, operation=request.operation)
        raise TransportError(
            failure.text,
            outcome=failure.outcome,
            operation=request.operation,
            permanent=failure.permanent,
        )

    async def preconnect(self, url: str, *, deadline: float = math.inf) -> None:
        """Open the connection that the next request to ``url`` will use, if it must not be repeated.

        It does nothing if enough are ready, for a ready client, and through a proxy. A failure is not
        raised: the request opens a connection itself, and says what is wrong.

        Args:
            url: only its scheme, host and port matter.
            deadline: when to give up, on the event loop's clock.

        """
        if self._client is not None or self._why_unusable(deadline):
            return
        self._enter()
        with anyio.CancelScope(deadline=deadline), contextlib.suppress(Exception):
            library = importlib.import_module("httpx")
            await self._open_ahead(_parsed_url(library, url))

    async def _open_ahead(self, url: "httpx.URL", exchange: Exchange | None = None) -> None:
        if self._is_direct(url):
            opened = await self._ready.open(self._own_network(), Origin.of(url), self._ssl_context())
            if exchange is not None:
                exchange.opened_ahead = opened

    async def aclose(self) -> None:
        """Close the idle connections of our own; those in use close when their call ends."""
        self._closed = True
        if self._is_forked():
            return  # they are the parent's
        await self._ready.aclose()
        while self._idle:
            await close_quietly(self._idle.pop().connection)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: it holds connections, and ``proxy`` may hold a password."""
        msg = "an HttpxTransport cannot be copied or pickled: it holds connections; make one per process"
        raise TypeError(msg)

    def _is_forked(self) -> bool:
        return self._process not in (None, os.getpid())

    def _enter(self) -> Places:
        if self._limiter is None:
            self._event_loop, self._process = current_event_loop(), os.getpid()
            self._limiter = Places(self._limit("max_connections", _MAX_CONNECTIONS))
        return self._limiter

    def _why_unusable(self, deadline: float) -> str | None:
        # First of all: asyncio has no running loop in a fork, and trio goes on with the parent's sockets.
        if self._is_forked():
            return "the transport was used before the process forked; make one in each process"
        if math.isnan(deadline):
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
        url = _parsed_url(self._library or importlib.import_module("httpx"), request.url)
        origin = Origin.of(url)
        connection: Any = self._client
        whole = False
        try:
            if own:
                connection = await self._own_connection(exchange, url, origin, keep_alive=keep_alive)
            response = await self._hand_over(exchange, connection, url, keep_alive=keep_alive)
            self._check_trace(exchange, by_httpcore=is_of_httpcore(response.extensions.get("network_stream")))
            try:
                answer = await exchange.read(response)
            finally:
                # A connection that is not kept is closed below, and what is left of its answer with it.
                if not response.is_closed and (keep_alive or not isinstance(connection, DirectConnection)):
                    await close_quietly(response)
            whole = answer.body_error is None
        finally:
            if not whole:
                await exchange.close_socket()
            if own and connection is not None:
                idle = _Idle(origin, connection, exchange.socket)
                await self._put_back(idle, reusable=whole and keep_alive)
        return answer

    async def _hand_over(self, exchange: Exchange, connection: Any, url: Any, *, keep_alive: bool) -> Any:  # noqa: ANN401 - types of either library
        if isinstance(connection, DirectConnection):
            library = importlib.import_module("httpcore")
            return await connection.send(exchange.prepare_direct(library, url, keep_alive=keep_alive))
        library = self._library or importlib.import_module("httpx")
        prepared = exchange.prepare(library, url, keep_alive=keep_alive)
        if hasattr(connection, "handle_async_request"):
            return await connection.handle_async_request(prepared)
        return await connection.send(prepared, stream=True, auth=None, follow_redirects=False)

    async def _own_connection(
        self, exchange: Exchange, url: "httpx.URL", origin: Origin, *, keep_alive: bool
    ) -> "Connection":
        if keep_alive and (idle := await self._pop_idle(origin)):
            exchange.socket = idle.socket
            return idle.connection
        context = self._ssl_context()
        expiry = self._limit("keepalive_expiry", _KEEPALIVE_SECONDS)
        if not self._is_direct(url):
            import httpx  # noqa: PLC0415 - not before it is needed

            # Which proxy the environment means for an address is for httpx to say, as its users know it.
            limits = httpx.Limits(max_connections=1, keepalive_expiry=expiry)
            return httpx.AsyncClient(verify=context, proxy=self._proxy, limits=limits)
        network: Any = self._own_network()
        if not keep_alive:
            exchange.when_it_waits.do = functools.partial(self._open_ahead, url, exchange)
            if stream := await self._pop_ready(exchange, origin):
                network = HandOver([stream], origin.scheme == "https")
        return DirectConnection(origin, context, network, expiry)

    async def _pop_ready(self, exchange: Exchange, origin: Origin) -> "httpcore.AsyncNetworkStream | None":
        while stream := self._ready.pop(origin):
            exchange.socket = stream  # closed with the exchange, whatever happens from here on
            if await is_untouched(stream):
                return stream
            await exchange.close_socket()
        return None

    async def _pop_idle(self, origin: Origin) -> _Idle | None:
        # One for another origin may go through a proxy, or past the proxy this one needs.
        for place in reversed(range(len(self._idle))):
            if self._idle[place].origin == origin:
                idle = self._idle.pop(place)
                if idle.is_reusable:
                    return idle
                await close_quietly(idle.connection)
        return None

    def _is_direct(self, url: "httpx.URL") -> bool:
        """Tell whether the way there certainly leads through no proxy."""
        if self._no_proxies is None:
            import urllib.request  # noqa: PLC0415 - it brings ssl and email, which few processes need

            self._no_proxies = self._proxy is None and not urllib.request.getproxies()
        return self._no_proxies or is_plain_loopback(url)

    def _own_network(self) -> "httpcore.AsyncNetworkBackend":
        if self._network is None:
            self._network = default_network()
        return self._network

    def _ssl_context(self) -> "ssl.SSLContext":
        return self._ssl or _shared_ssl_context(*map(os.environ.get, _CA_VARIABLES))

    async def _put_back(self, idle: _Idle, *, reusable: bool) -> None:
        room = self._limit("max_keepalive_connections", _MAX_CONNECTIONS)
        if reusable and not self._closed and len(self._idle) < room:
            self._idle.append(idle)
        else:
            await close_quietly(idle.connection)

    def _limit(self, name: str, default: float) -> float:
        limit = getattr(self._limits, name, None)
        return default if limit is None else limit


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
