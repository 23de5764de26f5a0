"""Connections opened ahead: who opens them, who uses them, and that none is left over."""

import asyncio
import contextlib
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import httpcore
import httpx
import pytest

from support.fault_server import FaultServer, Peer, http_answer
from support.faults import GOOD, answers_well, client_context, server_context
from support.loop_server import Connection, loop_server
from support.networks import WatchedNetwork
from support.virtual_time import VirtualTime, virtual_time
from wegetfinancing import AsyncClient, Client, ConfigurationError, HttpxTransport, TransportError
from wegetfinancing.client.direct_connection import Origin, default_network
from wegetfinancing.client.ready_connections import ReadyConnections, is_untouched
from wegetfinancing.http import Request, Response
from wegetfinancing.testing import INV_ID, FakeTransport, credentials, financing_request, shipping_event

pytestmark = pytest.mark.anyio

PLENTY = 30.0


def make_request(url: str, *, repeatable: bool = False, timeout: float = PLENTY) -> Request:
    return Request(
        operation="update_shipping" if repeatable else "create_request",
        method="POST",
        url=f"{url}/merchant/1234/requests",
        body=b"{}",
        repeatable=repeatable,
        deadline=anyio.current_time() + timeout,
    )


@attrs.define
class ConnectionCounter:
    """A server that says which connection each request came on, and answers once so many are open.

    Or it closes that connection, where it ``loses`` them.
    """

    wait_for: int = 0
    loses: bool = False
    opened: int = 0
    used: list[int] = attrs.field(factory=list)
    ended: list[int] = attrs.field(factory=list)
    more: anyio.Event = attrs.field(factory=anyio.Event)

    async def __call__(self, connection: Connection) -> None:
        number, self.opened = self.opened, self.opened + 1
        self._tell()
        try:
            while True:
                await connection.read_request()
                self.used.append(number)
                await self.until(lambda: self.opened >= self.wait_for)
                if self.loses:
                    await anyio.wait_all_tasks_blocked()
                    return
                await connection.send(http_answer(GOOD))
        finally:
            self.ended.append(number)
            self._tell()

    def _tell(self) -> None:
        self.more.set()
        self.more = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(PLENTY):
            while not condition():
                await self.more.wait()


@contextlib.asynccontextmanager
async def closing(**settings: Any) -> AsyncIterator[HttpxTransport]:
    """A transport that opens ahead although connections open fast on this machine."""
    transport = HttpxTransport(**{"open_ahead_from": 0, **settings})
    async with contextlib.aclosing(transport):
        yield transport


@pytest.fixture
def shop() -> ConnectionCounter:
    return ConnectionCounter()


TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])


def context_of(tls: bool) -> Any:
    return server_context("good") if tls else None


# Who opens one, and who uses it


@TLS
async def test_a_create_uses_the_connection_that_preconnect_opened(
    shop: ConnectionCounter, tls: bool
) -> None:
    async with loop_server(shop, tls=context_of(tls)) as url, closing(ssl_context=client_context()) as own:
        await own.preconnect(url)
        await shop.until(lambda: shop.opened == 1)
        await anyio.wait_all_tasks_blocked()  # with TLS there are tickets on it now
        shop.wait_for = 2  # the next one, which opens while this create waits
        assert (await own.send(make_request(url))).body == GOOD
        assert shop.used == [0]


@TLS
async def test_while_a_create_waits_the_connection_of_the_next_one_opens(
    shop: ConnectionCounter, tls: bool
) -> None:
    async with loop_server(shop, tls=context_of(tls)) as url, closing(ssl_context=client_context()) as own:
        for number in range(4):
            shop.wait_for = number + 2
            await own.send(make_request(url))
            # With TLS the server has finished its side first.
            await anyio.wait_all_tasks_blocked()
        assert shop.used == [0, 1, 2, 3]
        assert shop.opened == 5


async def test_an_update_neither_uses_one_nor_opens_one(shop: ConnectionCounter) -> None:
    async with loop_server(shop) as url, closing() as own:
        await own.preconnect(url)
        await shop.until(lambda: shop.opened == 1)
        for _ in range(3):
            await own.send(make_request(url, repeatable=True))
        assert shop.used == [1, 1, 1]
        assert shop.opened == 2


