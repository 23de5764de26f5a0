"""Every fault on both event loops, through every kind of connection, for a create and a shipping update."""

import collections
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import attrs
import httpx
import httpx2
import pytest

from support import figures
from support.canaries import LogWatch, canaries_in_error, credentials_with_canaries, request_with_canaries
from support.fault_server import Arrived, FaultServer
from support.faults import DONE, FAULTS, NOT_SENT, UNKNOWN, Fault, Processed, client_context
from support.networks import WatchedNetwork
from support.promises import columns
from wegetfinancing import (
    AsyncClient,
    CallError,
    FinancingRequest,
    HttpxTransport,
    Retry,
    ShippingEvent,
)
from wegetfinancing.testing import INV_ID, shipping_event

pytestmark = [pytest.mark.anyio, pytest.mark.matrix]

CONNECTIONS = ("own", "httpx", "httpx2")
OPERATIONS = ("create", "shipping")
CELLS = [(connection, operation) for connection in CONNECTIONS for operation in OPERATIONS]
# A call that is to end by itself has plenty of time; one that only its deadline ends has little.
PLENTY, SHORT, GRACE = 20.0, 0.5, 0.5
# What is late on a machine that has other work as well is looked at again.
TRIES = 3
MEBIBYTE = 1024 * 1024
MOST_MEMORY = 8 * MEBIBYTE
# More than the buffers of two sockets hold.
LARGE = 3 * MEBIBYTE


@attrs.define
class Called:
    """What one call came to, and what the server saw of it."""

    fault: Fault
    connection: str
    operation: str
    timeout: float
    ended: str = DONE
    seconds: float = 0.0
    arrived: list[Arrived] = attrs.field(factory=list)
    error: CallError | None = None
    is_forged: bool = False

    @property
    def sent(self) -> list[Arrived]:
        """The requests of which anything came."""
        return [each for each in self.arrived if each > Arrived.TLS_UNFINISHED]

    @property
    def is_create_sent_twice(self) -> bool:
        return self.operation == "create" and len(self.sent) > 1

    @property
    def is_not_sent_wrong(self) -> bool:
        return self.ended == NOT_SENT and bool(self.sent)

    @property
    def is_processed_and_refused(self) -> bool:
        may_be_done = self.fault.processed is not Processed.NEVER and Arrived.WHOLE in self.sent
        return may_be_done and self.ended not in (DONE, UNKNOWN)

    @property
    def lateness(self) -> float:
        return self.seconds - self.timeout

    @property
    def is_in_time(self) -> bool:
        return self.lateness <= GRACE

    @property
    def is_expected(self) -> bool:
        return self.ended in (self.fault.create if self.operation == "create" else self.fault.shipping)


RESULTS: list[Called] = []
MEMORY: list[int] = []


@pytest.fixture(scope="module", autouse=True)
def log() -> Iterator[LogWatch]:
    """Watch everything that is logged while the matrix runs; then print the figures."""
    with LogWatch() as watch:
        yield watch
    if RESULTS:
        figures.LINES += summary(watch)


def summary(watch: LogWatch) -> list[str]:
    ended = collections.Counter(each.ended for each in RESULTS)
    faults = {id(each.fault) for each in RESULTS}
    return [
        f"matrix: {len(faults)} behaviours, {len(RESULTS)} calls: "
        + ", ".join(f"{number} {name}" for name, number in sorted(ended.items())),
        f"  creates sent twice: {sum(each.is_create_sent_twice for each in RESULTS)}",
        f"  NOT_SENT wrong: {sum(each.is_not_sent_wrong for each in RESULTS)}",
        f"  forged answers believed: {sum(each.is_forged for each in RESULTS)}",
        f"  processed and called refused: {sum(each.is_processed_and_refused for each in RESULTS)}",
        f"  latest end: {max(each.lateness for each in RESULTS) * 1000:.0f} ms after the deadline",
        f"  most memory of a call over its own body: {max(MEMORY) / MEBIBYTE:.1f} MiB",
        f"  secrets in {watch.records} log records and in the errors: {len(watch.found)}",
    ]


@asynccontextmanager
async def connections(kind: str, fault: Fault, server: FaultServer) -> AsyncIterator[HttpxTransport]:
    """Connections of our own, or a ready client of a library."""
    proxy = f"http://127.0.0.1:{server.port}" if fault.proxy else None
    if kind == "own":
        network = WatchedNetwork(partial(let_it_be_killed, server)) if fault.killed else None
        transport = HttpxTransport(ssl_context=client_context(), proxy=proxy, network_backend=network)
        yield transport
        await transport.aclose()
    else:
        library: Any = {"httpx": httpx, "httpx2": httpx2}[kind]
        async with library.AsyncClient(verify=client_context(), proxy=proxy, trust_env=False) as client:
            yield HttpxTransport(client)


async def let_it_be_killed(server: FaultServer) -> None:
    """Between the inspection of a connection and the write, leave time for it to go."""
    server.written.set()
    await wait_for(server.killed)


