"""The transport of examples/ on aiohttp, which runs on asyncio only."""

import contextlib
from pathlib import Path

import anyio
import pytest
from aiohttp_transport import AiohttpTransport

from support.exchanges import with_enough_time
from support.fault_server import FaultServer, Peer, raw_server
from support.virtual_time import virtual_time
from wegetfinancing import AsyncClient, DeadlineExceededError, Outcome, TransportError
from wegetfinancing.http import Request, Response
from wegetfinancing.testing import (
    TRANSPORT_CHECKS,
    TransportCheck,
    check_transport_contract,
    created_response,
    credentials,
    financing_request,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=str)
async def test_it_keeps_the_contract(check: TransportCheck) -> None:
    await check(AiohttpTransport)


def make_request(url: str, timeout: float = 30.0) -> Request:
    deadline = anyio.current_time() + timeout
    return Request(operation="create_request", method="POST", url=url, body=b"{}", deadline=deadline)


async def test_a_client_uses_it() -> None:
    def answer(peer: Peer) -> None:
        peer.answer(created_response().body)

    transport = AiohttpTransport()
    async with (
        raw_server(answer) as server,
        AsyncClient(credentials(), base_url=server.url, transport=transport) as client,
    ):
        created = await client.create_request(financing_request())
        await transport.aclose()
    assert created.inv_id


async def test_without_a_connection_nothing_was_sent() -> None:
    transport = AiohttpTransport()
    for url, timeout in (("http://127.0.0.1:9", 30.0), ("http://host.invalid", 30.0)):
        with pytest.raises(TransportError, match="the connection failed") as caught:
            await transport.send(make_request(url, timeout))
        assert caught.value.outcome is Outcome.NOT_SENT
        assert caught.value.__context__ is None
    await transport.aclose()


async def test_a_deadline_that_has_passed_sends_nothing() -> None:
    transport = AiohttpTransport()
    with pytest.raises(DeadlineExceededError) as caught:
        await transport.send(make_request("http://127.0.0.1:9", -1))
    assert caught.value.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize("timeout", [0.1, 6.0])
def test_a_deadline_before_there_is_a_connection_is_told_before_the_client_ends_the_call(
    timeout: float,
) -> None:
    """Who only sees that a call was ended has to suppose that it was sent."""
    ended: list[Outcome] = []

    async def call() -> None:
        transport = AiohttpTransport()
        url = f"https://127.0.0.1:{silent.port}"
        async with AsyncClient(credentials(), base_url=url, transport=transport, timeout=timeout) as client:
            with pytest.raises(DeadlineExceededError) as caught:
                await client.create_request(financing_request())
        ended.append(caught.value.outcome)
        await transport.aclose()

    with FaultServer(Peer.silence) as silent, virtual_time("asyncio") as time:
        called = time.portal.start_task_soon(call)
        time.advance(0.0)
        time.advance(0.999 * timeout)
        told = list(ended)
        called.cancel()
    assert told == [Outcome.NOT_SENT]


async def test_a_closed_one_sends_nothing() -> None:
    transport = AiohttpTransport()
    await transport.aclose()
    with pytest.raises(TransportError, match="make a new one") as caught:
        await transport.send(make_request("http://127.0.0.1:9"))
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_an_answer_whose_body_never_ends_still_says_its_status() -> None:
    def half(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\n{")
        peer.silence()

    async def send(timeout: float) -> Response | None:
        with contextlib.suppress(DeadlineExceededError):
            return await transport.send(make_request(server.url, timeout))
        return None

    transport = AiohttpTransport()
    async with raw_server(half) as server:
        response = await with_enough_time(send, lambda response: response is not None)
        await transport.aclose()
    assert response is not None
    assert (response.status, response.body_error) == (400, "was cut short")


async def test_credentials_of_the_machine_do_not_get_in_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    await check_transport_contract(AiohttpTransport)


async def test_a_proxy_is_used() -> None:
    def answer(peer: Peer) -> None:
        peer.answer(b"{}")

    async with raw_server(answer) as proxy:
        transport = AiohttpTransport(proxy.url)
        await transport.send(make_request("http://vendor.invalid/merchant"))
        await transport.aclose()
    assert proxy.requests[0].startswith(b"POST http://vendor.invalid/merchant HTTP/1.1\r\n")