async def test_one_is_used_for_its_own_address_only(shop: ConnectionCounter) -> None:
    other = ConnectionCounter()
    async with loop_server(shop) as url, loop_server(other) as elsewhere, closing() as own:
        await own.preconnect(elsewhere)
        await own.send(make_request(url))
        await own.send(make_request(elsewhere))
        assert shop.used == other.used == [0]


async def test_without_any_allowed_none_is_opened(shop: ConnectionCounter) -> None:
    async with loop_server(shop) as url, closing(ready_connections=0) as own:
        await own.preconnect(url)
        for _ in range(3):
            await own.send(make_request(url))
            await anyio.wait_all_tasks_blocked()
        assert shop.opened == 3


class SlowToOpen(httpcore.AsyncNetworkBackend):
    """Takes ``seconds`` for TCP and the same for TLS, and ``answer_seconds`` for an answer."""

    def __init__(self, seconds: float, answer_seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.answer_seconds = answer_seconds
        self.opened = 0

    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        await anyio.sleep(self.seconds)
        self.opened += 1
        return AnswersLate(self)


class AnswersLate(httpcore.AsyncNetworkStream):
    def __init__(self, network: SlowToOpen) -> None:
        self.network = network
        self.asked = False

    async def start_tls(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        await anyio.sleep(self.network.seconds)
        return self

    async def write(self, *_: Any, **__: Any) -> None:
        self.asked = True

    async def read(self, *_: Any, **__: Any) -> bytes:
        await anyio.sleep(self.network.answer_seconds if self.asked else math.inf)
        return http_answer(GOOD)

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002 - the name is that of httpcore
        return None

    async def aclose(self) -> None:
        pass


def send_creates(time: VirtualTime, own: HttpxTransport, network: SlowToOpen, number: int) -> None:
    for _ in range(number):
        sent = time.portal.start_task_soon(own.send, time.portal.call(make_request_now))
        # It begins, its own opens, the next one opens, the answer comes.
        for seconds in (0.0, network.seconds, network.seconds, 1.0):
            time.advance(seconds)
        assert sent.result(PLENTY).body == GOOD


async def make_request_now() -> Request:
    return make_request("http://x.example")


@pytest.mark.parametrize(("seconds", "opened"), [(0.004, 4), (0.006, 5)])
def test_the_next_one_is_opened_only_if_the_last_one_took_noticeable_time(
    anyio_backend: str, seconds: float, opened: int
) -> None:
    """The first create of all cannot know, and opens it."""
    network = SlowToOpen(seconds)
    own = HttpxTransport(network_backend=network)
    with virtual_time(anyio_backend) as time:
        send_creates(time, own, network, 4)
    assert network.opened == opened


def test_a_network_that_becomes_slow_is_noticed(anyio_backend: str) -> None:
    network = SlowToOpen(0.001)
    own = HttpxTransport(network_backend=network)
    with virtual_time(anyio_backend) as time:
        send_creates(time, own, network, 2)
        before = network.opened
        network.seconds = 0.1
        send_creates(time, own, network, 2)
    assert network.opened == before + 3  # beside the second one opens that of the next


def waits_in(time: VirtualTime, own: HttpxTransport, number: int) -> list[float]:
    waits: list[float] = []

    async def create() -> None:
        for _ in range(number):
            began = anyio.current_time()
            await own.send(make_request("https://x.example"))
            waits.append(anyio.current_time() - began)

    created = time.portal.start_task_soon(create)
    time.advance(0.0)
    while not created.done():
        time.advance(0.0625)
    created.result()
    return waits


@pytest.mark.parametrize(
    ("answer_seconds", "waits"),
    [
        (0.375, [0.625, *[0.375] * 5]),  # a connection opens beside one answer
        (0.1875, [0.4375, 0.4375, 0.4375, *[0.1875] * 3]),  # beside two, as is known after the first
    ],
)
def test_consecutive_creates_wait_for_their_answers_only(
    anyio_backend: str, answer_seconds: float, waits: list[float]
) -> None:
    """Far away: a round trip takes 125 ms, and so the opening of a connection 250."""
    network = SlowToOpen(0.125, answer_seconds)
    own = HttpxTransport(network_backend=network, ssl_context=client_context())
    with virtual_time(anyio_backend) as time:
        assert waits_in(time, own, len(waits)) == waits


def test_an_answer_that_takes_long_enough_ends_the_opening_in_two_steps(anyio_backend: str) -> None:
    network = SlowToOpen(0.125, 0.1875)
    own = HttpxTransport(network_backend=network, ssl_context=client_context())
    with virtual_time(anyio_backend) as time:
        assert waits_in(time, own, 2) == [0.4375, 0.4375]
        opened, network.answer_seconds = network.opened, 0.375
        assert waits_in(time, own, 4) == [0.625, 0.375, 0.375, 0.375]
    assert network.opened == opened + 4  # in two steps there would be one that has only begun


@pytest.mark.usefixtures("no_socket_left_open")
@TLS
async def test_given_up_at_any_turn_an_opening_in_two_steps_leaves_nothing_over(tls: bool) -> None:
    with FaultServer(answers_well, tls=context_of(tls)) as server:
        origin = Origin("https" if tls else "http", "127.0.0.1", server.port)
        ready = ReadyConnections(count=3, seconds=PLENTY)
        opening = partial(ready.open_beside, default_network(), origin, client_context(), [])
        for turns in range(40):
            await cancel_after(turns, opening)
            if turns % 3 == 0 and (stream := ready.pop(origin)):
                await stream.aclose()
        await ready.aclose()


async def test_a_burst_leaves_no_more_than_a_few(shop: ConnectionCounter) -> None:
    shop.wait_for = 8 + 2
    async with loop_server(shop) as url, closing(ready_connections=2) as own:
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(own.send, make_request(url))
        await anyio.wait_all_tasks_blocked()
        assert shop.opened == 10
        for _ in range(3):
            await own.preconnect(url)
        assert shop.opened == 10


async def test_one_that_has_expired_is_closed_and_not_used(shop: ConnectionCounter) -> None:
    async with loop_server(shop) as url, closing(ready_seconds=1e-9) as own:
        for number in range(3):
            await own.preconnect(url)
            await shop.until(lambda opened=number + 1: shop.opened == opened)  # type: ignore[misc] # a default
        await shop.until(lambda: shop.ended == [0, 1])
        shop.wait_for = 5
        await own.send(make_request(url))
        assert shop.used == [3]


async def test_one_that_has_waited_through_a_suspend_is_not_used(
    shop: ConnectionCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the event loop has stood still meanwhile, and a NAT has forgotten the connection."""
    clock = time.time
    async with loop_server(shop) as url, closing() as own:
        await own.preconnect(url)
        await shop.until(lambda: shop.opened == 1)
        monkeypatch.setattr(time, "time", lambda: clock() + 60)
        shop.wait_for = 3
        await own.send(make_request(url))
        assert shop.used == [1]
        await shop.until(lambda: shop.ended[:1] == [0])


@pytest.mark.parametrize(("seconds", "opened"), [(7.0, 1), (8.0, 2), (16.0, 2)])
def test_one_past_half_its_time_is_renewed(anyio_backend: str, seconds: float, opened: int) -> None:
    class Network(httpcore.AsyncMockBackend):
        opened = 0

        async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
            Network.opened += 1
            return await super().connect_tcp(*args, **kwargs)

    async def open_one() -> None:
        await ready.open(Network([]), Origin("http", "x.example", 80), client_context(), [])

    ready = ReadyConnections(count=1, seconds=15.0)
    with virtual_time(anyio_backend) as time:
        time.portal.call(open_one)
        time.advance(seconds)
        time.portal.call(open_one)
    assert Network.opened == opened


@pytest.mark.usefixtures("no_socket_left_open")
async def test_an_answer_that_comes_first_ends_the_opening() -> None:
    """The server shakes hands with the first connection only."""
    hung_up = threading.Event()

    def act(peer: Peer) -> None:
        if peer.number == 0:
            peer.start_tls(server_context("good"))
            peer.read_request()
            assert begun.wait(PLENTY)
            peer.send(http_answer(GOOD))
        else:
            peer.receive(1)
            begun.set()
            peer.silence()
            hung_up.set()

    begun = threading.Event()
    with FaultServer(act) as server:
        async with closing(ssl_context=client_context()) as own:
            response = await own.send(make_request(f"https://127.0.0.1:{server.port}"))
            assert response.status == 200
            with anyio.fail_after(PLENTY):
                await anyio.to_thread.run_sync(hung_up.wait, PLENTY)


async def test_a_host_with_several_addresses_is_reached_ahead_too(shop: ConnectionCounter) -> None:
    """``localhost`` may mean ::1 first, where nobody listens."""
    async with loop_server(shop) as address, closing() as own:
        url = address.replace("127.0.0.1", "localhost")
        await own.preconnect(url)
        await shop.until(lambda: shop.opened == 1)
        await own.send(make_request(url))
        assert shop.used == [0]


async def test_through_a_proxy_none_is_opened(
    shop: ConnectionCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor past it."""
    through = ConnectionCounter()
    async with loop_server(shop, tls=server_context("good")) as url, loop_server(through) as proxy:
        async with closing(proxy=proxy, ssl_context=client_context()) as own:
            await own.preconnect(url)
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        async with closing(ssl_context=client_context()) as own:
            await own.preconnect(url)
        await anyio.wait_all_tasks_blocked()
        assert (shop.opened, through.opened) == (0, 0)


@pytest.mark.parametrize("name", ["NO_PROXY", "HTTP_PROXY", "SHOP_PROXY"])
async def test_a_variable_that_leads_no_call_through_a_proxy_keeps_none_from_being_opened(
    shop: ConnectionCounter, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://proxy.example")
    async with (
        loop_server(shop, tls=server_context("good")) as url,
        closing(ssl_context=client_context()) as own,
    ):
        await own.preconnect(url)
        await shop.until(lambda: shop.opened == 1)


async def test_for_a_ready_client_none_is_opened(shop: ConnectionCounter, library: Any) -> None:
    async with loop_server(shop) as url, library.AsyncClient() as client:
        await HttpxTransport(client).preconnect(url)
        assert shop.opened == 0


async def test_every_connection_goes_through_the_network_given(shop: ConnectionCounter) -> None:
    writes: list[bool] = []

    async def note() -> None:
        writes.append(True)

    async with loop_server(shop) as url, closing(network_backend=WatchedNetwork(note)) as own:
        for repeatable in (False, True, True):
            before = len(writes)
            await own.send(make_request(url, repeatable=repeatable))
            assert len(writes) > before


@attrs.define
class Arriving(httpcore.AsyncNetworkStream):
    """A connection on which TLS alone has something to read for so many turns, and then its end, if any."""

    turns: float
    ends: bool = False
    ended: anyio.Event = attrs.field(factory=anyio.Event)

    async def read(self, *_: object, **__: object) -> bytes:
        await self.ended.wait()
        return b""

    def get_extra_info(self, info: str) -> bool:
        assert info == "is_readable"
        self.turns -= 1
        if self.ends and self.turns == 0:
            self.ended.set()
        return self.turns >= 0


@pytest.mark.parametrize(
    ("stream", "untouched"),
    [
        (partial(Arriving, 10), True),
        (partial(Arriving, 10, ends=True), False),
        (partial(Arriving, math.inf), False),
    ],
    ids=["tickets", "tickets and the end", "without end"],
)
async def test_what_has_arrived_is_read_first_unless_there_is_no_end_to_it(
    stream: Callable[[], Arriving], untouched: bool
) -> None:
    with anyio.fail_after(PLENTY):
        assert await is_untouched(stream()) is untouched


async def test_a_server_that_never_stops_sending_is_not_waited_for() -> None:
    async def flood(connection: Connection) -> None:
        if flooded.is_set():
            await connection.read_request()
            await connection.send(http_answer(GOOD))
        flooded.set()
        while True:
            await connection.send(b"x" * 65536)

    flooded = anyio.Event()
    async with loop_server(flood) as url, closing() as own:
        await own.preconnect(url)
        await flooded.wait()
        assert (await own.send(make_request(url))).body == GOOD


async def test_a_create_that_fails_leaves_no_connection_open_for_another(shop: ConnectionCounter) -> None:
    shop.wait_for, shop.loses = 2, True
    async with loop_server(shop) as url, closing() as own:
        with pytest.raises(TransportError):
            await own.send(make_request(url))
        await shop.until(lambda: sorted(shop.ended) == [0, 1])


# What cannot be opened


def closed_port() -> int:
    with FaultServer(answers_well, listens=False) as server:
        return int(server.port)


async def test_a_failure_to_open_one_is_left_to_the_create() -> None:
    async with closing() as own:
        url = f"http://127.0.0.1:{closed_port()}"
        await own.preconnect(url)
        with pytest.raises(TransportError, match="Connection refused"):
            await own.send(make_request(url))


async def test_an_address_that_is_none_is_left_to_the_create() -> None:
    async with closing() as own:
        await own.preconnect("http://[")


@pytest.mark.usefixtures("no_socket_left_open")
async def test_the_deadline_ends_it() -> None:
    with FaultServer(Peer.silence) as server:
        async with closing(ssl_context=client_context()) as own:
            url = f"https://127.0.0.1:{server.port}"
            await own.preconnect(url, deadline=anyio.current_time() + 0.1)


@pytest.mark.parametrize("count", [-1, 1.5, "2", None])
async def test_a_count_that_cannot_be_right_is_refused(count: Any) -> None:
    with pytest.raises(ConfigurationError, match="ready_connections must be"):
        HttpxTransport(ready_connections=count)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "15"])
async def test_a_time_that_cannot_be_right_is_refused(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="ready_seconds must be"):
        HttpxTransport(ready_seconds=seconds)


@pytest.mark.parametrize("seconds", [-0.001, float("nan"), float("inf"), "5", None])
async def test_a_time_to_open_that_cannot_be_right_is_refused(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="open_ahead_from must be"):
        HttpxTransport(open_ahead_from=seconds)


async def test_a_network_does_not_go_with_a_ready_client(library: Any) -> None:
    with pytest.raises(ConfigurationError, match="set them on the client given"):
        HttpxTransport(library.AsyncClient(), network_backend=WatchedNetwork(anyio.lowlevel.checkpoint))


# The end


@pytest.mark.usefixtures("no_socket_left_open")
async def test_closing_closes_what_is_ready_and_what_is_being_opened(shop: ConnectionCounter) -> None:
    async with loop_server(shop) as url:
        own = HttpxTransport()
        await own.preconnect(url)
        await shop.until(lambda: shop.opened == 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(own.preconnect, url)
            for _ in range(2):
                await anyio.lowlevel.checkpoint()
            await own.aclose()
        await own.preconnect(url)
        await shop.until(lambda: len(shop.ended) == shop.opened)
        assert shop.opened <= 2


async def test_in_another_event_loop_none_is_opened(shop: ConnectionCounter) -> None:
    async with loop_server(shop) as url, closing() as own:
        await own.preconnect(url)
        await shop.until(lambda: shop.opened == 1)
        await anyio.to_thread.run_sync(anyio.run, partial(own.preconnect, url))
        await anyio.wait_all_tasks_blocked()
        assert shop.opened == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_in_a_fork_the_parents_are_left_alone(shop: ConnectionCounter) -> None:
    async with loop_server(shop) as url, closing() as own:
        await own.preconnect(url)
        await shop.until(lambda: shop.opened == 1)
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                for each in (own.preconnect(url), own.aclose()):
                    with contextlib.suppress(StopIteration):
                        each.send(None)
                        os._exit(2)  # it waited for something, on the parent's event loop
                code = 0
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 - it ends at once
        await own.send(make_request(url))
        assert shop.used == [0]


# Cancelled at any step


async def cancel_after(turns: int, call: Callable[[], Coroutine[Any, Any, object]]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def cancel_natively_after(turns: int, call: Callable[[], Awaitable[object]]) -> None:
    task = asyncio.ensure_future(call())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.usefixtures("no_socket_left_open")
@TLS
@pytest.mark.parametrize("native", [False, True], ids=["by a scope", "natively"])
async def test_cancelled_at_any_turn_nothing_is_left_over(
    anyio_backend: str, native: bool, tls: bool
) -> None:
    """A preconnect, a create that finds it, and one more while the next connection opens."""
    if native and anyio_backend == "trio":
        pytest.skip("cancellation of asyncio's own")
    cancel = cancel_natively_after if native else cancel_after
    with FaultServer(answers_well, tls=context_of(tls)) as server:
        url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
        limits = httpx.Limits(max_connections=1)
        async with closing(ssl_context=client_context(), limits=limits) as own:
            for turns in range(40):
                await cancel(turns, partial(own.preconnect, url))
                await cancel(turns, lambda: own.send(make_request(url)))
                with anyio.move_on_after(turns / 2000):
                    await own.send(make_request(url))
            for _ in range(3):
                await own.preconnect(url)
                assert (await own.send(make_request(url))).status == 200


@pytest.mark.usefixtures("no_socket_left_open")
async def test_a_write_that_is_cancelled_on_one_that_was_ready_leaves_nothing_behind(
    shop: ConnectionCounter,
) -> None:
    writing = anyio.Event()

    async def hang() -> None:
        writing.set()
        await anyio.sleep_forever()

    async with loop_server(shop) as url:
        async with closing(network_backend=WatchedNetwork(hang)) as own:
            await own.preconnect(url)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(own.send, make_request(url))
                await writing.wait()
                tasks.cancel_scope.cancel()
        await shop.until(lambda: len(shop.ended) == shop.opened)


class StopWriting(BaseException):
    """Such as KeyboardInterrupt, which no test can raise without ending the tests."""


async def test_what_no_call_may_handle_comes_out_as_it_is(shop: ConnectionCounter) -> None:
    async def stop() -> None:
        raise StopWriting

    async with loop_server(shop) as url, closing(network_backend=WatchedNetwork(stop)) as own:
        with pytest.raises(StopWriting):
            await own.send(make_request(url))


# The clients


async def test_a_client_opens_the_connection_of_its_next_create(shop: ConnectionCounter) -> None:
    async with loop_server(shop) as url, AsyncClient(credentials(), base_url=url) as client:
        await client.preconnect(timeout=PLENTY)
        await shop.until(lambda: shop.opened == 1)
        await client.create_request(financing_request())
        assert shop.used == [0]


def test_a_client_that_does_not_await_does_the_same() -> None:
    opened = threading.Event()

    def act(peer: Peer) -> None:
        opened.set()
        answers_well(peer)

    with (
        FaultServer(act) as server,
        Client(credentials(), base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        client.preconnect(timeout=PLENTY)
        assert opened.wait(PLENTY)
        assert client.create_request(financing_request()).inv_id == INV_ID


async def test_a_transport_that_cannot_do_it_is_left_alone() -> None:
    transport = FakeTransport()
    async with AsyncClient(credentials(), transport=transport) as client:
        await client.preconnect()
        await client.update_shipping(INV_ID, shipping_event())
    assert len(transport.requests) == 1


@attrs.define
class Odd:
    """A transport whose preconnect does anything."""

    do: Callable[[], Awaitable[object]]
    asked: list[str] = attrs.field(factory=list)

    async def send(self, request: Request) -> Response:
        raise NotImplementedError

    async def preconnect(self, url: str, *, deadline: float) -> None:
        self.asked.append(url)
        assert anyio.current_time() < deadline <= anyio.current_time() + PLENTY
        await self.do()

    async def aclose(self) -> None:
        pass


async def fail() -> None:
    raise ValueError


@pytest.mark.parametrize("do", [fail, anyio.sleep_forever], ids=["raises", "hangs"])
async def test_a_transport_that_fails_at_it_does_no_harm(do: Callable[[], Awaitable[object]]) -> None:
    transport = Odd(do)
    async with AsyncClient(credentials(), transport=transport) as client:
        await client.preconnect(timeout=0.05)
    assert transport.asked == ["https://api.sandbox.wegetfinancing.com"]


@pytest.mark.parametrize(
    ("settings", "timeout", "seconds"),
    [({}, None, 2.0), ({"timeout": 1.0}, None, 1.0), ({}, 8.0, 8.0)],
    ids=["by default", "of a shorter client", "of its own"],
)
def test_a_page_does_not_wait_for_it_for_long(
    anyio_backend: str, settings: dict[str, Any], timeout: float | None, seconds: float
) -> None:
    async def show() -> None:
        transport = Odd(anyio.sleep_forever)
        async with AsyncClient(credentials(), transport=transport, **settings) as client:
            await client.preconnect(timeout=timeout)

    with virtual_time(anyio_backend) as time:
        shown = time.portal.start_task_soon(show)
        time.advance(0.0)
        time.advance(seconds - 0.125)
        waits = not shown.done()
        time.advance(0.125)
        assert waits
        assert shown.done()


async def test_a_client_that_cannot_be_used_says_so() -> None:
    client = AsyncClient(credentials(), transport=FakeTransport())
    with pytest.raises(ConfigurationError, match="timeout must be"):
        await client.preconnect(timeout=0)
    await client.aclose()
    with pytest.raises(ConfigurationError, match="is closed"):
        await client.preconnect()
