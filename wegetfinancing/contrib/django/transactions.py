"""Transactions of our own on the shop's connections, which are left as they were found."""

import contextlib
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from ...errors import ConfigurationError, LedgerError
from .._sql.failures import description
from .._sql.watchdog import time_limit

VENDORS: Final = ("sqlite", "postgresql")
NESTED: Final = (
    "called inside atomic() or under ATOMIC_REQUESTS, so that nothing would be committed before a request is"
    " sent or a postback answered: commit first, then call it outside of the transaction, in a view with"
    " @transaction.non_atomic_requests where ATOMIC_REQUESTS is set"
)
_SET_LIMITS: Final = (
    "SELECT set_config('statement_timeout', %(timeout)s, true),"
    " set_config('lock_timeout', %(timeout)s, true),"
    " set_config('idle_in_transaction_session_timeout', %(timeout)s, true),"
    " set_config('synchronous_commit', 'on', true)"
)
# SQLite's synchronous=EXTRA: with less, the last commit may be lost with the power, without a write-ahead log
# even with FULL. https://sqlite.org/pragma.html#pragma_synchronous
_EXTRA: Final = 3


def connection_of(alias: str) -> BaseDatabaseWrapper:
    """Return this thread's connection to a database.

    Raises:
        ConfigurationError: it is neither SQLite nor PostgreSQL.

    """
    connection = connections[alias]
    if connection.vendor not in VENDORS:
        msg = f"DjangoLedger works on SQLite and PostgreSQL, and DATABASES[{alias!r}] is {connection.vendor}"
        raise ConfigurationError(msg)
    return connection


def refuse_to_nest(connection: BaseDatabaseWrapper) -> None:
    """Refuse to go on inside a transaction of the shop's. Those of Django's ``TestCase`` are none.

    Raises:
        ConfigurationError: a transaction is open, or autocommit is off.

    """
    if connection.in_atomic_block:
        with _durable(connection):
            return
    if connection.connection is not None and not connection.get_autocommit():
        raise ConfigurationError(NESTED)


@contextlib.contextmanager
def _durable(connection: BaseDatabaseWrapper) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(transaction.atomic(using=connection.alias, durable=True))
        except RuntimeError:  # Django's own rule, which exempts TestCase
            raise ConfigurationError(NESTED) from None
        yield


@contextlib.contextmanager
def own_transaction(
    alias: str, *, write: bool, timeout: float, handler: bool
) -> Iterator[BaseDatabaseWrapper]:
    """Open a transaction with its own isolation and timeouts; reads may share one of the shop's.

    Raises:
        LedgerError: the database failed; never what the block itself raises in ``handler`` mode.
        ConfigurationError: a transaction that writes would be part of another one.

    """
    committing = False
    try:
        with left_as_found(alias) as connection:
            if write:
                connection.ensure_connection()  # only then it is known whether it commits by itself
                refuse_to_nest(connection)
            elif connection.in_atomic_block or not connection.get_autocommit():
                yield connection
                return
            with (
                _limits(connection, timeout, write=write),
                _closed_if_torn(connection),
                _durable(connection),
            ):
                _begin(connection, timeout, write=write)
                limit: AbstractContextManager[None] = contextlib.nullcontext()
                # A transaction of Django's TestCase is not ours.
                if handler and connection.vendor == "sqlite" and not connection.savepoint_ids:
                    # Once closed, Django rolls back no more, and opens another one for what comes next.
                    limit = time_limit(connection.connection, timeout, connection.close)
                with limit:
                    yield connection
                _require_commit(connection)
                if handler:
                    _refuse_swallowed_error(connection)
                committing = write  # what was only read cannot be in doubt
    except Error as error:
        if handler:
            raise
        raise LedgerError(description(error), uncertain=committing) from None  # it holds statements' values


@contextlib.contextmanager
def left_as_found(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """Close afterwards what was opened meanwhile: only in the threads of requests does Django do that."""
    connection = connection_of(alias)
    were_open = {each.alias for each in connections.all(initialized_only=True) if each.connection is not None}
    try:
        yield connection
    finally:
        for each in connections.all(initialized_only=True):
            if each.alias not in were_open and not each.in_atomic_block:
                each.close()


@contextlib.contextmanager
def _closed_if_torn(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Close a connection that an interruption has left inside a transaction, such as while Django began it.

    Nobody else would end that: it would keep its locks, and everything later on this connection would fail.
    """
    was_in_one = connection.connection is not None and not connection.autocommit  # nor is it inside atomic()
    try:
        yield
    except BaseException as error:
        if connection.vendor == "sqlite" and not isinstance(error, Exception):
            # Its traceback may hold a cursor, whose statement keeps a lock until it ends.
            traceback.clear_frames(error.__traceback__)
        if not was_in_one and connection.connection is not None and _is_in_transaction(connection):
            connection.in_atomic_block = False  # or Django would keep the closed one
            connection.close()
        raise


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    raw = connection.connection
    if connection.in_atomic_block or not connection.autocommit:
        return True
    return bool(raw.in_transaction if connection.vendor == "sqlite" else raw.info.transaction_status)


@contextlib.contextmanager
def _limits(connection: BaseDatabaseWrapper, timeout: float, *, write: bool) -> Iterator[None]:
    """Set on SQLite what cannot be set inside a transaction, and set it back."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        before = [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("busy_timeout", "synchronous")]
        cursor.execute(f"PRAGMA busy_timeout = {max(1, int(timeout * 1000))}")
        if write and before[1] < _EXTRA:
            cursor.execute(f"PRAGMA synchronous = {_EXTRA}")
    try:
        yield
    finally:
        if connection.connection is not None:
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {before[0]}")
                cursor.execute(f"PRAGMA synchronous = {before[1]}")


def _begin(connection: BaseDatabaseWrapper, timeout: float, *, write: bool) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            if write:
                # Changes nothing, and takes the lock at once, as BEGIN IMMEDIATE does: a transaction that
                # read first could not become one that writes once another one has written.
                cursor.execute("UPDATE wgf_meta SET version = version WHERE id = 0")
        elif len(connection.savepoint_ids) == 0:
            # Whatever the shop's OPTIONS are. Inside a TestCase the transaction is not ours.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute(_SET_LIMITS, {"timeout": str(max(1, int(timeout * 1000)))})


def _require_commit(connection: BaseDatabaseWrapper) -> None:
    if connection.needs_rollback:  # Django would roll back at the end, and say nothing
        msg = "the transaction was marked for rollback, by set_rollback or an error inside an inner atomic()"
        raise TransactionManagementError(msg)


def _refuse_swallowed_error(connection: BaseDatabaseWrapper) -> None:
    """Refuse to commit after an error that the handler has swallowed: nothing would be kept.

    Raises:
        DatabaseError: the transaction has failed, or SQLite has rolled it back.

    """
    if connection.vendor != "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")  # fails where PostgreSQL would answer COMMIT by rolling back
    elif not connection.connection.in_transaction:  # some errors, such as a full disk, end it at once
        msg = "the handler has swallowed an error after which SQLite has rolled its transaction back"
        raise TransactionManagementError(msg)
