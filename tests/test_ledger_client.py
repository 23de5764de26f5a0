"""Creates with a ledger: at most one application per order, and nobody is told what is not so."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from support.ledgers import sqlite_ledgers
from support.virtual_time import virtual_time
from wegetfinancing import (
    AsyncClient,
    CallError,
    Client,
    ConfigurationError,
    DeadlineExceededError,
    Environment,
    InvalidRequestError,
    LedgerError,
    Outcome,
    TransportError,
)
from wegetfinancing.http import Request, Response
from wegetfinancing.ledger import ApplicationState, Decision, Ledger, MemoryLedger, OrderConflictError
from wegetfinancing.testing import (
    INV_ID,
    FakeTransport,
    cart_item,
    created_response,
    credentials,
    error_response,
    financing_request,
)
from wegetfinancing.testing.contract.ledger_checking import postback

pytestmark = pytest.mark.anyio

ORDER = "ORDER-123"


def client_of(ledger: Any, transport: Any = None, **settings: Any) -> AsyncClient:
    transport = FakeTransport() if transport is None else transport
    return AsyncClient(credentials(), transport=transport, ledger=ledger, **{"timeout": 5.0, **settings})


async def test_without_a_ledger_every_call_is_an_application_of_its_own() -> None:
    transport = FakeTransport()
    async with AsyncClient(credentials(), transport=transport) as client:
        for _ in range(2):
            await client.create_request(financing_request(merchant_transaction_id=None))
        with pytest.raises(ConfigurationError, match="this client has none"):
            await client.create_request(financing_request(), expected_amount=1)
    assert len(transport.requests) == 2


async def test_an_order_is_applied_for_once_and_its_answer_returned_again() -> None:
    ledger, transport = MemoryLedger(), FakeTransport()
    async with client_of(ledger, transport) as client:
        first = await client.create_request(financing_request())
        again = await client.create_request(financing_request(software_version="2", first_name="Joan"))
    async with client_of(ledger, transport) as other:
        assert await other.create_request(financing_request()) == first
    assert again == first
    assert (first.raw["inv_id"], again.raw) == (INV_ID, {})
    assert len(transport.requests) == 1


async def test_clicks_at_once_are_one_application_and_all_get_its_answer() -> None:
    transport, answers = FakeTransport(), []
    async with client_of(MemoryLedger(), transport) as client, anyio.create_task_group() as tasks:

        async def click() -> None:
            answers.append(await client.create_request(financing_request()))

        for _ in range(10):
            tasks.start_soon(click)
    assert len(transport.requests) == 1
    assert {each.inv_id for each in answers} == {INV_ID}
    assert len(answers) == 10


async def test_without_an_order_nothing_is_sent() -> None:
    transport = FakeTransport()
    async with client_of(MemoryLedger(), transport) as client:
        with pytest.raises(InvalidRequestError, match="merchant_transaction_id is required") as caught:
            await client.create_request(financing_request(merchant_transaction_id=None))
        assert caught.value.subjects == ("merchant_transaction_id",)
        assert caught.value.error == "missing_parameters"
        assert caught.value.outcome is Outcome.NOT_SENT
        with pytest.raises(InvalidRequestError, match="expected_amount") as caught:
            await client.create_request(financing_request(), expected_amount="1.234")
        assert caught.value.error == "invalid_parameters"
    assert transport.requests == []


async def test_other_contents_conflict_and_the_error_has_the_loan() -> None:
    transport = FakeTransport()
    async with client_of(MemoryLedger(), transport) as client:
        await client.create_request(financing_request())
        for changes in (
            {"cart_items": [cart_item(quantity=2)]},
            {"cart_items": [cart_item(display_name="Another")]},
            {"amount": "12.00"},
            {"tax_amount": "1.00"},
        ):
            with pytest.raises(OrderConflictError, match="with other contents") as caught:
                await client.create_request(financing_request(**changes))
            assert caught.value.outcome is Outcome.UNKNOWN
            assert caught.value.operation == "create_request"
            assert caught.value.loan is not None
            assert caught.value.loan.inv_id == INV_ID
    assert len(transport.requests) == 1


@pytest.mark.parametrize(
    ("reply", "outcome", "state"),
    [
        (TransportError("no", outcome=Outcome.NOT_SENT), Outcome.NOT_SENT, ApplicationState.NOT_SENT),
        (error_response(400), Outcome.REFUSED, ApplicationState.REFUSED),
        (error_response(500), Outcome.UNKNOWN, ApplicationState.UNKNOWN),
        (TransportError("lost"), Outcome.UNKNOWN, ApplicationState.UNKNOWN),
        (Response(200, body=b"no JSON"), Outcome.UNKNOWN, ApplicationState.UNKNOWN),
    ],
)
async def test_a_failure_is_recorded_and_says_whether_the_order_can_be_tried_again(
    reply: Any, outcome: Outcome, state: ApplicationState
) -> None:
    ledger, transport = MemoryLedger(), FakeTransport(reply, created_response())
    async with client_of(ledger, transport, middleware=[]) as client:
        with pytest.raises(CallError) as caught:
            await client.create_request(financing_request())
        assert caught.value.outcome is outcome
        assert caught.value.loan is not None
        assert caught.value.loan.state is state
        if outcome is Outcome.UNKNOWN:
            with pytest.raises(CallError, match="may exist") as again:
                await client.create_request(financing_request())
            assert again.value.outcome is Outcome.UNKNOWN
        else:
            await client.create_request(financing_request(cart_items=[cart_item(quantity=3)]))
    assert len(transport.requests) == (1 if outcome is Outcome.UNKNOWN else 2)


async def test_an_application_that_a_postback_has_confirmed_has_no_page() -> None:
    ledger = MemoryLedger()
    async with client_of(ledger, FakeTransport(TransportError("lost"))) as client:
        with pytest.raises(CallError):
            await client.create_request(financing_request())
        ledger.record(postback())
        with pytest.raises(CallError, match="the decision is approved") as caught:
            await client.create_request(financing_request())
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.loan is not None
    assert caught.value.loan.status == "approved"


@pytest.mark.parametrize("reply", [error_response(400), TransportError("no", outcome=Outcome.NOT_SENT)])
async def test_a_refusal_is_not_believed_where_a_postback_says_that_the_application_exists(
    reply: Any,
) -> None:
    """An earlier attempt was carried out, whatever was answered: whoever orders anew has a second loan."""
    ledger = MemoryLedger()

    class Decided(FakeTransport):
        async def send(self, request: Request) -> Response:
            ledger.record(postback())
            return await super().send(request)

    async with client_of(ledger, Decided(reply)) as client:
        with pytest.raises(CallError) as caught:
            await client.create_request(financing_request())
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.loan is not None
    assert caught.value.loan.status == "approved"


async def test_an_application_that_was_adopted_has_no_page() -> None:
    ledger = MemoryLedger()
    async with client_of(ledger, FakeTransport(TransportError("lost"))) as client:
        with pytest.raises(CallError):
            await client.create_request(financing_request())
        ledger.adopt(ORDER, INV_ID, "499.00")
        with pytest.raises(CallError, match="the address of its page is not stored") as caught:
            await client.create_request(financing_request())
    assert caught.value.loan is not None
    assert caught.value.loan.status is None


async def test_who_waits_for_another_call_waits_until_the_deadline() -> None:
    ledger, hanging, transport = MemoryLedger(), Hanging(), FakeTransport()
    async with (
        client_of(ledger, hanging) as first,
        client_of(ledger, transport, timeout=1.0) as second,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(first.create_request, financing_request())
        await hanging.arrived.wait()
        with pytest.raises(CallError, match="still sending") as caught:
            await second.create_request(financing_request())
        hanging.answers.set()
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.loan is not None
    assert caught.value.loan.state is ApplicationState.SENDING
    assert transport.requests == []


async def test_who_comes_after_a_process_has_died_is_told_at_once() -> None:
    now = [time.time()]
    ledger, transport = MemoryLedger(clock=lambda: now[0]), Hanging()
    async with (
        client_of(ledger, transport, timeout=600.0) as dying,
        client_of(ledger, timeout=600.0) as other,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(dying.create_request, financing_request())
        await transport.arrived.wait()
        now[0] += 610.0
        with anyio.fail_after(60), pytest.raises(CallError, match="may exist; wait for its") as caught:
            await other.create_request(financing_request())
        transport.answers.set()
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.loan is not None
    assert caught.value.loan.state is ApplicationState.SENDING


async def test_who_has_seen_that_it_is_being_sent_never_says_that_it_was_not() -> None:
    """Another application, under another ID, would be a second loan."""

    class GoneAfterTwo(MemoryLedger):
        asked = 0

        def begin(self, *args: Any, **settings: Any) -> Any:
            self.asked += 1
            if self.asked > 2:
                msg = "the database is gone"
                raise LedgerError(msg)
            return super().begin(*args, **settings)

    ledger, hanging = GoneAfterTwo(), Hanging()
    async with client_of(ledger, hanging) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.create_request, financing_request())
        await hanging.arrived.wait()
        with pytest.raises(CallError, match="the database is gone") as caught:
            await client.create_request(financing_request())
        hanging.answers.set()
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_nor_is_that_said_of_a_call_that_is_cancelled_after_it_has_seen_it() -> None:
    class Counting(MemoryLedger):
        asked = 0

        def begin(self, *args: Any, **settings: Any) -> Any:
            self.asked += 1
            if self.asked == 3:  # what the second one was told has reached its caller
                asked_again.set()
            return super().begin(*args, **settings)

    async def wait() -> None:
        try:
            await client.create_request(financing_request())
        except BaseException as cancellation:
            notes.extend(getattr(cancellation, "__notes__", []))
            raise

    asked_again, notes = threading.Event(), list[str]()
    ledger, hanging = Counting(), Hanging()
    async with client_of(ledger, hanging) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.create_request, financing_request())
        await hanging.arrived.wait()
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait)
            assert await anyio.to_thread.run_sync(asked_again.wait, 30)
            waiting.cancel_scope.cancel()
        hanging.answers.set()
    assert Outcome.UNKNOWN.description in " ".join(notes)


async def test_the_expected_amount_is_compared_with_or_without_taxes() -> None:
    items = [cart_item(unit_price="100.00", quantity=2, unit_tax="4.00")]
    cases: list[tuple[dict[str, Any], Any, str, bool]] = [
        ({"cart_items": items}, None, "200.00", False),
        ({"cart_items": items}, None, "208.00", False),
        ({"cart_items": items}, None, "204.00", True),
        ({"cart_items": items, "tax_amount": "9.00"}, None, "209.00", False),
        ({"cart_items": items, "tax_amount": "9.00"}, None, "208.00", True),
        ({"amount": "200.00", "tax_amount": "9.00"}, None, "209.00", True),
        ({"cart_items": items}, "207.00", "207.00", False),
        ({"cart_items": items}, 200, "208.00", True),
    ]
    for number, (changes, expected, answered, is_held) in enumerate(cases):
        ledger = MemoryLedger()
        async with client_of(ledger, FakeTransport(created_response(amount=answered))) as client:
            await client.create_request(financing_request(**changes), expected_amount=expected)
        loan = ledger.loan(ORDER)
        assert loan is not None
        assert [each.code for each in loan.held] == ["amount_differs"] * is_held, number


class FailingLedger(MemoryLedger):
    """A ledger whose database fails at some of its methods, for some time."""

    def __init__(self, failures: dict[str, int], *, uncertain: bool = False) -> None:
        super().__init__()
        self.failures = failures
        self.uncertain = uncertain

    def _fail(self, name: str) -> None:
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            raise LedgerError("the database is gone", uncertain=self.uncertain)

    def begin(self, *args: Any, **settings: Any) -> Any:
        self._fail("begin")
        return super().begin(*args, **settings)

    def record_answer(self, *args: Any, **settings: Any) -> Any:
        self._fail("record_answer")
        return super().record_answer(*args, **settings)

    def record_failure(self, *args: Any, **settings: Any) -> Any:
        self._fail("record_failure")
        return super().record_failure(*args, **settings)


@pytest.mark.parametrize(("uncertain", "outcome"), [(False, Outcome.NOT_SENT), (True, Outcome.UNKNOWN)])
async def test_a_ledger_that_fails_lets_nothing_be_sent(uncertain: bool, outcome: Outcome) -> None:
    transport = FakeTransport()
    async with client_of(FailingLedger({"begin": 1}, uncertain=uncertain), transport) as client:
        with pytest.raises(CallError, match="the database is gone") as caught:
            await client.create_request(financing_request())
        assert caught.value.outcome is outcome
        assert transport.requests == []
        await client.create_request(financing_request())
    assert len(transport.requests) == 1


async def test_what_else_a_ledger_raises_comes_out_and_nothing_is_sent() -> None:
    class Faulty(MemoryLedger):
        def begin(self, *_: Any, **__: Any) -> Any:
            msg = "a bug"
            raise RuntimeError(msg)

    transport = FakeTransport()
    async with client_of(Faulty(), transport) as client:
        with pytest.raises(RuntimeError, match="a bug"):
            await client.create_request(financing_request())
    assert transport.requests == []


async def test_recording_the_answer_is_tried_again() -> None:
    ledger = FailingLedger({"record_answer": 2})
    async with client_of(ledger) as client:
        await client.create_request(financing_request())
    loan = ledger.loan(ORDER)
    assert loan is not None
    assert loan.state is ApplicationState.CREATED


async def test_an_answer_that_cannot_be_recorded_is_returned_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger, transport = FailingLedger({"record_answer": 10**6}), FakeTransport()
    async with client_of(ledger, transport, timeout=1.0) as client:
        answer = await client.create_request(financing_request())
        assert answer.inv_id == INV_ID
        (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
        assert ORDER in record.getMessage()
        assert INV_ID in record.getMessage()
        assert [each.order_id for each in loans_sending(ledger)] == [ORDER]
        ledger.failures.clear()
        again = await client.create_request(financing_request())
    assert again == answer
    assert len(transport.requests) == 1


async def test_an_answer_is_returned_and_logged_whatever_a_ledger_raises_when_it_is_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class OutOfThreads(MemoryLedger):
        def record_answer(self, *_: Any, **__: Any) -> Any:
            msg = "can't start new thread"
            raise RuntimeError(msg)

    async with client_of(OutOfThreads()) as client:
        answer = await client.create_request(financing_request())
    assert answer.inv_id == INV_ID
    told = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert "can't start new thread" in caplog.text
    assert any(ORDER in each and INV_ID in each for each in told)


class Stuck(MemoryLedger):
    """A ledger whose database does not answer while it records."""

    def __init__(self) -> None:
        super().__init__()
        self.records = threading.Event()
        self.answers = threading.Event()

    def record_answer(self, *args: Any, **settings: Any) -> Any:
        self.records.set()
        self.answers.wait(30)
        return super().record_answer(*args, **settings)


def test_an_answer_is_returned_although_the_database_never_says_that_it_is_recorded(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Stuck()

    async def create() -> str:
        async with client_of(ledger) as client:
            return (await client.create_request(financing_request())).inv_id

    with virtual_time(anyio_backend) as time_:
        created = time_.portal.start_task_soon(create)
        assert ledger.records.wait(30)
        time_.advance(60)
        assert created.result(30) == INV_ID
        ledger.answers.set()
    assert "could not record it" in caplog.text


async def test_what_could_not_be_recorded_is_kept_until_it_can_be() -> None:
    ledger = FailingLedger({"record_answer": 10**6})
    async with client_of(ledger, timeout=1.0) as client:
        for order_id in (ORDER, "ORDER-124"):
            await client.create_request(financing_request(merchant_transaction_id=order_id))
        assert [each.order_id for each in loans_sending(ledger)] == [ORDER]
        ledger.failures.clear()
        await client.create_request(financing_request(merchant_transaction_id="ORDER-125"))
    for order_id in (ORDER, "ORDER-124"):
        loan = ledger.loan(order_id)
        assert loan is not None
        assert loan.state is ApplicationState.CREATED


def loans_sending(ledger: Ledger) -> list[Any]:
    loan = ledger.loan(ORDER)
    return [loan] if loan is not None and loan.state is ApplicationState.SENDING else []


async def test_who_is_told_that_nothing_was_sent_can_try_again(caplog: pytest.LogCaptureFixture) -> None:
    ledger = FailingLedger({"record_failure": 10**6})
    lost = TransportError("no", outcome=Outcome.NOT_SENT)
    async with client_of(ledger, FakeTransport(lost, created_response()), timeout=1.0) as client:
        with pytest.raises(CallError) as caught:
            await client.create_request(financing_request())
        assert caught.value.outcome is Outcome.UNKNOWN
        assert "could not record it" in caplog.text
        ledger.failures.clear()
        await client.create_request(financing_request())  # the failure is recorded first


class ReturnsNothing(FakeTransport):
    """A transport that forgets its answer."""

    async def send(self, request: Request) -> Any:
        await super().send(request)


async def test_a_transport_that_returns_no_response_leaves_an_unknown_application() -> None:
    ledger = MemoryLedger()
    async with client_of(ledger, ReturnsNothing()) as client:
        with pytest.raises(TransportError, match="returned NoneType, not a Response") as caught:
            await client.create_request(financing_request())
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.loan is not None
    assert caught.value.loan.state is ApplicationState.UNKNOWN


class Hanging:
    """A transport that answers when it is told to."""

    def __init__(self) -> None:
        self.arrived = anyio.Event()
        self.answers = anyio.Event()

    async def send(self, _request: Request) -> Response:
        self.arrived.set()
        await self.answers.wait()
        return created_response()

    async def aclose(self) -> None:
        pass


async def test_a_call_cancelled_while_it_is_sending_leaves_an_unknown_application() -> None:
    ledger, transport = MemoryLedger(), Hanging()
    async with client_of(ledger, transport) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.create_request, financing_request())
        await transport.arrived.wait()
        tasks.cancel_scope.cancel()
    loan = ledger.loan(ORDER)
    assert loan is not None
    assert loan.state is ApplicationState.UNKNOWN


async def test_a_client_that_is_closed_meanwhile_still_records_the_answer() -> None:
    ledger, transport = MemoryLedger(), Hanging()
    client = client_of(ledger, transport)
    transport.answers.set()
    await client.create_request(financing_request(merchant_transaction_id="before"))
    transport.arrived, transport.answers = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.create_request, financing_request())
        await transport.arrived.wait()
        await client.aclose()
        transport.answers.set()
    loan = ledger.loan(ORDER)
    assert loan is not None
    assert loan.state is ApplicationState.CREATED


async def test_a_closed_client_leaves_no_thread_that_called_its_ledger() -> None:
    before = set(threading.enumerate())
    client = client_of(MemoryLedger())
    await client.create_request(financing_request())
    started = {
        each for each in threading.enumerate() if each.name.startswith("wegetfinancing-ledger")
    } - before
    assert len(started) == 2
    await client.aclose()
    for each in started:
        each.join(10)
    assert not any(each.is_alive() for each in started)


async def test_a_call_that_reaches_its_deadline_while_sending_is_unknown() -> None:
    ledger, transport = MemoryLedger(), Hanging()
    async with client_of(ledger, transport, timeout=0.1) as client:
        with pytest.raises(DeadlineExceededError) as caught:
            await client.create_request(financing_request())
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.loan is not None
    assert caught.value.loan.state is ApplicationState.UNKNOWN


class Slow(MemoryLedger):
    """A ledger whose database lets an intent wait."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.may_commit = threading.Event()
        self.committed = threading.Event()

    def begin(self, *args: Any, **settings: Any) -> Any:
        self.began.set()
        self.may_commit.wait(5)
        begun = super().begin(*args, **settings)
        self.committed.set()
        return begun


