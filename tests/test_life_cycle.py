"""A client used where or when it cannot be: one clear sentence, and not even a connection."""

import copy
import gc
import multiprocessing
import os
import pickle
import re
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import anyio
import pytest

from support.fault_server import FaultServer, Peer, http_answer
from support.faults import GOOD, answers_well
from wegetfinancing import (
    AsyncClient,
    ConfigurationError,
    CreatedRequest,
    HttpxTransport,
    Outcome,
    TransportError,
)
from wegetfinancing.http import Request
from wegetfinancing.testing import INV_ID, FakeTransport, credentials, financing_request, shipping_event

pytestmark = pytest.mark.anyio

BACKENDS = ("asyncio", "trio")
OPERATIONS: dict[str, Callable[[AsyncClient], Any]] = {
    "create": lambda client: client.create_request(financing_request()),
    "shipping": lambda client: client.update_shipping(INV_ID, shipping_event()),
    "test postback": lambda client: client.create_test_postback({}),
    "entering": lambda client: client.__aenter__(),
}


@pytest.fixture(params=OPERATIONS)
def use(request: pytest.FixtureRequest) -> Callable[[AsyncClient], Any]:
    return OPERATIONS[request.param]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(answers_well) as server:
        yield server


def client_of(server: FaultServer, **settings: Any) -> AsyncClient:
    return AsyncClient(credentials(), base_url=f"http://127.0.0.1:{server.port}", **settings)


async def refused(use: Callable[[AsyncClient], Any], client: AsyncClient) -> str:
    """Return the text of the refusal, which is one sentence and names the cure."""
    with pytest.raises(ConfigurationError) as caught:
        await use(client)
    text = str(caught.value)
    assert re.fullmatch(r"this AsyncClient [^.\n]+; make (a new )?one[^.\n]*", text)
    return text


async def test_after_its_end_a_client_is_refused(
    server: FaultServer, use: Callable[[AsyncClient], Any]
) -> None:
    async with client_of(server) as client:
        pass
    assert "is closed" in await refused(use, client)
    assert server.connections == 0
    assert repr(client) == f"<AsyncClient http://127.0.0.1:{server.port} closed>"


async def test_closing_twice_or_unopened_is_harmless(server: FaultServer) -> None:
    client = client_of(server)
    for _ in range(3):
        await client.aclose()
    async with client_of(server) as client:
        await client.create_request(financing_request())
        await client.aclose()
        await client.aclose()
    await client.aclose()


async def test_a_call_in_flight_ends_by_itself_when_the_client_is_closed() -> None:
    results: list[CreatedRequest] = []

    def wait_and_answer(peer: Peer) -> None:
        peer.read_request()
        go_on.wait(30)
        peer.send(http_answer(GOOD))

    with FaultServer(wait_and_answer) as server:
        go_on = threading.Event()
        async with client_of(server) as client, anyio.create_task_group() as tasks:

            async def create() -> None:
                results.append(await client.create_request(financing_request()))

            tasks.start_soon(create)
            await anyio.wait_all_tasks_blocked()
            await client.aclose()
            assert "is closed" in await refused(OPERATIONS["create"], client)
            go_on.set()
        assert [each.inv_id for each in results] == [INV_ID]
        assert len(server.arrivals) == 1


@pytest.mark.parametrize("other", BACKENDS)
async def test_in_another_event_loop_a_client_is_refused(
    server: FaultServer, use: Callable[[AsyncClient], Any], other: str
) -> None:
    """The second loop may be of the other kind, and the client may have a connection it kept alive."""
    async with client_of(server) as client:
        await client.update_shipping(INV_ID, shipping_event())
        elsewhere = partial(anyio.run, refused, use, client, backend=other)
        assert "another event loop" in await anyio.to_thread.run_sync(elsewhere)
        assert len(server.arrivals) == 1
        await client.update_shipping(INV_ID, shipping_event())
    assert len(server.arrivals) == 2


@pytest.mark.parametrize("first", BACKENDS)
@pytest.mark.parametrize("second", BACKENDS)
def test_one_event_loop_after_the_other_is_another_one(server: FaultServer, first: str, second: str) -> None:
    # A connection opened ahead would outlive its event loop.
    client = client_of(server, transport=HttpxTransport(ready_connections=0))
    anyio.run(client.create_request, financing_request(), backend=first)
    assert "another event loop" in anyio.run(refused, OPERATIONS["create"], client, backend=second)
    assert len(server.arrivals) == 1
    anyio.run(client.aclose, backend=first)


def exit_code_of_a_forked_child(use: Callable[[AsyncClient], Any], client: AsyncClient, backend: str) -> int:
    async def look() -> int:
        text = await refused(use, client)
        await client.aclose()
        return 7 if "before the process forked" in text else 8

    return anyio.run(look, backend=backend)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
