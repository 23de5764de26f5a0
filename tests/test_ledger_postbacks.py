"""Postbacks with a ledger: stored before they are answered, handled until that succeeds."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from support.asgi import call, deliver
from support.ledgers import postgresql_ledgers, sqlite_ledgers
from wegetfinancing import ConfigurationError, LedgerError, UnknownPostback, parse_postback, sign_postback
from wegetfinancing.ledger import Decision, Ledger, MemoryLedger, run_worker
from wegetfinancing.postbacks import MemoryDeliveryStore, NotYet, PostbackApp, ResponseStatuses
from wegetfinancing.postbacks.decisions import ClaimedDecision
from wegetfinancing.testing import INV_ID, credentials, signed_postback
from wegetfinancing.testing.contract.ledger_checking import Shop, apply_for, postback

pytestmark = pytest.mark.anyio

ORDER = "ORDER-123"
APPROVED = signed_postback(timestamp="1700000001")


def applied(ledger: Ledger) -> None:
    apply_for(ledger)


class Handler:
    """A handler that keeps what it was told, after some failures."""

    def __init__(self, *failures: BaseException) -> None:
        self.told: list[Decision] = []
        self.failures = list(failures)

    async def __call__(self, decision: Decision) -> None:
        await anyio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        self.told.append(decision)


async def test_a_decision_is_stored_handled_and_answered_ok() -> None:
    shop = Shop()
    ledger = MemoryLedger(apply=shop)
    applied(ledger)
    app = PostbackApp(credentials(), ledger=ledger)
    assert await call(app, APPROVED.body, APPROVED.headers) == (
        200,
        {b"content-type": b"text/plain; charset=utf-8", b"content-length": b"2"},
        b"OK",
    )
    assert await deliver(app, APPROVED) == 200
    (decision,) = shop.told
    assert (decision.order_id, decision.merchant_id, decision.attempt) == (ORDER, "1234", 1)
    assert decision.postback.key == postback().key
    assert decision.loan.may_ship


async def test_an_async_handler_is_told_at_least_once() -> None:
    handler, ledger = Handler(), MemoryLedger()
    applied(ledger)
    app = PostbackApp(credentials(), handler, ledger=ledger)
    for _ in range(2):
        assert await deliver(app, APPROVED) == 200
    assert [each.postback.status for each in handler.told] == ["approved"]


async def test_an_unknown_status_reaches_the_handler_with_its_key() -> None:
    body = b'{"request_token": "df0c3186b69be8aad35ff837a841d347", "updates": {"status": "paused"}}'
    headers = {"x-timestamp": "1700000001", "x-signature": sign_postback(body, "1700000001", credentials())}
    said = parse_postback(body, headers, credentials())
    shop = Shop()
    ledger = MemoryLedger(apply=shop)
    applied(ledger)
    assert (await call(PostbackApp(credentials(), ledger=ledger), body, headers))[0] == 200
    (decision,) = shop.told
    assert isinstance(decision.postback, UnknownPostback)
    assert (decision.postback.key, decision.postback.reported_status) == (said.key, "paused")
    assert [each.code for each in decision.loan.held] == ["unknown_status"]


async def test_a_refund_whose_amount_cannot_be_read_holds_the_goods() -> None:
    ledger = MemoryLedger(apply=Shop())
    applied(ledger)
    app = PostbackApp(credentials(), ledger=ledger)
    assert await deliver(app, APPROVED) == 200
    told = {"request_token": INV_ID, "updates": {"status": "refund", "amount": "-499.00"}}
    body = json.dumps(told).encode()
    headers = {"x-timestamp": "1700000002", "x-signature": sign_postback(body, "1700000002", credentials())}
    assert (await call(app, body, headers))[0] == 200
    loan = ledger.loan(ORDER)
    assert loan is not None
    assert not loan.may_ship
    assert [each.code for each in loan.held] == ["refund"]


@pytest.mark.parametrize("failure", [ZeroDivisionError("secret"), NotYet()])
async def test_when_handling_fails_a_living_worker_decides_what_the_vendor_hears(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    for has_worker, status in ((False, 500), (True, 200)):
        handler, ledger = Handler(failure), MemoryLedger()
        applied(ledger)
        if has_worker:
            ledger.beat("one")
        app = PostbackApp(credentials(), handler, ledger=ledger)
        assert await deliver(app, APPROVED) == status
        assert "is tried again" in caplog.text
        assert await deliver(app, APPROVED) == 200
        assert len(handler.told) == 1


@pytest.mark.parametrize("later", ["approved", "preapproved", "rejected"])
async def test_what_failed_is_handled_when_a_delivery_comes_that_needs_no_handler(later: str) -> None:
    """It is held or changes nothing, such as the same decision signed anew: OK would end the deliveries."""
    handler, ledger = Handler(ZeroDivisionError(), ZeroDivisionError()), MemoryLedger()
    applied(ledger)
    app = PostbackApp(credentials(), handler, ledger=ledger)
    assert await deliver(app, APPROVED) == 500
    signed = {"approved": "1700000002", "preapproved": "1700000000", "rejected": "1700000000"}
    for status in (500, 200):
        assert await deliver(app, signed_postback(later, timestamp=signed[later])) == status
    assert [each.postback.status for each in handler.told] == ["approved"]


class FailsSlowly(MemoryLedger):
    """A ledger that lets the vendor be answered, if that can happen, before it notes a failure."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.is_answered = threading.Event()

    def fail(self, claim: ClaimedDecision, error: str) -> None:
        self.is_answered.wait(0.2)
        super().fail(claim, error)
        self.events.append("noted")


