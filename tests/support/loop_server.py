"""A server in the event loop of the test, for what depends on the order of its turns.

A connection that opens beside an answer is open when ``wait_all_tasks_blocked`` returns. The threads of
``fault_server.py``, which misbehaves in every other test, answer at any moment.
"""

import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import anyio
import attrs
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)


@attrs.define
class Connection:
    """One accepted connection."""

    stream: ByteStream
    buffer: bytes = b""

    async def read_request(self) -> None:
        """Read one whole HTTP request."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self.buffer += await self.stream.receive()
        length = re.search(rb"content-length: *([0-9]+)", self.buffer[:end].lower())
        size = end + 4 + (int(length[1]) if length else 0)
        while len(self.buffer) < size:
            self.buffer += await self.stream.receive()
        self.buffer = self.buffer[size:]

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)


Behaviour: TypeAlias = Callable[[Connection], Awaitable[None]]


@contextlib.asynccontextmanager
async def loop_server(behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve on a free loopback port, and give the URL."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def handle(stream: ByteStream) -> None:
        with contextlib.suppress(*GONE):
            async with stream:
                if tls is not None:
                    stream = await TLSStream.wrap(
                        stream, server_side=True, ssl_context=tls, standard_compatible=False
                    )
                await behaviour(Connection(stream))

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()
