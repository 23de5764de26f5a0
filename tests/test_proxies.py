"""Which requests a proxy sees: never plain text for this machine."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anyio
import attrs
import httpx
import httpx2
import pytest

from support.environment import set_credentials
from support.exchanges import with_enough_time
from support.fault_server import FaultServer, Peer
from support.faults import answers_well, http
from wegetfinancing import AsyncClient, HttpxTransport, Outcome, TransportError
from wegetfinancing.__main__ import main
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.http import Request
from wegetfinancing.testing import INV_ID, credentials, financing_request, shipping_event

pytestmark = pytest.mark.anyio


def bad_gateway(peer: Peer) -> None:
    peer.read_request()
    peer.send(http("502 Bad Gateway"))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(answers_well) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[FaultServer]:
    with FaultServer(bad_gateway) as proxy:
        yield proxy


def environment(name: str, proxy: str, monkeypatch: pytest.MonkeyPatch) -> HttpxTransport:
    monkeypatch.setenv(name, proxy)
    return HttpxTransport(ready_connections=0)


def no_proxy_for_others(proxy: str, monkeypatch: pytest.MonkeyPatch) -> HttpxTransport:
    monkeypatch.setenv("NO_PROXY", "shop.example")
    return environment("HTTP_PROXY", proxy, monkeypatch)


def argument(proxy: str, monkeypatch: pytest.MonkeyPatch) -> HttpxTransport:
    return HttpxTransport(proxy=proxy, ready_connections=0)


SETTINGS: dict[str, Callable[..., HttpxTransport]] = {
    **{name: partial(environment, name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")},
    "NO_PROXY for others": no_proxy_for_others,
    "argument": argument,
}


def url_of(server: FaultServer, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.port}"


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost"])
async def test_a_call_in_plain_text_to_this_machine_goes_through_no_proxy(
    server: FaultServer, proxy: FaultServer, setting: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = SETTINGS[setting](url_of(proxy), monkeypatch=monkeypatch)
    async with AsyncClient(credentials(), base_url=url_of(server, host), transport=transport) as client:
        await client.create_request(financing_request())
        await client.update_shipping(INV_ID, shipping_event())
        await client.update_shipping(INV_ID, shipping_event())
    await transport.aclose()
    assert proxy.connections == 0
    assert len(server.arrivals) == 3


def test_the_postback_command_sends_plain_text_to_this_machine_through_no_proxy(
    server: FaultServer, proxy: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_credentials(monkeypatch)
    monkeypatch.setenv("HTTP_PROXY", url_of(proxy))
    assert main(["postback", url_of(server)]) == 0
    assert proxy.connections == 0
    assert len(server.arrivals) == 1


async def test_the_emulator_delivers_plain_text_to_this_machine_through_no_proxy(
    server: FaultServer, proxy: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", url_of(proxy))
    app = emulator_app(Emulator(credentials(), page="http://emulator.test/lc/"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as browser:
        client = AsyncClient(credentials(), transport=HttpxTransport(browser))
        async with client:
            created = await client.create_request(financing_request(postback_url=url_of(server)))
        decided = await browser.post(created.href, data={"decision": "approved"})
    assert decided.json()["postback"] == "HTTP 200"
    assert proxy.connections == 0
    assert len(server.arrivals) == 1


def make_request(url: str, *, repeatable: bool = False) -> Request:
    return Request(
        operation="update_shipping" if repeatable else "create_request",
        method="POST",
        url=url,
        headers={"authorization": "Basic abc"},
        body=b"{}",
        repeatable=repeatable,
        deadline=anyio.current_time() + 30,
    )


@pytest.mark.parametrize("repeatable", [False, True])
@pytest.mark.parametrize("configured_by", ["environment", "argument"])
async def test_a_ready_client_that_would_send_it_through_a_proxy_is_refused_before_it_does(
    library: Any,
    server: FaultServer,
    proxy: FaultServer,
    configured_by: str,
    repeatable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {}
    if configured_by == "environment":
        monkeypatch.setenv("HTTP_PROXY", url_of(proxy))
    else:
        settings["proxy"] = url_of(proxy)
    async with library.AsyncClient(**settings) as client:
        with pytest.raises(TransportError, match="plain http to this machine through a proxy") as caught:
            await HttpxTransport(client).send(make_request(url_of(server), repeatable=repeatable))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.permanent
    assert [each.data for each in proxy.arrivals] == []
    assert server.arrivals == []


async def test_plain_text_for_another_machine_still_goes_through_the_proxy(
    proxy: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator may deliver to a named host of the shop's own network."""
    monkeypatch.setenv("HTTP_PROXY", url_of(proxy))
    response = await HttpxTransport(ready_connections=0).send(make_request("http://shop.example/postbacks"))
    assert response.status == 502
    assert proxy.arrivals[0].data.startswith(b"POST http://shop.example/postbacks ")


