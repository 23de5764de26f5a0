"""Connections to a host name: its addresses are tried in turn, and no socket is left over."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import httpcore
import pytest

from support.exchanges import PLENTY, make_request
from support.fault_server import FaultServer
from support.faults import answers_well, authority, client_context
from support.resolvers import Resolver, resolving
from support.virtual_time import virtual_time
from wegetfinancing import HttpxTransport, Outcome, TransportError
from wegetfinancing.client.direct_connection import default_network
from wegetfinancing.client.resolving_network import ResolvingNetwork

pytestmark = pytest.mark.anyio

HOST = "server.example"


@attrs.define(eq=False)
class Stream(httpcore.AsyncNetworkStream):
    """A connection to an address."""

    address: str
    is_open: bool = True

    async def aclose(self) -> None:
        self.is_open = False
        await anyio.lowlevel.checkpoint()


@attrs.define(eq=False)
class Network(httpcore.AsyncNetworkBackend):
    """A network in which a test says what each address does; any other accepts."""

    refuses: dict[str, Exception] = attrs.field(factory=dict)
    drops: set[str] = attrs.field(factory=set)
    holds: set[str] = attrs.field(factory=set)
    over: anyio.Event | None = None
    accepts_after: dict[str, float] = attrs.field(factory=dict)
    tried: list[tuple[str, float]] = attrs.field(factory=list)
    arguments: list[dict[str, Any]] = attrs.field(factory=list)
    streams: list[Stream] = attrs.field(factory=list)

    async def connect_tcp(self, *args: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        (host,) = args
        self.tried.append((host, anyio.current_time()))
        self.arguments.append(more)
        if host in self.drops:
            await anyio.sleep_forever()
        if host in self.holds:
            self.over = self.over or anyio.Event()
            await self.over.wait()
        elif host in self.accepts_after:
            await anyio.sleep(self.accepts_after[host])
        else:
            await anyio.lowlevel.checkpoint()
        if host in self.refuses:
            raise self.refuses[host]
        self.streams.append(Stream(host))
        return self.streams[-1]

    @property
    def open(self) -> list[str]:
        return [each.address for each in self.streams if each.is_open]


def refused(text: str = "refused") -> httpcore.ConnectError:
    error = httpcore.ConnectError(text)
    error.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, text)
    return error


def resolving_to(network: Network, *addresses: str) -> ResolvingNetwork:
    async def find(host: str, port: int) -> list[str]:
        assert (host, port) == (HOST, 443)
        return list(addresses)

    return ResolvingNetwork(network, find)


def connected(backend: str, network: Network, *addresses: str, seconds: float = 0.0) -> str:
    """Connect while so much time passes, and return the address; the clock begins at 0."""
    found: list[Any] = []

    async def connect() -> None:
        found.append(await resolving_to(network, *addresses).connect_tcp(HOST, 443))

    with virtual_time(backend) as time:
        connecting = time.portal.start_task_soon(connect)
        time.advance(0.0)
        passed = 0.0
        while passed < seconds:
            time.advance(0.125)
            passed += 0.125
        try:
            connecting.result(PLENTY)
        finally:
            connecting.cancel()
    assert network.open == [found[0].address]
    return str(found[0].address)


def test_the_first_address_that_accepts_is_used(anyio_backend: str) -> None:
    network = Network()
    assert connected(anyio_backend, network, "10.0.0.1", "10.0.0.2") == "10.0.0.1"
    assert network.tried == [("10.0.0.1", 0.0)]


def test_one_that_refuses_is_followed_by_the_next_at_once(anyio_backend: str) -> None:
    network = Network(refuses={"fd00::1": refused()})
    assert connected(anyio_backend, network, "fd00::1", "10.0.0.1") == "10.0.0.1"
    assert network.tried == [("fd00::1", 0.0), ("10.0.0.1", 0.0)]


def test_one_that_is_dropped_by_the_network_costs_a_quarter_of_a_second(anyio_backend: str) -> None:
    network = Network(drops={"fd00::1"})
    assert connected(anyio_backend, network, "fd00::1", "10.0.0.1", seconds=0.25) == "10.0.0.1"
    assert network.tried == [("fd00::1", 0.0), ("10.0.0.1", 0.25)]


def test_a_slow_one_may_still_be_the_first(anyio_backend: str) -> None:
    network = Network(accepts_after={"fd00::1": 0.375, "10.0.0.1": 10.0})
    assert connected(anyio_backend, network, "fd00::1", "10.0.0.1", seconds=0.375) == "fd00::1"
    assert network.tried == [("fd00::1", 0.0), ("10.0.0.1", 0.25)]


def test_of_two_that_accept_in_the_same_turn_one_is_closed(anyio_backend: str) -> None:
    network = Network(holds={"fd00::1", "10.0.0.1"})
    own = resolving_to(network, *network.holds)
    with virtual_time(anyio_backend) as time:
        connecting = time.portal.start_task_soon(own.connect_tcp, HOST, 443)
        time.advance(0.0)
        time.advance(0.25)
        assert network.over is not None
        time.run(network.over.set)
        assert connecting.result(PLENTY) in network.streams
    assert len(network.streams) == 2
    assert len(network.open) == 1


async def test_when_every_address_refuses_each_error_is_a_cause() -> None:
    errors = {"fd00::1": refused("first"), "10.0.0.1": refused("second")}
    network = resolving_to(Network(refuses=dict(errors)), *errors)
    with pytest.raises(httpcore.ConnectError) as caught:
        await network.connect_tcp(HOST, 443)
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert list(caught.value.__cause__.exceptions) == list(errors.values())


async def test_what_the_only_address_raises_comes_out_as_it_is() -> None:
    error = refused()
    with pytest.raises(httpcore.ConnectError) as caught:
        await resolving_to(Network(refuses={"10.0.0.1": error}), "10.0.0.1").connect_tcp(HOST, 443)
    assert caught.value is error


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["10.0.0.1", "10.0.0.2"]], ids=["one", "two"])
async def test_the_time_for_connecting_covers_every_address(addresses: list[str]) -> None:
    network = resolving_to(Network(drops=set(addresses)), *addresses)
    with anyio.fail_after(PLENTY), pytest.raises(httpcore.ConnectTimeout):
        await network.connect_tcp(HOST, 443, timeout=0.01)


async def test_it_covers_the_lookup_too() -> None:
    async def find(_host: str, _port: int) -> list[str]:
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.fail_after(PLENTY), pytest.raises(httpcore.ConnectTimeout):
        await ResolvingNetwork(Network(), find).connect_tcp(HOST, 443, timeout=0.01)


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "no such name"), OSError("no")])
async def test_a_name_without_an_address_cannot_be_connected_to(error: OSError) -> None:
    async def find(_host: str, _port: int) -> list[str]:
        raise error

    with pytest.raises(httpcore.ConnectError, match="no") as caught:
        await ResolvingNetwork(Network(), find).connect_tcp(HOST, 443)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%2"])
async def test_an_address_is_not_looked_up_and_goes_through_as_it_is(address: str) -> None:
    network = Network()
    more: dict[str, Any] = {"timeout": 3.0, "local_address": "0.0.0.0", "socket_options": [(1, 2, 3)]}  # noqa: S104 - binds nothing
    stream = await resolving_to(network).connect_tcp(address, 443, **more)
    assert network.open == [stream.address]  # type: ignore[attr-defined] # of the network above
    assert network.arguments == [{"port": 443, **more}]


async def test_every_attempt_has_the_same_settings() -> None:
    network = Network(refuses={"10.0.0.1": refused()})
    options = iter([(1, 2, 3)])
    own = resolving_to(network, "10.0.0.1", "10.0.0.2")
    await own.connect_tcp(HOST, 443, timeout=PLENTY, local_address="0.0.0.0", socket_options=options)  # noqa: S104 - binds nothing
    expected = {"port": 443, "local_address": "0.0.0.0", "socket_options": [(1, 2, 3)]}  # noqa: S104 - as above
    assert network.arguments == [expected] * 2


# Cancelled


async def cancel_after(turns: int, call: Callable[[], Coroutine[Any, Any, object]]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def cancel_natively_after(turns: int, call: Callable[[], Coroutine[Any, Any, object]]) -> None:
    task = asyncio.ensure_future(call())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


NATIVE = pytest.mark.parametrize("native", [False, True], ids=["by a scope", "natively"])


@NATIVE
async def test_cancelled_at_any_turn_no_stream_stays_open(anyio_backend: str, native: bool) -> None:
    """What the caller was handed it closes itself."""
    if native and anyio_backend == "trio":
        pytest.skip("cancellation of asyncio's own")
    network = Network(refuses={"10.0.0.2": refused()})
    own = resolving_to(network, "10.0.0.2", "10.0.0.1", "10.0.0.3")

    async def connect() -> None:
        await (await own.connect_tcp(HOST, 443)).aclose()

    for turns in range(40):
        await (cancel_natively_after if native else cancel_after)(turns, connect)
        assert network.open == []
    assert network.streams


@pytest.mark.usefixtures("no_socket_left_open")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@NATIVE
async def test_a_call_by_name_cancelled_at_any_turn_leaves_no_socket_open(
    anyio_backend: str, native: bool, tls: bool
) -> None:
    """On a real network, of whose three addresses one refuses and two accept."""

    async def find(_host: str, _port: int) -> list[str]:
        await anyio.lowlevel.checkpoint()
        return ["127.0.0.2", "127.0.0.1", "127.0.0.1"]

    if native and anyio_backend == "trio":
        pytest.skip("cancellation of asyncio's own")
    cancel = cancel_natively_after if native else cancel_after
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(HOST).configure_cert(context)
    network = ResolvingNetwork(default_network(), find)
    own = HttpxTransport(ssl_context=client_context(), open_ahead_from=0, network_backend=network)
    with FaultServer(answers_well, tls=context if tls else None) as server:
        url = f"{'https' if tls else 'http'}://{HOST}:{server.port}"
        for turns in range(60):
            await cancel(turns, partial(own.preconnect, url))
            await cancel(turns, lambda: own.send(make_request(url)))
        await own.aclose()
        assert server.arrivals


# What a call says


async def test_a_call_to_a_name_of_which_no_address_accepts_says_why_and_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = HttpxTransport()
    with (
        FaultServer(answers_well, listens=False) as server,
        resolving(Resolver({HOST: ["127.0.0.1", "127.0.0.2"]}), monkeypatch),
        pytest.raises(TransportError, match=os.strerror(errno.ECONNREFUSED)) as caught,
    ):
        await own.send(make_request(f"http://{HOST}:{server.port}"))
    assert caught.value.outcome is Outcome.NOT_SENT
    await own.aclose()


async def test_a_call_reaches_the_one_address_that_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    own = HttpxTransport()
    with (
        FaultServer(answers_well) as server,
        resolving(Resolver({HOST: ["127.0.0.2", "::1", "127.0.0.1"]}), monkeypatch),
    ):
        response = await own.send(make_request(f"http://{HOST}:{server.port}"))
    assert response.status == 200
    await own.aclose()
