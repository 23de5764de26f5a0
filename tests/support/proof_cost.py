"""The third part of the ledger's proof: what a create costs, and that nothing scans a large table."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import anyio
import sqlalchemy
from sqlalchemy import event, insert, text
from sqlalchemy.engine import Engine

from wegetfinancing import AsyncClient
from wegetfinancing.contrib.sqlalchemy import SQLLedger, metadata
from wegetfinancing.testing import FakeTransport, created_response, credentials, financing_request

from .proof_orders import Found
from .proof_processes import make_ledger

BATCH = 5_000
ROUNDS = 3
MERCHANT = credentials().merchant_id


def prove_cost(small_url: str, large_url: str, creates: int, rows: int, max_ratio: float) -> Found:
    """Measure creates without a ledger, with small tables and with large ones, turn by turn."""
    small, large = make_ledger(small_url), make_ledger(large_url)
    for ledger in (small, large):
        ledger.create_tables()
    _fill(large_url, rows)
    found = Found()
    for number in range(1, ROUNDS + 1):
        without, with_small, with_large = anyio.run(_measure, [None, small, large], creates, number)
        ratio = with_large / with_small
        found.lines.append(
            f"milliseconds per create, median of {creates}: {without:.2f} without a ledger,"
            f" {with_small:.2f} with one, {with_large:.2f} with {rows:,} loans ({ratio:.2f} times as much)"
        )
        if ratio <= max_ratio:
            break
    else:
        found.wrong.append(f"with {rows:,} loans a create costs {ratio:.2f} times as much")
    statements = _statements(large)
    engine = sqlalchemy.create_engine(large_url)
    with engine.connect() as connection:
        for statement, parameters in statements:
            plan = _plan(connection, statement, parameters)
            found.lines.append(f"{' '.join(statement.split())[:70]} ... {' | '.join(plan)}")
            found.wrong += [f"a scan: {step}" for step in plan if _scans(step)]
    engine.dispose()
    for ledger in (small, large):
        ledger.close()
    return found


async def _measure(ledgers: list[SQLLedger | None], creates: int, number: int) -> list[float]:
    """Return medians in milliseconds."""
    seconds: list[list[float]] = [[] for _ in ledgers]
    transport = FakeTransport(*(created_response(f"id-{number}-{n}") for n in range(creates * len(ledgers))))
    clients = [AsyncClient(credentials(), transport=transport, ledger=ledger) for ledger in ledgers]
    for n in range(creates):
        request = financing_request(merchant_transaction_id=f"measured-{number}-{n}")
        for client, measured in zip(clients, seconds, strict=True):
            began = time.perf_counter()
            await client.create_request(request)
            measured.append(time.perf_counter() - began)
    for client in clients:
        await client.aclose()
    return [statistics.median(each) * 1000 for each in seconds]


def _fill(url: str, rows: int) -> None:
    """Write loans and decisions as they are after years: handled, and a few of everything else."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        for values in _batches(rows):
            for name, table in values.items():
                connection.execute(insert(metadata.tables[name]), table)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # As autovacuum would have done long ago; otherwise it does so while we measure.
        for command in ["ANALYZE"] if engine.dialect.name == "sqlite" else ["VACUUM ANALYZE", "CHECKPOINT"]:
            connection.execute(text(command))
    engine.dispose()


def _batches(rows: int) -> Iterator[dict[str, list[dict[str, Any]]]]:
    loan: dict[str, Any] = {
        "merchant_id": MERCHANT,
        "state": "created",
        "deadline": 1.0,
        "created_at": 1.0,
        "updated_at": 1.0,
        "refunded": "0",
        "noted": "[]",
        "accepted": "[]",
        "holds": "[]",
        "forgotten": False,
        "may_ship": True,
        "status": "approved",
        "amount": "499.00",
        "expected_amount": "499.00",
        "token": "t" * 32,
        "fingerprint": "f" * 64,
    }
    decision: dict[str, Any] = {
        "merchant_id": MERCHANT,
        "state": "handled",
        "status": "approved",
        "version": "1.9",
        "signed_at": 1.0,
        "received_at": 1.0,
        "attempts": 1,
        "due": 1.0,
        "lease_until": 0.0,
    }
    for first in range(1, rows + 1, BATCH):
        numbers = range(first, min(first + BATCH, rows + 1))
        yield {
            "wgf_loan": [
                {**loan, "id": n + 1_000_000, "order_id": f"old-{n}", "inv_id": f"old-{n}"} for n in numbers
            ],
            "wgf_inv": [
                {"merchant_id": MERCHANT, "inv_id": f"old-{n}", "loan_id": n + 1_000_000} for n in numbers
            ],
            "wgf_decision": [
                {
                    **decision,
                    "id": n + 1_000_000,
                    "loan_id": n + 1_000_000,
                    "inv_id": f"old-{n}",
                    "order_id": f"old-{n}" if n % 2 else None,
                    "key": f"{n}:approved",
                    "digest": f"{n:064}",
                }
                for n in numbers
            ],
        }


def _statements(ledger: SQLLedger) -> list[tuple[str, Any]]:
    """Return the different statements of a create, as they are sent."""
    seen: dict[str, Any] = {}

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "wgf_" in statement:
            seen.setdefault(statement, parameters)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        anyio.run(_create_once, ledger)
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    return list(seen.items())


async def _create_once(ledger: SQLLedger) -> None:
    transport = FakeTransport(created_response("id-explained"))
    async with AsyncClient(credentials(), transport=transport, ledger=ledger) as client:
        await client.create_request(financing_request(merchant_transaction_id="explained"))


def _plan(connection: sqlalchemy.Connection, statement: str, parameters: Any) -> list[str]:
    with connection.begin() as transaction:
        if connection.dialect.name == "sqlite":
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plan = [row.detail for row in rows]
        else:
            rows = connection.exec_driver_sql(f"EXPLAIN (COSTS off) {statement}", parameters)
            plan = [row[0].strip().removeprefix("->  ") for row in rows]
        transaction.rollback()
    return plan


def _scans(step: str) -> bool:
    return step.startswith(("SCAN ", "Seq Scan"))
