"""Clients of several merchants on the same connections, for code that awaits and code that does not."""

import gc
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from support.canaries import CANARIES
from support.fault_server import Peer, raw_server
from wegetfinancing import (
    AsyncClient,
    Client,
    ConfigurationError,
    Credentials,
    RateLimitError,
    Retry,
)
from wegetfinancing.client.authentication import basic_authorization
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.ledger import MemoryLedger
from wegetfinancing.testing import (
    INV_ID,
    FakeTransport,
    credentials,
    error_response,
    financing_request,
    shipping_event,
    shipping_response,
)

pytestmark = pytest.mark.anyio

A = credentials()
B = credentials(merchant_id="other", username="b-user", password="b-password")
SECRET = CANARIES["password"]


async def at_once(_: float) -> None:
    await anyio.lowlevel.checkpoint()


def who_called(request: Request) -> tuple[str, str]:
    return request.url.rsplit("/", 2)[1], request.headers["authorization"]


def expected_of(who: Credentials) -> tuple[str, str]:
    return who.merchant_id, basic_authorization(who)


async def test_each_merchant_calls_as_itself() -> None:
    transport = FakeTransport()
    async with AsyncClient(A, transport=transport) as client:
        other = client.for_merchant(B)
        again = other.for_merchant(A)
        for each in (client, other, again):
            await each.create_request(financing_request())
    assert [who_called(each) for each in transport.requests] == [expected_of(who) for who in (A, B, A)]


async def test_merchants_share_their_connections() -> None:
    def serve(peer: Peer) -> None:
        while True:
            peer.answer(shipping_response(INV_ID).body)

    async with raw_server(serve) as server, AsyncClient(A, base_url=server.url) as client:
        async with client.for_merchant(B) as other:
            await other.update_shipping(INV_ID, shipping_event())
        await client.update_shipping(INV_ID, shipping_event())  # closing the other has closed nothing
        await client.for_merchant(B).update_shipping(INV_ID, shipping_event())
        assert server.connections == 1


async def test_a_closed_client_of_a_merchant_refuses_and_the_others_go_on() -> None:
    client = AsyncClient(A, transport=FakeTransport(), ledger=MemoryLedger())
    first, second = client.for_merchant(B), client.for_merchant(B)
    await first.aclose()
    await first.aclose()
    with pytest.raises(ConfigurationError, match="this AsyncClient is closed"):
        await first.create_request(financing_request())
    with pytest.raises(ConfigurationError, match="this AsyncClient is closed"):
        first.for_merchant(A)
    assert repr(first).endswith(" closed>")
    await second.create_request(financing_request())
    await client.create_request(financing_request())
    await client.aclose()


async def test_closing_the_parent_closes_all() -> None:
    client = AsyncClient(A, transport=FakeTransport())
    other = client.for_merchant(B)
    last = other.for_merchant(A)
    await client.aclose()
    for each in (other, last):
        assert repr(each).endswith(" closed>")
        with pytest.raises(ConfigurationError, match="this AsyncClient is closed"):
            await each.create_request(financing_request())
        with pytest.raises(ConfigurationError, match="this AsyncClient is closed"):
            async with each:
                pass
    with pytest.raises(ConfigurationError, match="this AsyncClient is closed"):
        client.for_merchant(B)


def in_another_event_loop(client: AsyncClient) -> None:
    anyio.run(client.create_request, financing_request())


async def test_one_event_loop_is_everybodys() -> None:
    client = AsyncClient(A, transport=FakeTransport())
    other = client.for_merchant(B)
    await other.create_request(financing_request())
    for each in (client, other):
        with pytest.raises(ConfigurationError, match="another event loop"):
            await anyio.to_thread.run_sync(in_another_event_loop, each)
    await client.aclose()


async def test_only_the_parent_has_to_be_closed() -> None:
    client = AsyncClient(A, transport=FakeTransport())
    await client.for_merchant(B).create_request(financing_request())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
        assert not caught
        del client
        gc.collect()
        assert [each.category for each in caught] == [ResourceWarning]


async def test_a_client_of_a_merchant_keeps_its_parent() -> None:
    other = AsyncClient(A, transport=FakeTransport()).for_merchant(B)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
        await other.create_request(financing_request())
    await other.aclose()
    with pytest.warns(ResourceWarning):  # noqa: PT031 - both are the end of it
        del other
        gc.collect()


@pytest.mark.parametrize("environment", ["sandbox", "live"])
async def test_the_environment_is_everybodys(environment: Any) -> None:
    transport = FakeTransport()
    async with AsyncClient(A, environment=environment, transport=transport) as client:
        await client.create_request(financing_request())
        other = client.for_merchant(B)
        await other.create_request(financing_request())
        if environment == "live":
            with pytest.raises(ConfigurationError, match="sandbox only"):
                await other.create_test_postback({})
    hosts = {each.url.split("/merchant/")[0] for each in transport.requests}
    assert len(hosts) == 1


async def test_the_timeout_and_the_hooks_are_everybodys() -> None:
    watched: list[Any] = []
    transport = FakeTransport()

    def hook(started: Any) -> None:
        watched.append(started)

    async with AsyncClient(A, transport=transport, hooks=[hook], timeout=1000.0) as client:
        await client.for_merchant(B).create_request(financing_request())
        assert len(watched) == 1
        assert transport.requests[0].deadline > anyio.current_time() + 500


