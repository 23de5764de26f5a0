"""A TCP server that does what a web server cannot: close early, stay silent, answer in pieces."""

import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import anyio
import attrs
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream


@attrs.define
class Connection:
    """One accepted connection, and what has been read from it."""

    stream: ByteStream
    server: "RawServer"
    buffer: bytes = b""

    async def read_request(self) -> bytes:
        """Read one whole HTTP request and record it."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self.buffer += await self.stream.receive()
        length = re.search(rb"content-length: *([0-9]+)", self.buffer[:end].lower())
        size = end + 4 + (int(length[1]) if length else 0)
        while len(self.buffer) < size:
            self.buffer += await self.stream.receive()
        request, self.buffer = self.buffer[:size], self.buffer[size:]
        self.server.requests.append(request)
        return request

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def answer(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        """Read a request and answer it well."""
        await self.read_request()
        await self.send(http_answer(body, status, headers))

    async def reset(self) -> None:
        """Close with RST in place of FIN."""
        raw = self.stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)
Behaviour: TypeAlias = Callable[[Connection], Awaitable[None]]


@attrs.define
class RawServer:
    """What arrived."""

    port: int
    scheme: str
    connections: int = 0
    requests: list[bytes] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


def http_answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode("latin-1") + body


@contextlib.asynccontextmanager
async def raw_server(*behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Serve on a free loopback port: a behaviour for each connection, the last for all further ones."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    server = RawServer(port=port, scheme="https" if tls else "http")

    async def handle(stream: ByteStream) -> None:
        behaviour = behaviours[min(server.connections, len(behaviours) - 1)]
        server.connections += 1
        with contextlib.suppress(*GONE):
            async with stream:
                if tls is not None:
                    stream = await TLSStream.wrap(
                        stream, server_side=True, ssl_context=tls, standard_compatible=False
                    )
                await behaviour(Connection(stream, server))

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield server
        tasks.cancel_scope.cancel()
