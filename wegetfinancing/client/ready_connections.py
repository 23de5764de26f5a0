"""Connections that were opened ahead, so that a create does not wait for TCP and TLS.

A ready connection has carried no request. Each is used for one create only, after it was inspected: what
the server closed, or sent anything on, is thrown away, and the create opens a connection of its own.
Nothing here sends a byte of a request, so a failure here is never more than a connection that is missing.
"""

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel
import attrs

from .._checks import is_finite_number
from ..errors import ConfigurationError
from .direct_connection import Origin, start_tls
from .httpx_exchange import close_quietly

if TYPE_CHECKING:
    import ssl

    import httpcore

# One waiting is enough for creates that follow one another; two serve a shop with two buyers at a time.
READY_CONNECTIONS: Final = 2
# Servers end a connection on which no request comes: Apache after 20 seconds, nginx and AWS's load balancers
# after 60. A create that is written just then ends as UNKNOWN, so it is given up before the first of them.
READY_SECONDS: Final = 15.0
# A customer does not notice less, and opening one ahead costs half as much CPU as a create on a fast network.
OPEN_AHEAD_FROM: Final = 0.005
# Turns of the event loop. What has arrived was read when for so many of them nothing more has come; a server
# that never stops sending is not waited for.
_QUIET_TURNS: Final = 4
_MAX_TURNS: Final = 40

_log = logging.getLogger("wegetfinancing")


@attrs.frozen(eq=False)
class _Ready:
    origin: Origin
    stream: "httpcore.AsyncNetworkStream"
    expires: float
    expires_at: float  # on the wall clock: the event loop's may stand still while a machine is suspended

    def is_old(self, ahead: float = 0.0) -> bool:
        """Tell whether its time is over, or will be in so many seconds."""
        return self.expires <= anyio.current_time() + ahead or self.expires_at <= time.time() + ahead


class ReadyConnections:
    """A few open connections that no request has used, each for a limited time.

    There is no timer and no task: expired ones are closed by the next call, or with the transport.
    """

    __slots__ = ("_closed", "_count", "_open_ahead_from", "_opening", "_ready", "_seconds", "_took")

    def __init__(self, *, count: int, seconds: float, open_ahead_from: float = OPEN_AHEAD_FROM) -> None:
        """Open nothing yet.

        Raises:
            ConfigurationError: a number cannot be right.

        """
        if not isinstance(count, int) or count < 0:
            msg = "ready_connections must be a whole number from 0 on"
            raise ConfigurationError(msg)
        if not is_finite_number(seconds) or seconds <= 0:
            msg = "ready_seconds must be a finite number of seconds above zero"
            raise ConfigurationError(msg)
        if not is_finite_number(open_ahead_from) or open_ahead_from < 0:
            msg = "open_ahead_from must be a finite number of seconds from 0 on"
            raise ConfigurationError(msg)
        self._count = count
        self._seconds = seconds
        self._open_ahead_from = open_ahead_from
        self._took = math.inf  # until one was opened
        self._ready: list[_Ready] = []
        self._opening = 0
        self._closed = False

    @property
    def is_worthwhile(self) -> bool:
        """Whether a create should open the connection of the next one: if the last one took long to open."""
        return self._count > 0 and self._took >= self._open_ahead_from

    def note_opening(self, seconds: float) -> None:
        """Note how long the last connection took to open, TLS included."""
        self._took = seconds

    async def open(
        self, network: "httpcore.AsyncNetworkBackend", origin: Origin, context: "ssl.SSLContext"
    ) -> "httpcore.AsyncNetworkStream | None":
        """Open a connection and keep it, unless there are enough. A failure is logged only.

        Being cancelled leaves no socket open.
        """
        await self._close_old()
        if self._closed or self._is_full:
            return None
        self._opening += 1
        began = anyio.current_time()
        stream: httpcore.AsyncNetworkStream | None = None
        ready: httpcore.AsyncNetworkStream | None = None
        try:
            stream = await network.connect_tcp(origin.host, origin.port)
            ready = await start_tls(stream, origin, context)
            self.note_opening(anyio.current_time() - began)
        except Exception as error:  # noqa: BLE001 - the create opens one of its own and says what is wrong
            _log.debug("no connection was opened ahead (%s)", type(error).__name__)
        finally:
            self._opening -= 1
            if ready is not None and not self._closed:
                expires, expires_at = anyio.current_time() + self._seconds, time.time() + self._seconds
                self._ready.append(_Ready(origin, ready, expires, expires_at))
            elif stream is not None:
                # The raw one: a handshake that was cancelled leaves its socket behind.
                await close_quietly(stream)
        return ready

    def pop(self, origin: Origin) -> "httpcore.AsyncNetworkStream | None":
        """Take the newest one that leads there; whoever calls closes it."""
        for place in reversed(range(len(self._ready))):
            ready = self._ready[place]
            if ready.origin == origin and not ready.is_old():
                return self._ready.pop(place).stream
        return None

    async def discard(self, stream: "httpcore.AsyncNetworkStream | None") -> None:
        """Close this one, if it still waits."""
        for ready in self._ready:
            if ready.stream is stream:
                self._ready.remove(ready)
                await close_quietly(ready.stream)
                return

    async def aclose(self) -> None:
        """Close what waits, and keep nothing from now on."""
        self._closed = True
        while self._ready:
            await close_quietly(self._ready.pop().stream)

    @property
    def _is_full(self) -> bool:
        return len(self._ready) + self._opening >= self._count

    async def _close_old(self) -> None:
        """Close what has expired, and if there is no room, the oldest one that is past half its time."""
        while self._ready and (
            self._ready[0].is_old() or (self._is_full and self._ready[0].is_old(self._seconds / 2))
        ):
            await close_quietly(self._ready.pop(0).stream)


async def is_untouched(stream: "httpcore.AsyncNetworkStream") -> bool:
    """Tell whether the server has neither closed the connection nor sent anything that a request would find.

    TLS 1.3 tickets lie unread on a good connection, which looks just like one that was closed. So it is read
    for a few turns of the event loop: tickets are taken in, anything else ends the read.
    """
    ended = False

    async def read() -> None:
        nonlocal ended
        with contextlib.suppress(Exception):
            await stream.read(1)
        ended = True  # with bytes, the end of the stream, or an error

    turns = quiet = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        while not ended and quiet < _QUIET_TURNS and turns < _MAX_TURNS:
            await anyio.lowlevel.checkpoint()
            turns += 1
            quiet = 0 if stream.get_extra_info("is_readable") else quiet + 1
        tasks.cancel_scope.cancel()
    return not ended and quiet == _QUIET_TURNS
