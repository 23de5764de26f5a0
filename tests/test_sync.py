"""``Client``: what ``AsyncClient`` does, for code that does not await, from any number of threads."""

import asyncio
import contextvars
import copy
import gc
import inspect
import pickle
import re
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio

from support import figures
from support.canaries import canaries_in, canaries_in_error, credentials_with_canaries, request_with_canaries
from support.environment import set_credentials
from support.fault_server import Arrived, FaultServer, Peer, http_answer
from support.faults import DONE, FAULTS, GOOD, NOT_SENT, Fault, answers_well, client_context
from support.interruptions import interrupt_the_main_thread
from support.promises import columns
from wegetfinancing import (
    AsyncClient,
    CallError,
    Client,
    ConfigurationError,
    HttpxTransport,
    InvalidRequestError,
    Outcome,
    Retry,
    TransportError,
)
from wegetfinancing.client.client_call import ClientCall
from wegetfinancing.client.process import Process
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.ledger import MemoryLedger
from wegetfinancing.testing import (
    INV_ID,
    FakeTransport,
    credentials,
    error_response,
    financing_request,
    shipping_event,
)

THREAD = "wegetfinancing.Client"
SAMPLE = list({columns(fault): fault for fault in reversed(FAULTS) if not fault.alone}.values())
PLENTY, SHORT = 20.0, 0.5


async def at_once(_: float) -> None:
    pass


def threads_of_clients() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == THREAD]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert threads_of_clients() == []


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(answers_well) as server:
        yield server


def client_of(server: FaultServer, **settings: Any) -> Client:
    return Client(credentials(), base_url=f"http://127.0.0.1:{server.port}", **settings)


# The same as AsyncClient


def parameters(function: Callable[..., Any]) -> list[tuple[object, ...]]:
    signature = inspect.signature(function)
    return [(each.name, each.kind, each.default, each.annotation) for each in signature.parameters.values()]


def operations_of(client: type) -> dict[str, Callable[..., Any]]:
    return {name: member for name, member in inspect.getmembers(client, callable) if not name.startswith("_")}


def test_every_method_has_exactly_the_parameters_and_the_answer_of_asyncclients() -> None:
    ours, theirs = operations_of(Client), operations_of(AsyncClient)
    ours["aclose"] = ours.pop("close")
    assert set(ours) == set(theirs)
    ours["__init__"], theirs["__init__"] = Client, AsyncClient
    for name in theirs:
        assert parameters(ours[name]) == parameters(theirs[name]), name
        if name != "__init__":
            returned = [inspect.signature(each[name]).return_annotation for each in (ours, theirs)]
            assert returned[0] == returned[1], name


def test_the_three_operations() -> None:
    transport = FakeTransport()
    with Client(credentials(), transport=transport) as client:
        assert client.create_request(financing_request()).inv_id == INV_ID
        assert client.update_shipping(INV_ID, shipping_event()).loan == INV_ID
        assert client.create_test_postback({"a": 1}) == {"type": "done", "http_code": 200}
    assert len(transport.requests) == 3
    assert transport.closed


def test_the_timeout_of_a_call_overrides_the_clients() -> None:
    async def never(request: Request, call_next: Handler) -> Response:
        await anyio.sleep_forever()
        return await call_next(request)

    with Client(credentials(), transport=FakeTransport(), middleware=[never], timeout=1000) as client:
        for call in (
            partial(client.create_request, financing_request()),
            partial(client.update_shipping, INV_ID, shipping_event()),
            partial(client.create_test_postback, {}),
        ):
            with pytest.raises(TransportError, match="deadline") as caught:
                call(timeout=0.01)
            assert caught.value.outcome is Outcome.NOT_SENT


def test_an_error_is_the_one_that_asyncclient_raises() -> None:
    with Client(credentials(), transport=FakeTransport(error_response(400)), middleware=[]) as client:
        with pytest.raises(InvalidRequestError) as caught:
            client.create_request(financing_request())
        assert (caught.value.status, caught.value.outcome) == (400, Outcome.REFUSED)
        with pytest.raises(TypeError, match="FinancingRequest"):
            client.create_request(None)  # type: ignore[arg-type] # what is tested
    with pytest.raises(ConfigurationError, match="timeout"):
        Client(credentials(), timeout=0)


