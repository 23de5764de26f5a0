"""A server that misbehaves below what a web server can, and says how far each request came.

It runs in threads on blocking sockets, so it shares nothing with the event loop under test. What it
does on a connection is a function of ``Peer``; ``faults.py`` has those of the matrix, and ``exchanges.py``
some for single tests.
"""

import contextlib
import enum
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Self, TypeAlias

import anyio
import anyio.to_thread
import attrs

# Far above any deadline of a test: it only ends what a broken test would leave behind.
_PATIENCE = 30
_CHUNK = 65536
_MAX_KEPT = 256 * 1024


class Arrived(enum.IntEnum):
    """How far a request came."""

    NOTHING = 0
    TLS_UNFINISHED = 1
    PART_OF_HEAD = 2
    HEAD = 3
    PART_OF_BODY = 4
    WHOLE = 5


@attrs.frozen
class Arrival:
    """One request, as far as it came."""

    how_far: Arrived
    data: bytes


def requests_in(data: bytes, dropped: int = 0) -> Iterator[Arrival]:
    """Part what came on one connection into requests; a proxy's ``CONNECT`` is none of ours.

    Of what came last, so many bytes were counted and not kept.
    """
    while data:
        if data.startswith(b"\x16\x03"):  # a TLS client hello
            yield Arrival(Arrived.TLS_UNFINISHED, b"")
            return
        head, found, rest = data.partition(b"\r\n\r\n")
        if head.startswith(b"CONNECT "):
            data = rest
            continue
        if not found:
            yield Arrival(Arrived.PART_OF_HEAD, data)
            return
        length = re.search(rb"\r\ncontent-length: *([0-9]+)", head.lower())
        size = int(length[1]) if length else 0
        came = len(rest) + dropped
        how_far = Arrived.WHOLE if came >= size else Arrived.PART_OF_BODY if came else Arrived.HEAD
        yield Arrival(how_far, data[: len(head) + 4 + size])
        data = rest[size:]


def http_answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode("latin-1") + body


GONE = (OSError, EOFError)
Act: TypeAlias = "Callable[[Peer], None]"


@attrs.define(eq=False)
class Peer:
    """One accepted connection, from the server's side."""

    sock: socket.socket
    server: "FaultServer"
    number: int
    data: bytes = b""
    dropped: int = 0
    handshake_failed: bool = False
    _requests_read: int = 0

    @property
    def arrivals(self) -> list[Arrival]:
        if self.handshake_failed:
            return [Arrival(Arrived.TLS_UNFINISHED, b"")]
        return list(requests_in(self.data, self.dropped))

    def receive(self, most: int = _CHUNK) -> bytes:
        chunk = self.sock.recv(most)
        kept = chunk[: max(0, _MAX_KEPT - len(self.data))]
        self.data += kept
        self.dropped += len(chunk) - len(kept)
        return chunk

    def read(self, size: int) -> None:
        """Read so many bytes and leave the rest where it is."""
        while len(self.data) < size:
            if not self.receive(size - len(self.data)):
                raise EOFError

    def read_request(self) -> bytes:
        """Read the next request to its end."""
        while True:
            whole = [each for each in self.arrivals if each.how_far is Arrived.WHOLE]
            if len(whole) > self._requests_read:
                self._requests_read += 1
                request = whole[self._requests_read - 1].data
                self.server.requests.append(request)
                return request
            if not self.receive():
                raise EOFError

    def read_tunnel(self) -> None:
        """Read a proxy's ``CONNECT``."""
        while not self.data.endswith(b"\r\n\r\n"):
            if not self.receive(1):
                raise EOFError
        self.server.requests.append(self.data)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        """Read a request and answer it well."""
        self.read_request()
        self.send(http_answer(body, status, headers))

    def send_below_tls(self, data: bytes) -> None:
        socket.socket.send(self.sock, data)

    def drip(self, data: bytes, every: float = 0.005) -> None:
        """Send a byte every few milliseconds."""
        for byte in data:
            if self.server.over.wait(every):
                return
            self.send(bytes([byte]))

    def silence(self) -> None:
        """Neither read nor write until the client closes or the test is over."""
        hung_up = select.poll()
        hung_up.register(self.sock, select.POLLRDHUP)
        for _ in range(_PATIENCE):
            if self.server.over.is_set() or hung_up.poll(1000):
                return

    def listen_on(self) -> None:
        """Read whatever still comes until the client closes."""
        while self.receive():
            pass

    def wait_for_the_write(self) -> None:
        """Go on when the client is about to write its request, or the test is over."""
        for _ in range(_PATIENCE * 10):
            if self.server.over.is_set() or self.server.written.wait(0.1):
                return

    def end(self) -> None:
        """Close with FIN. What was not read is read now: closing over it would send RST."""
        with contextlib.suppress(*GONE):
            if not isinstance(self.sock, ssl.SSLSocket):
                self.sock.shutdown(socket.SHUT_WR)
            else:  # close_notify and FIN
                socket.socket.shutdown(self.sock, socket.SHUT_WR)
            self.listen_on()

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def serve(self, tls: ssl.SSLContext | None) -> None:
        """Do what the server does on this connection, then close it."""
        self.sock.settimeout(_PATIENCE)
        with contextlib.suppress(*GONE):
            if tls is not None:
                self.start_tls(tls)
            self.server.act_of(self.number)(self)
        self.end()
        self.sock.close()
        self.server.ended(self)

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.handshake_failed = True
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.handshake_failed = False


