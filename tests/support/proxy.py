"""A proxy in front of PostgreSQL's socket that loses the answer to the n-th statement, and the connection."""

import contextlib
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs

from .postgresql import Server

_READY = ord("Z")  # ReadyForQuery: what ends the answer to each statement
_CHUNK = 65536


@attrs.define
class Proxy:
    """What the proxy does next.

    Attributes:
        folder: where its socket is.
        losing: which answer is lost, counted from 0 since it was set; ``None`` for none.
        seen: how many answers have passed since.
        has_lost: whether it has happened.

    """

    folder: Path
    losing: int | None = None
    seen: int = 0
    has_lost: bool = False
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def lose(self, number: int | None) -> None:
        """Lose the answer with this number from now on, once."""
        with self._lock:
            self.losing, self.seen, self.has_lost = number, 0, False

    def is_lost(self) -> bool:
        """Count an answer, and tell whether it is the one to lose."""
        with self._lock:
            if self.losing is None or self.has_lost:
                return False
            self.seen += 1
            self.has_lost = self.seen > self.losing
            return self.has_lost

    def url(self, database: str) -> str:
        """Return the URL for SQLAlchemy."""
        return f"postgresql+psycopg://shop@/{database}?host={self.folder}"


@contextlib.contextmanager
def losing_proxy(server: Server) -> Iterator[Proxy]:
    """Run a proxy for the length of a block."""
    with (
        tempfile.TemporaryDirectory(prefix="px", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{folder}/.s.PGSQL.5432")
        listener.listen(50)
        proxy = Proxy(Path(folder))
        accepting = threading.Thread(target=_accept, args=(listener, server, proxy))
        accepting.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, server: Server, proxy: Proxy) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(f"{server.socket_folder}/.s.PGSQL.5432")
        threading.Thread(target=_forward, args=(client, upstream), daemon=True).start()
        threading.Thread(target=_answer, args=(upstream, client, proxy), daemon=True).start()


def _forward(client: socket.socket, upstream: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(_CHUNK):
            upstream.sendall(data)
    _close(upstream)


def _answer(upstream: socket.socket, client: socket.socket, proxy: Proxy) -> None:
    """Pass on whole answers. The first one ends the start of the connection."""
    pending, answers = b"", 0
    with contextlib.suppress(OSError):
        while data := upstream.recv(_CHUNK):
            pending += data
            end = 0
            while len(pending) >= end + 5:
                length = struct.unpack("!i", pending[end + 1 : end + 5])[0] + 1
                if len(pending) < end + length:
                    break
                is_ready = pending[end] == _READY
                end += length
                if is_ready:
                    answers += 1
                    if answers > 1 and proxy.is_lost():
                        _close(client)
                        _close(upstream)
                        return
            client.sendall(pending[:end])
            pending = pending[end:]
    _close(client)


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