def test_from_env(monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch)
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", "http://127.0.0.1:1")
    assert repr(Client.from_env()) == "<Client http://127.0.0.1:1>"
    assert repr(Client.from_env(base_url="http://127.0.0.1:2")) == "<Client http://127.0.0.1:2>"
    transport = FakeTransport()
    with Client.from_env(credentials=credentials(), transport=transport) as client:
        client.create_request(financing_request())
    assert transport.requests[0].url.startswith("http://127.0.0.1:1/")


def test_the_callers_context_is_seen_by_the_middleware() -> None:
    """So that a span of the caller's is the parent of what traces a call."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def look(request: Request, call_next: Handler) -> Response:
        seen.append(variable.get())
        return await call_next(request)

    with Client(credentials(), transport=FakeTransport(), middleware=[look]) as client:
        variable.set("set")
        client.create_request(financing_request())
    assert seen == ["set"]


# Opened and closed


def test_no_thread_before_the_first_call_and_none_after_the_end(server: FaultServer) -> None:
    with client_of(server) as client:
        assert threads_of_clients() == []
        client.create_request(financing_request())
        (thread,) = threads_of_clients()
        client.create_request(financing_request())
        assert threads_of_clients() == [thread]
        assert thread.daemon
    assert threads_of_clients() == []


def test_after_its_end_a_client_is_refused(server: FaultServer) -> None:
    with client_of(server) as client:
        pass
    client.close()
    assert repr(client) == f"<Client http://127.0.0.1:{server.port} closed>"
    for use in (partial(client.create_request, financing_request()), client.__enter__):
        with pytest.raises(ConfigurationError, match=r"^this Client is closed; make a new one$"):
            use()
    assert server.connections == 0


def test_closing_waits_for_calls_in_flight_and_refuses_others() -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def wait_and_answer(peer: Peer) -> None:
        peer.read_request()
        arrived.set()
        go_on.wait(30)
        peer.send(http_answer(GOOD))

    with FaultServer(wait_and_answer) as server, ThreadPoolExecutor(2) as pool:
        client = client_of(server)
        call = pool.submit(client.create_request, financing_request())
        assert arrived.wait(30)
        closing = pool.submit(client.close)
        while not repr(client).endswith(" closed>"):
            pass
        with pytest.raises(ConfigurationError, match="closed"):
            client.create_request(financing_request())
        assert not closing.done()
        go_on.set()
        assert call.result().inv_id == INV_ID
        closing.result()


def test_what_a_transport_raises_when_it_is_closed_is_raised() -> None:
    class Broken(FakeTransport):
        async def aclose(self) -> None:
            msg = "broken"
            raise OSError(msg)

    client = Client(credentials(), transport=Broken())
    client.create_request(financing_request())
    with pytest.raises(OSError, match="broken"):
        client.close()
    client.close()


def test_a_middleware_may_close_the_client() -> None:
    async def close(request: Request, call_next: Handler) -> Response:
        client.close()
        return await call_next(request)

    client = Client(credentials(), transport=FakeTransport(), middleware=[close])
    (created, (thread,)) = client.create_request(financing_request()), threads_of_clients() or (None,)
    assert created.inv_id == INV_ID
    if thread is not None:
        thread.join()


def test_a_client_dropped_open_gives_a_resource_warning_and_its_thread_ends() -> None:
    clients = [Client(credentials(), transport=FakeTransport())]
    clients[0].create_request(financing_request())
    (thread,) = threads_of_clients()
    with pytest.warns(ResourceWarning, match="a Client was dropped without being closed; use 'with'"):
        clients.clear()
    thread.join()
    with pytest.raises(ConfigurationError):
        Client(None)  # type: ignore[arg-type] # what is tested
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clients.append(Client(credentials()))
        clients.clear()
        gc.collect()


@pytest.mark.parametrize("attempt", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_client_is_neither_copied_nor_pickled(attempt: Callable[[Any], Any]) -> None:
    with pytest.raises(
        TypeError, match=r"^a Client cannot be copied or pickled: [^.]+; make one per process$"
    ):
        attempt(Client(credentials()))


def test_a_thread_that_cannot_be_started_is_a_call_that_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with Client(credentials(), transport=FakeTransport()) as client:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", full)
            with pytest.raises(TransportError, match="can't start new thread") as caught:
                client.create_request(financing_request())
        assert caught.value.outcome is Outcome.NOT_SENT
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.DefaultEventLoopPolicy, "new_event_loop", full)
            patched.setattr(asyncio, "new_event_loop", lambda: full(threading.current_thread()))
            with pytest.raises(TransportError, match="can't start new thread") as caught:
                client.create_request(financing_request())
        assert caught.value.outcome is Outcome.NOT_SENT
        assert str(caught.value).startswith("create_request: no event loop could be started in a thread")
        client.create_request(financing_request())  # the next one tries again


def test_where_processes_do_not_fork_there_is_nothing_to_watch_forks_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("os.register_at_fork")
    with Process().opening:
        pass


# Where it would block an event loop


@pytest.mark.parametrize("run", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"])
def test_in_the_thread_of_an_event_loop_it_is_refused(run: Callable[[Any], Any]) -> None:
    transport = FakeTransport()

    async def main() -> None:
        with (
            Client(credentials(), transport=transport) as client,
            pytest.raises(ConfigurationError, match=r"^a Client blocks, [^.]*; use AsyncClient there, or"),
        ):
            client.create_request(financing_request())

    run(main())
    assert transport.requests == []


def test_in_a_worker_thread_of_an_event_loop_it_works() -> None:
    with Client(credentials(), transport=FakeTransport()) as client:

        def create() -> str:
            return client.create_request(financing_request()).inv_id

        created = [
            asyncio.run(asyncio.to_thread(create)),
            anyio.run(anyio.to_thread.run_sync, create),
            trio.run(trio.to_thread.run_sync, create),
        ]
        assert len(set(created)) == 3


def test_a_middleware_cannot_call_its_own_client() -> None:
    async def again(request: Request, call_next: Handler) -> Response:
        client.create_request(financing_request())
        return await call_next(request)

    with (
        Client(credentials(), transport=FakeTransport(), middleware=[again]) as client,
        pytest.raises(ConfigurationError, match="this thread runs an event loop"),
    ):
        client.create_request(financing_request())


# Interrupted: what a signal handler raises


@pytest.mark.usefixtures("no_socket_left_open")
def test_an_interrupted_call_ends_and_says_that_it_may_have_happened(
    interruption: type[BaseException],
) -> None:
    hung_up = threading.Event()

    def interrupt(peer: Peer) -> None:
        peer.read_request()
        interrupt_the_main_thread()
        peer.silence()
        hung_up.set()

    with (
        FaultServer(interrupt) as server,
        Client(credentials_with_canaries(), base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(interruption) as caught:
            client.create_request(request_with_canaries())
        assert canaries_in_error(caught.value) == []
        assert caught.value.__notes__ == ["create_request was interrupted. It may have been carried out."]
        assert hung_up.wait(30)  # nothing is left running
        assert len(server.arrivals) == 1


def test_a_call_interrupted_before_it_was_sent_says_so(interruption: type[BaseException]) -> None:
    async def interrupt(request: Request, call_next: Handler) -> Response:
        interrupt_the_main_thread()
        await anyio.sleep_forever()
        return await call_next(request)

    transport = FakeTransport()
    with Client(credentials(), transport=transport, middleware=[interrupt]) as client:
        with pytest.raises(interruption) as caught:
            client.create_request(financing_request())
        assert caught.value.__notes__ == ["create_request was interrupted. Nothing was sent."]
    assert transport.requests == []


@pytest.mark.parametrize("runs_late", [False, True])
def test_a_call_interrupted_while_its_thread_starts_is_never_started(
    interruption: type[BaseException], monkeypatch: pytest.MonkeyPatch, runs_late: bool
) -> None:
    transport = FakeTransport()
    start = threading.Thread.start
    begun: list[threading.Thread] = []

    def interrupted_start(thread: threading.Thread) -> None:
        begun.append(thread)
        if not runs_late:
            start(thread)
        interrupt_the_main_thread()

    client = Client(credentials(), transport=transport)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted_start)
        with pytest.raises(interruption):
            client.create_request(financing_request())
    for thread in begun:
        if runs_late:
            start(thread)
        thread.join(30)
        assert not thread.is_alive()
    assert transport.requests == []
    client.create_request(financing_request())
    client.close()


def test_the_callers_thread_takes_no_lock_that_an_interruption_could_leave_locked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that the event loop needs too, such as that of a ``Future``: it would stand still for ever."""
    taken: list[threading.Condition] = []
    enter = threading.Condition.__enter__

    def watched(condition: threading.Condition) -> bool:
        if threading.current_thread() is threading.main_thread():
            taken.append(condition)
        return enter(condition)

    with Client(credentials(), transport=FakeTransport(), ledger=MemoryLedger()) as client:
        client.create_request(financing_request(merchant_transaction_id="ORDER-1"))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Condition, "__enter__", watched)
            client.create_request(financing_request(merchant_transaction_id="ORDER-2"))
            client.preconnect()
    assert taken == []


