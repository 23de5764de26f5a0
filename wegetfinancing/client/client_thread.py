"""A thread that runs an ``AsyncClient`` in an event loop, for callers that do not await.

The rules, each with its reason:

- A call is handed over without waiting for the event loop, unlike by anyio's blocking portal: it waits with
  a lock written in Python, which an exception of a signal handler can leave locked, and the event loop, which
  needs it too, would stand still for ever.
- The thread starts with the first call and, because a fork copies no thread, again with the first call in
  each forked process. That process makes an ``AsyncClient`` of its own: one cannot be used after a fork.
- It is a daemon thread that ``atexit`` ends. Before ``atexit`` the interpreter joins every thread that is not
  a daemon, so such a thread would never hear that it has to end.
- A fork waits while a client opens, and what the first call would load late is loaded then: a module that
  another thread is importing during a fork stays locked in the child for ever, and so does OpenSSL.
- Nothing here waits for the event loop longer than a call or an exit may take: a middleware may block it.
"""

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio

from .._threads import call_soon
from ..errors import ConfigurationError, Outcome, TransportError
from .client import AsyncClient
from .client_call import ClientCall
from .event_loop import current_event_loop
from .process import this_process
from .transport import Transport

if TYPE_CHECKING:
    import asyncio

    from anyio.abc import TaskGroup

_Answer = TypeVar("_Answer")

# By the threads and the event loop here; gevent patches all of them, or those it is told to.
_NEEDED_AS_THEY_ARE: Final = ("queue", "select", "socket", "thread", "threading")


class ClientThread:
    """Runs calls of one client for any number of threads.

    Attributes:
        closed: no call is accepted any more.

    """

    def __init__(self, make_client: Callable[[], AsyncClient], transport: Transport | None) -> None:
        """Make the client, which checks its settings; nothing is opened before the first call.

        Args:
            make_client: makes the client of this process.
            transport: closed with the client, in its event loop, since nothing else can run there.

        """
        self.closed: bool = False
        self._make_client = make_client
        self._transport = transport
        self._client: AsyncClient | None = make_client()  # for the first call
        # Reentrant, since a signal handler may call while its own thread is in here.
        self._lock = threading.RLock()
        self._running: _RunningThread | None = None
        self._waiting: list[int] = []  # the thread of each call; twice if a signal handler calls too
        # Before any thread can hold the lock: a fork then replaces it in the child.
        self._process = this_process()
        self._process.add(self)

    def run(
        self, call: ClientCall[_Answer], choose: Callable[[AsyncClient], AsyncClient] | None = None
    ) -> _Answer:
        """Run ``call`` in the event loop and return its answer.

        Args:
            call: what to run.
            choose: returns the client to run it with, made from that of this process.

        Raises:
            ConfigurationError: closed, or called where it would block an event loop.
            TransportError: no thread can be started.

        """
        _refuse_to_block_an_event_loop()
        running: _RunningThread | None = None
        self._waiting.append(threading.get_ident())
        try:
            with self._lock:  # a thread that is told to end accepts no call any more
                running = self._open(call.name)
                client = running.client if choose is None else choose(running.client)
                running.begin(call, client)
            call.wait()
        except BaseException as interruption:
            if running is not None:
                call.interrupt(interruption, running.event_loop)
            raise
        finally:
            with contextlib.suppress(ValueError):  # forgotten in a forked process
                self._waiting.remove(threading.get_ident())
        return call.answer()

    def close(self) -> None:
        """Accept no more calls, wait until those in flight have ended, and close the connections.

        A signal handler whose own thread is in a call does not wait: steps of that call may run there.
        """
        with self._lock:
            self.closed = True
            running, self._running = self._running, None
        if running is not None:
            running.end()
            if threading.get_ident() not in self._waiting:
                running.join()

    def close_soon(self, *, cancel: bool = False) -> "threading.Thread | None":
        """Do the same without waiting, and return the thread that ends."""
        self.closed = True
        running, self._running = self._running, None
        if running is None:
            return None
        running.end(cancel=cancel)
        return running.thread

    def forget(self) -> None:
        """Let go of what belongs to the process that forked. Its thread may have held the lock."""
        self._lock = threading.RLock()
        self._running = None
        self._waiting = []

    def check_open(self, *, closed: bool = False) -> None:
        """Refuse to go on with a client that is closed, or that says so itself.

        Raises:
            ConfigurationError: it is.

        """
        if closed or self.closed:
            msg = "this Client is closed; make a new one"
            raise ConfigurationError(msg)

    def _open(self, name: str) -> "_RunningThread":
        self.check_open()
        if self._running is None:
            _refuse_greenlets()
            try:
                with self._process.opening:
                    _load_libraries()
                    client, self._client = self._client or self._make_client(), None
                    running = _RunningThread(client, self._transport)
                    running.start()
                    self._running = running
            except (OSError, RuntimeError) as error:  # too many threads or files, or the interpreter exits
                msg = f"no event loop could be started in a thread ({type(error).__name__}: {error})"
                raise TransportError(msg, outcome=Outcome.NOT_SENT, operation=name) from None
        return self._running


