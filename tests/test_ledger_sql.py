"""What is particular to a ledger in SQL: engines, transactions, and databases that fail."""

import contextlib
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import sqlalchemy
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, Text, func, insert, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from support.asgi import deliver
from support.canaries import canaries_in, credentials_with_canaries, request_with_canaries
from support.ledgers import leave_three_to_review, new_database, orders_to_review, sqlite_ledgers
from support.postgresql import Server
from support.statements import StatementFault, dying
from wegetfinancing import AsyncClient, CallError, ConfigurationError, LedgerError, Outcome
from wegetfinancing.contrib._sql.watchdog import Watchdog
from wegetfinancing.contrib.sqlalchemy import SQLLedger, metadata
from wegetfinancing.http import Request, Response
from wegetfinancing.ledger import Decision, Ledger, run_worker
from wegetfinancing.postbacks import PostbackApp
from wegetfinancing.testing import (
    FakeTransport,
    created_response,
    credentials,
    financing_request,
    signed_postback,
)
from wegetfinancing.testing.contract.ledger_checking import application, apply_for, postback

ORDER = "ORDER-123"
loans = metadata.tables["wgf_loan"]
meta = metadata.tables["wgf_meta"]

shop = MetaData()
customers = Table("customers", shop, Column("id", Integer, primary_key=True))
effects = Table(
    "effects",
    shop,
    Column("id", Integer, primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("customer", ForeignKey("customers.id", deferrable=True, initially="DEFERRED")),
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    return new_database(request.getfixturevalue("postgresql"))


@pytest.fixture
def engine(url: str) -> Iterator[sqlalchemy.Engine]:
    """An engine of the shop's own, with its tables."""
    engine = sqlalchemy.create_engine(url)
    shop.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def make_ledger(url: str, engine: sqlalchemy.Engine) -> Iterator[Callable[..., SQLLedger]]:
    made: list[SQLLedger] = []

    def make(**settings: Any) -> SQLLedger:
        made.append(SQLLedger(url, **{"environment": "sandbox", **settings}))
        made[-1].create_tables()
        return made[-1]

    yield make
    for each in made:
        each.close()


def applied(ledger: Ledger, order_id: str = ORDER, inv_id: str | None = None) -> None:
    apply_for(ledger, order_id, inv_id or postback().inv_id)


def count(engine: sqlalchemy.Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(effects)) or 0


def handle(ledger: SQLLedger, decision_id: int) -> bool:
    claim = ledger.claim(decision_id)
    assert claim is not None
    return ledger.apply(claim)


def write(connection: Connection, decision: Decision) -> None:
    connection.execute(insert(effects).values(order_id=decision.order_id))


def test_what_a_failed_handler_has_written_is_rolled_back(
    make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine
) -> None:
    failures = [ZeroDivisionError(), None]

    def apply(connection: Connection, decision: Decision) -> None:
        write(connection, decision)
        if failure := failures.pop(0):
            raise failure

    ledger = make_ledger(apply=apply)
    applied(ledger)
    recorded = ledger.record(postback())
    assert not handle(ledger, recorded.id)
    assert count(engine) == 0
    assert handle(ledger, recorded.id)
    assert count(engine) == 1


def test_a_constraint_that_fails_at_commit_is_a_failed_attempt(
    make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine
) -> None:
    def apply(connection: Connection, decision: Decision) -> None:
        connection.execute(insert(effects).values(order_id=decision.order_id, customer=1))

    ledger = make_ledger(apply=apply)
    applied(ledger)
    recorded = ledger.record(postback())
    assert not handle(ledger, recorded.id)
    assert [each.error for each in ledger.review().decisions] == ["IntegrityError"]
    with engine.begin() as connection:
        connection.execute(insert(customers).values(id=1))
    assert handle(ledger, recorded.id)
    assert count(engine) == 1


def test_a_handler_that_commits_by_itself_has_failed_and_nothing_of_it_is_kept(
    make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine
) -> None:
    """Otherwise the decision would be handled, although what comes after the commit may fail."""

    def apply(connection: Connection, decision: Decision) -> None:
        write(connection, decision)
        connection.commit()

    ledger = make_ledger(apply=apply)
    applied(ledger)
    assert not handle(ledger, ledger.record(postback()).id)
    assert count(engine) == 0
    assert [each.error for each in ledger.review().decisions] == ["InvalidRequestError"]


@pytest.mark.parametrize("by", ["connection", "session"])
def test_a_handler_that_rolls_back_by_itself_takes_no_effect_before_it_has_succeeded(
    make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine, by: str
) -> None:
    """What it writes after the rollback would be kept, and "handled" would not: applied at each attempt."""

    def apply(connection: Connection, decision: Decision) -> None:
        with Session(connection) as session:
            owner = session if by == "session" else connection
            session.execute(insert(effects).values(order_id="lost"))
            owner.rollback()
            session.execute(insert(effects).values(order_id=decision.order_id))
            session.commit()

    ledger = make_ledger(apply=apply)
    applied(ledger)
    recorded = ledger.record(postback())
    assert not handle(ledger, recorded.id)
    assert not handle(ledger, recorded.id)
    assert count(engine) == 0
    assert [each.attempts for each in ledger.review().decisions] == [2]


def test_a_handler_may_roll_back_to_a_savepoint(
    make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine
) -> None:
    def apply(connection: Connection, decision: Decision) -> None:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.execute(insert(effects).values(order_id="lost"))
            session.rollback()
            session.execute(insert(effects).values(order_id=decision.order_id))
            session.commit()

    ledger = make_ledger(apply=apply)
    applied(ledger)
    assert handle(ledger, ledger.record(postback()).id)
    assert count(engine) == 1


def test_a_handler_that_takes_too_long_is_rolled_back_and_others_can_write(
    make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine
) -> None:
    is_in, others_wrote, never = threading.Event(), threading.Event(), threading.Event()

    def apply(connection: Connection, decision: Decision) -> None:
        write(connection, decision)
        is_in.set()
        others_wrote.wait(20)
        never.wait(0.5)
        write(connection, decision)

    ledger = make_ledger(apply=apply, handler_seconds=0.3)
    applied(ledger)
    recorded = ledger.record(postback())
    thread = threading.Thread(target=handle, args=(ledger, recorded.id))
    thread.start()
    assert is_in.wait(5)
    applied(ledger, "ORDER-124", "other")  # waits for no longer than the handler may take
    assert thread.is_alive()
    others_wrote.set()
    thread.join()
    assert count(engine) == 0
    assert ledger.loan("ORDER-124") is not None
    assert ledger.review().decisions[0].attempts == 1
    applied(ledger, "ORDER-125", "another")  # the pool has no broken connection


class LateTimer(threading.Timer):
    """A timer that was about to run when it was cancelled."""

    def start(self) -> None:
        pass

    def cancel(self) -> None:
        self.function()


def test_a_watchdog_that_wakes_when_its_transaction_is_committed_rolls_nothing_back() -> None:
    raw = sqlite3.connect(":memory:")
    watchdog = Watchdog(raw, 1.0, timer=LateTimer)
    assert not watchdog.stop()
    raw.execute("SELECT 1")
    raw.close()


def test_where_a_list_is_cut_off_what_a_customer_waits_for_comes_first(
    make_ledger: Callable[..., SQLLedger],
) -> None:
    ledger = make_ledger()
    leave_three_to_review(ledger)
    listed = [orders_to_review(ledger, limit) for limit in (1, 2, 3)]
    assert listed == [["ORDER-2"], ["ORDER-2", "ORDER-3"], ["ORDER-2", "ORDER-3", "ORDER-1"]]


def test_a_statement_that_takes_too_long_is_ended(make_ledger: Callable[..., SQLLedger]) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    ended: list[float] = []

    def apply(connection: Connection, _: Decision) -> None:
        began = time.monotonic()
        try:
            connection.exec_driver_sql(endless)
        finally:
            ended.append(time.monotonic() - began)

    ledger = make_ledger(apply=apply, handler_seconds=0.2)
    applied(ledger)
    assert not handle(ledger, ledger.record(postback()).id)
    assert ended[0] < 5


def test_once_records_in_the_shops_own_transaction(
    make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine
) -> None:
    ledger = make_ledger()
    applied(ledger)
    with engine.connect() as connection:
        decision = ledger.once(connection, postback())
        assert decision is not None
        write(connection, decision)
        connection.rollback()
    assert ledger.loan(ORDER).status is None  # type: ignore[union-attr] # it is there
    with engine.begin() as connection:
        decision = ledger.once(connection, postback())
        assert decision is not None
        assert decision.order_id == ORDER
        write(connection, decision)
        assert ledger.loan(ORDER, connection=connection).may_ship  # type: ignore[union-attr] # it is there
    with engine.begin() as connection:
        assert ledger.once(connection, postback()) is None
        assert ledger.once(connection, postback(signed=2)) is None
        assert ledger.once(connection, postback(inv_id="x", merchant_transaction_id=None)) is None
    assert count(engine) == 1
    assert [each.code for each in ledger.loan(ORDER).held] == ["repeated"]  # type: ignore[union-attr] # it is there


def test_once_leaves_alone_what_another_has_or_waits_for(
    make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine
) -> None:
    ledger = make_ledger()
    applied(ledger)
    first = ledger.record(postback("preapproved"))
    claim = ledger.claim(first.id)
    assert claim is not None
    with engine.begin() as connection:
        assert ledger.once(connection, postback("preapproved")) is None
        assert ledger.once(connection, postback(signed=2)) is None
    ledger.complete(claim)
    with engine.begin() as connection:
        assert ledger.once(connection, postback(signed=2)) is not None


def test_once_needs_a_transaction_of_this_database(
    make_ledger: Callable[..., SQLLedger], url: str, engine: sqlalchemy.Engine
) -> None:
    ledger = make_ledger()
    applied(ledger)
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    with connection, pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        ledger.once(connection, postback())
    with pytest.raises(ConfigurationError, match="a Connection of SQLAlchemy"):
        ledger.once(object(), postback())
    fresh = SQLLedger(url, environment="live")
    with engine.begin() as connection, pytest.raises(LedgerError, match="environment sandbox"):
        fresh.once(connection, postback())
    with engine.begin() as connection, pytest.raises(LedgerError, match="failed: "), dying(StatementFault(0)):
        ledger.loan(ORDER, connection=connection)


@pytest.mark.anyio
async def test_an_async_engine_serves_through_run_sync(
    make_ledger: Callable[..., SQLLedger], url: str, anyio_backend: str
) -> None:
    if anyio_backend != "asyncio" or not url.startswith("postgresql"):
        pytest.skip("SQLAlchemy's async engines run on asyncio; no async SQLite driver is installed")
    ledger = make_ledger()
    applied(ledger)
    engine = create_async_engine(url)
    with pytest.raises(ConfigurationError, match="run_sync"):
        SQLLedger(engine, environment="sandbox")  # type: ignore[arg-type] # what is tested
    async with engine.begin() as connection:
        decision = await connection.run_sync(ledger.once, postback())
        assert decision is not None
    await engine.dispose()
    assert ledger.claim() is None


def test_an_engine_in_autocommit_keeps_nothing_of_a_failed_handler(
    url: str, engine: sqlalchemy.Engine
) -> None:
    def apply(connection: Connection, decision: Decision) -> None:
        write(connection, decision)
        raise ZeroDivisionError

    own = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    ledger = SQLLedger(own, environment="sandbox", apply=apply)
    ledger.create_tables()
    applied(ledger)
    handle(ledger, ledger.record(postback()).id)
    ledger.close()
    assert count(engine) == 0
    with own.connect() as connection:
        raw: Any = connection.connection.dbapi_connection  # its settings are as they were
        assert raw.isolation_level is None if url.startswith("sqlite") else raw.autocommit
    own.dispose()


@pytest.mark.parametrize(
    ("target", "way_out"),
    [
        ("sqlite://", "in a file"),
        ("sqlite:///:memory:", "in a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "in a file"),
        ("postgresql+psycopg2://u:secret@h/d", "postgresql\\+psycopg2"),
        ("mysql+pymysql://u:secret@h/d", "mysql"),
        ("no url: secret", "needs an Engine or a URL"),
        ("postgresql+psycopg://me:an@secret:of@host/shop", "needs an Engine or a URL"),
        (None, "needs an Engine or a URL"),
    ],
)
def test_other_databases_are_refused(target: Any, way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out) as caught:
        SQLLedger(target, environment="sandbox")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"environment": "elsewhere"},
        {"apply": 1},
        {"lease": 0},
        {"grace": float("nan")},
        {"patience": "5"},
        {"handler_seconds": -1},
    ],
)
def test_settings_that_cannot_be_right_are_refused(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ConfigurationError, match=name):
        SQLLedger("sqlite:///shop.db", **{"environment": "sandbox", **settings})