def test_a_call_that_the_event_loop_runs_no_more_was_not_sent() -> None:
    transport = FakeTransport()
    client = AsyncClient(credentials(), transport=transport)
    call = ClientCall(AsyncClient.create_request, financing_request())

    async def come_late() -> None:
        async with anyio.create_task_group() as tasks:
            pass
        call.start(tasks, client)

    anyio.run(come_late)
    call.wait()
    with pytest.raises(TransportError, match="has ended") as caught:
        call.answer()
    assert caught.value.outcome is Outcome.NOT_SENT
    assert transport.requests == []


@pytest.fixture
def event_loop_of_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    event_loop = asyncio.new_event_loop()
    thread = threading.Thread(target=event_loop.run_forever)
    thread.start()
    yield event_loop
    event_loop.call_soon_threadsafe(event_loop.stop)
    thread.join()
    event_loop.close()


def test_a_call_that_does_not_let_itself_be_cancelled_is_left_behind_and_named(
    event_loop_of_a_thread: asyncio.AbstractEventLoop,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def stubborn(request: Request, call_next: Handler) -> Response:
        begun.set()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(go_on.wait)
        return await call_next(request)

    client = AsyncClient(credentials(), transport=FakeTransport(), middleware=[stubborn])
    call = ClientCall(AsyncClient.create_request, financing_request())
    running = asyncio.run_coroutine_threadsafe(call.run(client), event_loop_of_a_thread)
    assert begun.wait(30)
    interruption = KeyboardInterrupt()
    call.interrupt(interruption, event_loop_of_a_thread, patience=0)
    assert interruption.__notes__ == [
        "create_request was interrupted and is still running. It may have been carried out."
    ]
    go_on.set()
    running.result()
    asyncio.run_coroutine_threadsafe(client.aclose(), event_loop_of_a_thread).result()


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (None, r"create_request had succeeded when it was interrupted\."),
        (
            error_response(400),
            r"create_request had failed when it was interrupted: create_request: HTTP 400.* refused it\.",
        ),
        (KeyError, r"raised by a middleware of create_request\. Nothing was sent\."),
    ],
)
def test_a_call_that_had_ended_when_it_was_interrupted_says_how(
    event_loop_of_a_thread: asyncio.AbstractEventLoop, reply: Any, result: str
) -> None:
    async def broken(request: Request, call_next: Handler) -> Response:
        if reply is KeyError:
            raise KeyError
        return await call_next(request)

    transport = FakeTransport(*([reply] if isinstance(reply, Response) else []))
    client = AsyncClient(credentials(), transport=transport, middleware=[broken])
    call = ClientCall(AsyncClient.create_request, financing_request())
    asyncio.run_coroutine_threadsafe(call.run(client), event_loop_of_a_thread).result()
    interruption = KeyboardInterrupt()
    call.interrupt(interruption, event_loop_of_a_thread)
    (note,) = interruption.__notes__
    assert re.fullmatch(result, note)
    asyncio.run_coroutine_threadsafe(client.aclose(), event_loop_of_a_thread).result()


