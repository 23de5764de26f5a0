"""Where a blocking step of a call runs: in the thread that waits for the call, or else in threads of its own.

``Client`` has the steps of a ledger run in its caller's thread, since some databases' connections belong to
threads (Django's do). ``AsyncClient`` has no such thread.
"""

import contextvars
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

import anyio

from .._threads import Threads, call_soon
from ..errors import WeGetFinancingError
from .event_loop import current_event_loop

_T = TypeVar("_T")


class StepInterruptedError(Exception):
    """A signal handler has raised in the thread that ran the step, which may have happened or not."""


class Step(Generic[_T]):
    """A blocking function that an event loop hands to the thread that waits for it. It runs once at most."""

    __slots__ = ("_begun", "_ended", "_error", "_event_loop", "_function", "_result")

    def __init__(self, function: Callable[[], _T]) -> None:
        """Keep the function, in the event loop that waits for its result."""
        self._function = function
        self._begun = False
        self._ended = anyio.Event()
        self._event_loop = current_event_loop()
        self._result: _T
        # Until there is a result: an interruption can come between any two instructions.
        self._error: Exception | None = StepInterruptedError()

    def __call__(self) -> None:
        """Run the function, unless it has begun already, and say that it has ended.

        Raises:
            BaseException: what is no error of ours, such as what a signal handler raised. Nothing is said to
                the event loop then: call again.

        """
        if not self._begun:
            self._begun = True
            try:
                self._result = self._function()
                self._error = None
            except WeGetFinancingError as error:
                self._error = error
        self._end()

    def give_up(self) -> None:
        """Say that it has ended, whether it has happened or not, since its thread waits no more."""
        self._begun = True
        self._end()

    def _end(self) -> None:
        call_soon(self._event_loop, self._ended.set)

    async def result(self) -> _T:
        """Wait until the step has ended.

        Raises:
            StepInterruptedError: it may have happened or not.
            WeGetFinancingError: what the function raised.

        """
        await self._ended.wait()
        error, self._error = self._error, None  # its traceback will hold this object: without this, a cycle
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error


class Caller(Protocol):
    """A thread that waits for a call."""

    def accept(self, step: Step[Any]) -> bool:
        """Have the step run; ``False`` where the thread waits no more."""
        ...


caller: Final[contextvars.ContextVar[Caller | None]] = contextvars.ContextVar(
    "wegetfinancing_caller", default=None
)
"""The thread that waits for this call; ``None`` where the caller awaits."""


class Steps:
    """Runs blocking functions in the thread that waits for the call, or else as ``Threads`` does."""

    def __init__(self, places: int, name: str) -> None:
        """Start no thread yet."""
        self._threads = Threads(places, name)

    async def run(self, function: Callable[[], _T]) -> _T:
        """Start a function and wait for its result; when the caller is cancelled, it runs on.

        Raises:
            StepInterruptedError: an interruption came in the caller's thread.
            Exception: what the function raised.

        """
        step = _handed_over(function)
        return await (self._threads.run(function) if step is None else step.result())

    def start(self, function: Callable[[], object]) -> None:
        """Start a function, for whose result nobody waits."""
        if _handed_over(function) is None:
            self._threads.submit(function)

    def close(self) -> None:
        """Let the threads end when their functions have."""
        self._threads.close()


def _handed_over(function: Callable[[], _T]) -> Step[_T] | None:
    waiting = caller.get()
    if waiting is None:
        return None
    step = Step(function)
    return step if waiting.accept(step) else None