def test_without_its_tables_it_says_what_to_do(url: str) -> None:
    ledger = SQLLedger(url, environment="sandbox")
    with pytest.raises(LedgerError, match=r"create_tables\(\)"):
        ledger.loan(ORDER)
    ledger.close()


def test_tables_of_another_version_or_environment_are_refused(
    make_ledger: Callable[..., SQLLedger], url: str, engine: sqlalchemy.Engine
) -> None:
    applied(make_ledger())
    live = SQLLedger(url, environment="live")
    with pytest.raises(LedgerError, match="belong to the environment sandbox"):
        live.create_tables()
    live.close()
    for values, is_accepted in (
        ({"version": 0, "compatible_with": 0}, False),
        ({"version": 2, "compatible_with": 2}, False),
        ({"version": 2, "compatible_with": 1}, True),  # deployed ahead of this code
    ):
        with engine.begin() as connection:
            connection.execute(update(meta).values(**values))
        other = SQLLedger(url, environment="sandbox")
        if is_accepted:
            assert other.loan(ORDER) is not None
        else:
            with pytest.raises(LedgerError, match="have version"):
                other.begin(application())
        other.close()


def test_the_view_shows_each_loan(make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine) -> None:
    ledger = make_ledger()
    applied(ledger)
    ledger.record(postback())
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM wgf_loan_status")).mappings().one()
    assert (row["order_id"], row["status"], bool(row["may_ship"])) == (ORDER, "approved", True)
    assert row["holds"] == "[]"