async def test_a_caller_that_gave_up_leaves_no_intent_behind() -> None:
    ledger, transport = Slow(), FakeTransport()
    async with client_of(ledger, transport) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.create_request, financing_request())
            await anyio.to_thread.run_sync(ledger.began.wait)
            tasks.cancel_scope.cancel()
        ledger.may_commit.set()
        assert await anyio.to_thread.run_sync(ledger.committed.wait, 30)
        await client.create_request(financing_request())  # waits for the intent to be undone
    assert len(transport.requests) == 1


class Busy(MemoryLedger):
    """A ledger whose threads are all held up by the orders that come first."""

    PLACES = 24

    def __init__(self) -> None:
        super().__init__()
        self.began: list[str] = []
        self.all_began = threading.Event()
        self.may_commit = threading.Event()

    def begin(self, application: Any, **settings: Any) -> Any:
        self.began.append(application.order_id)
        if len(self.began) == self.PLACES:
            self.all_began.set()
        self.may_commit.wait(30)
        return super().begin(application, **settings)


async def test_who_gave_up_before_a_thread_was_free_has_written_nothing_down() -> None:
    ledger, transport = Busy(), FakeTransport()
    async with client_of(ledger, transport, timeout=30.0) as client, anyio.create_task_group() as tasks:
        for number in range(ledger.PLACES):
            tasks.start_soon(client.create_request, financing_request(merchant_transaction_id=str(number)))
        assert await anyio.to_thread.run_sync(ledger.all_began.wait, 30)
        with pytest.raises(DeadlineExceededError) as caught:
            await client.create_request(financing_request(), timeout=0.05)
        assert caught.value.outcome is Outcome.NOT_SENT
        ledger.may_commit.set()
        await client.create_request(financing_request(merchant_transaction_id="later in the same queue"))
    assert len(transport.requests) == ledger.PLACES + 1
    assert ORDER not in ledger.began


