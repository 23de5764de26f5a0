"""The addresses of a host name, looked up in a few threads of our own.

``socket.getaddrinfo`` cannot be interrupted: while no name server answers, it occupies its thread, even after
the call that waited for it has ended. In asyncio's default executor, or among the threads that trio allows, a
few of them hold up whatever else the application runs there. Here they hold up lookups only.

The threads belong to the process, not to a transport: what hangs is the system's resolver, which all clients
and event loops share. They are daemons, since the interpreter would wait for any others before it exits. One
starts when a lookup finds none idle, and ends when it was idle for a while, so none has to be closed.
"""

import functools
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeAlias

import anyio
import attrs

from .._threads import call_soon
from .event_loop import current_event_loop

# As many as one transport has connections by default, so that its bursts do not wait here. A thread that
# hangs costs little more than its stack.
MAX_LOOKUPS: Final = 32
# A thread that is there saves a tenth of a millisecond; a process that looks nothing up keeps none.
IDLE_SECONDS: Final = 10.0

Resolve: TypeAlias = Callable[[str, int], list[str]]
"""Returns the addresses of a host, in the order in which to try them, and blocks meanwhile."""


def system_addresses(host: str, port: int) -> list[str]:
    """Ask the system's resolver.

    Its order is kept, except that the second address is of the other family, if there is one (RFC 8305,
    section 4): a network that drops one of the two then costs a single attempt.

    Raises:
        OSError: there is no such name, or it cannot be looked up now.

    """
    families: dict[str, int] = {}
    # As bytes, as anyio does it: text would have to be a valid name of IDNA too.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    for family, _, _, _, sockaddr in found:
        address = sockaddr[0]
        if len(sockaddr) == 4 and sockaddr[3]:  # noqa: PLR2004 - address, port, flow, and the network interface
            address = f"{address}%{sockaddr[3]}"
        if isinstance(address, str):  # not one of IPv6 for a Python without it
            families[address] = family
    addresses = list(families)
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
    for place, address in enumerate(addresses):
        if families[address] != families[addresses[0]]:
            addresses.insert(1, addresses.pop(place))
            break
    return addresses


@attrs.frozen(eq=False)
class _Lookup:
    """One lookup, made in the event loop that waits for it and run in a thread."""

    resolve: Callable[[], list[str]]
    event_loop: object = attrs.field(factory=current_event_loop)
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    addresses: "Future[list[str]]" = attrs.field(factory=Future)

    def run(self) -> None:
        try:
            self.addresses.set_result(self.resolve())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self.addresses.set_exception(error)
        call_soon(self.event_loop, self.ended.set)
        del self  # the traceback of what was raised holds this frame: without this, a cycle for the collector


class NameLookups:
    """Looks names up, a limited number of them at once.

    Args:
        resolve: looks one up.
        at_once: how many may run at once; more wait.
        idle_seconds: how long a thread waits for another lookup before it ends.

    """

    def __init__(
        self,
        resolve: Resolve = system_addresses,
        *,
        at_once: int = MAX_LOOKUPS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Start no thread yet."""
        self._resolve = resolve
        self._at_once = at_once
        self._idle_seconds = idle_seconds
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._waiting: dict[_Lookup, None] = {}  # in the order in which they came

    async def find(self, host: str, port: int) -> list[str]:
        """Return the addresses of ``host``, in the order in which to try them: at least one.

        A caller that is cancelled does not wait. Its lookup runs on if it has begun, and never begins if not.

        Raises:
            OSError: there is no such name, or it cannot be looked up now.
            RuntimeError: no thread can be started.

        """
        lookup = _Lookup(functools.partial(self._resolve, host, port))
        self._add(lookup)
        try:
            await lookup.ended.wait()
        finally:
            with self._changed:
                self._waiting.pop(lookup, None)
        try:
            return lookup.addresses.result()
        finally:
            del lookup  # as above

    def _add(self, lookup: _Lookup) -> None:
        with self._changed:
            self._waiting[lookup] = None
            self._changed.notify()
            if len(self._waiting) > self._idle and self._threads < self._at_once:
                self._threads += 1
                try:
                    threading.Thread(target=self._work, name="wegetfinancing-lookup", daemon=True).start()
                except BaseException:
                    self._threads -= 1
                    del self._waiting[lookup]
                    raise

    def _work(self) -> None:
        while (lookup := self._next()) is not None:
            lookup.run()
            del lookup  # or it would stay while this thread is idle, and its event loop with it

    def _next(self) -> _Lookup | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting, self._idle_seconds)
            self._idle -= 1
            lookup = next(iter(self._waiting), None)
            if lookup is None:
                self._threads -= 1
            else:
                del self._waiting[lookup]
            return lookup


@functools.cache
def lookups_of_this_process() -> NameLookups:
    """Return the lookups that everything in this process shares."""
    if hasattr(os, "register_at_fork"):
        # A fork copies no thread, but a lock that one of them holds.
        os.register_at_fork(after_in_child=lookups_of_this_process.cache_clear)
    return NameLookups()
