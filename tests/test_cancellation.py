"""Cancelled or out of time at every step of a call: nothing leaks, wedges or turns into another error."""

import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import httpx
import httpx2
import pytest

import figures
from fault_server import FaultServer, Peer
from faults import HEAD, answers_well, client_context, http
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

pytestmark = pytest.mark.anyio

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
        transport = HttpxTransport(limits=limits, ssl_context=client_context())
        yield transport
        await transport.aclose()
    else:
        library: Any = {"httpx": httpx, "httpx2": httpx2}[kind]
        async with library.AsyncClient(verify=client_context()) as client:
            yield HttpxTransport(client, limits=limits)


def make_request(server: FaultServer, step: Step | None = None, timeout: float = PLENTY) -> Request:
    scheme = "https" if step and step.tls else "http"
    return Request(
        operation="create_request",
        method="POST",
        url=f"{scheme}://127.0.0.1:{server.port}/merchant/1234/requests",
        body=step.body if step else b"{}",
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