async def test_a_deadline_that_passes_while_the_order_is_written_down_sends_nothing() -> None:
    ledger, transport = Slow(), FakeTransport()
    async with client_of(ledger, transport) as client:
        with pytest.raises(DeadlineExceededError, match="being written down") as caught:
            await client.create_request(financing_request(), timeout=0.05)
        assert caught.value.outcome is Outcome.UNKNOWN
        ledger.may_commit.set()
        await client.create_request(financing_request())
    assert len(transport.requests) == 1


async def test_a_suspended_machine_sends_nothing_when_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock has stood still meanwhile."""
    ledger, transport = MemoryLedger(), FakeTransport()
    clock = time.time

    async def suspended(request: Request, call_next: Any) -> Response:
        monkeypatch.setattr(time, "time", lambda: clock() + 3600)
        answer: Response = await call_next(request)
        return answer

    async with client_of(ledger, transport, middleware=[suspended]) as client:
        with pytest.raises(DeadlineExceededError, match="wall clock") as caught:
            await client.create_request(financing_request())
    assert caught.value.outcome is Outcome.NOT_SENT
    assert transport.requests == []


async def test_a_middleware_that_fails_says_what_the_transport_knows() -> None:
    async def before(request: Request, call_next: Any) -> Response:
        raise ZeroDivisionError

    async def after(request: Request, call_next: Any) -> Response:
        await call_next(request)
        raise ZeroDivisionError

    for middleware, state in ((before, ApplicationState.NOT_SENT), (after, ApplicationState.UNKNOWN)):
        ledger = MemoryLedger()
        async with client_of(ledger, middleware=[middleware]) as client:
            with pytest.raises(ZeroDivisionError):
                await client.create_request(financing_request())
        loan = ledger.loan(ORDER)
        assert loan is not None
        assert loan.state is state


async def test_a_resolved_order_is_closed_and_a_database_clock_that_jumps_does_no_harm() -> None:
    """The database's clock jumps while the call's does not: the order is resolved, and then answered."""
    now = 1_700_000_000.0
    ledger, transport = MemoryLedger(clock=lambda: now), Hanging()
    async with client_of(ledger, transport) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.create_request, financing_request())
        await transport.arrived.wait()
        now += 3600.0
        ledger.resolve(ORDER, "absent")
        with pytest.raises(CallError, match="use a new order ID") as caught:
            await client.create_request(financing_request())
        assert caught.value.outcome is Outcome.NOT_SENT
        transport.answers.set()
    loan = ledger.loan(ORDER)
    assert loan is not None
    assert loan.state is ApplicationState.ABSENT
    assert [each.code for each in loan.held] == ["not_absent"]
    ledger.record(postback())
    loan = ledger.loan(ORDER)
    assert loan is not None
    assert not loan.may_ship


STOPPED = """
import sys, anyio
from wegetfinancing import AsyncClient
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.testing import created_response, credentials, financing_request

