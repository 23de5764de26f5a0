"""A network that answers every request at once, below httpcore and h11."""

import functools
import importlib
import json
import ssl
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, Final

import anyio
import httpcore
import httpx

INV_ID: Final = "df0c3186b69be8aad35ff837a841d347"
CREATED: Final = {
    "inv_id": INV_ID,
    "href": f"https://partner.sandbox.wegetfinancing.com/lc/{INV_ID}",
    "amount": "499.00",
}
CREATED_BODY: Final = json.dumps(CREATED).encode()
ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: fake\r\n"
    b"Date: Thu, 15 Jan 2026 12:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s" % (len(CREATED_BODY), CREATED_BODY)
)


@functools.cache
def fake_network(httpcore: ModuleType) -> type[Any]:
    """Make the class of a network of httpcore or httpcore2 whose server answers at once, and only then."""

    class Socket(httpcore.AsyncNetworkStream):  # type: ignore[misc,name-defined] # either library
        asked = False

        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            if not self.asked:
                await anyio.sleep_forever()
            self.asked = False
            return ANSWER

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            self.asked = True

        async def aclose(self) -> None:
            pass

        async def start_tls(
            self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
        ) -> "Socket":
            return self

        def get_extra_info(self, info: str) -> Any:
            return None

    class Network(httpcore.AsyncNetworkBackend):  # type: ignore[misc,name-defined] # either library
        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> Socket:
            return Socket()

    return Network


@functools.cache
def fake_network_transport(library: ModuleType) -> type[Any]:
    """Make the class of an httpx or httpx2 transport on httpcore's pool and the fake network."""
    httpcore: Any = importlib.import_module({"httpx": "httpcore", "httpx2": "httpcore2"}[library.__name__])

    class Stream(library.AsyncByteStream):  # type: ignore[misc,name-defined] # either library
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        async def __aiter__(self) -> Any:
            async for part in self.stream:
                yield part

        async def aclose(self) -> None:
            await self.stream.aclose()

    class Transport(library.AsyncBaseTransport):  # type: ignore[misc,name-defined] # either library
        """As ``AsyncHTTPTransport``, which takes no network of one's own."""

        def __init__(self, context: ssl.SSLContext | None = None) -> None:
            # Without a context httpcore loads the certificates anew for each connection.
            context = context or ssl.create_default_context()
            self.pool = httpcore.AsyncConnectionPool(
                ssl_context=context, network_backend=fake_network(httpcore)()
            )

        async def handle_async_request(self, request: Any) -> Any:
            url = httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            )
            answer = await self.pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
            return library.Response(
                status_code=answer.status,
                headers=answer.headers,
                stream=Stream(answer.stream),
                extensions=answer.extensions,
            )

    return Transport


class _Socket(httpcore.NetworkStream):
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return ANSWER

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass

    def close(self) -> None:
        pass

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return None


class _Network(httpcore.NetworkBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return _Socket()


class _Stream(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self.stream

    def close(self) -> None:
        self.stream.close()


class FakeBlockingTransport(httpx.BaseTransport):
    """The same for ``httpx.Client``."""

    def __init__(self) -> None:
        context = ssl.create_default_context()
        self.pool = httpcore.ConnectionPool(ssl_context=context, network_backend=_Network())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        answer = self.pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=url,
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Stream(answer.stream),
            extensions=answer.extensions,
        )
