"""Engines: one of our own for SQLite, transactions of our own on PostgreSQL."""

import contextlib
import os
import sqlite3
import time
import traceback
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, Connection, Engine, RootTransaction, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from ...errors import ConfigurationError, LedgerError
from .failures import description
from .watchdog import time_limit

_WRITE: Final = "wgf_write"
_PROGRESS_STEPS: Final = 10_000  # of SQLite's virtual machine; some tenth of a millisecond
_CONNECT_SECONDS: Final = 5
_READ_ONLY: Final = "25006"  # SQLSTATE
_POSTGRESQL: Final = text(
    "SELECT set_config('statement_timeout', :timeout, true), set_config('lock_timeout', :timeout, true),"
    " set_config('idle_in_transaction_session_timeout', :timeout, true),"
    " set_config('synchronous_commit', 'on', true)"
)
_ENDED: Final = (
    "the handler has ended the ledger's transaction: leave commit() and rollback() to the ledger, and undo a"
    " part of the work by rolling back to a savepoint, with begin_nested()"
)


def engine_for(engine_or_url: Engine | URL | str) -> tuple[Engine, bool]:
    """Return the engine to use, and whether it is our own.

    Raises:
        ConfigurationError: neither SQLite in a file nor PostgreSQL by psycopg 3.

    """
    if isinstance(engine_or_url, Engine):
        engine, url = engine_or_url, engine_or_url.url
    elif hasattr(engine_or_url, "sync_engine"):
        msg = (
            "SQLLedger needs a synchronous Engine or a URL; inside AsyncConnection.run_sync its methods"
            " accept connection="
        )
        raise ConfigurationError(msg)
    else:
        engine, url = None, _url(engine_or_url)
    backend, driver = url.get_backend_name(), url.get_driver_name()
    if (backend, driver) == ("sqlite", "pysqlite"):
        return _sqlite_engine(url), True
    if (backend, driver) != ("postgresql", "psycopg"):
        msg = f"SQLLedger works on sqlite:// and postgresql+psycopg:// (psycopg 3), not {backend}+{driver}"
        raise ConfigurationError(msg)
    return (engine, False) if engine is not None else (_postgresql_engine(url), True)


def _url(url: object) -> URL:
    if isinstance(url, URL | str):
        with contextlib.suppress(ArgumentError, ValueError):  # what is after the last colon has to be a port
            return make_url(url)
    # It may hold a password, so it is not shown.
    msg = "SQLLedger needs an Engine or a URL such as sqlite:///shop.db or postgresql+psycopg://..."
    raise ConfigurationError(msg)


def _sqlite_engine(url: URL) -> Engine:
    if url.database in (None, "", ":memory:") or "memory" in url.query.values():
        msg = "SQLLedger needs SQLite in a file; MemoryLedger is for tests"
        raise ConfigurationError(msg)
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=5,
        max_overflow=100,
        connect_args={"check_same_thread": False},
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(raw: sqlite3.Connection, _: object) -> None:
    raw.isolation_level = None  # sqlite3 begins no transaction by itself
    raw.execute(f"PRAGMA busy_timeout = {_CONNECT_SECONDS * 1000}")
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")  # WAL with less may lose the last commits with the power
    raw.execute("PRAGMA foreign_keys = ON")
    raw.execute("PRAGMA secure_delete = ON")  # what is erased is not to be found in the file


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE, True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _postgresql_engine(url: URL) -> Engine:
    connect_args: dict[str, object] = {
        "connect_timeout": _CONNECT_SECONDS,
        "tcp_user_timeout": 2 * _CONNECT_SECONDS * 1000,
        "client_encoding": "utf8",  # a cluster in SQL_ASCII is then told apart before it returns bytes
    }
    return create_engine(
        url,
        pool_size=5,
        max_overflow=20,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={name: value for name, value in connect_args.items() if name not in url.query},
    )