async def test_a_failure_is_noted_before_the_vendor_is_answered() -> None:
    events: list[str] = []
    ledger = FailsSlowly(events)
    applied(ledger)
    app = PostbackApp(credentials(), Handler(ZeroDivisionError()), ledger=ledger)
    assert await deliver(app, APPROVED) == 500
    events.append("answered")
    ledger.is_answered.set()
    assert events == ["noted", "answered"]


async def test_an_unmatched_decision_needs_a_worker_too() -> None:
    ledger = MemoryLedger(apply=Shop())
    app = PostbackApp(credentials(), ledger=ledger)
    assert await deliver(app, APPROVED) == 500
    ledger.beat("one")
    assert await deliver(app, APPROVED) == 200


async def test_what_is_held_for_review_is_answered_ok() -> None:
    shop = Shop()
    ledger = MemoryLedger(apply=shop)
    applied(ledger)
    app = PostbackApp(credentials(), ledger=ledger)
    for timestamp in ("1700000001", "1700000002"):
        assert await deliver(app, signed_postback(timestamp=timestamp)) == 200
    assert shop.statuses == ["approved"]


class Gone(MemoryLedger):
    """A ledger whose database is gone for some time."""

    def __init__(self, failures: dict[str, int], **settings: Any) -> None:
        super().__init__(**settings)
        self.failures = failures

    def _fail(self, name: str) -> None:
        if self.failures.get(name, 0):
            self.failures[name] -= 1
            raise LedgerError("the database is gone")

    def record(self, *args: Any) -> Any:
        self._fail("record")
        return super().record(*args)

    def claim(self, *args: Any) -> Any:
        self._fail("claim")
        return super().claim(*args)

    def apply(self, *args: Any) -> Any:
        self._fail("apply")
        return super().apply(*args)

    def fail(self, *args: Any) -> Any:
        self._fail("fail")
        return super().fail(*args)

    def beat(self, *args: Any) -> Any:
        self._fail("beat")
        return super().beat(*args)

    def end_beat(self, *args: Any) -> Any:
        self._fail("end_beat")
        return super().end_beat(*args)

    def renew(self, *args: Any) -> Any:
        self._fail("renew")
        return super().renew(*args)


async def test_a_ledger_out_of_reach_is_tried_again_and_then_answered_503(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = Gone({"record": 2}, apply=Shop())
    applied(ledger)
    assert await deliver(PostbackApp(credentials(), ledger=ledger), APPROVED) == 200
    assert caplog.records == []
    ledger = Gone({"record": 10**6}, apply=Shop())
    app = PostbackApp(credentials(), ledger=ledger, patience=0.1, statuses=ResponseStatuses(not_yet=504))
    assert await deliver(app, APPROVED) == 504
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    for part in (ORDER, "df0c3186b69be8aad35ff837a841d347", "approved"):
        assert part in record.getMessage()


async def test_a_ledger_that_goes_away_once_it_is_stored_is_a_failure() -> None:
    ledger = Gone({"claim": 1}, apply=Shop())
    applied(ledger)
    app = PostbackApp(credentials(), ledger=ledger)
    assert await deliver(app, APPROVED) == 500
    assert await deliver(app, APPROVED) == 200


async def test_a_handler_is_cut_off_at_half_a_lease() -> None:
    cancelled: list[bool] = []

    async def slow(decision: Decision) -> None:
        try:
            await anyio.sleep(60)
        finally:
            cancelled.append(True)

    ledger = MemoryLedger(lease=0.2)
    applied(ledger)
    assert await deliver(PostbackApp(credentials(), slow, ledger=ledger), APPROVED) == 500
    assert cancelled == [True]
    assert [each.error for each in ledger.review().decisions] == ["TimeoutError"]


async def test_a_handler_that_has_lost_its_lease_is_cut_off() -> None:
    began = anyio.Event()

    async def slow(decision: Decision) -> None:
        began.set()
        await anyio.sleep(60)

    class Lost(Gone):
        def renew(self, *_: Any) -> bool:
            self._fail("renew")
            return False

    ledger = Lost({"renew": 1}, lease=9.0)
    applied(ledger)
    ledger.record(postback())
    with anyio.fail_after(4.4):
        await run_worker(ledger, handler=slow, until_idle=True)
    assert began.is_set()


async def test_a_worker_that_is_cancelled_gives_its_decision_back() -> None:
    began = anyio.Event()

    async def slow(decision: Decision) -> None:
        began.set()
        await anyio.sleep(60)

    ledger = MemoryLedger()
    applied(ledger)
    recorded = ledger.record(postback())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: run_worker(ledger, handler=slow))
        await began.wait()
        with anyio.fail_after(5):  # a thread says so
            while not await anyio.to_thread.run_sync(ledger.has_worker):
                pass
        tasks.cancel_scope.cancel()
    assert not ledger.has_worker()
    claim = None
    with anyio.fail_after(5):
        while claim is None:
            claim = await anyio.to_thread.run_sync(ledger.claim, recorded.id)
    assert claim.decision.attempt == 2


