"""Connections of our own on httpx and httpcore: kept alive, opened ahead or new, and through which proxy."""

import contextlib
import functools
import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from ..errors import ConfigurationError
from .direct_connection import DirectConnection, HandOver, Origin, default_network
from .httpx_exchange import Exchange, close_quietly, is_plain_loopback
from .ready_connections import ReadyConnections, is_untouched

if TYPE_CHECKING:
    import ssl

    import httpcore
    import httpx

    Connection: TypeAlias = httpx.AsyncClient | DirectConnection

# Above 32 connections at once a shared pool only costs more, since its scan is quadratic; and below
# a ready client's default of 100 its pool never has a queue of its own.
_MAX_CONNECTIONS: Final = 32
_KEEPALIVE_SECONDS: Final = 5.0


@attrs.frozen
class Idle:
    """A connection of our own that waits for its next request to the same origin."""

    origin: Origin
    connection: "Connection"
    socket: Any

    @property
    def is_reusable(self) -> bool:
        """Whether it still waits, as far as can be seen."""
        # A client of httpx looks at its connection by itself.
        return not isinstance(self.connection, DirectConnection) or self.connection.is_reusable


class HttpxConnections:
    """The connections of one transport that it makes itself.

    Attributes:
        ready: those that were opened ahead.

    """

    __slots__ = ("_closed", "_idle", "_limits", "_network", "_proxies", "_proxy", "_ssl", "ready")

    def __init__(
        self,
        *,
        limits: "httpx.Limits | None",
        ssl_context: "ssl.SSLContext | None",
        proxy: str | None,
        network: "httpcore.AsyncNetworkBackend | None",
        ready: ReadyConnections,
    ) -> None:
        """Open nothing yet.

        Raises:
            ConfigurationError: a limit cannot be right.

        """
        most = getattr(limits, "max_connections", None)
        if most is not None and (not isinstance(most, int) or most < 1):
            msg = "limits.max_connections must be a whole number from 1 on, or None"
            raise ConfigurationError(msg)
        self._limits = limits
        self._ssl = ssl_context
        self._proxy = proxy
        self._network = network
        self.ready: ReadyConnections = ready
        self._idle: list[Idle] = []
        self._proxies: dict[str, str] | None = None  # of the environment, once they were looked up
        self._closed = False

    @property
    def at_once(self) -> float:
        """How many requests there may be at once."""
        return self._limit("max_connections", _MAX_CONNECTIONS)

    async def open_ahead(self, url: "httpx.URL", exchange: Exchange | None = None) -> None:
        """Open a connection that will be ready for another exchange, unless a proxy leads there.

        Args:
            url: where it leads.
            exchange: the one whose answer is waited for meanwhile, if any.

        """
        if not self._is_direct(url):
            return
        if exchange is None:
            await self.ready.open(self._own_network(), Origin.of(url), self._ssl_context(), [])
        else:
            open_beside, opened = self.ready.open_beside, exchange.opened_ahead
            await open_beside(self._own_network(), Origin.of(url), self._ssl_context(), opened)

    def note(self, exchange: Exchange) -> None:
        """Note how long an exchange took that has ended."""
        if exchange.opening_seconds is not None:
            self.ready.note_opening(exchange.opening_seconds)
        if exchange.answer_seconds is not None and not exchange.request.repeatable:
            self.ready.note_answer(exchange.answer_seconds)

    async def aclose(self) -> None:
        """Close what is idle or ready, and keep nothing from now on."""
        self._closed = True
        await self.ready.aclose()
        while self._idle:
            await close_quietly(self._idle.pop().connection)

    async def get(
        self, exchange: Exchange, url: "httpx.URL", origin: Origin, *, keep_alive: bool
    ) -> "Connection":
        """Return a connection for one exchange, a used one only with ``keep_alive``."""
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
            exchange.when_it_waits.do = functools.partial(self.open_ahead, url, exchange)
            if stream := await self._pop_ready(exchange, origin):
                network = HandOver([stream], origin.scheme == "https")
        return DirectConnection(origin, context, network, expiry)

    async def _pop_ready(self, exchange: Exchange, origin: Origin) -> "httpcore.AsyncNetworkStream | None":
        while stream := self.ready.pop(origin):
            exchange.socket = stream  # closed with the exchange, whatever happens from here on
            if await is_untouched(stream):
                return stream
            await exchange.close_socket()
        return None

    async def _pop_idle(self, origin: Origin) -> Idle | None:
        while (place := self._place_of_idle(origin)) is not None:
            idle = self._idle.pop(place)
            if idle.is_reusable:
                return idle
            await close_quietly(idle.connection)  # meanwhile other calls take from the list
        return None

    def _place_of_idle(self, origin: Origin) -> int | None:
        # One for another origin may go through a proxy, or past the proxy this one needs.
        places = reversed(range(len(self._idle)))
        return next((place for place in places if self._idle[place].origin == origin), None)

    def _is_direct(self, url: "httpx.URL") -> bool:
        """Tell whether the way there certainly leads through no proxy."""
        if self._proxy is not None:
            return is_plain_loopback(url)
        if self._proxies is None:
            import urllib.request  # noqa: PLC0415 - it brings ssl and email, which few processes need

            self._proxies = urllib.request.getproxies()
        # It also names NO_PROXY, and whatever else of the environment ends in _PROXY.
        return not any(map(self._proxies.get, (url.scheme, "all"))) or is_plain_loopback(url)

    def _own_network(self) -> "httpcore.AsyncNetworkBackend":
        if self._network is None:
            self._network = default_network()
        return self._network

    def _ssl_context(self) -> "ssl.SSLContext":
        return self._ssl or default_ssl_context()

    async def put_back(self, idle: Idle, *, reusable: bool) -> None:
        """Keep the connection for another request, or close it."""
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
    # It brings httpcore, which httpx itself imports for its first transport.
    importlib.import_module(".resolving_network", __package__)
    with contextlib.suppress(Exception):  # a call says what is wrong with the certificates
        default_ssl_context()


@functools.lru_cache(maxsize=8)  # a client calls three addresses
def parsed_url(library: ModuleType, url: str) -> Any:  # noqa: ANN401 - a URL of either library
    """Return the library's own URL."""
    return library.URL(url)


_CA_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def default_ssl_context() -> "ssl.SSLContext":
    """Return the context that connections of our own use by default."""
    return _shared_ssl_context(*map(os.environ.get, _CA_VARIABLES))


@functools.lru_cache(maxsize=4)
def _shared_ssl_context(_file: str | None, _directory: str | None) -> "ssl.SSLContext":
    """Make httpx's default context once for each CA setting: it costs 13 ms and 0.7 MB a time."""
    import httpx  # noqa: PLC0415 - not before it is needed

    return httpx.create_ssl_context()
