"""Ready clients: what they hide of httpcore's work, and what of theirs is not used."""

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import attrs
import httpcore
import httpcore2
import httpx
import httpx2
import pytest
import respx

from support.fault_server import Arrived, FaultServer, Peer
from support.faults import answers_well
from wegetfinancing import HttpxTransport, Outcome, TransportError
from wegetfinancing.http import Request

pytestmark = pytest.mark.anyio


def make_request(url: str, *, repeatable: bool = False, method: str = "POST") -> Request:
    return Request(
        operation="update_shipping" if repeatable else "create_request",
        method=method,
        url=url,
        body=b"{}",
        repeatable=repeatable,
        deadline=anyio.current_time() + 30,
    )


def url_of(server: FaultServer) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(answers_well) as server:
        yield server


def read_and_close(peer: Peer) -> None:
    peer.read_request()


@pytest.fixture
def losing() -> Iterator[FaultServer]:
    with FaultServer(read_and_close) as server:
        yield server


@pytest.fixture
def closed() -> Iterator[str]:
    with FaultServer(answers_well, listens=False) as server:
        yield url_of(server)


def whole(server: FaultServer) -> int:
    return sum(each.how_far is Arrived.WHOLE for each in server.arrivals)


def as_it_is(library: Any, request: Any) -> Any:
    request.extensions = {"timeout": request.extensions["timeout"]}
    return request


def made_anew(library: Any, request: Any) -> Any:
    return library.Request(request.method, request.url, headers=request.headers, content=request.content)


def without_trace(
    library: Any,
    prepare: Callable[[Any, Any], Any] = as_it_is,
    attempts: int = 1,
    next_url: str | None = None,
) -> Any:
    """Make a transport that passes on no trace, as wrappers do that cache or repeat."""

    class Dropping(library.AsyncHTTPTransport):  # type: ignore[misc] # either library
        async def handle_async_request(self, request: Any) -> Any:
            failure: Exception | None = None
            for number in range(attempts):
                sent = prepare(library, request)
                if number and next_url is not None:
                    sent.url = library.URL(next_url)
                try:
                    return await super().handle_async_request(sent)
                except library.TransportError as error:
                    failure = error
            assert failure is not None
            raise failure

    return Dropping()


async def failure_of(transport: HttpxTransport, request: Request) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await transport.send(request)
    return caught.value


async def test_a_create_repeated_out_of_sight_reaches_the_server_whole_once(
    library: Any, losing: FaultServer
) -> None:
    async with without_trace(library, attempts=3) as dropping:
        error = await failure_of(HttpxTransport(dropping), make_request(url_of(losing)))
    assert error.outcome is Outcome.UNKNOWN
    assert "sends requests again by itself" in str(error)
    assert error.permanent
    assert whole(losing) == 1


@pytest.mark.parametrize("prepare", [as_it_is, made_anew])
async def test_what_failed_out_of_sight_counts_as_sent_whatever_the_last_failure_is_called(
    library: Any, losing: FaultServer, closed: str, prepare: Any
) -> None:
    """The first attempt arrived, the second found nobody."""
    async with without_trace(library, prepare, attempts=2, next_url=closed) as dropping:
        error = await failure_of(HttpxTransport(dropping), make_request(url_of(losing)))
    assert error.outcome is Outcome.UNKNOWN
    assert whole(losing) == 1


async def test_a_failure_to_connect_out_of_sight_counts_as_sent(library: Any, closed: str) -> None:
    async with without_trace(library) as dropping:
        error = await failure_of(HttpxTransport(dropping), make_request(closed))
    assert error.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("client", [True, False], ids=["client", "transport"])
async def test_after_an_answer_out_of_sight_no_create_is_sent(
    library: Any, server: FaultServer, client: bool
) -> None:
    dropping = without_trace(library)
    async with library.AsyncClient(transport=dropping) if client else dropping as given:
        transport = HttpxTransport(given)
        assert (await transport.send(make_request(url_of(server)))).status == 200
        error = await failure_of(transport, make_request(url_of(server)))
        assert error.outcome is Outcome.NOT_SENT
        assert error.permanent
        assert "(ConfigurationError: the client given drops the 'trace' extension" in str(error)
        assert (await transport.send(make_request(url_of(server), repeatable=True))).status == 200
    assert len(server.arrivals) == 2


