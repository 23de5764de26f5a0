"""Plain handlers of decisions: at an endpoint in the request's thread, in a worker in one of its own."""

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from support import wsgi as wsgi_server
from test_ledger_postbacks import APPROVED, ORDER, Gone, applied
from wegetfinancing import ConfigurationError, LedgerError
from wegetfinancing.ledger import Decision, MemoryLedger, run_worker
from wegetfinancing.postbacks import PostbackApp
from wegetfinancing.postbacks.decisions import ClaimedDecision
from wegetfinancing.postbacks.leases import hand_over
from wegetfinancing.postbacks.worker import LedgerHandling
from wegetfinancing.postbacks.wsgi import PostbackApp as WSGIPostbackApp
from wegetfinancing.testing import credentials, signed_postback
from wegetfinancing.testing.contract.ledger_checking import apply_for, postback


class PlainHandler:
    """A handler that keeps what it was told, and the thread it ran in, after some failures."""

    def __init__(self, *failures: BaseException) -> None:
        self.told: list[Decision] = []
        self.threads: list[int] = []
        self.failures = list(failures)

    def __call__(self, decision: Decision) -> None:
        self.threads.append(threading.get_ident())
        if self.failures:
            raise self.failures.pop(0)
        self.told.append(decision)


def waiting(ledger: MemoryLedger) -> ClaimedDecision:
    """Record a decision of an order, and claim it."""
    applied(ledger)
    claim = ledger.claim(ledger.record(postback()).id)
    assert claim is not None
    return claim


# At an endpoint


def test_an_endpoint_without_await_calls_a_plain_handler_until_it_has_succeeded() -> None:
    ledger, handler = MemoryLedger(), PlainHandler(ZeroDivisionError())
    applied(ledger)
    app = WSGIPostbackApp(credentials(), handler, ledger=ledger)
    assert [wsgi_server.deliver(app, APPROVED) for _ in range(3)] == [500, 200, 200]
    assert [(each.order_id, each.attempt) for each in handler.told] == [(ORDER, 2)]
    assert handler.threads == [threading.get_ident()] * 2


def test_decisions_of_a_loan_are_handled_in_order_although_the_first_one_has_failed() -> None:
    ledger, handler = MemoryLedger(), PlainHandler(ZeroDivisionError())
    applied(ledger)
    app = WSGIPostbackApp(credentials(), handler, ledger=ledger)
    assert wsgi_server.deliver(app, signed_postback("preapproved", timestamp="1700000001")) == 500
    assert wsgi_server.deliver(app, signed_postback("approved", timestamp="1700000002")) == 200
    assert [each.postback.status for each in handler.told] == ["preapproved", "approved"]


def test_an_endpoint_with_await_refuses_a_plain_handler() -> None:
    handler: Any = PlainHandler()
    with pytest.raises(ConfigurationError, match="handler must be 'async def"):
        PostbackApp(credentials(), handler, ledger=MemoryLedger())


# Under a lease


def test_a_handler_that_succeeds_is_not_called_again() -> None:
    ledger, handler = MemoryLedger(), PlainHandler()
    claim = waiting(ledger)
    assert hand_over(ledger, handler, claim)
    assert ledger.claim(claim.decision.id) is None
    assert [each.id for each in handler.told] == [claim.decision.id]


def test_a_handler_that_fails_is_tried_again_after_a_pause(caplog: pytest.LogCaptureFixture) -> None:
    ledger = MemoryLedger()
    assert not hand_over(ledger, PlainHandler(ZeroDivisionError()), waiting(ledger))
    (pending,) = ledger.review().decisions
    assert (pending.state, pending.error) == ("waiting", "ZeroDivisionError")
    assert pending.due > pending.received_at
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "the handler of decision 1 (approved, order ORDER-123 of merchant 1234)"
    )
    assert record.exc_info is not None


@pytest.mark.parametrize("interruption", [SystemExit, KeyboardInterrupt])
def test_a_handler_that_is_interrupted_has_failed(interruption: type[BaseException]) -> None:
    ledger = MemoryLedger()
    claim = waiting(ledger)
    with pytest.raises(interruption):
        hand_over(ledger, PlainHandler(interruption()), claim)
    (pending,) = ledger.review().decisions
    assert pending.error == "interrupted"
    assert ledger.claim(claim.decision.id) is not None  # at once, since nobody holds the lease


async def not_awaited(_: Decision) -> None:
    """What a plain caller cannot await."""


def test_a_handler_that_returns_an_awaitable_has_failed() -> None:
    ledger = MemoryLedger()
    assert not hand_over(ledger, lambda decision: not_awaited(decision), waiting(ledger))  # noqa: PLW0108 - a plain function
    assert ledger.review().decisions[0].error == "ConfigurationError"


