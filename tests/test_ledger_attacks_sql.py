"""Ways to lose money with a ledger in a database that were tried; none of them works any more."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from support.ledgers import new_database
from support.postgresql import Server
from wegetfinancing import LedgerError
from wegetfinancing._loan import Verdict
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.ledger import Decision
from wegetfinancing.postbacks.decisions import ClaimedDecision
from wegetfinancing.testing.contract.ledger_checking import application, apply_for, created, postback


@pytest.fixture
def make_ledger(postgresql: Server) -> Iterator[Callable[..., SQLLedger]]:
    with contextlib.ExitStack() as stack:
        url = new_database(postgresql)

        def make(**settings: Any) -> SQLLedger:
            ledger = SQLLedger(url, environment="sandbox", **settings)
            stack.callback(ledger.close)
            ledger.create_tables()
            return ledger

        yield make


@contextlib.contextmanager
def commit_under_way(seconds: float) -> Iterator[None]:
    """The connection is lost at the COMMIT of an intent, which the server carries out so much later."""
    timers: list[threading.Timer] = []
    seen: list[Connection] = []

    def land(raw: Any) -> None:
        raw.commit()
        type(raw).close(raw)

    def lose(connection: Any) -> None:
        seen.append(connection)
        if len(seen) == 2:  # the first one only reads
            raw = connection.connection.dbapi_connection
            raw.close = raw.rollback = lambda: None  # the server still has it, and is busy
            timers.append(threading.Timer(seconds, land, [raw]))
            timers[0].start()
            raise OperationalError("", None, ConnectionError("the connection is lost"))

    event.listen(Engine, "commit", lose)
    try:
        yield
        timers[0].join()
    finally:
        event.remove(Engine, "commit", lose)


@pytest.mark.parametrize("is_new", [True, False], ids=["a new order", "an order that was not sent"])
def test_who_is_told_that_nothing_was_sent_is_not_stuck_when_the_commit_lands_later(
    make_ledger: Callable[..., SQLLedger], is_new: bool
) -> None:
    ledger = make_ledger()
    if not is_new:
        with pytest.raises(LedgerError), commit_under_way(0):
            ledger.begin(application())
    with pytest.raises(LedgerError) as caught, commit_under_way(0.3):
        ledger.begin(application())
    assert not caught.value.uncertain
    assert ledger.begin(application()).verdict is Verdict.SEND


def test_a_connection_to_a_server_that_only_reads_is_not_used_again(
    make_ledger: Callable[..., SQLLedger], postgresql: Server
) -> None:
    """As of one that a failover has made a standby: the pool kept it, and each write failed for ever."""
    ledger = make_ledger()
    with ledger.transaction(write=False) as tx:
        database = tx.connection.scalar(text("SELECT current_database()"))
    ledger.close()
    engine = create_engine(postgresql.url(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        with pytest.raises(LedgerError, match="SQLSTATE 25006"):
            ledger.begin(application())
        connection.exec_driver_sql(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    engine.dispose()
    assert ledger.begin(application()).verdict is Verdict.SEND


def test_a_handler_that_swallows_an_error_of_the_database_has_failed(
    make_ledger: Callable[..., SQLLedger],
) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction by rolling it back, without an error."""

    def apply(connection: Connection, decision: Decision) -> None:
        with contextlib.suppress(DBAPIError):
            connection.exec_driver_sql("SELECT * FROM nowhere")

    ledger = make_ledger(apply=apply)
    apply_for(ledger)
    claim = ledger.claim(ledger.record(postback()).id)
    assert claim is not None
    assert not ledger.apply(claim)
    assert [each.error for each in ledger.review().decisions] == ["InvalidRequestError"]


def test_a_handler_that_swallows_an_error_after_which_sqlite_has_rolled_back_has_failed(
    tmp_path: Path,
) -> None:
    """As after a full disk: the COMMIT of no transaction is no error."""

    def apply(connection: Connection, decision: Decision) -> None:
        with contextlib.suppress(DBAPIError):
            connection.exec_driver_sql("INSERT OR ROLLBACK INTO wgf_meta SELECT * FROM wgf_meta")

    ledger = SQLLedger(f"sqlite:///{tmp_path / 'shop.db'}", environment="sandbox", apply=apply)
    ledger.create_tables()
    apply_for(ledger)
    claim = ledger.claim(ledger.record(postback()).id)
    assert claim is not None
    assert not ledger.apply(claim)
    assert [each.error for each in ledger.review().decisions] == ["InvalidRequestError"]
    ledger.close()