async def test_after_a_failure_out_of_sight_no_create_is_sent(library: Any, losing: FaultServer) -> None:
    async with without_trace(library, made_anew, attempts=3) as dropping:
        transport = HttpxTransport(dropping)
        assert (await failure_of(transport, make_request(url_of(losing)))).outcome is Outcome.UNKNOWN
        before = len(losing.arrivals)
        error = await failure_of(transport, make_request(url_of(losing)))
        assert "drops the 'trace' extension" in str(error)
        assert error.outcome is Outcome.NOT_SENT
    assert len(losing.arrivals) == before


async def test_waiting_for_the_pool_of_a_ready_client_is_not_out_of_sight(
    library: Any, server: FaultServer
) -> None:
    """No place was free, so httpcore had nothing to report."""
    below: Any = {httpx: httpcore, httpx2: httpcore2}[library]

    class Full(library.AsyncHTTPTransport):  # type: ignore[misc] # either library
        is_full = True

        async def handle_async_request(self, request: Any) -> Any:
            if self.is_full:
                raise library.PoolTimeout("simulated") from below.PoolTimeout()
            return await super().handle_async_request(request)

    async with Full() as pool:
        transport = HttpxTransport(pool)
        error = await failure_of(transport, make_request(url_of(server)))
        assert error.outcome is Outcome.NOT_SENT
        pool.is_full = False
        assert (await transport.send(make_request(url_of(server)))).status == 200


@pytest.mark.parametrize("name", ["ConnectError", "ConnectTimeout", "PoolTimeout"])
async def test_a_stand_in_that_has_sent_the_body_cannot_say_that_it_never_connected(
    library: Any, name: str
) -> None:
    class StandIn(library.AsyncBaseTransport):  # type: ignore[misc] # either library
        async def handle_async_request(self, request: Any) -> Any:
            async for _ in request.stream:
                pass
            raise getattr(library, name)("simulated")

    error = await failure_of(HttpxTransport(StandIn()), make_request("https://x.example"))
    assert error.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("ready", [False, True])
async def test_respx_may_pass_a_request_on(
    ready: bool, server: FaultServer, respx_mock: respx.MockRouter
) -> None:
    """It reads the body before that."""
    respx_mock.post(url_of(server)).pass_through()
    async with httpx.AsyncClient() as client:
        transport = HttpxTransport(client) if ready else HttpxTransport()
        for _ in range(2):
            assert (await transport.send(make_request(url_of(server)))).status == 200
        await transport.aclose()
    assert whole(server) == 2


async def test_a_deadline_names_the_timeout_that_counts(library: Any) -> None:
    """The ready client's own does not, which surprises who has set it."""

    async def handler(request: Any) -> Any:
        await anyio.sleep_forever()

    async with library.AsyncClient(transport=library.MockTransport(handler), timeout=60) as client:
        request = attrs.evolve(make_request("https://x.example"), deadline=anyio.current_time() + 0.05)
        error = await failure_of(HttpxTransport(client), request)
    assert "no answer came before the deadline" in str(error)
    assert "AsyncClient's timeout sets it; that of the client given is not used" in str(error)


async def test_a_request_with_the_method_connect_counts_as_sent_once_it_was(library: Any) -> None:
    """A middleware may rewrite the method; a proxy's CONNECT is another one."""
    with FaultServer(Peer.read_tunnel) as server:
        request = make_request(url_of(server), method="CONNECT")
        assert (await failure_of(HttpxTransport(ready_connections=0), request)).outcome is Outcome.UNKNOWN
        async with library.AsyncClient() as client:
            request = make_request(url_of(server), method="connect")
            assert (await failure_of(HttpxTransport(client), request)).outcome is Outcome.UNKNOWN
        assert server.connections == 2