async def test_a_retry_quota_is_one_merchants() -> None:
    transport = FakeTransport(*[error_response(429)] * 7)
    retry = Retry(attempts=2, quota=1, sleep=at_once)
    async with AsyncClient(A, transport=transport, middleware=[retry]) as client:
        other = client.for_merchant(B)
        for each, sent in ((client, 2), (client, 1), (other, 2), (other, 1)):
            before = len(transport.requests)
            with pytest.raises(RateLimitError):
                await each.update_shipping(INV_ID, shipping_event())
            assert len(transport.requests) - before == sent


class SlowRetry(Retry):
    """A subclass with something of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(attempts=2, quota=1, sleep=at_once)
        self.name = name


async def test_a_subclass_of_retry_keeps_what_it_has() -> None:
    retry = SlowRetry("mine").with_full_quota()
    assert (type(retry), retry.name) == (SlowRetry, "mine")


async def test_other_middleware_serves_all_merchants() -> None:
    seen: list[str] = []

    async def mine(request: Request, call_next: Handler) -> Response:
        seen.append(request.url.rsplit("/", 2)[1])
        return await call_next(request)

    async with AsyncClient(A, transport=FakeTransport(), middleware=[mine]) as client:
        await client.create_request(financing_request())
        await client.for_merchant(B).create_request(financing_request())
    assert seen == [A.merchant_id, B.merchant_id]


async def test_the_same_order_id_of_two_merchants_is_two_loans() -> None:
    ledger, transport = MemoryLedger(), FakeTransport()
    async with AsyncClient(A, transport=transport, ledger=ledger) as client:
        for each in (client, client.for_merchant(B), client.for_merchant(B)):
            await each.create_request(financing_request())
    assert len(transport.requests) == 2
    for who in (A, B):
        loan = ledger.loan("ORDER-123", merchant_id=who.merchant_id)
        assert loan is not None
        assert loan.merchant_id == who.merchant_id


# Both kinds of client


@pytest.fixture
def parent(kind: type[AsyncClient] | type[Client]) -> Iterator[AsyncClient | Client]:
    client = kind(A, transport=FakeTransport())
    yield client
    if isinstance(client, Client):
        client.close()


both = pytest.mark.parametrize("kind", [AsyncClient, Client])


@both
@pytest.mark.parametrize("wrong", [None, ("1234", "user", SECRET)])
def test_what_is_no_credentials_is_refused_and_not_shown(parent: Any, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="credentials must be Credentials") as caught:
        parent.for_merchant(wrong)
    traceback = caught.value.__traceback__
    while traceback is not None:
        if "wegetfinancing/" in traceback.tb_frame.f_code.co_filename:
            assert SECRET not in repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


@both
def test_a_client_of_a_merchant_has_less_than_a_kilobyte(parent: Any) -> None:
    kept = [parent.for_merchant(B)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept += [parent.for_merchant(B) for _ in range(100)]
    each = (tracemalloc.get_traced_memory()[0] - before) / 100
    tracemalloc.stop()
    assert each < 1024


@both
def test_a_subclass_stays_what_it_is(kind: Any) -> None:
    class Mine(kind):  # type: ignore[misc] # either of two classes
        """A client with something of its own."""

    client = Mine(A, transport=FakeTransport())
    client.name = "mine"
    other = client.for_merchant(B)
    assert (type(other), other.name) == (Mine, "mine")


# Without await


def test_each_merchant_calls_as_itself_without_await() -> None:
    transport = FakeTransport()
    with Client(A, transport=transport) as client:
        other = client.for_merchant(B)
        for each in (client, other, other.for_merchant(A), other):
            each.create_request(financing_request())
    assert [who_called(each) for each in transport.requests] == [expected_of(who) for who in (A, B, A, B)]
    assert transport.closed


def test_closing_without_await() -> None:
    transport = FakeTransport()
    client = Client(A, transport=transport)
    first, second = client.for_merchant(B), client.for_merchant(B)
    with first:
        first.create_request(financing_request())
    refused: list[Callable[[], object]] = [
        lambda: first.create_request(financing_request()),
        lambda: first.for_merchant(A),
        first.preconnect,
        first.__enter__,
    ]
    for call in refused:
        with pytest.raises(ConfigurationError, match="this Client is closed"):
            call()
    assert (repr(first).endswith(" closed>"), transport.closed) == (True, False)
    second.create_request(financing_request())
    client.close()
    assert repr(second).endswith(" closed>")
    with pytest.raises(ConfigurationError, match="this Client is closed"):
        second.create_request(financing_request())


def test_a_dropped_client_of_a_merchant_leaves_the_thread_alone() -> None:
    with Client(A, transport=FakeTransport()) as client:
        other = client.for_merchant(B)
        other.create_request(financing_request())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del other
            gc.collect()
        client.create_request(financing_request())


def test_a_retry_quota_is_one_merchants_and_lasts_without_await() -> None:
    transport = FakeTransport(*[error_response(429)] * 6)
    retry = Retry(attempts=2, quota=1, sleep=at_once)
    with Client(A, transport=transport, middleware=[retry]) as client:
        other = client.for_merchant(B)
        for each, sent in ((client, 2), (client, 1), (other, 2), (other, 1)):
            before = len(transport.requests)
            with pytest.raises(RateLimitError):
                each.update_shipping(INV_ID, shipping_event())
            assert len(transport.requests) - before == sent