@contextlib.contextmanager
def transaction(engine: Engine, *, write: bool, timeout: float, handler: bool) -> Iterator[Connection]:
    """Open a transaction with its own isolation and timeouts.

    Raises:
        LedgerError: the database failed; never what the block itself raises in ``handler`` mode.

    """
    committing = False
    try:
        with (
            engine.connect() as connection,
            _kept_if_all_was_well(connection),
            _statement_limit(connection, timeout),
        ):
            _begin(connection, write=write, timeout=timeout)
            with contextlib.ExitStack() as around:
                if handler and connection.dialect.name == "sqlite":
                    around.enter_context(time_limit(_raw(connection), timeout, connection.invalidate))
                if handler:
                    around.enter_context(_not_ended_by_the_handler(connection))
                yield connection
            committing = write  # what was only read cannot be in doubt
            _commit(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        if handler:
            raise
        raise LedgerError(description(error), uncertain=committing) from None  # it holds statements' values


@contextlib.contextmanager
def _kept_if_all_was_well(connection: Connection) -> Iterator[None]:
    """After an error, let SQLite begin anew on another connection, and keep no lock on this one.

    A cursor that the traceback still holds keeps the snapshot that it was reading, and on its connection no
    later transaction could write, however long it waits. After an interruption it keeps the lock too, since
    SQLAlchemy then closes the connection as it is, and SQLite puts that off until the cursor has ended.
    """
    try:
        yield
    except BaseException as error:
        if connection.dialect.name == "sqlite":
            if not isinstance(error, Exception):
                traceback.clear_frames(error.__traceback__)
            if not connection.invalidated:
                with contextlib.suppress(sqlite3.Error):
                    _raw(connection).rollback()
                connection.invalidate()
        elif _is_of_a_standby(error):
            connection.invalidate()
        raise


def _is_of_a_standby(error: BaseException) -> bool:
    """Whether a failover has made the server one that only reads: the pool would keep its connections."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _READ_ONLY


@contextlib.contextmanager
def _not_ended_by_the_handler(connection: Connection) -> Iterator[None]:
    """Refuse a handler that ends the ledger's transaction, as ``rollback()`` of an ORM session does.

    With it "handled" would be kept or lost by itself: an approval lost, or applied again and again.
    """
    begun = connection.get_transaction()
    event.listen(connection, "commit", _refuse_to_commit)
    try:
        yield
    except BaseException:
        if _has_ended(connection, begun):
            connection.invalidate()  # the driver may still be in it
        raise
    finally:
        event.remove(connection, "commit", _refuse_to_commit)
    if _has_ended(connection, begun):
        connection.invalidate()
        raise InvalidRequestError(_ENDED)


def _has_ended(connection: Connection, begun: RootTransaction | None) -> bool:
    return begun is None or not begun.is_active or connection.get_transaction() is not begun


def _refuse_to_commit(_: Connection) -> None:
    raise InvalidRequestError(_ENDED)


def _commit(connection: Connection) -> None:
    _refuse_failed_transaction(connection)
    try:
        connection.commit()
    except BaseException:
        # The driver may still be in the transaction, and the pool would hand it to the next one like that.
        connection.invalidate()
        raise


def _refuse_failed_transaction(connection: Connection) -> None:
    """Refuse to commit after an error that the handler has swallowed: nothing would be kept.

    PostgreSQL answers COMMIT by rolling back then, and SQLite has rolled back already after some errors, such
    as a full disk; neither says so.
    """
    raw = _raw(connection)
    if connection.dialect.name == "postgresql":
        has_failed = raw.info.transaction_status.name == "INERROR"
    else:
        has_failed = not raw.in_transaction
    if has_failed:
        msg = "the handler has swallowed an error of the database, after which nothing can be committed"
        raise InvalidRequestError(msg)


def _begin(connection: Connection, *, write: bool, timeout: float) -> None:
    milliseconds = max(1, int(timeout * 1000))
    if connection.dialect.name == "sqlite":
        _raw(connection).execute(f"PRAGMA busy_timeout = {milliseconds}")
        connection.execution_options(**{_WRITE: write})
        connection.begin()
        return
    # Whatever the shop's engine is set to: AUTOCOMMIT would keep the effects of a handler that failed.
    connection.execution_options(isolation_level="READ COMMITTED")
    connection.begin()
    connection.execute(_POSTGRESQL, {"timeout": str(milliseconds)})


def _raw(connection: Connection) -> Any:  # noqa: ANN401 - the driver's
    return connection.connection.dbapi_connection


@contextlib.contextmanager
def _statement_limit(connection: Connection, timeout: float) -> Iterator[None]:
    """Bound the statements on SQLite, which has no setting for that."""
    if connection.dialect.name != "sqlite":
        yield
        return
    raw = _raw(connection)
    until = time.monotonic() + timeout
    raw.set_progress_handler(lambda: time.monotonic() > until, _PROGRESS_STEPS)
    try:
        yield
    finally:
        with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
            raw.set_progress_handler(None, 0)


def identity(engine: Engine) -> str:
    """Name the database, so that two ledgers on one SQLite file are known to share its lock."""
    if engine.dialect.name == "sqlite":
        return f"sqlite:{os.path.realpath(str(engine.url.database))}"
    return f"postgresql:{engine.url.host}:{engine.url.port}/{engine.url.database}"
