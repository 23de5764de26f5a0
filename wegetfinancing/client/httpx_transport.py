"""The transport on httpx: what was sent is known, not guessed, and nothing leaks.

Its rules, each with the reason:

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
from typing import TYPE_CHECKING, Any, Final, NoReturn

import anyio
import anyio.lowlevel
import attrs

from .._tracebacks import clears_locals
from ..errors import ConfigurationError, DeadlineExceededError, Outcome, TransportError
from ..http import Request, Response
from .direct_connection import DirectConnection, Origin
from .event_loop import beside, current_event_loop, in_child_task
from .httpx_connections import HttpxConnections, Idle, parsed_url
from .httpx_errors import Behind, Failure, is_of_httpcore, read_error
from .httpx_exchange import Exchange, close_quietly
from .places import Places
from .ready_connections import OPEN_AHEAD_FROM, READY_CONNECTIONS, READY_SECONDS, ReadyConnections

if TYPE_CHECKING:
    import ssl

    import httpcore
    import httpx

_LIBRARIES: Final = ("httpx", "httpx2")


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
    if the last one took at least ``open_ahead_from`` seconds to open; where an answer comes before that is
    done, TCP for the next but one and TLS for the next. ``preconnect`` opens one ahead of the first. Such a
    connection has carried no request, and is inspected before it is used. None is opened ahead through a
    proxy or for a ready client.

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
        network_backend: opens the connections of our own that go through no proxy. By default httpcore's
            backend for the running event loop does, with names looked up in at most 32 threads of our own,
            so that a name server that does not answer holds up nothing else.

    Raises:
        ConfigurationError: ``client`` is of another kind, or comes with ``ssl_context``, ``proxy`` or
            ``network_backend``; or a number cannot be right.

    """

    __slots__ = (
        "_client",
        "_closed",
        "_connections",
        "_event_loop",
        "_library",
        "_limiter",
        "_process",
        "_trace_is_dropped",
    )

    @clears_locals  # a proxy's URL may hold a password
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
        self._connections = HttpxConnections(
            limits=limits,
            ssl_context=ssl_context,
            proxy=proxy,
            network=network_backend,
            ready=ReadyConnections(
                count=ready_connections, seconds=ready_seconds, open_ahead_from=open_ahead_from
            ),
        )
        if client is not None and any(each is not None for each in (ssl_context, proxy, network_backend)):
            msg = (
                "ssl_context, proxy and network_backend are for connections of our own; "
                "set them on the client given"
            )
            raise ConfigurationError(msg)
        self._library = None if client is None else _library_of(type(client))
        self._library = None if self._client is None else _library_of(type(self._client))
        self._limiter: Places | None = None
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
                elif request.repeatable or not self._connections.ready.is_worthwhile:
                    result = await attempt()
                else:
                    result = await beside(attempt, exchange.when_it_waits)
            finally:
                limiter.release_on_behalf_of(exchange)
                self._connections.note(exchange)
                if not isinstance(result, Response):  # such a call leaves nothing open
                    await self._connections.ready.discard(exchange.opened_ahead)
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
            await self._connections.open_ahead(parsed_url(library, url))

    async def aclose(self) -> None:
        """Close the idle connections of our own; those in use close when their call ends."""
        self._closed = True
        if self._is_forked():
            return  # they are the parent's
        await self._connections.aclose()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: it holds connections, and ``proxy`` may hold a password."""
        msg = "an HttpxTransport cannot be copied or pickled: it holds connections; make one per process"
        raise TypeError(msg)

    def _is_forked(self) -> bool:
        return self._process not in (None, os.getpid())

    def _enter(self) -> Places:
        if self._limiter is None:
            self._event_loop, self._process = current_event_loop(), os.getpid()
            self._limiter = Places(self._connections.at_once)
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
        url = parsed_url(self._library or importlib.import_module("httpx"), request.url)
        origin = Origin.of(url)
        connection: Any = self._client
        whole = False
        try:
            if own:
                connection = await self._connections.get(exchange, url, origin, keep_alive=keep_alive)
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
                idle = Idle(origin, connection, exchange.socket)
                await self._connections.put_back(idle, reusable=whole and keep_alive)
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


def _library_of(client_class: type) -> ModuleType:
    for cls in client_class.__mro__:
        root = cls.__module__.partition(".")[0]
        if root in _LIBRARIES and cls.__name__ in {"AsyncClient", "AsyncBaseTransport"}:
            return importlib.import_module(root)
    msg = "client must be an AsyncClient of httpx or httpx2, or a transport of theirs"
    raise ConfigurationError(msg)