@pytest.mark.parametrize("backend", BACKENDS)
def test_in_a_forked_child_a_client_is_refused_and_the_parents_goes_on(
    server: FaultServer, use: Callable[[AsyncClient], Any], backend: str
) -> None:
    async def fork_in_the_middle() -> int | None:
        async with client_of(server) as client:
            await client.update_shipping(INV_ID, shipping_event())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the server has threads
                child = multiprocessing.get_context("fork").Process(
                    target=lambda: os._exit(exit_in_child(client))
                )
                child.start()
            await anyio.to_thread.run_sync(child.join)
            await client.update_shipping(INV_ID, shipping_event())
            return child.exitcode

    def exit_in_child(client: AsyncClient) -> int:
        codes: list[int] = []
        # The loop that was running in the parent still counts as running in the forking thread.
        import threading  # noqa: PLC0415

        thread = threading.Thread(
            target=lambda: codes.append(exit_code_of_a_forked_child(use, client, backend))
        )
        thread.start()
        thread.join(30)
        return codes[0] if codes else 9

    assert anyio.run(fork_in_the_middle, backend=backend) == 7
    assert len(server.arrivals) == 2
    assert server.connections == 1


def exit_code_in_a_fork(run: Callable[[], int]) -> int:
    """Fork this very thread, event loop and all, and return what ``run`` returns in the child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the server has threads
        child = os.fork()
    if child == 0:
        code = 9
        try:
            code = run()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def step_once(coroutine: Coroutine[Any, Any, object]) -> int:
    """Run what has to fail before it waits for anything."""
    try:
        coroutine.send(None)
    except TransportError as error:
        told = "before the process forked; make one in each process" in str(error)
        return 7 if told and error.outcome is Outcome.NOT_SENT else 8
    return 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
async def test_in_a_fork_inside_the_running_event_loop_a_transport_is_refused(server: FaultServer) -> None:
    """trio goes on running in the child, with the parent's sockets."""
    transport = HttpxTransport()
    request = Request(
        operation="update_shipping",
        method="POST",
        url=f"http://127.0.0.1:{server.port}/",
        body=b"{}",
        repeatable=True,
        deadline=anyio.current_time() + 30,
    )
    await transport.send(request)
    assert exit_code_in_a_fork(lambda: step_once(transport.send(request))) == 7
    await transport.send(request)
    await transport.aclose()
    assert server.connections == 1
    assert len(server.arrivals) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
async def test_closing_a_transport_in_a_fork_leaves_the_parents_connections(server: FaultServer) -> None:
    transport = HttpxTransport()
    request = Request(
        operation="update_shipping",
        method="POST",
        url=f"http://127.0.0.1:{server.port}/",
        body=b"{}",
        repeatable=True,
        deadline=anyio.current_time() + 30,
    )

    def close() -> int:
        try:
            transport.aclose().send(None)
        except StopIteration:
            return 7
        return 6  # it waited for something, on the parent's event loop

    await transport.send(request)
    assert exit_code_in_a_fork(close) == 7
    await transport.send(request)
    await transport.aclose()
    assert server.connections == 1


PICKLES = [partial(pickle.dumps, protocol=number) for number in range(pickle.HIGHEST_PROTOCOL + 1)]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("attempt", [copy.copy, copy.deepcopy, *PICKLES])
async def test_a_client_is_neither_copied_nor_pickled(attempt: Callable[[Any], Any], opened: bool) -> None:
    client = AsyncClient(credentials(), transport=FakeTransport())
    if opened:
        await client.create_request(financing_request())
    for each in (client, HttpxTransport()):
        with pytest.raises(
            TypeError, match=r"^an \w+ cannot be copied or pickled: [^.]+; make one per process$"
        ):
            attempt(each)
    await client.aclose()


def warnings_of(make: Callable[[], AsyncClient | None]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
        gc.collect()
    return [f"{each.category.__name__}: {each.message}" for each in caught]


async def test_a_client_dropped_open_gives_a_resource_warning() -> None:
    client = AsyncClient(credentials(), transport=FakeTransport())
    await client.create_request(financing_request())
    left = [client]
    del client
    (text,) = warnings_of(lambda: left.clear())  # noqa: PLW0108 - clear() itself is typed otherwise
    assert text.startswith(
        "ResourceWarning: an AsyncClient was dropped without being closed; use 'async with'"
    )


async def test_a_client_that_was_closed_or_never_opened_gives_none() -> None:
    def never_made() -> None:
        with pytest.raises(ConfigurationError):
            AsyncClient(None)  # type: ignore[arg-type] # what is tested

    async with AsyncClient(credentials(), transport=FakeTransport()) as client:
        await client.create_request(financing_request())
    left = [client, AsyncClient(credentials())]
    del client
    assert warnings_of(lambda: left.clear()) == []  # noqa: PLW0108 - for the same reason
    assert warnings_of(never_made) == []
