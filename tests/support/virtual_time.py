"""An event loop of either kind whose clock moves only when a test says so, stepped from outside."""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import trio
import trio.testing
from anyio.from_thread import BlockingPortal

# More turns of the event loop than any chain of tasks in these tests needs to come to rest.
_TURNS = 50


class _Selector(selectors.DefaultSelector):
    """Waits for input only: a timer is due when the clock was moved, not when time has passed."""

    def select(self, timeout: float | None = None) -> Any:
        return super().select(timeout if timeout == 0 else None)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector())

    def time(self) -> float:
        return self.now


@attrs.define
class VirtualTime:
    """The portal into the event loop's thread, and what moves its clock from inside."""

    portal: BlockingPortal
    jump: Callable[[float], None]

    def advance(self, seconds: float) -> None:
        """Move the clock and let everything happen that happens then."""

        async def move() -> None:
            self.jump(seconds)
            await _come_to_rest()

        self.portal.call(move)

    def run(self, function: Callable[[], object]) -> None:
        """Run a plain function in the event loop and let everything happen that follows from it."""

        async def step() -> None:
            function()
            await _come_to_rest()

        self.portal.call(step)


async def _come_to_rest() -> None:
    for _ in range(_TURNS):
        await anyio.lowlevel.checkpoint()


def _asyncio_jump(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _Loop)
    loop.now += seconds


@contextlib.contextmanager
def virtual_time(backend: str) -> Iterator[VirtualTime]:
    """Run an event loop in a thread of its own, its clock at 0."""
    started: Future[BlockingPortal] = Future()

    async def serve() -> None:
        async with BlockingPortal() as portal:
            assert anyio.current_time() == 0.0
            started.set_result(portal)
            await portal.sleep_until_stopped()

    clock = trio.testing.MockClock()

    def run() -> None:
        # Not anyio.run: old versions do not hand the clock on to trio.
        if backend == "trio":
            trio.run(serve, clock=clock)
        else:
            with asyncio.Runner(loop_factory=_Loop) as runner:
                runner.run(serve())

    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(run)
        ended.add_done_callback(lambda _: started.cancel())
        portal = started.result()
        try:
            yield VirtualTime(portal, clock.jump if backend == "trio" else _asyncio_jump)
        finally:
            portal.call(portal.stop)
            ended.result()