class FaultServer:
    """Serves on a loopback port of its own: a behaviour for each connection, the last for all further ones.

    With ``report`` a connection is told to it when it has ended, and then forgotten.

    Attributes:
        requests: each request and ``CONNECT`` that a behaviour has read to its end, in that order.
        over: set when the test has seen enough; whatever is silent then ends.
        ahead: set when the connection that was opened ahead, if any, is in the state the test is about.
        written: set when a request is about to be written.
        killed: set when the connection it is about to be written on is gone.

    """

    def __init__(
        self,
        *acts: Act,
        tls: ssl.SSLContext | None = None,
        listens: bool = True,
        accepts: bool = True,
        receive_buffer: int | None = None,
        report: "Callable[[Peer], None] | None" = None,
    ) -> None:
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self.ahead = threading.Event()
        self.written = threading.Event()
        self.killed = threading.Event()
        self._acts = acts
        self._tls = tls
        self._report = report
        self._peers: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self._crowd: list[socket.socket] = []
        self._listener = socket.socket()
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        if listens:
            self._listener.listen(128 if accepts else 0)
        if listens and accepts:
            self._start(self._accept)
        elif listens:
            self._fill_the_queue()

    def _fill_the_queue(self) -> None:
        """Take every place where a connection can wait, so that the next one is not even answered."""
        while True:
            sock = socket.socket()
            self._crowd.append(sock)
            sock.settimeout(0)
            sock.connect_ex(("127.0.0.1", self.port))
            if not select.select([], [sock], [], 0.05)[1]:
                return

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                # What is sent first is not held back until the TLS tickets before it are acknowledged.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = Peer(sock, self, number=len(self._peers))
                self._peers.append(peer)
                self._start(peer.serve, self._tls)

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def act_of(self, number: int) -> Act:
        """Return what the server does on this connection, counted from 0."""
        return self._acts[min(number, len(self._acts) - 1)]

    def ended(self, peer: Peer) -> None:
        if self._report is not None:
            self._report(peer)
            self._peers.remove(peer)
            self._threads.remove(threading.current_thread())

    @property
    def arrivals(self) -> list[Arrival]:
        """Every request there was, as far as it came."""
        return [each for peer in self._peers for each in peer.arrivals]

    @property
    def connections(self) -> int:
        return len(self._peers)

    @property
    def used_connections(self) -> int:
        """How many connections carried a request: one that was opened ahead may carry none."""
        return sum(bool(peer.arrivals) for peer in self._peers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let what is silent end, read what is still on its way, and wait for it."""
        self.over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for peer in list(self._peers):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(_PATIENCE)
        for sock in (*self._crowd, self._listener):
            sock.close()


@contextlib.asynccontextmanager
async def raw_server(*acts: Act, tls: ssl.SSLContext | None = None) -> AsyncIterator[FaultServer]:
    """Run a ``FaultServer`` whose end does not hold up the event loop."""
    server = FaultServer(*acts, tls=tls)
    try:
        yield server
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(server.__exit__)


async def happened(event: threading.Event) -> None:
    """Wait for what a server says, and fail when it does not come."""
    assert await anyio.to_thread.run_sync(event.wait, _PATIENCE, abandon_on_cancel=True)