def test_a_failure_that_cannot_be_recorded_is_left_to_the_end_of_the_lease() -> None:
    ledger = Gone({"fail": 1})
    claim = waiting(ledger)
    assert not hand_over(ledger, PlainHandler(ZeroDivisionError()), claim)
    assert ledger.claim(claim.decision.id) is None


class Renewing(MemoryLedger):
    """A ledger with a short lease, whose clock stands still, and whose database is away at first."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(lease=0.06, clock=lambda: self.now)
        self.now = 1_700_000_000.0
        self.failures = failures
        self.results: queue.Queue[bool] = queue.Queue()

    def renew(self, claim: ClaimedDecision) -> bool:
        if self.failures:
            self.failures -= 1
            raise LedgerError("away")
        is_kept = super().renew(claim)
        self.results.put(is_kept)
        return is_kept


def test_nobody_else_begins_while_a_handler_runs_although_the_database_is_away_for_a_moment() -> None:
    ledger = Renewing(failures=2)
    claim = waiting(ledger)

    def slow(_: Decision) -> None:
        ledger.now += 0.05
        # The second one began after the clock has moved.
        assert ledger.results.get(timeout=30)
        assert ledger.results.get(timeout=30)
        ledger.now += 0.05
        assert ledger.claim(claim.decision.id) is None

    assert hand_over(ledger, slow, claim)


def test_a_handler_whose_lease_was_lost_does_not_count() -> None:
    ledger = Renewing()
    claim = waiting(ledger)
    others: list[ClaimedDecision | None] = []

    def slow(_: Decision) -> None:
        ledger.now += 0.07
        others.append(ledger.claim(claim.decision.id))
        while ledger.results.get(timeout=30):
            pass

    assert not hand_over(ledger, slow, claim)
    assert others[0] is not None
    assert ledger.complete(others[0])


# In a worker


@pytest.mark.anyio
async def test_a_worker_calls_a_plain_handler_in_another_thread() -> None:
    ledger, handler = MemoryLedger(), PlainHandler()
    applied(ledger)
    ledger.record(postback())
    await run_worker(ledger, handler=handler, until_idle=True)
    assert [each.order_id for each in handler.told] == [ORDER]
    assert threading.get_ident() not in handler.threads


@pytest.mark.anyio
async def test_a_plain_handler_runs_to_its_end_although_the_worker_ends() -> None:
    ledger, began, may_end = MemoryLedger(), threading.Event(), threading.Event()
    applied(ledger)
    ledger.record(postback())

    def slow(_: Decision) -> None:
        began.set()
        assert may_end.wait(30)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(run_worker, ledger, handler=slow))
        while not began.is_set():
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert not ledger.record(postback()).settled
    may_end.set()
    while not ledger.record(postback()).settled:
        await anyio.lowlevel.checkpoint()


class OutsideOfTransactions(MemoryLedger):
    """Its ``apply`` keeps nobody else out, as on PostgreSQL, nor on SQLite once its time is over."""

    applies = True

    def __init__(self, hangs: Callable[[Decision], None]) -> None:
        super().__init__()
        self._hangs = hangs

    def apply(self, claim: ClaimedDecision) -> bool:
        self._hangs(claim.decision)
        return self.complete(claim)


@pytest.mark.anyio
@pytest.mark.parametrize("of_the_ledger", [True, False], ids=["apply", "handler"])
async def test_plain_handlers_that_hang_keep_no_postback_from_being_stored(of_the_ledger: bool) -> None:
    may_end, hanging = threading.Event(), queue.SimpleQueue[None]()

    def hangs(_: Decision) -> None:
        hanging.put(None)
        assert may_end.wait(30)

    ledger = OutsideOfTransactions(hangs) if of_the_ledger else MemoryLedger()
    for number in range(40):
        apply_for(ledger, f"order-{number}", f"inv-{number}")
    handling = LedgerHandling(ledger, None if of_the_ledger else hangs, may_be_plain=True)

    async def deliver(number: int) -> None:
        said = {"inv_id": f"inv-{number}", "merchant_transaction_id": f"order-{number}"}
        await handling(postback(**said))

    async with anyio.create_task_group() as tasks:
        orders = [f"order-{number}" for number in range(40)]
        try:
            with anyio.fail_after(20):
                for number in range(20):
                    tasks.start_soon(deliver, number)
                while hanging.qsize() < 16:  # as many as there are threads for handlers
                    await anyio.lowlevel.checkpoint()
                for number in range(20, 40):
                    tasks.start_soon(deliver, number)
                while {each.status for each in ledger.loans(orders).values()} != {"approved"}:
                    await anyio.lowlevel.checkpoint()
        finally:
            may_end.set()
    handling.close()
    assert ledger.review().decisions == ()
