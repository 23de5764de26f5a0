"""Cancelled or out of time at every step of a call: nothing leaks, wedges or turns into another error."""

import asyncio
import math
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import httpx
import httpx2
import pytest

from support import figures
from support.fault_server import FaultServer, Peer
from support.faults import HEAD, answers_well, client_context, http
from wegetfinancing import (
    AsyncClient,
    ConfigurationError,
    DeadlineExceededError,
    HttpxTransport,
    Outcome,
    Retry,
    TransportError,
)
from wegetfinancing.http import Request
from wegetfinancing.testing import INV_ID, credentials, financing_request, shipping_event

pytestmark = [pytest.mark.anyio, pytest.mark.one_interpreter]

PLENTY, SHORT = 30.0, 0.3
# More than the buffers of two sockets hold.
LARGE = bytes(8 * 1024 * 1024)


@attrs.define
class Step:
    """How far a call gets before nothing more happens."""

    name: str
    act: Callable[[threading.Event, Peer], None]
    outcome: Outcome
    accepts: bool = True
    tls: bool = False
    body: bytes = b"{}"
    taken: bool = False


def read_nothing(reached: threading.Event, peer: Peer) -> None:
    reached.set()
    peer.silence()


def read_a_little(reached: threading.Event, peer: Peer) -> None:
    peer.receive(1)
    reached.set()
    peer.silence()


def read_and_wait(reached: threading.Event, peer: Peer) -> None:
    peer.read_request()
    reached.set()
    peer.silence()


def answer_half(reached: threading.Event, peer: Peer) -> None:
    peer.read_request()
    peer.send(HEAD + b"{")
    reached.set()
    peer.silence()


STEPS = [
    Step("waiting for a place", read_and_wait, Outcome.NOT_SENT, taken=True),
    Step("connecting", read_nothing, Outcome.NOT_SENT, accepts=False),
    Step("shaking hands", read_a_little, Outcome.NOT_SENT, tls=True),
    Step("writing", read_a_little, Outcome.UNKNOWN, body=LARGE),
    Step("waiting for the answer", read_and_wait, Outcome.UNKNOWN),
    Step("reading the body", answer_half, Outcome.UNKNOWN),
]


@pytest.fixture(params=STEPS, ids=lambda step: step.name)
def step(request: pytest.FixtureRequest) -> Step:
    return request.param  # type: ignore[no-any-return] # one of STEPS


CONNECTIONS = ("own", "httpx", "httpx2")


@asynccontextmanager
async def one_connection(kind: str, most: int = 1) -> AsyncIterator[HttpxTransport]:
    """Give a transport with so many places."""
    limits = httpx.Limits(max_connections=most)
    if kind == "own":
        transport = HttpxTransport(limits=limits, ssl_context=client_context(), open_ahead_from=0)
        yield transport
        await transport.aclose()
    else:
        library: Any = {"httpx": httpx, "httpx2": httpx2}[kind]
        # A pool no larger than the transport's own limit: a place it loses is missed at once.
        pool = library.Limits(max_connections=most)
        async with library.AsyncClient(verify=client_context(), limits=pool) as client:
            yield HttpxTransport(client, limits=limits)


def make_request(server: FaultServer, step: Step | None = None, timeout: float = PLENTY) -> Request:
    scheme = "https" if step and step.tls else "http"
    request = make_request_to(f"{scheme}://127.0.0.1:{server.port}", timeout)
    return attrs.evolve(request, body=step.body) if step else request


def make_request_to(base_url: str, timeout: float = PLENTY) -> Request:
    return Request(
        operation="create_request",
        method="POST",
        url=f"{base_url}/merchant/1234/requests",
        body=b"{}",
        deadline=anyio.current_time() + timeout,
    )


async def wait_for(reached: threading.Event) -> None:
    with anyio.fail_after(PLENTY):
        await anyio.to_thread.run_sync(reached.wait, PLENTY)
    await anyio.wait_all_tasks_blocked()


def stuck_at(step: Step, reached: threading.Event) -> FaultServer:
    # What the client waits for in a handshake is TLS that never comes.
    return FaultServer(partial(step.act, reached), accepts=step.accepts, receive_buffer=4096)


@pytest.mark.usefixtures("no_socket_left_open")
@pytest.mark.parametrize("kind", CONNECTIONS)
@pytest.mark.parametrize("outer", [False, True], ids=["cancelled", "outer scope shorter than ours"])
async def test_a_call_cancelled_at_any_step_leaves_nothing_behind(step: Step, kind: str, outer: bool) -> None:
    reached = threading.Event()
    with FaultServer(answers_well) as good, stuck_at(step, reached) as server:
        async with one_connection(kind) as transport, AsyncExitStack() as stack:
            if step.taken:
                tasks = await stack.enter_async_context(anyio.create_task_group())
                stack.callback(tasks.cancel_scope.cancel)
                tasks.start_soon(transport.send, make_request(server))
                await wait_for(reached)
            if outer:
                with pytest.raises(TimeoutError), anyio.fail_after(SHORT):
                    await transport.send(make_request(server, step))
            else:
                async with anyio.create_task_group() as calls:
                    calls.start_soon(transport.send, make_request(server, step))
                    if step.accepts:
                        await wait_for(reached)
                    await anyio.wait_all_tasks_blocked()
                    calls.cancel_scope.cancel()
                assert calls.cancel_scope.cancelled_caught
            await stack.aclose()
            assert (await transport.send(make_request(good))).status == 200