async def work_until_told(ledger: MemoryLedger) -> None:
    """Run a worker until its handler hears of a decision."""
    told = anyio.Event()

    async def handler(decision: Decision) -> None:
        told.set()

    applied(ledger)
    ledger.record(postback())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: run_worker(ledger, handler=handler))
        with anyio.fail_after(5):
            await told.wait()
        tasks.cancel_scope.cancel()


async def test_a_worker_survives_a_database_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    await work_until_told(Gone({"claim": 1, "beat": 1, "end_beat": 1}))
    assert "the worker waits" in caplog.text


@pytest.mark.parametrize("method", ["claim", "apply"])
async def test_a_worker_that_does_not_stay_says_that_the_database_is_gone(method: str) -> None:
    ledger = Gone({method: 1}, apply=Shop())
    applied(ledger)
    ledger.record(postback())
    with pytest.raises(LedgerError, match="the database is gone"):
        await run_worker(ledger, until_idle=True)


async def test_a_worker_survives_an_error_that_is_not_the_ledgers(caplog: pytest.LogCaptureFixture) -> None:
    class OutOfThreads(MemoryLedger):
        failures = 1

        def claim(self, decision_id: int | None = None) -> ClaimedDecision | None:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("can't start new thread")
            return super().claim(decision_id)

    await work_until_told(OutOfThreads())
    assert "can't start new thread" in caplog.text