def test_after_a_fork_the_child_uses_connections_of_its_own(make_ledger: Callable[..., SQLLedger]) -> None:
    ledger = make_ledger()
    applied(ledger)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if ledger.loan(ORDER) is not None else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.loan(ORDER) is not None


def test_what_a_thread_still_uses_when_the_ledger_is_closed_is_closed_afterwards(tmp_path: Path) -> None:
    ledger = SQLLedger(f"sqlite:///{tmp_path / 'shop.db'}", environment="sandbox")
    ledger.create_tables()
    with ledger.transaction(write=False) as tx:
        raw = tx.connection.connection.dbapi_connection
        ledger.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        raw.execute("SELECT 1")


@pytest.fixture
def failing(
    make_ledger: Callable[..., SQLLedger], url: str, engine: sqlalchemy.Engine
) -> Callable[[str], contextlib.AbstractContextManager[SQLLedger]]:
    """Ledgers whose database fails in one way, until the end of a block."""
    on_sqlite = url.startswith("sqlite")

    @contextlib.contextmanager
    def locked() -> Iterator[SQLLedger]:
        ledger = make_ledger(patience=0.1)
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if on_sqlite else "LOCK wgf_loan, wgf_inv")
            yield ledger
            connection.rollback()

    @contextlib.contextmanager
    def read_only() -> Iterator[SQLLedger]:
        make_ledger()
        if on_sqlite:
            target = url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
        else:
            target = f"{url}&options=-c%20default_transaction_read_only%3Don"
        ledger = SQLLedger(target, environment="sandbox")
        yield ledger
        ledger.close()

    @contextlib.contextmanager
    def full() -> Iterator[SQLLedger]:
        if not on_sqlite:
            pytest.skip("a server that stops at a full disk is the same as one that is gone")
        ledger = make_ledger()
        applied(ledger, "before", "before")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        index_size = 32 * 1024  # of the log's index, without which nothing can be read either
        resource.setrlimit(resource.RLIMIT_FSIZE, (index_size, before[1]))
        try:
            yield ledger
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    @contextlib.contextmanager
    def gone() -> Iterator[SQLLedger]:
        make_ledger()
        elsewhere = url.replace("/shop.db", "/gone/shop.db").replace("host=", "host=/gone")
        ledger = SQLLedger(elsewhere, environment="sandbox")
        yield ledger
        ledger.close()

    return lambda name: {"locked": locked, "read_only": read_only, "full": full, "gone": gone}[name]()


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["locked", "read_only", "full", "gone"])
async def test_a_database_that_fails_lets_nothing_be_sent_and_loses_nothing(
    failing: Callable[[str], contextlib.AbstractContextManager[SQLLedger]],
    make_ledger: Callable[..., SQLLedger],
    way: str,
) -> None:
    transport = FakeTransport()
    with failing(way) as ledger:
        async with AsyncClient(credentials(), transport=transport, ledger=ledger, timeout=20.0) as client:
            with pytest.raises(CallError, match="the ledger's database failed") as caught:
                await client.create_request(financing_request())
        assert caught.value.outcome is Outcome.NOT_SENT
        assert transport.requests == []
        with pytest.raises(LedgerError):
            ledger.record(postback())
        app = PostbackApp(credentials(), accept_all, ledger=ledger, patience=0)
        assert await deliver(app, signed_postback(timestamp="1700000001")) == 503
    healthy = make_ledger()
    assert healthy.loan(ORDER) is None
    async with AsyncClient(credentials(), transport=transport, ledger=healthy) as client:
        await client.create_request(financing_request())
    assert len(transport.requests) == 1