def test_a_call_that_had_not_begun_when_it_was_interrupted_never_begins(
    event_loop_of_a_thread: asyncio.AbstractEventLoop,
) -> None:
    transport = FakeTransport()
    call = ClientCall(AsyncClient.create_request, financing_request())
    interruption = KeyboardInterrupt()
    call.interrupt(interruption, event_loop_of_a_thread)
    assert interruption.__notes__ == ["create_request was interrupted. Nothing was sent."]
    client = AsyncClient(credentials(), transport=transport)
    asyncio.run_coroutine_threadsafe(call.run(client), event_loop_of_a_thread).result()
    assert transport.requests == []


def test_a_cancellation_that_a_middleware_raises_is_a_call_that_failed() -> None:
    async def cancelled(request: Request, call_next: Handler) -> Response:
        await call_next(request)
        raise asyncio.CancelledError

    with Client(credentials(), transport=FakeTransport(), middleware=[cancelled]) as client:
        with pytest.raises(TransportError, match="was cancelled in its event loop") as caught:
            client.create_request(financing_request())
        assert caught.value.outcome is Outcome.UNKNOWN
        with pytest.raises(TransportError):  # the event loop goes on
            client.update_shipping(INV_ID, shipping_event())


# Secrets


def test_an_error_shows_no_secret_and_no_customer() -> None:
    said = error_response(400)
    with Client(credentials_with_canaries(), transport=FakeTransport(said)) as client:
        with pytest.raises(InvalidRequestError) as caught:
            client.create_request(request_with_canaries())
        assert canaries_in_error(caught.value) == []
        assert canaries_in(repr(client)) == []


