"""A time limit for a transaction on SQLite. Without SQLAlchemy, so that the Django app can use it."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def time_limit(raw: sqlite3.Connection, seconds: float, close: Callable[[], None]) -> Iterator[None]:
    """Roll back a handler that takes too long, and ``close`` the connection then.

    Raises:
        TimeoutError: it was rolled back.

    """
    watchdog = Watchdog(raw, seconds)
    raw.set_progress_handler(watchdog.forbids, 1)
    watchdog.start()
    try:
        yield
    except Exception:
        if not watchdog.stop():
            raise
    finally:
        is_rolled_back = watchdog.stop()
        with contextlib.suppress(sqlite3.ProgrammingError):  # the handler has closed it
            raw.set_progress_handler(None, 0)
        if is_rolled_back:
            close()
    if is_rolled_back:
        msg = f"the handler took longer than {seconds:g} seconds, and its transaction was rolled back"
        raise TimeoutError(msg)


class Watchdog:
    """Rolls back when a handler takes too long: its lock keeps every other writer out.

    What the handler writes afterwards would be outside of any transaction, so each statement asks first. The
    connection is not closed from another thread: a statement that runs there, if only one that waits for a
    lock, would crash the process.
    """

    def __init__(
        self, raw: sqlite3.Connection, seconds: float, *, timer: type[threading.Timer] = threading.Timer
    ) -> None:
        """Do not count yet."""
        self.has_expired: bool = False
        self._raw = raw
        self._lock = threading.Lock()
        self._stopped = False
        self._timer = timer(seconds, self._expire)
        self._timer.daemon = True

    def start(self) -> None:
        """Begin to count: the lock is held from now on."""
        self._timer.start()

    def forbids(self) -> bool:
        """Whether a statement must not run any more; SQLite asks at its beginning and at each jump."""
        return self.has_expired and threading.current_thread() is not self._timer

    def _expire(self) -> None:
        with self._lock:
            if not self._stopped:
                self.has_expired = True
                self._raw.interrupt()
                with contextlib.suppress(sqlite3.OperationalError):  # the interruption has rolled back
                    self._raw.execute("ROLLBACK")

    def stop(self) -> bool:
        """Let the transaction be committed, unless it has been rolled back; say whether it has."""
        with self._lock:
            self._stopped = True
        self._timer.cancel()
        return self.has_expired
