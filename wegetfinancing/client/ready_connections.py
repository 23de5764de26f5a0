"""Connections that were opened ahead, so that a create does not wait for TCP and TLS.

A ready connection has carried no request. Each is used for one create only, after it was inspected: what
the server closed, or sent anything on, is thrown away, and the create opens a connection of its own.
Nothing here sends a byte of a request, so a failure here is never more than a connection that is missing.
"""

import contextlib
import functools
import logging
import math
import time
from collections.abc import Sequence
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
class _Kept:
    """A connection that waits; ``is_ready`` unless its TLS handshake is still to come."""

    origin: Origin
    stream: "httpcore.AsyncNetworkStream"
    is_ready: bool
    expires: float
    expires_at: float  # on the wall clock: the event loop's may stand still while a machine is suspended

    def is_old(self, ahead: float = 0.0) -> bool:
        """Tell whether its time is over, or will be in so many seconds."""
        return self.expires <= anyio.current_time() + ahead or self.expires_at <= time.time() + ahead


class ReadyConnections:
    """A few open connections that no request has used, each for a limited time.

    There is no timer and no task: expired ones are closed by the next call, or with the transport.

    Opening takes two round trips, one for TCP and one for TLS, and an answer one and the vendor's time. What
    is not open when the answer comes is given up. After that has happened a connection opens beside two
    creates: TCP beside one, and TLS beside the next, while TCP of another opens; until an answer is waited
    for as long as a connection takes to open.
    """

    __slots__ = (
        "_closed",
        "_count",
        "_fits_one_answer",
        "_kept",
        "_open_ahead_from",
        "_opening",
        "_seconds",
        "_took",
    )

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
        self._fits_one_answer = True
        self._kept: list[_Kept] = []
        self._opening = 0
        self._closed = False

    @property
    def is_worthwhile(self) -> bool:
        """Whether a create should open the connection of the next one: if the last one took long to open."""
        return self._count > 0 and self._took >= self._open_ahead_from

    def note_opening(self, seconds: float) -> None:
        """Note how long the last connection took to open, TLS included."""
        self._took = seconds

    def note_answer(self, seconds: float) -> None:
        """Note how long the last answer was waited for."""
        if seconds >= self._took:
            self._fits_one_answer = True

    async def open(
        self,
        network: "httpcore.AsyncNetworkBackend",
        origin: Origin,
        context: "ssl.SSLContext",
        opened: "list[httpcore.AsyncNetworkStream]",
    ) -> None:
        """Open a connection and keep it, unless there are enough. A failure is logged only.

        Being cancelled leaves no socket open. What is kept is added to ``opened``.
        """
        await self._close_old()
        begun = self._pop(origin, is_ready=False)
        await self._advance(network, origin, context, opened, begun=begun, with_tls=True)

    async def open_beside(
        self,
        network: "httpcore.AsyncNetworkBackend",
        origin: Origin,
        context: "ssl.SSLContext",
        opened: "list[httpcore.AsyncNetworkStream]",
    ) -> None:
        """Do the same while an answer is waited for: in one go, or so much as fits in."""
        if self._fits_one_answer:
            fits = False
            try:
                await self.open(network, origin, context, opened)
                fits = True
            finally:
                self._fits_one_answer = fits
            return
        await self._close_old()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._finish, network, origin, context, opened)
            begin = functools.partial(self._advance, begun=None, with_tls=False)
            tasks.start_soon(begin, network, origin, context, opened)

    async def _finish(
        self,
        network: "httpcore.AsyncNetworkBackend",
        origin: Origin,
        context: "ssl.SSLContext",
        opened: "list[httpcore.AsyncNetworkStream]",
    ) -> None:
        """Go on with one that was begun, if there is one. It is taken here, by the task that closes it."""
        if begun := self._pop(origin, is_ready=False):
            await self._advance(network, origin, context, opened, begun=begun, with_tls=True)

    async def _advance(
        self,
        network: "httpcore.AsyncNetworkBackend",
        origin: Origin,
        context: "ssl.SSLContext",
        opened: "list[httpcore.AsyncNetworkStream]",
        *,
        begun: _Kept | None,
        with_tls: bool,
    ) -> None:
        """Go on with the connection that was begun, or begin one."""
        stream = None if begun is None else begun.stream
        if stream is None and (self._closed or self._is_full):
            return
        self._opening += 1
        began = anyio.current_time()
        ready: httpcore.AsyncNetworkStream | None = None
        try:
            stream = stream or await network.connect_tcp(origin.host, origin.port)
            ready = await start_tls(stream, origin, context) if with_tls else stream
        except Exception as error:  # noqa: BLE001 - the create opens one of its own and says what is wrong
            _log.debug("no connection was opened ahead (%s)", type(error).__name__)
        finally:
            self._opening -= 1
            if ready is not None and not self._closed:
                now = anyio.current_time()
                is_ready = with_tls or origin.scheme == "http"
                expires_at = time.time() + self._seconds
                self._kept.append(_Kept(origin, ready, is_ready, now + self._seconds, expires_at))
                opened.append(ready)
                if is_ready and begun is None:
                    self.note_opening(now - began)
            elif stream is not None:
                # The raw one: a handshake that was cancelled leaves its socket behind.
                await close_quietly(stream)

    def pop(self, origin: Origin) -> "httpcore.AsyncNetworkStream | None":
        """Take the newest one that leads there; whoever calls closes it."""
        kept = self._pop(origin, is_ready=True)
        return None if kept is None else kept.stream

    def _pop(self, origin: Origin, *, is_ready: bool) -> _Kept | None:
        for place in reversed(range(len(self._kept))):
            kept = self._kept[place]
            if kept.origin == origin and kept.is_ready is is_ready and not kept.is_old():
                return self._kept.pop(place)
        return None

    async def discard(self, streams: "Sequence[httpcore.AsyncNetworkStream]") -> None:
        """Close these, if they still wait."""
        discarded = [kept for kept in self._kept if kept.stream in streams]
        self._kept = [kept for kept in self._kept if kept.stream not in streams]
        for kept in discarded:
            await close_quietly(kept.stream)

    async def aclose(self) -> None:
        """Close what waits, and keep nothing from now on."""
        self._closed = True
        while self._kept:
            await close_quietly(self._kept.pop().stream)

    @property
    def _is_full(self) -> bool:
        return len(self._kept) + self._opening >= self._count

    async def _close_old(self) -> None:
        """Close what has expired, and if there is no room, the oldest one that is past half its time."""
        while self._kept and (
            self._kept[0].is_old() or (self._is_full and self._kept[0].is_old(self._seconds / 2))
        ):
            await close_quietly(self._kept.pop(0).stream)


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