class Stopped:
    async def send(self, request):
        print("sending", flush=True)
        sys.stdin.readline()  # what is written while the process is stopped is read when it goes on
        return created_response()

    async def aclose(self):
        pass

async def main():
    ledger = SQLLedger(sys.argv[1], environment="sandbox")
    async with AsyncClient(credentials(), transport=Stopped(), ledger=ledger, timeout=1.0) as client:
        print((await client.create_request(financing_request())).inv_id, flush=True)

anyio.run(main)
"""


def test_a_process_stopped_in_the_transport_cannot_make_a_second_application(tmp_path: Path) -> None:
    """SIGSTOP while sending, resolve as absent, create again, SIGCONT."""
    with sqlite_ledgers(tmp_path) as make_ledger:
        ledger = make_ledger(grace=0.001)
        (path,) = tmp_path.glob("*.db")
        command = [sys.executable, "-c", STOPPED, f"sqlite:///{path}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "sending\n"
            process.send_signal(signal.SIGSTOP)
            give_up = time.monotonic() + 10
            while True:
                try:
                    ledger.resolve(ORDER, "absent")
                    break
                except ValueError:
                    assert time.monotonic() < give_up
            transport = FakeTransport()
            with pytest.raises(CallError, match="use a new order ID"):
                anyio.run(create_with, ledger, transport)
            assert transport.requests == []
            process.send_signal(signal.SIGCONT)
            process.stdin.write("\n")
            process.stdin.close()
            assert process.stdout.readline() == f"{INV_ID}\n"
        loan = ledger.loan(ORDER)
        assert loan is not None
        assert [each.code for each in loan.held] == ["not_absent"]


async def create_with(ledger: Any, transport: Any) -> None:
    async with client_of(ledger, transport) as client:
        await client.create_request(financing_request())


async def test_a_ledger_of_the_other_environment_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="environment live"):
        client_of(MemoryLedger(environment="live"))
    live = AsyncClient(
        credentials(),
        environment=Environment.LIVE,
        transport=FakeTransport(),
        ledger=MemoryLedger(environment=Environment.LIVE),
    )
    await live.aclose()
    for no_ledger in (object(), MemoryLedger):
        with pytest.raises(ConfigurationError, match="ledger must be a ledger"):
            client_of(no_ledger)


def test_the_client_that_does_not_await_has_the_same_ledger(tmp_path: Path) -> None:
    refused: list[str] = []

    def apply(_connection: object, _decision: Decision) -> None:
        try:
            client.create_request(financing_request(merchant_transaction_id="ORDER-124"))
        except ConfigurationError as error:
            refused.append(str(error))

    with sqlite_ledgers(tmp_path) as make_ledger:
        ledger, transport = make_ledger(apply=apply), FakeTransport()
        with Client(credentials(), transport=transport, ledger=ledger) as client:
            first = client.create_request(financing_request(), expected_amount="499.00")
            assert client.create_request(financing_request()) == first
            claim = ledger.claim(ledger.record(postback()).id)
            assert claim is not None
            assert ledger.apply(claim)
    assert len(transport.requests) == 1
    assert len(refused) == 1
    assert "inside the ledger's own handler" in refused[0]
