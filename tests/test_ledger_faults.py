"""A database that dies at every statement: one application, no decision lost, each effect exactly once."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, insert, select
from sqlalchemy.engine import Connection

from support.asgi import deliver
from support.ledgers import new_database
from support.postgresql import Server
from support.proxy import losing_proxy
from support.statements import KilledError, StatementFault, dying
from wegetfinancing import AsyncClient, CallError, Outcome
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.ledger import Decision, run_worker
from wegetfinancing.postbacks import PostbackApp
from wegetfinancing.testing import (
    FakeTransport,
    created_response,
    credentials,
    financing_request,
    signed_postback,
)

pytestmark = [pytest.mark.anyio, pytest.mark.long]

EVERY = 1 if "LEDGER_LONG" in os.environ else 5
DELIVERIES = 4

shop_tables = MetaData()
effects = Table(
    "effects", shop_tables, Column("id", Integer, primary_key=True), Column("order_id", Text, nullable=False)
)


def apply(connection: Connection, decision: Decision) -> None:
    connection.execute(insert(effects).values(order_id=decision.order_id))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('faults') / 'shop.db'}"
    else:
        url = new_database(request.getfixturevalue("postgresql"))
    with opened(url) as ledger:
        ledger.create_tables()
    engine = sqlalchemy.create_engine(url)
    shop_tables.create_all(engine)
    engine.dispose()
    return url


@contextlib.contextmanager
def opened(url: str) -> Iterator[SQLLedger]:
    ledger = SQLLedger(url, environment="sandbox", apply=apply, lease=0.001)
    try:
        yield ledger
    finally:
        ledger.close()


def count_effects(url: str, order_id: str) -> int:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        count = connection.scalar(select(func.count()).where(effects.c.order_id == order_id))
    engine.dispose()
    assert count is not None
    return count


class Trade:
    """One order, from the click to the approval, however often the shop and the vendor have to try."""

    def __init__(self, url: str, order_id: str) -> None:
        self.url = url
        self.order_id = order_id
        self.transport = FakeTransport()
        self.outcomes: list[Outcome | None] = []

    async def create(self) -> None:
        """Apply; try again when it is said that nothing was sent."""
        with opened(self.url) as ledger:
            async with AsyncClient(
                credentials(), transport=self.transport, ledger=ledger, timeout=1.0
            ) as client:
                while self.outcomes in ([], [Outcome.NOT_SENT]):
                    request = financing_request(merchant_transaction_id=self.order_id)
                    try:
                        await client.create_request(request)
                        self.outcomes.append(None)
                    except CallError as error:
                        self.outcomes.append(error.outcome)

    async def hear(self) -> list[int]:
        """Receive the approval as often as the vendor delivers it."""
        statuses: list[int] = []
        said = signed_postback(
            inv_id=f"id-{self.order_id}", merchant_transaction_id=self.order_id, timestamp="1700000001"
        )
        with opened(self.url) as ledger:
            app = PostbackApp(credentials(), ledger=ledger, patience=0)
            while 200 not in statuses and len(statuses) < DELIVERIES:
                statuses.append(await deliver(app, said))
        return statuses

    async def check(self) -> None:
        """Require what the ledger promises, now that nothing fails any more."""
        with opened(self.url) as ledger:
            await run_worker(ledger, until_idle=True)
            loan = ledger.loan(self.order_id)
        assert loan is not None
        assert loan.status == "approved"
        assert len(self.transport.requests) <= 1
        assert count_effects(self.url, self.order_id) == 1


numbers = itertools.count()


async def trade_with(url: str, fault: StatementFault) -> bool:
    """Make one trade in which something fails once; return whether it has."""
    trade = Trade(url, f"ORDER-{next(numbers)}")
    trade.transport = FakeTransport(*[answer_for(trade.order_id)] * 3)
    with dying(fault):
        for step in (trade.create, trade.hear):
            for _ in range(3):
                try:
                    await step()
                    break
                except KilledError:
                    fault.kills = False  # a new process
                    fault.at = -1
    if not fault.kills or not fault.has_happened:
        assert trade.outcomes[-1] is not Outcome.NOT_SENT, "told NOT_SENT, and stuck"
    assert 200 in await trade.hear()
    await trade.check()
    return fault.has_happened


def answer_for(order_id: str) -> Any:
    return created_response(f"id-{order_id}")


@pytest.mark.parametrize("is_lost", [False, True], ids=["dies", "loses_commits"])
async def test_a_connection_that_dies_at_any_statement_costs_nothing(url: str, is_lost: bool) -> None:
    at = 0
    while await trade_with(url, StatementFault(at, is_lost=is_lost)):
        at += EVERY
    assert at > 20


async def test_an_answer_of_postgresql_that_a_proxy_loses_costs_nothing(postgresql: Server) -> None:
    """The statement was carried out, COMMIT too, and nobody on this side knows."""
    direct = new_database(postgresql)
    with opened(direct) as ledger:
        ledger.create_tables()
    engine = sqlalchemy.create_engine(direct)
    shop_tables.create_all(engine)
    engine.dispose()
    with losing_proxy(postgresql) as proxy:
        at, has_lost = 0, True
        while has_lost:
            trade = Trade(proxy.url(direct.partition("@/")[2].partition("?")[0]), f"ORDER-{next(numbers)}")
            trade.transport = FakeTransport(*[answer_for(trade.order_id)] * 3)
            proxy.lose(at)
            await trade.create()
            statuses = await trade.hear()
            has_lost = proxy.has_lost
            proxy.lose(None)
            assert trade.outcomes[-1] is not Outcome.NOT_SENT, "told NOT_SENT, and stuck"
            assert 200 in statuses
            await trade.check()
            at += 2 * EVERY
    assert at > 20


async def test_a_process_killed_at_any_statement_costs_nothing(url: str) -> None:
    at = 0
    while await trade_with(url, StatementFault(at, kills=True)):
        at += EVERY
    assert at > 20
