"""Blocking functions in threads of their own, awaited on asyncio and trio."""

import contextlib
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

_T = TypeVar("_T")


def call_soon(event_loop: Any, function: Callable[[], object]) -> None:  # noqa: ANN401 - asyncio's, or trio's token
    """Have ``function`` called in an event loop, from any thread, unless the event loop has ended.

    Unlike ``anyio.from_thread.run_sync`` it does not wait for that: an event loop that ends just then would
    hold the thread for ever.
    """
    call = getattr(event_loop, "call_soon_threadsafe", None) or event_loop.run_sync_soon
    with contextlib.suppress(RuntimeError):  # closed, of both kinds
        call(function)


class Threads:
    """A few threads that nobody else uses up.

    Once ``submit`` or ``run`` is called, the function runs to its end, whatever becomes of the caller:
    neither a cancellation of anyio's nor one of asyncio's own can come in between. ``run_unless_late`` is for
    functions that nobody needs any more once the caller has gone.

    Args:
        places: how many functions run at once; more wait.
        name: what the threads' names begin with.

    """

    def __init__(self, places: int, name: str) -> None:
        """Start no thread yet."""
        self._places = places
        self._name = name
        self._executor: ThreadPoolExecutor | None = None
        self._process: int | None = None

    def submit(self, function: Callable[[], _T]) -> "Future[_T]":
        """Start a function, in a copy of this context."""
        if self._executor is None or self._process != os.getpid():  # a fork copies no threads
            self._executor = ThreadPoolExecutor(self._places, f"wegetfinancing-{self._name}")
            self._process = os.getpid()
        return self._executor.submit(contextvars.copy_context().run, function)

    async def run(self, function: Callable[[], _T]) -> _T:
        """Start a function and wait for its result; when the caller is cancelled, it runs on."""
        future, ended = self._start(function)
        await ended.wait()
        return future.result()

    async def run_unless_late(self, function: Callable[[], _T]) -> _T:
        """Do the same, and drop the function if the caller is cancelled before it has begun."""
        future, ended = self._start(function)
        try:
            await ended.wait()
        finally:
            future.cancel()  # does nothing once it has begun
        return future.result()

    def _start(self, function: Callable[[], _T]) -> "tuple[Future[_T], anyio.Event]":
        ended = anyio.Event()
        event_loop = anyio.lowlevel.current_token().native_token

        def job() -> _T:
            try:
                return function()
            finally:
                call_soon(event_loop, ended.set)

        return self.submit(job), ended

    def close(self) -> None:
        """Let the threads end when their functions have. A call that is in flight starts new ones."""
        executor, self._executor = self._executor, None
        if executor is not None and self._process == os.getpid():
            executor.shutdown(wait=False)