async def test_a_worker_ends_where_the_ledger_cannot_be_used_at_all() -> None:
    class Misconfigured(MemoryLedger):
        def match_again(self) -> int:
            raise ConfigurationError("no such database")

    with anyio.fail_after(5), pytest.raises(BaseExceptionGroup) as caught:
        await run_worker(Misconfigured(apply=Shop()))
    assert caught.group_contains(ConfigurationError)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_of_something_that_a_handler_awaits_does_not_end_the_worker() -> None:
    """asyncio's CancelledError ends a task without a word, whoever it was meant for."""

    async def handler(decision: Decision) -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    ledger = MemoryLedger()
    applied(ledger)
    ledger.record(postback())
    await run_worker(ledger, handler=handler, until_idle=True)
    assert [each.error for each in ledger.review().decisions] == ["Cancelled"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_of_something_that_a_plain_handler_runs_does_not_end_the_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def notify() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    def apply(connection: object, decision: Decision) -> None:
        asyncio.run(notify())

    ledger = MemoryLedger(apply=apply)
    applied(ledger)
    ledger.record(postback())
    await run_worker(ledger, until_idle=True)
    assert "was cancelled; it is tried again" in caplog.text


async def test_a_worker_handles_what_could_not_be_matched_before() -> None:
    shop = Shop()
    ledger = MemoryLedger(apply=shop)
    ledger.record(postback())
    await run_worker(ledger, until_idle=True)
    assert shop.told == []
    ledger.adopt(ORDER, postback().inv_id, 499, merchant_id="1234")
    await run_worker(ledger, until_idle=True)
    assert shop.statuses == ["approved"]


async def test_the_lifespan_runs_a_worker() -> None:
    told = threading.Event()
    ledger = MemoryLedger(apply=lambda _connection, _decision: told.set())
    applied(ledger)
    ledger.record(postback())
    stop = anyio.Event()
    sent: list[str] = []
    messages = iter([{"type": "lifespan.startup"}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    app = PostbackApp(credentials(), ledger=ledger)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, {"type": "lifespan"}, receive, send)
        assert await anyio.to_thread.run_sync(told.wait, 5)
        stop.set()
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert not ledger.has_worker()


class Server:
    """A server that starts an app, and never stops it."""

    def __init__(self) -> None:
        self.messages = [{"type": "lifespan.startup"}]
        self.has_started = anyio.Event()

    async def receive(self) -> dict[str, Any]:
        if not self.messages:
            await anyio.sleep_forever()
        return self.messages.pop()

    async def send(self, _: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self.has_started.set()

    async def run(self, app: PostbackApp) -> None:
        await app({"type": "lifespan"}, self.receive, self.send)


@pytest.mark.parametrize("failure", [SystemExit(), ConfigurationError("no such database")])
async def test_a_worker_that_ends_beside_a_server_says_so(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(MemoryLedger):
        def match_again(self) -> int:
            raise failure

    with anyio.fail_after(5), pytest.raises(BaseExceptionGroup):
        await Server().run(PostbackApp(credentials(), ledger=Failing(apply=Shop())))
    assert "the ledger's worker has ended" in caplog.text


async def test_a_worker_whose_server_is_cancelled_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, PostbackApp(credentials(), ledger=MemoryLedger(apply=Shop())))
        await server.has_started.wait()
        tasks.cancel_scope.cancel()
    assert "has ended" not in caplog.text


@pytest.mark.parametrize(
    ("ledger", "settings", "way_out"),
    [
        (MemoryLedger(), {}, "nothing handles decisions"),
        (MemoryLedger(apply=Shop()), {"handler": Handler()}, "choose one"),
        (MemoryLedger(), {"handler": print}, "must be 'async def"),
        (
            MemoryLedger(apply=Shop()),
            {"store": MemoryDeliveryStore()},
            "not for an endpoint with a ledger",
        ),
        (MemoryLedger(apply=Shop()), {"repeat_handler": Handler()}, "not for an endpoint with a ledger"),
        (MemoryLedger(apply=Shop()), {"max_age": 300}, "not for an endpoint with a ledger"),
        (object(), {"handler": Handler()}, "ledger must be a ledger"),
        (MemoryLedger, {"handler": Handler()}, "ledger must be a ledger"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(ledger: Any, settings: Any, way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        PostbackApp(credentials(), ledger=ledger, **settings)


def test_credentials_of_several_merchants_are_refused() -> None:
    several = [credentials(), credentials(merchant_id="other")]
    with pytest.raises(ConfigurationError, match="all be of one merchant"):
        PostbackApp(several, ledger=MemoryLedger(apply=Shop()))
    PostbackApp([credentials(), credentials(password="old")], ledger=MemoryLedger(apply=Shop()))


async def test_a_worker_needs_exactly_one_handler() -> None:
    with pytest.raises(ConfigurationError, match="nothing handles decisions"):
        await run_worker(MemoryLedger())
    with pytest.raises(ConfigurationError, match="choose one"):
        await run_worker(MemoryLedger(apply=Shop()), handler=Handler())


@pytest.fixture(params=["sqlite", "postgresql"])
def make_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Ledger]]:
    made = (
        sqlite_ledgers(tmp_path)
        if request.param == "sqlite"
        else postgresql_ledgers(request.getfixturevalue("postgresql"))
    )
    with made as make:
        yield make


async def test_an_approval_that_comes_again_after_a_rejection_is_held(
    make_ledger: Callable[..., Ledger],
) -> None:
    """Its handler fails twice, a rejection follows, it is delivered again; four workers."""
    shop = Shop(failures=2)
    ledger = make_ledger(apply=shop)
    applied(ledger)
    app = PostbackApp(credentials(), ledger=ledger)
    for _ in range(2):
        assert await deliver(app, signed_postback(timestamp="1700000001")) == 500
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(lambda: run_worker(ledger, until_idle=True))
        tasks.start_soon(deliver, app, signed_postback("rejected", timestamp="1700000002"))
    assert await deliver(app, signed_postback(timestamp="1700000003")) == 200
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(lambda: run_worker(ledger, until_idle=True))
    assert await deliver(app, signed_postback("rejected", timestamp="1700000002")) == 200
    loan = ledger.loan(ORDER)
    assert loan is not None
    assert (loan.status, [each.code for each in loan.held]) == ("rejected", ["repeated"])
    assert not loan.may_ship
    assert shop.statuses == ["approved", "rejected"]
