"""A tiny HTTP/1.1 server on a loopback port that can also misbehave, and records what arrived."""

import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

import anyio
import attrs
from anyio import TypedAttributeProvider
from anyio.abc import ByteStream, SocketAttribute

_GONE: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
_LENGTH: Final = re.compile(r"content-length: *([0-9]+)")
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds


@attrs.frozen
class ReceivedRequest:
    """A request that arrived whole.

    Attributes:
        connection: the number of the connection it came on.
        start_line: as it came.
        headers: a text ``name: value`` for each line as it was received, the name in lower case.
        body: as many bytes as ``Content-Length`` says.

    """

    connection: int
    start_line: str
    headers: list[str]
    body: bytes


@attrs.define
class Connection:
    """One accepted connection.

    Attributes:
        number: from 0 on.
        gone: set once it is closed.
        left_by_client: whether the client was seen to close it.

    """

    number: int
    server: "LoopbackServer"
    _stream: ByteStream
    gone: anyio.Event = attrs.field(factory=anyio.Event)
    left_by_client: bool = False
    _buffer: bytes = b""

    async def _receive(self) -> bytes:
        try:
            return await self._stream.receive()
        except _GONE:
            self.left_by_client = True  # such as one that was opened ahead for the next call
            raise

    async def read(self) -> ReceivedRequest:
        """Read one whole request and record it."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._buffer += await self._receive()
        start_line, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = [f"{name.lower()}: {value.strip()}" for name, _, value in pairs]
        length = next((int(found[1]) for each in headers if (found := _LENGTH.fullmatch(each))), 0)
        size = end + 4 + length
        while len(self._buffer) < size:
            self._buffer += await self._receive()
        received = ReceivedRequest(self.number, start_line, headers, self._buffer[end + 4 : size])
        self._buffer = self._buffer[size:]
        self.server.requests.append(received)
        return received

    async def send(self, data: bytes) -> None:
        """Send bytes unchanged."""
        await self._stream.send(data)

    async def answer(self, body: bytes = b"{}", status: str = "200 OK", *headers: str) -> None:
        """Send a well-formed answer."""
        lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        await self.send(head.encode("latin-1") + body)

    async def until_left(self) -> None:
        """Stay silent until the client closes the connection, or patience ends."""
        with anyio.move_on_after(self.server.patience):
            try:
                while True:
                    await self._stream.receive()
            except _GONE:
                self.left_by_client = True

    def reset_on_close(self) -> None:
        """Let the connection end with a reset."""
        raw = self._stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


Behaviour: TypeAlias = Callable[[Connection], Awaitable[None]]
"""What the server does with a connection; it is closed afterwards."""


@attrs.define
class LoopbackServer:
    """What has happened so far.

    Attributes:
        url: where it listens.
        patience: seconds it waits for a client that should close its connection.
        connections: every one that was accepted.
        requests: every one that arrived whole.

    """

    url: str
    patience: float
    connections: list[Connection] = attrs.field(factory=list)
    requests: list[ReceivedRequest] = attrs.field(factory=list)

    async def is_left(self) -> bool:
        """Wait until every connection is closed, or patience ends; say whether all are."""
        with anyio.move_on_after(self.patience):
            for connection in self.connections:
                await connection.gone.wait()
        return all(connection.gone.is_set() for connection in self.connections)


@contextlib.asynccontextmanager
async def loopback_server(behaviour: Behaviour, patience: float) -> AsyncIterator[LoopbackServer]:
    """Serve on a free loopback port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    server = LoopbackServer(_url_of(listener), patience)

    async def handle(stream: ByteStream) -> None:
        connection = Connection(len(server.connections), server, stream)
        server.connections.append(connection)
        try:
            with contextlib.suppress(*_GONE):
                async with stream:
                    await behaviour(connection)
        finally:
            connection.gone.set()

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield server
        tasks.cancel_scope.cancel()


async def unused_url() -> str:
    """Name a loopback address where nobody listens."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        return _url_of(listener)


def _url_of(listener: TypedAttributeProvider) -> str:
    return f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"  # noqa: S610 - anyio's, not Django's