async def wait_for(event: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(event.wait, PLENTY)


def address_of(fault: Fault, server: FaultServer) -> str:
    if fault.proxy:
        return "https://127.0.0.1:1"
    scheme = "https" if fault.tls or fault.expects_tls else "http"
    return f"{scheme}://127.0.0.1:{server.port}"


async def make_call(
    fault: Fault, connection: str, operation: str, request: FinancingRequest, event: ShippingEvent
) -> Called:
    """Make one call to a server of its own."""
    called = Called(fault, connection, operation, PLENTY if fault.ends else SHORT)
    with fault.server() as server:
        async with AsyncExitStack() as stack:
            transport = await stack.enter_async_context(connections(connection, fault, server))
            client = AsyncClient(
                credentials_with_canaries(),
                base_url=address_of(fault, server),
                transport=transport,
                middleware=[Retry(base_delay=0)],
                timeout=called.timeout,
            )
            await stack.enter_async_context(client)
            if fault.warm_up:
                await client.update_shipping(INV_ID, shipping_event(), timeout=PLENTY)
            if fault.ready and connection == "own" and operation == "create":
                await client.preconnect(timeout=PLENTY)
                await wait_for(server.ahead)
            elif fault.ready:
                for each in (server.ahead, server.killed):
                    each.set()
            before = len(server.arrivals)
            began = anyio.current_time()
            try:
                if operation == "create":
                    created = await client.create_request(request)
                    called.is_forged = created.inv_id != INV_ID
                else:
                    await client.update_shipping(INV_ID, event)
            except CallError as error:
                called.ended, called.error = error.outcome.value, error
            called.seconds = anyio.current_time() - began
    called.arrived = [each.how_far for each in server.arrivals[before:]]
    return called


async def make_calls(fault: Fault, cells: list[tuple[str, str]]) -> list[Called]:
    """Make the calls at once and note the most memory they took together, if it is measured."""
    results: list[Called] = []
    text = "x" * LARGE if fault.large else "ORDER-123"
    request, event = request_with_canaries(merchant_transaction_id=text), shipping_event(message=text)

    async def make(connection: str, operation: str) -> None:
        results.append(await make_call(fault, connection, operation, request, event))

    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    async with anyio.create_task_group() as tasks:
        for cell in cells:
            tasks.start_soon(make, *cell)
    _, peak = tracemalloc.get_traced_memory()
    MEMORY.append(peak - before - len(cells) * (LARGE if fault.large else 0))
    return results


@pytest.fixture
def measured(fault: Fault) -> Iterator[None]:
    """Measure memory, which makes a fault that keeps the client busy too slow to be timed as well."""
    if not fault.alone:
        tracemalloc.start()
    yield
    tracemalloc.stop()


def groups_of(fault: Fault) -> list[list[tuple[str, str]]]:
    """Silence is waited for once for all; anything else is looked at by itself."""
    return [[cell] for cell in CELLS] if fault.ends or fault.alone or fault.large else [CELLS]


async def test_the_libraries_are_loaded_before_memory_is_measured() -> None:
    for called in await make_calls(FAULTS[0], CELLS):
        assert called.ended == DONE


def cases() -> Iterator[Any]:
    """One fault of each row of the documented table runs on every interpreter, and all of them on one."""
    rows = set()
    for fault in FAULTS:
        row = columns(fault)
        marks = [pytest.mark.one_interpreter] if row in rows else []
        rows.add(row)
        yield pytest.param(fault, id=f"{fault.group}: {fault.name}", marks=marks)


@pytest.mark.usefixtures("no_socket_left_open", "measured")
@pytest.mark.parametrize("fault", list(cases()))
async def test_every_call_keeps_every_promise(fault: Fault, log: LogWatch) -> None:
    for cells in groups_of(fault):
        for _ in range(TRIES):
            results = await make_calls(fault, cells)
            for called in results:
                assert not called.is_create_sent_twice, called
                assert not called.is_not_sent_wrong, called
                assert not called.is_forged, called
                assert not called.is_processed_and_refused, called
                # On a busy machine the deadline may come before our own end, which knows what was sent.
                assert called.is_expected or (called.ended == UNKNOWN and not fault.ends), called
                assert called.error is None or canaries_in_error(called.error) == []
                called.error = None
            if all(called.is_in_time for called in results) and any(called.is_expected for called in results):
                break
        RESULTS.extend(results)
        assert [called for called in results if not called.is_in_time] == []
        assert any(called.is_expected for called in results), results
        assert MEMORY[-1] <= MOST_MEMORY
    assert log.found == []


@pytest.mark.one_interpreter
@pytest.mark.parametrize("fault", [each for each in FAULTS if each.alone], ids=lambda fault: fault.name)
async def test_a_fault_that_keeps_the_client_busy_takes_no_memory_either(fault: Fault) -> None:
    tracemalloc.start()
    for cell in CELLS:
        await make_calls(fault, [cell])
        assert 0 < MEMORY[-1] <= MOST_MEMORY
    tracemalloc.stop()
