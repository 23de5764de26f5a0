"""What is open in this process: ended when the interpreter exits, forgotten in a forked child."""

import atexit
import contextlib
import functools
import os
import threading
import weakref
from typing import Final, Protocol

_SECONDS_AT_EXIT: Final = 5.0
_SECONDS_BEFORE_A_FORK: Final = 5.0


class Resource(Protocol):
    """What a process has open."""

    def close_soon(self, *, cancel: bool) -> threading.Thread | None:
        """Begin to close, and return the thread that ends with it, if there is one."""
        ...

    def forget(self) -> None:
        """Let go of everything that belongs to the process that forked."""
        ...


class Process:
    """What is open in this process.

    Attributes:
        opening: hold it to open a resource. A fork waits for it, since a module that another thread is
            importing at that moment would stay locked in the child for ever.

    """

    def __init__(self) -> None:
        """Watch the process."""
        # Their own hooks are registered by these imports, before ours, and so run after it: a thread that
        # opens a resource may need their locks.
        import concurrent.futures.thread  # noqa: F401, PLC0415 - see above
        import logging  # noqa: F401, PLC0415 - see above

        # Reentrant, since a signal handler may fork or call while its thread holds it.
        self.opening: threading.RLock = threading.RLock()
        self._resources: weakref.WeakSet[Resource] = weakref.WeakSet()
        atexit.register(self._exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork,
                after_in_child=self._after_fork_in_child,
            )

    def add(self, resource: Resource) -> None:
        """Watch ``resource`` until nothing else refers to it."""
        self._resources.add(resource)

    def _exit(self) -> None:
        for thread in [each.close_soon(cancel=True) for each in self._resources]:
            if thread is not None:
                thread.join(_SECONDS_AT_EXIT)

    def _before_fork(self) -> None:
        self.opening.acquire(timeout=_SECONDS_BEFORE_A_FORK)

    def _after_fork(self) -> None:
        with contextlib.suppress(RuntimeError):  # not acquired in time
            self.opening.release()

    def _after_fork_in_child(self) -> None:
        self.opening = threading.RLock()
        for each in self._resources:
            each.forget()


@functools.cache
def this_process() -> Process:
    """Return what watches this process, from the first call on."""
    return Process()