# From many threads


class OrderCounter:
    """Answers every request well and counts the order IDs, whatever their number."""

    def __init__(self) -> None:
        self.arrived: Counter[bytes] = Counter()

    def answer(self, peer: Peer) -> None:
        data = b""
        while True:
            head, found, rest = data.partition(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *([0-9]+)", head.lower())
            if found and length and len(rest) >= int(length[1]):
                self.arrived.update(re.findall(rb'"(ORDER-[0-9]+)"', rest[: int(length[1])]))
                data = rest[int(length[1]) :]
                peer.send(http_answer(GOOD))
            elif chunk := peer.sock.recv(65536):
                data += chunk
            else:
                return


@pytest.mark.usefixtures("no_socket_left_open")
@pytest.mark.parametrize("calls", [500, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_calls_from_16_threads_leave_no_thread_and_no_socket(calls: int) -> None:
    order_ids = [f"ORDER-{number}" for number in range(calls // 2)]

    def create_and_ship(order_id: str) -> None:
        client.create_request(financing_request(merchant_transaction_id=order_id))
        client.update_shipping(INV_ID, shipping_event(message=order_id))

    before, shop = set(threading.enumerate()), OrderCounter()
    began = time.monotonic()
    with (
        FaultServer(shop.answer, report=lambda _: None) as server,
        client_of(server) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        list(pool.map(create_and_ship, order_ids))
    seconds = time.monotonic() - began
    assert set(threading.enumerate()) <= before
    assert shop.arrived == Counter({each.encode(): 2 for each in order_ids})
    figures.LINES.append(
        f"Client: {calls:,} calls from 16 threads in {seconds:.1f} s; no thread, no socket left"
    )


RESULTS: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def summary() -> Iterator[None]:
    yield
    if RESULTS:
        counted = ", ".join(f"{RESULTS.count(each)} {each}" for each in sorted(set(RESULTS)))
        figures.LINES.append(
            f"matrix through Client: {len(SAMPLE)} behaviours from 8 threads, {len(RESULTS)} calls: {counted}"
        )


@pytest.mark.usefixtures("no_socket_left_open")
@pytest.mark.parametrize("operation", ["create", "shipping"])
@pytest.mark.parametrize("fault", SAMPLE, ids=lambda fault: f"{fault.group}: {fault.name}")
def test_every_call_keeps_every_promise_from_8_threads(fault: Fault, operation: str) -> None:
    filling = "x" * 3_000_000 if fault.large else ""
    timeout = PLENTY if fault.ends else SHORT

    def call(number: int) -> str:
        try:
            if operation == "create":
                client.create_request(
                    financing_request(merchant_transaction_id=f"ORDER-{number}-{filling}"), timeout=timeout
                )
            else:
                client.update_shipping(
                    f"loan-{number}", shipping_event(message=filling or None), timeout=timeout
                )
        except CallError as error:
            return error.outcome.value
        return DONE

    with fault.server() as server, ThreadPoolExecutor(8) as pool:
        proxy = f"http://127.0.0.1:{server.port}" if fault.proxy else None
        scheme = "https" if fault.tls or fault.expects_tls else "http"
        address = "https://127.0.0.1:1" if fault.proxy else f"{scheme}://127.0.0.1:{server.port}"
        transport = HttpxTransport(ssl_context=client_context(), proxy=proxy)
        client = Client(
            credentials(), base_url=address, transport=transport, middleware=[Retry(sleep=at_once)]
        )
        if fault.warm_up:
            client.update_shipping(INV_ID, shipping_event(), timeout=PLENTY)
        before = len(server.arrivals)
        results = list(pool.map(call, range(8)))
        client.close()
    sent = [each for each in server.arrivals[before:] if each.how_far > Arrived.TLS_UNFINISHED]
    RESULTS.extend(results)
    named = "ORDER-%d-" if operation == "create" else '"loan-%d"'
    arrived = [sum((named % number).encode() in each.data for each in sent) for number in range(8)]
    for number, result in enumerate(results):
        assert not (result == NOT_SENT and arrived[number])
    if operation == "create":
        assert len(sent) + results.count(NOT_SENT) <= 8
        assert max(arrived) <= 1
        expected = fault.create
    else:
        expected = fault.shipping
    # On a busy machine the deadline may come before the transport's own, which knows what was sent.
    assert set(results) <= {*expected, *([] if fault.ends else ["unknown"])}