class _RunningThread:
    """One thread and its event loop, from the start to the end."""

    def __init__(self, client: AsyncClient, transport: Transport | None) -> None:
        self.client = client
        self.thread = threading.Thread(target=self._run, name="wegetfinancing.Client", daemon=True)
        self.event_loop: asyncio.AbstractEventLoop
        self._transport = transport
        self._ready = threading.Event()
        self._is_to_end = False
        self._failure: BaseException | None = None
        self._calls: TaskGroup
        self._end: anyio.Event

    def start(self) -> None:
        """Start the thread and wait until its event loop runs."""
        try:
            self.thread.start()
            self._ready.wait()
        except BaseException:
            self.end()
            raise
        if self._failure is not None:
            raise self._failure

    def begin(self, call: ClientCall[Any], client: AsyncClient) -> None:
        """Have a call run, in this context, and do not wait for it."""
        self.event_loop.call_soon_threadsafe(call.start, self._calls, client)

    def end(self, *, cancel: bool = False) -> None:
        """Tell the thread to end once its calls have ended, or to cancel them."""
        self._is_to_end = True
        if self._ready.is_set():
            call_soon(self.event_loop, self._calls.cancel_scope.cancel if cancel else self._end.set)

    def join(self) -> None:
        """Wait until the thread has ended; raise what a transport raised when it was closed."""
        if threading.current_thread() is not self.thread:
            self.thread.join()
            if self._failure is not None:
                raise self._failure

    def _run(self) -> None:
        try:
            anyio.run(self._serve)
        except BaseException as error:  # noqa: BLE001 - raised by start or join
            self._failure = error
        self._ready.set()

    async def _serve(self) -> None:
        self._end = anyio.Event()
        async with anyio.create_task_group() as self._calls:
            self.event_loop = cast("asyncio.AbstractEventLoop", current_event_loop())
            self._ready.set()
            if self._is_to_end:
                return  # its start was interrupted
            await self._end.wait()
        await self.client.aclose()
        if self._transport is not None:
            await self._transport.aclose()


def _refuse_to_block_an_event_loop() -> None:
    with contextlib.suppress(anyio.NoEventLoopError):
        current_event_loop()
        msg = (
            "a Client blocks, and this thread runs an event loop; use AsyncClient there, or call the Client"
            " in a worker thread, such as with anyio.to_thread.run_sync"
        )
        raise ConfigurationError(msg)


def _refuse_greenlets() -> None:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and any(map(monkey.is_module_patched, _NEEDED_AS_THEY_ARE)):
        msg = (
            "a Client does not work under gevent's monkey-patching, since its event loop needs a real thread;"
            " use threads instead, such as gunicorn's gthread worker"
        )
        raise ConfigurationError(msg)


def _load_libraries() -> None:
    """Load what a call needs, which takes a tenth of a second: not when the package is imported."""
    import cattrs.gen  # noqa: F401, PLC0415 - as the docstring says

    from .httpx_connections import load_libraries  # noqa: PLC0415 - as the docstring says

    load_libraries()
