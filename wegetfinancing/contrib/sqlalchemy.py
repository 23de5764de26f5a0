"""A ledger in the shop's own database: SQLite in a file, or PostgreSQL. Needs ``wegetfinancing[sql]``."""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from sqlalchemy import MetaData, insert, select, text
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from .._ledger.base import GRACE_SECONDS, LEASE_SECONDS, Apply, StoredLedger
from .._ledger.rows import Transaction
from ..credentials import Environment
from ..errors import ConfigurationError, LedgerError
from ..postbacks.settings import as_seconds
from ._sql import engines, tables
from ._sql.failures import description
from ._sql.storage import SQLTransaction

__all__ = ["SQLLedger", "metadata"]

metadata: Final[MetaData] = tables.metadata
"""The ledger's tables, all named ``wgf_...``, for migrations and joins."""

PATIENCE_SECONDS: Final = 5.0
HANDLER_SECONDS: Final = 5.0
_CREATING: Final = 0x776766  # "wgf": an advisory lock, so that two processes can create the tables at once


class SQLLedger(StoredLedger):
    """A ``Ledger`` on SQLAlchemy: SQLite on one machine, PostgreSQL for any number.

    Every method is one transaction, committed to disk before it returns. On SQLite the ledger has an engine
    of its own with ``BEGIN IMMEDIATE``, WAL and ``synchronous=FULL``; on PostgreSQL each transaction sets
    its isolation and timeouts. The settings of an engine that was passed in are not altered.

    Args:
        engine_or_url: ``"sqlite:///shop.db"``, ``"postgresql+psycopg://..."`` (psycopg 3), or an ``Engine``.
        environment: the one whose orders are kept; the tables belong to one environment.
        apply: ``def apply(connection, decision)``: what to do with a decision. It runs in the ledger's
            transaction, so that what it writes through ``connection`` takes effect exactly once.
        lease: seconds that a claimed decision is left alone.
        grace: seconds after its deadline before an application can be resolved as absent.
        patience: seconds that a statement may take or wait for a lock.
        handler_seconds: how long ``apply`` may take. On SQLite it keeps every other writer out meanwhile.

    Raises:
        ConfigurationError: a setting that cannot be right, or another kind of database.

    """

    def __init__(
        self,
        engine_or_url: Engine | URL | str,
        *,
        environment: Environment | str,
        apply: Apply | None = None,
        lease: float = LEASE_SECONDS,
        grace: float = GRACE_SECONDS,
        patience: float = PATIENCE_SECONDS,
        handler_seconds: float = HANDLER_SECONDS,
    ) -> None:
        """Check the settings; nothing is opened before the first call."""
        super().__init__(environment=environment, apply=apply, lease=lease, grace=grace)
        self._engine, self._owns_engine = engines.engine_for(engine_or_url)
        self._identity = engines.identity(self._engine)
        self._patience = as_seconds("patience", patience)
        self._handler_seconds = as_seconds("handler_seconds", handler_seconds)
        self._process = os.getpid()
        self._is_checked = False

    def create_tables(self) -> None:
        """Create the tables and the view ``wgf_loan_status``, where they are not there yet.

        Raises:
            LedgerError: the database failed, or it holds the tables of another version or environment.

        """
        with self._open(write=True, timeout=self._patience, handler=False) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATING})
                _refuse_sql_ascii(connection)
            tables.metadata.create_all(connection)
            if connection.execute(select(tables.meta)).first() is None:
                values = {
                    "id": 1,
                    "version": tables.VERSION,
                    "compatible_with": tables.VERSION,
                    "environment": self.environment.value,
                }
                connection.execute(insert(tables.meta).values(**values))
                tables.create_view(connection)
        self._check_tables()

    def close(self) -> None:
        """Close the connections of the ledger's own engine; one that was passed in stays open."""
        if self._owns_engine:
            self._engine.dispose()

    @contextlib.contextmanager
    def transaction(
        self,
        *,
        write: bool,
        timeout: float | None = None,
        connection: Connection | None = None,
        handler: bool = False,
    ) -> Iterator[Transaction]:
        """Open a transaction, or use that of the shop's ``connection``."""
        if connection is not None:
            with self._using(connection, write=write):
                yield SQLTransaction(connection)
            return
        if not self._is_checked:
            self._check_tables()
        seconds = self._handler_seconds if handler else min(timeout or self._patience, self._patience)
        with self._open(write=write, timeout=seconds, handler=handler) as own:
            yield SQLTransaction(own)

    @contextlib.contextmanager
    def _open(self, *, write: bool, timeout: float, handler: bool) -> Iterator[Connection]:
        if self._process != os.getpid():
            # The parent still uses the connections that the fork has copied: forget them, close none.
            self._engine.dispose(close=False)
            self._process = os.getpid()
        pool = self._engine.pool
        try:
            with engines.transaction(
                self._engine, write=write, timeout=timeout, handler=handler
            ) as connection:
                yield connection
        finally:
            if pool is not self._engine.pool:  # closed meanwhile: close what has come back since
                pool.dispose()

    @contextlib.contextmanager
    def _using(self, connection: Connection, *, write: bool) -> Iterator[None]:
        if not isinstance(connection, Connection):
            msg = (
                "connection must be a Connection of SQLAlchemy, as run_sync of an AsyncConnection hands over"
            )
            raise ConfigurationError(msg)
        try:
            if not self._is_checked:
                self._check_meta(connection)
            if write:
                _require_transaction(connection)
            yield
        except SQLAlchemyError as error:
            raise LedgerError(description(error)) from None

    def _check_tables(self) -> None:
        with self._open(write=False, timeout=self._patience, handler=False) as connection:
            self._check_meta(connection)
        self._is_checked = True

    def _check_meta(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            _refuse_sql_ascii(connection)
        if not connection.dialect.has_table(connection, tables.meta.name):
            msg = "the ledger's tables are not there: call create_tables() once, or migrate"
            raise LedgerError(msg)
        row = connection.execute(select(tables.meta)).one()
        if not (row.version >= tables.OLDEST_VERSION and row.compatible_with <= tables.VERSION):
            msg = f"the ledger's tables have version {row.version}, and this code works with {tables.VERSION}"
            raise LedgerError(msg)
        if row.environment != self.environment.value:
            msg = f"these tables belong to the environment {row.environment}; each needs tables of its own"
            raise LedgerError(msg)


def _refuse_sql_ascii(connection: Connection) -> None:
    if connection.scalar(text("SHOW server_encoding")) == "SQL_ASCII":
        msg = "the database's encoding is SQL_ASCII, which checks no text: create one with UTF8"
        raise LedgerError(msg)


def _require_transaction(connection: Connection) -> None:
    """Refuse AUTOCOMMIT: what the postback changes would be kept although the shop rolls back."""
    raw = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        connection.execute(tables.meta.update().where(tables.meta.c.id == 0).values(version=0))
        is_missing = not getattr(raw, "in_transaction", True)
    else:
        is_missing = bool(getattr(raw, "autocommit", False))
    if is_missing:
        msg = "the connection is in AUTOCOMMIT: once() needs a transaction"
        raise ConfigurationError(msg)
