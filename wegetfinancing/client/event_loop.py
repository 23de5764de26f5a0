"""The running event loop, on asyncio and trio alike: which one it is, and a task that only anyio cancels."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

_Result = TypeVar("_Result")


def current_event_loop() -> object:
    """Return an object that stands for the running event loop and for no other."""
    return anyio.lowlevel.current_token().native_token


class Beside:
    """Something that may be done beside a call, from some moment of it on. It must not raise.

    Attributes:
        do: what to do; nothing by default.

    """

    __slots__ = ("do", "tasks")

    def __init__(self) -> None:
        """Have nothing to do yet."""
        self.do: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.tasks: TaskGroup | None = None

    def start(self) -> None:
        """Begin it, inside ``beside``."""
        if self.do is not None and self.tasks is not None:
            self.tasks.start_soon(self.do)


async def beside(call: Callable[[], Awaitable[_Result]], other: Beside) -> _Result:
    """Await ``call()``, and give up ``other``, if it was begun, when that has ended.

    What ``call`` raises comes out as it is, not in a group.
    """
    results: list[_Result] = []
    raised: list[BaseException] = []
    try:
        async with anyio.create_task_group() as other.tasks:
            try:
                results.append(await call())
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below, outside the group
                raised.append(error)
            other.tasks.cancel_scope.cancel()
        if results:
            return results[0]
        raise raised.pop()
    finally:
        other.tasks = None
        raised.clear()  # a traceback holds this frame: without this, a cycle for the collector


async def in_child_task(call: Callable[[], Awaitable[_Result]]) -> _Result:
    """Await ``call()`` in a child task, so that asyncio's own cancellation lets it clean up.

    ``asyncio.Task.cancel()`` interrupts whatever a task awaits, clean-up in a shielded scope
    included. Here it reaches the waiting parent only; the task group cancels the child as an anyio
    scope does, and waits for it. What ``call`` raises comes out as it is, not in a group.
    """
    results: list[_Result] = []
    raised: list[BaseException] = []

    async def run() -> None:
        try:
            results.append(await call())
        except anyio.get_cancelled_exc_class() as cancelled:
            raised.append(cancelled)
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below, outside the group
            raised.append(error)

    try:
        # A cancellation of the parent comes out of here, whatever the child ended with.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
        if results:
            return results[0]
        # If the child alone was cancelled, the group ends in silence: that cancellation is raised here too.
        raise raised.pop()
    finally:
        raised.clear()  # a traceback holds this frame: without this, a cycle for the collector