@pytest.mark.usefixtures("no_socket_left_open")
@pytest.mark.parametrize("kind", CONNECTIONS)
async def test_the_deadline_at_any_step_tells_what_was_sent(step: Step, kind: str) -> None:
    reached = threading.Event()
    with FaultServer(answers_well) as good, stuck_at(step, reached) as server:
        async with one_connection(kind) as transport, anyio.create_task_group() as tasks:
            if step.taken:
                tasks.start_soon(transport.send, make_request(server))
                await wait_for(reached)
            began = anyio.current_time()
            if step.name == "reading the body":
                response = await transport.send(make_request(server, step, SHORT))
                assert str(response.body_error).startswith(("was cut short", "did not end"))
            else:
                with pytest.raises(DeadlineExceededError) as caught:
                    await transport.send(make_request(server, step, SHORT))
                assert caught.value.outcome is step.outcome
            assert anyio.current_time() - began <= SHORT + 0.5
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                assert (await transport.send(make_request(good))).status == 200


@pytest.mark.usefixtures("no_socket_left_open")
@pytest.mark.parametrize("own", [True, False], ids=["cancelled", "deadline"])
async def test_a_call_ended_in_the_back_off_leaves_nothing_behind(own: bool) -> None:
    """The pause is ended by a cancellation, or begins only where it ends before the deadline."""
    pausing = anyio.Event()

    async def pause(seconds: float) -> None:
        pausing.set()
        await anyio.sleep_forever()

    def busy(peer: Peer) -> None:
        peer.read_request()
        peer.send(http("503 Busy"))

    with FaultServer(busy) as server:
        async with one_connection("own") as transport:
            retry = Retry(base_delay=0.001, sleep=pause)
            url = f"http://127.0.0.1:{server.port}"
            async with AsyncClient(
                credentials(), base_url=url, transport=transport, middleware=[retry], timeout=SHORT
            ) as client:
                if own:
                    async with anyio.create_task_group() as tasks:
                        ship = partial(client.update_shipping, timeout=PLENTY)
                        tasks.start_soon(ship, INV_ID, shipping_event())
                        await pausing.wait()
                        tasks.cancel_scope.cancel()
                    assert tasks.cancel_scope.cancelled_caught
                else:
                    with pytest.raises(DeadlineExceededError) as caught:
                        await client.update_shipping(INV_ID, shipping_event())
                    assert caught.value.outcome is Outcome.UNKNOWN
        assert len(server.arrivals) == 1


MANY = 10_000
AT_ONCE = 200


@pytest.mark.usefixtures("no_socket_left_open")
@pytest.mark.parametrize("kind", CONNECTIONS)
async def test_after_ten_thousand_cancellations_under_contention_a_call_is_as_good_as_ever(kind: str) -> None:
    calls = 0
    with FaultServer(answers_well) as good, FaultServer(Peer.silence) as server:
        async with one_connection(kind, most=4) as transport:
            while calls < MANY:
                async with anyio.create_task_group() as tasks:
                    for _ in range(AT_ONCE):
                        tasks.start_soon(transport.send, make_request(server))
                    calls += AT_ONCE
                    # Each time a little later: in the queue, connecting, writing, waiting.
                    for _ in range(calls // AT_ONCE % 20):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(transport.send, make_request(good, timeout=PLENTY))
    assert len(good.arrivals) == 8
    figures.LINES.append(
        f"cancelled under contention ({kind}): {calls} calls, then 8 of 8 answered, no socket open"
    )


@pytest.mark.parametrize("timeout", [0.0, -1.0, -math.inf])
async def test_a_deadline_gone_by_sends_nothing(timeout: float) -> None:
    with FaultServer(answers_well) as server:
        async with one_connection("own") as transport:
            with pytest.raises(DeadlineExceededError) as caught:
                await transport.send(make_request(server, timeout=timeout))
            assert caught.value.outcome is Outcome.NOT_SENT
    assert server.connections == 0


async def test_a_deadline_that_is_no_number_sends_nothing() -> None:
    with FaultServer(answers_well) as server:
        async with one_connection("own") as transport:
            with pytest.raises(TransportError) as caught:
                await transport.send(make_request(server, timeout=math.nan))
            assert caught.value.outcome is Outcome.NOT_SENT
    assert server.connections == 0


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf])
async def test_a_timeout_that_cannot_be_right_sends_nothing(timeout: float) -> None:
    with FaultServer(answers_well) as server:
        async with AsyncClient(credentials(), base_url=f"http://127.0.0.1:{server.port}") as client:
            with pytest.raises(ConfigurationError, match="timeout must be a finite number"):
                await client.create_request(financing_request(), timeout=timeout)
    assert server.connections == 0


