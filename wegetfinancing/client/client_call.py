"""One call from a thread that does not await, on its way through an event loop in another thread."""

import contextlib
import queue
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, TypeVar

import anyio
import sniffio

from ..errors import CallError, Outcome, TransportError
from .client import AsyncClient
from .steps import Step, caller

if TYPE_CHECKING:
    import asyncio

    from anyio.abc import TaskGroup

_Answer = TypeVar("_Answer")
_Parameters = ParamSpec("_Parameters")

# How long an interrupted call is waited for. Connections close within one second, so only a middleware or a
# transport that does not let itself be cancelled is left behind.
_PATIENCE_SECONDS: Final = 5.0


class ClientCall(Generic[_Answer]):
    """One call of an operation, which one thread waits for.

    ``start``, ``run``, ``accept`` and ``cancel`` belong to the event loop, the other methods to the thread
    that waits, where steps of a ledger run too. A signal handler can interrupt that thread, with Ctrl-C's
    ``KeyboardInterrupt`` or any other exception.
    """

    def __init__(
        self,
        operation: Callable[Concatenate[AsyncClient, _Parameters], Awaitable[_Answer]],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> None:
        """Accept a method of ``AsyncClient`` and its arguments; nothing runs yet."""
        self.name: str = operation.__name__
        self._operation: Callable[[AsyncClient], Awaitable[_Answer]]
        self._operation = lambda client: operation(client, *args, **kwargs)
        self._answer: _Answer
        self._error: BaseException | None = None
        self._scope: anyio.CancelScope | None = None
        self._started = False
        self._cancelled = False
        self._ended = False
        self._abandoned = False
        # A step leaves only when it has ended, so that an interruption loses none.
        self._steps: deque[Step[Any]] = deque()
        # Receives an item for each step, and one when the call has ended. Unlike that of a Future, its lock
        # is in C: an exception of a signal handler cannot leave it locked.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def start(self, tasks: "TaskGroup", client: AsyncClient) -> None:
        """Run the call in a task of its own, if the event loop still runs any."""
        sniffio.current_async_library_cvar.set("asyncio")  # outside of a task, nothing else tells anyio
        try:
            tasks.start_soon(self.run, client)
        except RuntimeError:  # they have ended
            msg = "the client's event loop has ended"
            self._error = TransportError(msg, outcome=Outcome.NOT_SENT, operation=self.name)
            self._has_ended()

    async def run(self, client: AsyncClient) -> None:
        """Run the call and keep its answer or error; nothing is raised here, where it would end the loop."""
        if self._cancelled:
            return
        self._started = True
        caller.set(self)
        with contextlib.suppress(BaseException), anyio.CancelScope() as self._scope:
            try:
                self._answer = await self._operation(client)
            except BaseException as error:
                self._error = error
                raise
        self._has_ended()

    def cancel(self) -> None:
        """Cancel the call, or keep it from starting."""
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()
        else:
            self._has_ended()

    def _has_ended(self) -> None:
        self._ended = True
        self._news.put(None)

    def accept(self, step: Step[Any]) -> bool:
        """Have a step run in the thread that waits; ``False`` if it waits no more."""
        if self._ended or self._abandoned:
            return False
        self._steps.append(step)
        self._news.put(None)
        return True

    def wait(self, patience: float | None = None) -> None:
        """Wait until the call has ended, and run its steps meanwhile.

        Args:
            patience: seconds to wait for its end or its next step; ``None`` for any.

        Raises:
            queue.Empty: neither came.

        """
        while True:
            has_ended = self._ended  # steps that come before the end are run too
            while self._steps:
                self._steps[0]()
                self._steps.popleft()
            if has_ended:
                return
            self._news.get(timeout=patience)

    def answer(self) -> _Answer:
        """Return the answer of a call that has ended, or raise its error."""
        error, self._error = self._error, None  # the traceback will hold this object: without this, a cycle
        if error is None:
            return self._answer
        try:
            if isinstance(error, Exception):
                raise error
        finally:
            del error
        # A cancellation, since the event loop ends or a middleware raised it. Code that does not await does
        # not expect one, and it would pass every "except Exception".
        msg = "the call was cancelled in its event loop"
        raise TransportError(msg, operation=self.name)

    def interrupt(
        self,
        interruption: BaseException,
        event_loop: "asyncio.AbstractEventLoop",
        *,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        """Cancel the call, wait until it has ended, and note its result at ``interruption``.

        Its steps go on in this thread, so that what became of an application is recorded.

        Args:
            interruption: what was raised in the thread that waits.
            event_loop: where the call runs.
            patience: seconds to wait for a call that does not let itself be cancelled.

        """
        try:
            # The event loop is closed only when every call in it has ended.
            with contextlib.suppress(RuntimeError, queue.Empty):
                if not self._ended:
                    event_loop.call_soon_threadsafe(self.cancel)
                self.wait(patience)
        finally:
            self._abandoned = True
            for step in self._steps:  # what has to be recorded is recorded in another thread
                step.give_up()
            interruption.add_note(self._result_description())
            self._error = None

    def _result_description(self) -> str:
        if not self._ended:
            return f"{self.name} was interrupted and is still running. {Outcome.UNKNOWN.description}"
        if not self._started:
            return f"{self.name} was interrupted. {Outcome.NOT_SENT.description}"
        if self._error is None:
            return f"{self.name} had succeeded when it was interrupted."
        if isinstance(self._error, CallError):
            return f"{self.name} had failed when it was interrupted: {self._error}"
        return "\n".join(getattr(self._error, "__notes__", ())) or f"{self.name} was interrupted."
