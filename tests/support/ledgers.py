"""Empty ledgers on each storage, for the length of a test, and what several tests put into them."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy

from wegetfinancing import Outcome
from wegetfinancing._ledger.base import StoredLedger
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.ledger import Ledger, MemoryLedger
from wegetfinancing.testing.contract.ledger_checking import application, created, postback

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


def leave_three_to_review(ledger: StoredLedger) -> None:
    """Have three orders to review, of which a customer of the second and of the third may be waiting."""
    for order in ("ORDER-1", "ORDER-2"):
        intent = application(order)
        ledger.begin(intent)
        ledger.record_answer(intent, created(f"inv {order}", amount=None))
    ledger.record(postback("approved", inv_id="inv ORDER-2", merchant_transaction_id=None))
    intent = application("ORDER-3")
    ledger.begin(intent)
    ledger.record_failure(intent, Outcome.UNKNOWN)


def orders_to_review(ledger: StoredLedger, limit: int) -> list[str]:
    """Return the orders that a list cut off at ``limit`` names."""
    with ledger.transaction(write=False) as tx:
        return [row.order_id for row in tx.loans_to_review(tx.now(), limit, None)]
