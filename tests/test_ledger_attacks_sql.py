"""Ways to lose money with a ledger in a database that were tried; none of them works any more."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from support.ledgers import new_database
from support.postgresql import Server
from wegetfinancing import LedgerError
from wegetfinancing._loan import Verdict
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.ledger import Decision
from wegetfinancing.testing.contract.ledger_checking import LedgerBench, application, created, postback


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


def test_a_handler_that_swallows_an_error_of_the_database_has_failed(
    make_ledger: Callable[..., SQLLedger],
) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction by rolling it back, without an error."""

    def apply(connection: Connection, decision: Decision) -> None:
        with contextlib.suppress(DBAPIError):
            connection.exec_driver_sql("SELECT * FROM nowhere")

    ledger = make_ledger(apply=apply)
    LedgerBench(lambda: ledger).applied(ledger)
    claim = ledger.claim(ledger.record(postback()).id)
    assert claim is not None
    assert not ledger.apply(claim)
    assert [each.error for each in ledger.review().decisions] == ["InvalidRequestError"]


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
