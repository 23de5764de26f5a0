"""``Client`` with a ledger: its steps run in the caller's thread, and an interruption loses none."""

import asyncio
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from support.interruptions import interrupt_the_main_thread
from support.ledgers import sqlite_ledgers
from wegetfinancing import (
    AsyncClient,
    CallError,
    Client,
    ConfigurationError,
    LedgerError,
    Outcome,
    TransportError,
)
from wegetfinancing.client.client_call import ClientCall
from wegetfinancing.client.steps import Step, StepInterruptedError
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.ledger import ApplicationState, MemoryLedger, OrderConflictError
from wegetfinancing.testing import (
    INV_ID,
    FakeTransport,
    cart_item,
    created_response,
    credentials,
    financing_request,
)
from wegetfinancing.testing.contract.ledger_checking import postback

ORDER = "ORDER-123"


def raise_keyboard_interrupt() -> None:
    raise KeyboardInterrupt


class WatchedLedger(MemoryLedger):
    """Notes which thread runs which step, and does ``then[step]`` once when the step has been committed."""

    def __init__(self, **then: Callable[[], object]) -> None:
        super().__init__(environment="sandbox")
        self.seen: list[tuple[str, str]] = []
        self.then = then

    def _watch(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        self.seen.append((name, threading.current_thread().name))
        self.then.pop(name, int)()
        return result

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        return self._watch("begin", super().begin, *args, **kwargs)

    def record_answer(self, *args: Any, **kwargs: Any) -> Any:
        return self._watch("record_answer", super().record_answer, *args, **kwargs)

    def record_failure(self, *args: Any, **kwargs: Any) -> Any:
        return self._watch("record_failure", super().record_failure, *args, **kwargs)

    @property
    def steps(self) -> list[str]:
        return [name for name, _ in self.seen]

    @property
    def threads(self) -> set[str]:
        return {thread for _, thread in self.seen}


def client_of(ledger: Any, *replies: Any, **settings: Any) -> Client:
    return Client(credentials(), **{"transport": FakeTransport(*replies), "ledger": ledger, **settings})


def state_of(ledger: MemoryLedger) -> ApplicationState:
    loan = ledger.loan(ORDER)
    assert loan is not None
    return loan.state


def test_the_ledgers_steps_run_in_the_callers_thread_and_the_sending_does_not() -> None:
    threads: list[str] = []

    async def watch(request: Request, call_next: Handler) -> Response:
        threads.append(threading.current_thread().name)
        return await call_next(request)

    ledger = WatchedLedger()
    failure = TransportError("no", outcome=Outcome.NOT_SENT)
    with client_of(ledger, failure, created_response(), middleware=[watch]) as client:
        with pytest.raises(TransportError) as caught:
            client.create_request(financing_request())
        assert caught.value.loan is not None
        client.create_request(financing_request())
    assert ledger.steps == ["begin", "record_failure", "begin", "record_answer"]
    assert ledger.threads == {threading.current_thread().name}
    assert threads == ["wegetfinancing.Client"] * 2


def test_an_order_is_applied_for_once_by_any_number_of_threads(tmp_path: Path) -> None:
    transport = FakeTransport()
    with sqlite_ledgers(tmp_path) as make_ledger:
        ledger = make_ledger()
        with client_of(ledger, transport=transport) as client, ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: client.create_request(financing_request()), range(24)))
    assert {each.inv_id for each in answers} == {INV_ID}
    assert len(transport.requests) == 1


def test_what_the_ledger_refuses_reaches_the_caller() -> None:
    with client_of(MemoryLedger()) as client:
        client.create_request(financing_request(), expected_amount=1)
        with pytest.raises(OrderConflictError) as caught:
            client.create_request(financing_request(cart_items=[cart_item(quantity=2)]))
        assert caught.value.loan is not None
        assert [each.code for each in caught.value.loan.held] == ["amount_differs"]


def test_a_database_that_fails_reaches_the_caller_as_not_sent() -> None:
    def fail() -> None:
        raise LedgerError("the database is away")

    with client_of(WatchedLedger(begin=fail)) as client:
        with pytest.raises(CallError, match="the database is away") as caught:
            client.create_request(financing_request())
        assert caught.value.outcome is Outcome.NOT_SENT


def test_the_other_environments_ledger_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="the ledger is of the environment live"):
        client_of(MemoryLedger(environment="live"))