def test_a_dismissed_decision_stays_dismissed_while_its_order_is_answered(
    make_ledger: Callable[..., SQLLedger],
) -> None:
    """The answer's transaction has read the decision, unmatched, when the operator dismisses it."""
    ledger = make_ledger(apply=lambda *_: None)
    intent = application()
    ledger.begin(intent)
    recorded = ledger.record(postback(merchant_transaction_id=None))
    dismissing = threading.Thread(target=ledger.dismiss, args=[recorded.id])

    def dismiss_meanwhile(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        is_reading = "wgf_decision.inv_id = " in statement and "unmatched" not in statement
        if is_reading and threading.current_thread() is threading.main_thread() and not dismissing.ident:
            dismissing.start()
            dismissing.join(0.3)  # it has to wait for the answer

    event.listen(Engine, "after_cursor_execute", dismiss_meanwhile)
    try:
        ledger.record_answer(intent, created())
    finally:
        event.remove(Engine, "after_cursor_execute", dismiss_meanwhile)
    dismissing.join()
    assert ledger.claim(recorded.id) is None
    assert ledger.review().decisions == ()


def test_a_decision_that_a_worker_claims_meanwhile_is_not_handed_over_once_more(
    postgresql: Server,
) -> None:
    """The shop's transaction has read the decision before, and locks it afterwards."""
    engine = create_engine(new_database(postgresql))
    ledger = SQLLedger(engine, environment="sandbox")
    ledger.create_tables()
    apply_for(ledger)
    recorded = ledger.record(postback())
    claims: list[ClaimedDecision | None] = []
    claiming = threading.Thread(target=lambda: claims.append(ledger.claim(recorded.id)))

    def claim_meanwhile(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        is_reading = "wgf_decision.digest = " in statement
        if is_reading and threading.current_thread() is threading.main_thread() and not claiming.ident:
            claiming.start()
            claiming.join()

    event.listen(engine, "after_cursor_execute", claim_meanwhile)
    with engine.begin() as connection:
        decision = ledger.once(connection, postback())
    engine.dispose()
    assert [each is not None for each in claims] == [True]
    assert decision is None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM wgf_worker",
        "INSERT INTO wgf_worker (id, seen_at) VALUES ('c', 0), ('d', 0) RETURNING id",
    ],
    ids=["reading", "writing"],
)
def test_what_an_interruption_leaves_unread_does_not_keep_the_next_transaction_out(
    tmp_path: Path, statement: str
) -> None:
    """Its traceback keeps the cursor, and that the snapshot: what was to be undone could not be written."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    with contextlib.ExitStack() as stack:
        ledger, other = (SQLLedger(url, environment="sandbox") for _ in range(2))
        stack.callback(ledger.close)
        stack.callback(other.close)
        ledger.create_tables()
        ledger.beat("a")
        ledger.beat("b")
        cursors: list[sqlite3.Cursor] = []

        def interrupted() -> None:
            with ledger.transaction(write=True) as tx:
                cursors.append(tx.connection.connection.cursor())
                cursors[0].execute(statement)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        other.beat("another process")
        assert ledger.begin(application()).verdict is Verdict.SEND
        cursors.clear()


def test_a_statement_that_was_interrupted_leaves_nothing_locked(tmp_path: Path) -> None:
    """SQLAlchemy closes its connection then, which SQLite puts off while the traceback has the cursor."""

    def interrupt(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO wgf_loan"):
            raise KeyboardInterrupt

    ledger = SQLLedger(f"sqlite:///{tmp_path / 'shop.db'}", environment="sandbox")
    ledger.create_tables()
    event.listen(Engine, "after_cursor_execute", interrupt)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            ledger.begin(application())
    finally:
        event.remove(Engine, "after_cursor_execute", interrupt)
    assert ledger.begin(application(), timeout=0.1).verdict is Verdict.SEND
    assert caught.tb is not None
    ledger.close()


def test_a_handler_that_takes_too_long_within_a_statement_does_not_crash_the_process(tmp_path: Path) -> None:
    """Closing its connection under the statement that ran was a segmentation fault."""

    def apply(connection: Connection, decision: Decision) -> None:
        raw: Any = connection.connection.dbapi_connection
        raw.create_function("waiting", 0, lambda: time.sleep(0.5))
        for _ in range(2):
            with contextlib.suppress(DBAPIError):
                connection.exec_driver_sql("CREATE TABLE written AS SELECT waiting() AS late")

    url = f"sqlite:///{tmp_path / 'shop.db'}"
    ledger = SQLLedger(url, environment="sandbox", apply=apply, handler_seconds=0.2)
    ledger.create_tables()
    apply_for(ledger)
    claim = ledger.claim(ledger.record(postback()).id)
    assert claim is not None
    assert not ledger.apply(claim)
    assert [each.error for each in ledger.review().decisions] == ["TimeoutError"]
    ledger.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        assert list(connection.execute("SELECT name FROM sqlite_schema WHERE name = 'written'")) == []