async def test_a_kept_alive_connection_to_this_machine_carries_nothing_for_another(
    server: FaultServer, proxy: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", url_of(proxy))
    transport = HttpxTransport(ready_connections=0)
    for _ in range(2):
        here = await transport.send(make_request(url_of(server), repeatable=True))
        there = await transport.send(make_request("http://shop.example/", repeatable=True))
        assert (here.status, there.status) == (200, 502)
    await transport.aclose()
    assert (server.connections, len(server.arrivals)) == (1, 2)


API = "https://api.sandbox.wegetfinancing.com"
SECRET = "proxy-password"


def with_secret(proxy: str) -> str:
    return proxy.replace("://", f"://proxy-user:{SECRET}@")


async def failure_through(proxy: str, kind: str, timeout: float = 30) -> TransportError:
    async with contextlib.AsyncExitStack() as stack:
        if kind == "own":
            transport = HttpxTransport(proxy=with_secret(proxy))
        else:
            library: Any = {"httpx": httpx, "httpx2": httpx2}[kind]
            client = await stack.enter_async_context(library.AsyncClient(proxy=with_secret(proxy)))
            transport = HttpxTransport(client)
        request = attrs.evolve(make_request(API), deadline=anyio.current_time() + timeout)
        with pytest.raises(TransportError) as caught:
            await transport.send(request)
    assert SECRET not in str(caught.value)
    assert "proxy-user" not in str(caught.value)
    assert caught.value.outcome is Outcome.NOT_SENT
    return caught.value


KINDS = pytest.mark.parametrize("kind", ["own", "httpx", "httpx2"])


@KINDS
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_behind_a_dead_proxy_an_error_names_the_proxy_and_the_api(kind: str, host: str) -> None:
    with FaultServer(answers_well, listens=False) as dead:
        error = await failure_through(f"http://{host}:{dead.port}", kind)
    expected = (
        f"no connection to api.sandbox.wegetfinancing.com through the proxy {host}:{dead.port} was made"
    )
    assert expected in str(error)


@KINDS
async def test_behind_a_proxy_that_refuses_an_error_names_it(kind: str) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_tunnel()
        peer.send(http("407 Proxy Authentication Required"))

    with FaultServer(refuse) as proxy:
        error = await failure_through(url_of(proxy), kind)
    assert f"through the proxy 127.0.0.1:{proxy.port} was made" in str(error)


@KINDS
async def test_behind_a_silent_proxy_a_deadline_names_it(kind: str) -> None:
    with FaultServer(Peer.silence) as silent:
        fail = partial(failure_through, url_of(silent), kind)
        error = await with_enough_time(fail, lambda error: "through" in str(error))
    assert "no answer came before the deadline" in str(error)
    assert f"through the proxy 127.0.0.1:{silent.port}" in str(error)


async def test_without_a_proxy_none_is_named() -> None:
    with FaultServer(answers_well, listens=False) as dead, pytest.raises(TransportError) as caught:
        await HttpxTransport(ready_connections=0).send(make_request(url_of(dead, "localhost")))
    assert f"no connection to localhost:{dead.port} was made" in str(caught.value)