def test_a_create_inside_the_ledgers_own_handler_is_refused() -> None:
    refused: list[str] = []

    def apply(*_: object) -> None:
        try:
            client.create_request(financing_request(merchant_transaction_id="ANOTHER"))
        except ConfigurationError as error:
            refused.append(str(error))

    ledger = MemoryLedger(apply=apply)
    with client_of(ledger) as client:
        client.create_request(financing_request())
        ledger.record(postback())
        claim = ledger.claim()
        assert claim is not None
        ledger.apply(claim)
    assert refused == [
        "create_request was called inside the ledger's own handler; call it after the transaction"
    ]


def test_an_intent_whose_writing_was_interrupted_is_undone(interruption: type[BaseException]) -> None:
    ledger, transport = WatchedLedger(begin=interrupt_the_main_thread), FakeTransport()
    with client_of(ledger, transport=transport) as client:
        with pytest.raises(interruption) as caught:
            client.create_request(financing_request())
        assert caught.value.__notes__ == ["create_request was interrupted. Nothing was sent."]
        assert (ledger.steps, state_of(ledger)) == (["begin", "record_failure"], ApplicationState.NOT_SENT)
        assert ledger.threads == {threading.current_thread().name}
        assert transport.requests == []
        assert client.create_request(financing_request()).inv_id == INV_ID


def test_an_intent_that_cannot_be_undone_at_once_is_undone_by_the_next_call() -> None:
    def fail() -> None:
        raise ConfigurationError

    ledger = WatchedLedger(begin=raise_keyboard_interrupt, record_failure=fail)
    with client_of(ledger) as client:
        with pytest.raises(KeyboardInterrupt):
            client.create_request(financing_request())
        assert client.create_request(financing_request()).inv_id == INV_ID
    assert ledger.steps == ["begin", "record_failure", "record_failure", "begin", "record_answer"]


def test_what_could_not_be_recorded_survives_an_interruption_of_the_next_call() -> None:
    class Away(MemoryLedger):
        failure: BaseException | None = LedgerError("the database is away")

        def record_answer(self, *args: Any, **kwargs: Any) -> Any:
            if self.failure is not None:
                raise self.failure
            return super().record_answer(*args, **kwargs)

    ledger = Away(environment="sandbox")
    with client_of(ledger, timeout=0.5) as client:
        client.create_request(financing_request())
        assert state_of(ledger) is ApplicationState.SENDING
        for ledger.failure in (LedgerError("still away"), KeyboardInterrupt()):
            with pytest.raises((CallError, KeyboardInterrupt)):
                client.create_request(financing_request())
        ledger.failure = None
        assert client.create_request(financing_request()).inv_id == INV_ID
    assert state_of(ledger) is ApplicationState.CREATED


def test_an_order_whose_call_was_interrupted_while_it_was_sent_is_recorded_as_unknown(
    interruption: type[BaseException],
) -> None:
    class Silent(FakeTransport):
        async def send(self, request: Request) -> Response:
            interrupt_the_main_thread()
            await anyio.sleep_forever()
            return await super().send(request)

    ledger = WatchedLedger()
    with client_of(ledger, transport=Silent(), timeout=60) as client:
        with pytest.raises(interruption) as caught:
            client.create_request(financing_request())
        assert caught.value.__notes__ == ["create_request was interrupted. It may have been carried out."]
    assert (ledger.steps, state_of(ledger)) == (["begin", "record_failure"], ApplicationState.UNKNOWN)
    assert ledger.threads == {threading.current_thread().name}


def test_an_answer_whose_recording_was_interrupted_is_recorded(interruption: type[BaseException]) -> None:
    class Halfway(WatchedLedger):
        """As a transaction that an interruption has rolled back."""

        def record_answer(self, *args: Any, **kwargs: Any) -> Any:
            self.then.pop("halfway", int)()
            return super().record_answer(*args, **kwargs)

    ledger = Halfway(halfway=interrupt_the_main_thread)
    with client_of(ledger) as client:
        with pytest.raises(interruption) as caught:
            client.create_request(financing_request())
        assert caught.value.__notes__ == ["create_request had succeeded when it was interrupted."]
        assert state_of(ledger) is ApplicationState.CREATED
        assert client.create_request(financing_request()).inv_id == INV_ID


def test_an_answer_whose_recording_was_interrupted_twice_is_recorded_in_another_thread(
    interruption: type[BaseException],
) -> None:
    class Interrupted(WatchedLedger):
        interruptions = 2

        def record_answer(self, *args: Any, **kwargs: Any) -> Any:
            if self.interruptions:
                self.interruptions -= 1
                interrupt_the_main_thread()
            return super().record_answer(*args, **kwargs)

    ledger = Interrupted()
    with client_of(ledger) as client, pytest.raises(interruption):
        client.create_request(financing_request())
    assert state_of(ledger) is ApplicationState.CREATED
    assert ledger.seen[-1][1].startswith("wegetfinancing-ledger-answers")