async def accept_all(decision: Decision) -> None:
    pass


def test_a_table_that_is_missing_asks_for_the_migrations(
    make_ledger: Callable[..., SQLLedger], engine: sqlalchemy.Engine
) -> None:
    ledger = make_ledger()
    assert ledger.loan(ORDER) is None
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE wgf_decision")
    with pytest.raises(LedgerError, match=r"database failed: .*; have the migrations been applied\?$"):
        ledger.record(postback())


def test_a_shop_that_has_not_committed_its_order_is_told_to(tmp_path: Path) -> None:
    ledger = SQLLedger(f"sqlite:///{tmp_path / 'shop.db'}", environment="sandbox", patience=0.1)
    ledger.create_tables()
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.executescript("CREATE TABLE orders (id); BEGIN; INSERT INTO orders VALUES ('ORDER-123')")
        with pytest.raises(LedgerError, match=r"is locked; if a transaction of your own is open, commit it"):
            ledger.begin(application())
        shop.commit()
    ledger.begin(application())
    ledger.close()


def test_a_cluster_that_checks_no_text_is_refused(postgresql: Server) -> None:
    admin = sqlalchemy.create_engine(postgresql.url(), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    admin.dispose()
    ledger = SQLLedger(postgresql.url("ascii"), environment="sandbox")
    with pytest.raises(LedgerError, match="SQL_ASCII"):
        ledger.create_tables()
    with pytest.raises(LedgerError, match="SQL_ASCII"):
        ledger.loan(ORDER)
    ledger.close()


def test_both_give_the_tables_to_processes_that_start_at_once(url: str) -> None:
    ledgers = [SQLLedger(url, environment="sandbox") for _ in range(4)]
    with ThreadPoolExecutor(len(ledgers)) as threads:
        list(threads.map(SQLLedger.create_tables, ledgers))
    for ledger in ledgers:
        assert ledger.loan(ORDER) is None
        ledger.close()


def contents_of(folder: Path) -> str:
    files = [path.read_bytes() for path in folder.iterdir() if "-shm" not in path.name]
    return b"".join(files).decode("latin-1")


@pytest.mark.anyio
async def test_the_files_hold_no_personal_data_and_no_password(tmp_path: Path) -> None:
    with sqlite_ledgers(tmp_path) as make:
        ledger = make()
        owner, request = credentials_with_canaries(), request_with_canaries()
        order_id = request.merchant_transaction_id
        assert order_id is not None
        secret_page = "https://partner.invalid/lc/secret-page"
        transport = FakeTransport(created_response(href=secret_page))
        async with AsyncClient(owner, transport=transport, ledger=ledger) as client:
            await client.create_request(request)
        said = signed_postback(merchant_transaction_id=order_id, credentials=owner)
        app = PostbackApp(owner, accept_all, ledger=ledger)
        assert await deliver(app, said) == 200
        assert ledger.loan(order_id).status == "approved"  # type: ignore[union-attr] # it is there
        ledger.close()
        contents = contents_of(tmp_path)
    assert order_id in contents
    assert canaries_in(contents) == []
    assert "secret-page" not in contents
    assert said.body.decode() not in contents


@pytest.mark.anyio
async def test_of_a_hundred_creates_one_is_sent_and_recorded_although_a_handler_holds_the_lock(
    tmp_path: Path,
) -> None:
    """A limiter of 40 threads, a vendor that takes its time, a handler that holds SQLite's lock."""
    seconds = float(os.environ.get("LEDGER_VENDOR_SECONDS", "0.5"))
    is_in, never = threading.Event(), threading.Event()

    def apply(connection: Connection, decision: Decision) -> None:
        is_in.set()
        never.wait(2 * seconds + 1)

    class Vendor(FakeTransport):
        def __init__(self) -> None:
            super().__init__()
            self.arrived = anyio.Event()

        async def send(self, request: Request) -> Response:
            self.arrived.set()
            await anyio.to_thread.run_sync(is_in.wait, 5)
            await anyio.sleep(seconds)
            return await super().send(request)

    with sqlite_ledgers(tmp_path) as make:
        ledger = make(apply=apply, handler_seconds=seconds + 0.5)
        applied(ledger, "other", "other")
        anyio.to_thread.current_default_thread_limiter().total_tokens = 40
        transport, answers = Vendor(), []
        async with AsyncClient(credentials(), transport=transport, ledger=ledger, timeout=20) as client:

            async def click() -> None:
                answers.append(await client.create_request(financing_request()))

            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(click)
                await transport.arrived.wait()
                ledger.record(postback(inv_id="other", merchant_transaction_id=None))
                tasks.start_soon(lambda: run_worker(ledger, until_idle=True))
    assert len(transport.requests) == 1
    assert len(answers) == 100
