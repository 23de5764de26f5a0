"""Empty ledgers on each storage, for the length of a test."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy

from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.ledger import Ledger, MemoryLedger

from .postgresql import Server

_numbers = itertools.count()


@contextlib.contextmanager
def memory_ledgers() -> Iterator[Callable[..., Ledger]]:
    """Make ledgers in memory."""
    yield MemoryLedger


@contextlib.contextmanager
def sqlite_ledgers(folder: Path) -> Iterator[Callable[..., SQLLedger]]:
    """Make ledgers in SQLite files of their own."""
    with contextlib.ExitStack() as open_ledgers:

        def make(**settings: Any) -> SQLLedger:
            url = f"sqlite:///{folder / f'ledger-{next(_numbers)}.db'}"
            ledger = SQLLedger(url, **{"environment": "sandbox", **settings})
            open_ledgers.callback(ledger.close)
            ledger.create_tables()
            return ledger

        yield make


def new_database(server: Server) -> str:
    """Create an empty database, and return its URL."""
    name = f"shop_{next(_numbers)}"
    engine = sqlalchemy.create_engine(server.url(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} STRATEGY file_copy")
    engine.dispose()
    return server.url(name)


@contextlib.contextmanager
def postgresql_ledgers(server: Server) -> Iterator[Callable[..., SQLLedger]]:
    """Make ledgers in one database; each empties it, so only the last one is used."""
    url = new_database(server)
    with contextlib.ExitStack() as open_ledgers:

        def make(**settings: Any) -> SQLLedger:
            ledger = SQLLedger(url, **{"environment": "sandbox", **settings})
            open_ledgers.callback(ledger.close)
            ledger.create_tables()
            engine = sqlalchemy.create_engine(url)
            with engine.begin() as connection:
                connection.exec_driver_sql("TRUNCATE wgf_loan, wgf_inv, wgf_decision, wgf_worker")
            engine.dispose()
            return ledger

        yield make