@pytest.mark.parametrize("step", ["begin", "record_answer"])
def test_a_signal_handler_that_closes_the_client_does_not_wait_for_its_own_threads_call(step: str) -> None:
    """Its steps run in that thread: waiting for the call would end with the call's deadline."""
    ledger = WatchedLedger()
    client = client_of(ledger, timeout=2.0)

    def handle(*_: object) -> None:
        client.close()

    ledger.then[step] = interrupt_the_main_thread
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        assert client.create_request(financing_request()).inv_id == INV_ID
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ledger.steps == ["begin", "record_answer"]
    assert state_of(ledger) is ApplicationState.CREATED
    with pytest.raises(ConfigurationError, match="closed"):
        client.create_request(financing_request())


def test_an_intent_that_nobody_waits_for_any_more_is_not_written() -> None:
    class Hasty(ClientCall[Any]):
        """Interrupted just before it runs its first step."""

        is_interrupted = False

        def wait(self, patience: float | None = None) -> None:
            self._news.get()
            if not self.is_interrupted:
                self.is_interrupted = True
                raise KeyboardInterrupt
            super().wait(patience)

    ledger = WatchedLedger()
    with client_of(ledger) as client, pytest.raises(KeyboardInterrupt) as caught:
        client._thread.run(Hasty(AsyncClient.create_request, financing_request()))
    assert caught.value.__notes__ == ["create_request was interrupted. Nothing was sent."]
    assert ledger.steps == []


def test_an_interruption_between_two_instructions_of_a_step_is_known_and_it_runs_once() -> None:
    ran: list[int] = []

    def interrupted() -> None:
        ran.append(1)
        raise KeyboardInterrupt

    async def main() -> None:
        step = Step(interrupted)
        with pytest.raises(KeyboardInterrupt):
            step()
        step()
        with pytest.raises(StepInterruptedError):
            await step.result()

    asyncio.run(main())
    assert ran == [1]


def test_a_step_that_ends_after_its_event_loop_is_no_error() -> None:
    steps: list[Step[int]] = []

    async def main() -> None:
        steps.append(Step(lambda: 1))

    asyncio.run(main())
    steps[0]()


def test_an_intent_that_was_handed_over_and_lost_is_undone_in_the_callers_thread() -> None:
    """The deadline passes just when the intent has been taken and nobody has been told."""
    ledger = WatchedLedger()

    class Forgetful(ClientCall[Any]):
        def accept(self, step: Step[Any]) -> bool:
            if len(ledger.seen) == 0:
                whole = step._function

                def interrupted() -> None:
                    whole()
                    raise KeyboardInterrupt

                step._function = interrupted
            return super().accept(step)

    with client_of(ledger) as client, pytest.raises(KeyboardInterrupt):
        client._thread.run(Forgetful(AsyncClient.create_request, financing_request()))
    assert (ledger.steps, state_of(ledger)) == (["begin", "record_failure"], ApplicationState.NOT_SENT)
    assert ledger.threads == {threading.current_thread().name}


def test_a_thread_that_waits_no_more_runs_no_step() -> None:
    ledger, event_loop = WatchedLedger(), asyncio.new_event_loop()
    begun, go_on = threading.Event(), threading.Event()

    async def stubborn(request: Request, call_next: Handler) -> Response:
        begun.set()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(go_on.wait)
        return await call_next(request)

    async def main() -> None:
        async with AsyncClient(
            credentials(), transport=FakeTransport(), middleware=[stubborn], ledger=ledger
        ) as client:
            await call.run(client)

    call: ClientCall[Any] = ClientCall(AsyncClient.create_request, financing_request())
    thread = threading.Thread(target=event_loop.run_until_complete, args=(main(),))
    thread.start()
    interruption = KeyboardInterrupt()
    with pytest.raises(queue.Empty):  # begin has run, and the next step is far away
        call.wait(patience=0.5)
    assert begun.wait(30)
    call.interrupt(interruption, event_loop, patience=0)
    go_on.set()
    thread.join()
    event_loop.close()
    assert ledger.steps[0] == "begin"
    assert ledger.seen[0][1] == threading.current_thread().name
    assert len(ledger.steps) == 2
    assert ledger.seen[1][1].startswith("wegetfinancing-ledger-answers")
    assert interruption.__notes__ == [
        "create_request was interrupted and is still running. It may have been carried out."
    ]
