"""A connection of our own that goes through no proxy, on the public parts of httpcore.

It is ``httpcore.AsyncHTTPConnection`` rather than ``AsyncHTTP11Connection`` on a stream: that class opens,
traces and names failures as it does under httpx, whether the stream is new or was opened ahead and is handed
out only, and stand-ins for httpcore such as respx replace it.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Self, cast

import attrs
import sniffio

from .name_lookups import lookups_of_this_process

if TYPE_CHECKING:
    import ssl

    import httpcore

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@attrs.frozen
class Origin:
    """Where a connection leads."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: Any) -> Self:  # noqa: ANN401 - a URL of httpx or httpx2
        """Read it off a URL."""
        host = url.raw_host.decode("ascii")
        return cls(url.scheme, host, url.port or _DEFAULT_PORTS[url.scheme])


def default_network() -> "httpcore.AsyncNetworkBackend":
    """Return the network that httpcore itself would choose in this event loop, with lookups of our own."""
    import httpcore  # noqa: PLC0415 - not before it is needed

    from .resolving_network import ResolvingNetwork  # noqa: PLC0415 - it imports httpcore

    backends: Any = httpcore  # it has a stand-in for a backend whose library is missing, which has no type
    in_trio = sniffio.current_async_library() == "trio"
    network: httpcore.AsyncNetworkBackend = backends.TrioBackend() if in_trio else backends.AnyIOBackend()
    return ResolvingNetwork(network, lookups_of_this_process().find)


async def start_tls(
    stream: "httpcore.AsyncNetworkStream", origin: Origin, context: "ssl.SSLContext"
) -> "httpcore.AsyncNetworkStream":
    """Do the handshake if the address is one of https, as httpcore's own connection does it."""
    if origin.scheme != "https":
        return stream
    context.set_alpn_protocols(["http/1.1"])
    return await stream.start_tls(context, server_hostname=origin.host)


@attrs.frozen
class _RawHeaders:
    raw: "list[tuple[bytes, bytes]]"


class _Answer:
    """What ``Exchange`` reads of an answer of httpx, on one of httpcore."""

    __slots__ = ("_answer", "extensions", "headers", "is_closed", "status_code")
    is_stream_consumed = False

    def __init__(self, answer: "httpcore.Response") -> None:
        self._answer = answer
        self.status_code = answer.status
        self.headers = _RawHeaders(answer.headers)
        self.extensions = answer.extensions
        self.is_closed = False

    def aiter_raw(self) -> AsyncIterator[bytes]:
        return aiter(cast("AsyncIterable[bytes]", self._answer.stream))

    async def aclose(self) -> None:
        self.is_closed = True
        await self._answer.aclose()


@attrs.frozen
class _HandedOver:
    """A raw stream whose handshake was done ahead."""

    stream: "httpcore.AsyncNetworkStream"

    async def start_tls(self, *_: object, **__: object) -> "httpcore.AsyncNetworkStream":
        return self.stream

    async def aclose(self) -> None:
        await self.stream.aclose()


@attrs.frozen
class HandOver:
    """A network backend of httpcore that hands out a stream opened ahead, once."""

    _streams: "list[httpcore.AsyncNetworkStream]"
    _is_tls: bool

    async def connect_tcp(self, *_: object, **__: object) -> Any:  # noqa: ANN401 - a stream, or the one thing of it that is used
        """Return the stream, as if it had just been opened."""
        stream = self._streams.pop()
        return _HandedOver(stream) if self._is_tls else stream


class DirectConnection:
    """A connection of our own that goes through no proxy: one of httpcore, without a pool.

    ``httpx.AsyncHTTPTransport`` accepts no network, so a stream that was opened ahead cannot be put under it.
    """

    __slots__ = ("_connection",)

    def __init__(
        self,
        origin: Origin,
        context: "ssl.SSLContext",
        network: Any,  # noqa: ANN401 - HandOver has the one method used
        keepalive_expiry: float | None = None,
    ) -> None:
        """Open nothing yet."""
        import httpcore  # noqa: PLC0415 - not before it is needed

        self._connection = httpcore.AsyncHTTPConnection(
            httpcore.Origin(origin.scheme.encode("ascii"), origin.host.encode("ascii"), origin.port),
            ssl_context=context,
            keepalive_expiry=keepalive_expiry,
            network_backend=network,
        )

    @property
    def is_reusable(self) -> bool:
        """Whether it waits for another request, as far as can be seen."""
        return self._connection.is_available() and not self._connection.has_expired()

    async def send(self, request: "httpcore.Request") -> Any:  # noqa: ANN401 - what Exchange reads of an answer of httpx
        """Send a request of httpcore and return the answer, whose body is not read yet."""
        return _Answer(await self._connection.handle_async_request(request))

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        await self._connection.aclose()
