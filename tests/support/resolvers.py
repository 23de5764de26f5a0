"""A system's resolver whose answers a test decides, and which can hang."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest

_PATIENCE = 30.0


@attrs.define(eq=False)
class Resolver:
    """What ``socket.getaddrinfo`` does for the names it knows and for all that end in ``.example``.

    Attributes:
        addresses: of each name; any other does not exist.
        hangs: names about which no name server answers until ``over``.
        asked: the names looked up, in order.
        threads: the names of the threads that looked them up.
        asking: how many lookups hang now.

    """

    addresses: dict[str, list[str]] = attrs.field(factory=dict)
    hangs: set[str] = attrs.field(factory=set)
    asked: list[str] = attrs.field(factory=list)
    threads: set[str] = attrs.field(factory=set)
    asking: int = 0
    _over: bool = False
    _changed: threading.Condition = attrs.field(factory=threading.Condition)

    def find(self, host: str, _port: int) -> list[str]:
        """Look a name up."""
        with self._changed:
            self.asked.append(host)
            self.threads.add(threading.current_thread().name)
            self.asking += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._over or host not in self.hangs, _PATIENCE)
            self.asking -= 1
            self._changed.notify_all()
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.addresses[host]

    def over(self) -> None:
        """Let everything that hangs go on."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    async def until(self, asking: int) -> None:
        """Wait until so many lookups hang."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: self.asking == asking, _PATIENCE)

        assert await anyio.to_thread.run_sync(wait, limiter=anyio.CapacityLimiter(1))


@contextlib.contextmanager
def resolving(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """Let it answer in place of the system for its names; ends what hangs."""
    system = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name not in resolver.addresses and not name.endswith(".example"):
            return system(host, port, *args, **kwargs)
        found = []
        for address in resolver.find(name, port):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            rest = (0, 0) if ":" in address else ()
            found.append((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, *rest)))
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        yield resolver
    finally:
        resolver.over()