# Cancelled by asyncio itself, which interrupts shielded clean-up too and is repeated by nobody.

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])
PLACES = 2
Calls = Callable[[], list[Awaitable[object]]]


async def take_turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def cancel_each(calls: Calls, turns: int, *, times: int = 1) -> None:
    tasks = [asyncio.ensure_future(call) for call in calls()]
    await take_turns(turns)
    for _ in range(times):
        for task in tasks:
            task.cancel()
        await take_turns(1)
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def cancel_each_twice(calls: Calls, turns: int) -> None:
    await cancel_each(calls, turns, times=2)


async def cancel_a_group_by_wait_for(calls: Calls, turns: int) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*calls()), timeout=turns * 0.0001)


async def cancel_by_timeout(calls: Calls, turns: int) -> None:
    async def call(awaitable: Awaitable[object]) -> None:
        with pytest.raises(TimeoutError):  # noqa: PT012 - asyncio.timeout() needs a block
            async with asyncio.timeout(None) as timeout:
                timeouts.append(timeout)
                await awaitable
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    timeouts: list[asyncio.Timeout] = []
    tasks = [asyncio.ensure_future(call(each)) for each in calls()]
    await take_turns(turns + 1)
    for timeout in timeouts:
        timeout.reschedule(0)
    await asyncio.gather(*tasks)


async def cancel_eager_tasks(calls: Calls, turns: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore] # since Python 3.12
    try:
        await cancel_each(calls, turns)
        await cancel_each_twice(calls, turns)
    finally:
        loop.set_task_factory(None)


NATIVE = [cancel_each, cancel_each_twice, cancel_a_group_by_wait_for, cancel_by_timeout, cancel_eager_tasks]


@ON_ASYNCIO
@pytest.mark.usefixtures("no_socket_left_open")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("kind", CONNECTIONS)
@pytest.mark.parametrize("cancel", NATIVE, ids=lambda each: each.__name__)
async def test_a_native_cancellation_at_any_turn_leaves_nothing_behind(
    cancel: Callable[[Calls, int], Awaitable[None]], kind: str, tls: bool
) -> None:
    if cancel is cancel_eager_tasks and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    step = Step("in a handshake", read_and_wait, Outcome.NOT_SENT, tls=tls)
    with FaultServer(answers_well) as good, FaultServer(Peer.silence) as server:
        async with one_connection(kind, most=PLACES) as transport:
            for turns in range(40):

                def calls() -> list[Awaitable[object]]:
                    # One more than there are places: it waits for one.
                    return [transport.send(make_request(server, step)) for _ in range(PLACES + 1)]

                await cancel(calls, turns)
            answers = await asyncio.gather(
                *(transport.send(make_request(good, timeout=5)) for _ in range(4 * PLACES))
            )
    assert [each.status for each in answers] == [200] * 4 * PLACES


@ON_ASYNCIO
@pytest.mark.parametrize("kind", CONNECTIONS)
async def test_after_hundreds_of_calls_ended_by_wait_for_a_call_is_as_good_as_ever(kind: str) -> None:
    places, calls = 8, 0
    with FaultServer(answers_well) as good, FaultServer(Peer.silence) as server:
        async with one_connection(kind, most=places) as transport:
            for number in range(50):
                group = asyncio.gather(*(transport.send(make_request(server)) for _ in range(places)))
                calls += places
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(group, timeout=number % 10 * 0.0005)
            sent = [transport.send(make_request(good, timeout=5)) for _ in range(places)]
            assert [each.status for each in await asyncio.gather(*sent)] == [200] * places
    figures.LINES.append(
        f"ended by asyncio.wait_for ({kind}): {calls} calls, then {places} of {places} answered"
    )


@ON_ASYNCIO
@pytest.mark.parametrize("kind", CONNECTIONS)
async def test_a_task_group_of_asyncio_reports_what_failed_and_not_the_call_it_cancelled(kind: str) -> None:
    reached = threading.Event()
    with stuck_at(STEPS[4], reached) as server:
        async with one_connection(kind) as transport:
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group has to be inside
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(transport.send(make_request(server)))
                    await wait_for(reached)
                    raise KeyError
    assert [type(each) for each in caught.value.exceptions] == [KeyError]


class Stop(BaseException):
    """Such as KeyboardInterrupt, which no test can raise without ending the tests."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Stop])
async def test_what_no_call_may_handle_comes_out_as_it_is(library: Any, kind: type[BaseException]) -> None:
    def handler(request: Any) -> Any:
        raise kind

    transport = HttpxTransport(library.MockTransport(handler), limits=library.Limits(max_connections=1))
    for _ in range(2):
        with pytest.raises(kind):
            await transport.send(make_request_to("https://x.example"))


@ON_ASYNCIO
async def test_a_cancellation_that_begins_in_the_ready_client_comes_out_as_it_is(library: Any) -> None:
    """For example a future of another task, which was cancelled there."""

    async def handler(request: Any) -> Any:
        raise asyncio.CancelledError

    transport = HttpxTransport(library.MockTransport(handler), limits=library.Limits(max_connections=1))
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await transport.send(make_request_to("https://x.example"))
