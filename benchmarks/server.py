"""A server that answers every request alike, as fast as asyncio can: ``python -m benchmarks.server``."""

import asyncio
import json
import ssl
import sys
from typing import Final

from .fake_socket import CREATED

_BODY: Final = json.dumps(CREATED | {"loan": CREATED["inv_id"]}).encode()
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(_BODY)
_KEPT: Final = _HEAD + b"\r\n" + _BODY
_CLOSED: Final = _HEAD + b"Connection: close\r\n\r\n" + _BODY


class Answering(asyncio.Protocol):
    """Reads whole requests with a ``Content-Length``, one after another."""

    delay = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        head = head.lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        asyncio.get_running_loop().call_later(self.delay, self.answer, b"connection: close" in head)

    def answer(self, last: bool) -> None:  # noqa: FBT001 - call_later passes by position
        self.transport.write(_CLOSED if last else _KEPT)
        if last:
            self.transport.close()


async def main(delay: float, certificate: str | None) -> None:
    Answering.delay = delay
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0, ssl=context, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
