"""Looks at each statement of any engine in this thread, and lets the connection die at the n-th."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

Watcher = Callable[[Any, str], None]
_watchers: list[Watcher] = []


class KilledError(BaseException):
    """The process is gone: nothing that runs afterwards reaches the database."""


@contextlib.contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Call ``watcher(connection, sql)`` before each statement and before each ``COMMIT``."""

    def before_execute(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        watcher(connection, statement)

    def before_commit(connection: Any) -> None:
        watcher(connection, "COMMIT")

    event.listen(Engine, "before_cursor_execute", before_execute)
    event.listen(Engine, "commit", before_commit)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", before_execute)
        event.remove(Engine, "commit", before_commit)


@attrs.define
class StatementFault:
    """The connection dies at statement ``at``.

    Attributes:
        at: 0 for the first statement.
        is_lost: a ``COMMIT`` is carried out, and its answer lost; other statements never are.
        kills: everything afterwards fails too, as in a process that was killed.

    """

    at: int
    is_lost: bool = False
    kills: bool = False
    seen: int = 0
    has_happened: bool = False
    _lock: Any = attrs.field(factory=threading.Lock, init=False, repr=False)

    def __call__(self, connection: Any, statement: str) -> None:
        """Count a statement, and let the connection die if it is the one."""
        with self._lock:
            number, self.seen = self.seen, self.seen + 1
            is_now = number == self.at or (self.kills and self.has_happened)
            if not is_now:
                return
            is_first = not self.has_happened
            self.has_happened = True
        raw = connection.connection.dbapi_connection
        if statement == "COMMIT" and self.is_lost and is_first:
            raw.commit()
        if self.kills:
            # The database sees a killed process close its connections, and rolls back.
            raw.close()
            raise KilledError
        raise OperationalError("", None, ConnectionError("the connection has died"))


@contextlib.contextmanager
def dying(fault: StatementFault) -> Iterator[StatementFault]:
    """Let the connection die as the fault says."""
    with watching(fault):
        yield fault
