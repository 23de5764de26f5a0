"""Two PostgreSQL connections stepped through every interleaving: a postback and a create's answer."""

import contextlib
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import text

from support.ledgers import new_database
from support.postgresql import Server
from support.statements import watching
from wegetfinancing._ledger.rows import Transaction
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.testing.contract.ledger_checking import ORDER, application, created, postback

MAX_STEPS = 20  # more than either has
PATIENCE = 10.0


class Stepped:
    """A function in a thread that stops before each statement and before COMMIT until it is let go on."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.arrived: queue.Queue[str] = queue.Queue()
        self.go: queue.Queue[None] = queue.Queue()
        self.pid: int | None = None
        self.is_blocked = False
        self.has_ended = False
        self.error: BaseException | None = None
        self.function = function
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            self.function()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self.error = error
        self.arrived.put("END")

    def stop(self, connection: Any, statement: str) -> None:
        self.pid = connection.connection.dbapi_connection.info.backend_pid
        self.arrived.put(statement)
        self.go.get(timeout=PATIENCE)

    @property
    def can_go_on(self) -> bool:
        return not self.has_ended and not self.is_blocked

    def has_arrived(self, timeout: float) -> bool:
        try:
            self.has_ended = self.arrived.get(timeout=timeout) == "END"
        except queue.Empty:
            return False
        self.is_blocked = False
        return True


class Schedule:
    """Runs two functions step by step in the order that ``plan`` names them, then whichever can go on.

    Attributes:
        taken: which one took each step.

    """

    def __init__(self, engine: sqlalchemy.Engine, plan: list[int]) -> None:
        self.engine = engine
        self.plan = plan
        self.taken: list[int] = []

    def run(self, *functions: Callable[[], object]) -> None:
        both = [Stepped(function) for function in functions]
        by_thread = {each.thread: each for each in both}

        def watcher(connection: Any, statement: str) -> None:
            stepped = by_thread.get(threading.current_thread())
            if stepped is not None:
                stepped.stop(connection, statement)

        with watching(watcher):
            for each in both:
                each.thread.start()
                assert each.has_arrived(PATIENCE)
            while runnable := self.runnable(both):
                wanted = self.plan[len(self.taken)] if len(self.taken) < len(self.plan) else runnable[0]
                which = wanted if wanted in runnable else runnable[0]
                self.taken.append(which)
                self.step(both[which], both[1 - which])
        for each in both:
            each.thread.join(PATIENCE)
            assert each.has_ended, "both wait for each other"
            if each.error is not None:
                raise each.error

    def runnable(self, both: list[Stepped]) -> list[int]:
        """Return which ones can go on; one that has only waited for a moment is looked at again."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            runnable = [which for which in (0, 1) if both[which].can_go_on]
            if runnable or all(each.has_ended for each in both):
                return runnable
            for each in both:
                if each.is_blocked:
                    each.has_arrived(0.003)
        return []

    def step(self, stepped: Stepped, other: Stepped) -> None:
        stepped.go.put(None)
        while not stepped.has_arrived(0.003):
            if self.waits_for_a_lock(stepped):
                stepped.is_blocked = True
                return
        while other.is_blocked and not other.has_arrived(0.003):  # this step may have let it go on
            if self.waits_for_a_lock(other):
                return

    def waits_for_a_lock(self, stepped: Stepped) -> bool:
        query = text("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = :pid")
        with self.engine.connect() as connection:
            return bool(connection.scalar(query, {"pid": stepped.pid}))


def with_two_switches(run: Callable[[list[int]], Schedule]) -> int:
    """Let each one begin, interrupt it after any number of steps for any number of the other's; count."""
    seen: set[tuple[int, ...]] = set()
    for first, others in itertools.product((0, 1), range(MAX_STEPS)):
        for steps in range(1, MAX_STEPS):
            plan = [first] * others + [1 - first] * steps + [first] * MAX_STEPS
            taken = tuple(run(plan).taken)
            if taken in seen:  # the other one is blocked there, or has ended
                break
            seen.add(taken)
    return len(seen)


def exhaustively(run: Callable[[list[int]], Schedule]) -> int:
    """Run every schedule there is, depth first; return how many."""
    plans: list[list[int]] = [[]]
    seen: set[tuple[int, ...]] = set()
    while plans:
        plan = plans.pop()
        taken = tuple(run(plan).taken)
        if taken not in seen:
            seen.add(taken)
            plans += [[*taken[:at], 1 - taken[at]] for at in range(len(plan), len(taken))]
    return len(seen)


@pytest.fixture(scope="module")
def engine(postgresql: Server) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(new_database(postgresql), pool_size=10)
    yield engine
    engine.dispose()


def check_every_schedule(ledger: SQLLedger, engine: sqlalchemy.Engine) -> int:
    """Require that the postback always finds its order; return how many schedules there are."""
    numbers = itertools.count()

    def run(plan: list[int]) -> Schedule:
        order_id = f"{ORDER}-{next(numbers)}"
        intent = application(order_id)
        ledger.begin(intent)
        said = postback(inv_id=order_id, merchant_transaction_id=None)
        schedule = Schedule(engine, plan)
        schedule.run(lambda: ledger.record(said), lambda: ledger.record_answer(intent, created(order_id)))
        loan = ledger.loan(order_id)
        assert loan is not None
        assert loan.status == "approved", f"they missed each other in {schedule.taken}"
        return schedule

    return exhaustively(run) if "LEDGER_LONG" in os.environ else with_two_switches(run)


class TransactionThatOnlyLooks:
    """A transaction that reads the row of the vendor's ID in place of locking it."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transaction, name)

    def lock_inv_id(self, merchant_id: str, inv_id: str) -> int | None:
        query = text("SELECT loan_id FROM wgf_inv WHERE merchant_id = :merchant_id AND inv_id = :inv_id")
        found: int | None = self.connection.scalar(query, {"merchant_id": merchant_id, "inv_id": inv_id})
        return found


class LooksWithoutLocking(SQLLedger):
    """A ledger without the row that both sides lock first."""

    @contextlib.contextmanager
    def transaction(self, **settings: Any) -> Iterator[Any]:
        with super().transaction(**settings) as tx:
            yield TransactionThatOnlyLooks(tx)


@pytest.mark.long
def test_a_postback_and_the_answer_always_find_each_other(engine: sqlalchemy.Engine) -> None:
    ledger = SQLLedger(engine, environment="sandbox")
    ledger.create_tables()
    assert check_every_schedule(ledger, engine) > 30


def test_without_the_common_row_they_miss_each_other(engine: sqlalchemy.Engine) -> None:
    """So the schedules are such that they could."""
    ledger = LooksWithoutLocking(engine, environment="sandbox")
    ledger.create_tables()
    with pytest.raises(AssertionError, match="they missed each other"):
        check_every_schedule(ledger, engine)
