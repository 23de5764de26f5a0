"""Names are looked up in threads of our own: a name server that does not answer holds up nothing else."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import httpx
import pytest
import trio

from support.exchanges import PLENTY, answer_for_ever, make_request
from support.fault_server import FaultServer, Peer, http_answer, raw_server
from support.faults import answers_well, authority, client_context
from support.resolvers import Resolver, resolving
from wegetfinancing import Client, DeadlineExceededError, HttpxTransport, Outcome, TransportError
from wegetfinancing.client.direct_connection import default_network
from wegetfinancing.client.name_lookups import (
    MAX_LOOKUPS,
    NameLookups,
    lookups_of_this_process,
    system_addresses,
)
from wegetfinancing.client.resolving_network import ResolvingNetwork
from wegetfinancing.testing import credentials, financing_request

pytestmark = pytest.mark.anyio

HANGS = "hangs.example"
SERVER = "server.example"
THREAD = "wegetfinancing-lookup"
Started: TypeAlias = Callable[[], list[threading.Thread]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """The name of a server on this machine, and one about which no name server answers."""
    with resolving(Resolver({SERVER: ["127.0.0.1"]}, hangs={HANGS}), monkeypatch) as resolver:
        yield resolver


async def in_default_thread(function: Callable[[], object], backend: str) -> None:
    """Run a function where an application runs what blocks."""
    with anyio.fail_after(PLENTY):
        await (asyncio.to_thread(function) if backend == "asyncio" else trio.to_thread.run_sync(function))


# The calls


async def test_hung_lookups_hold_up_nothing_else_that_runs_in_threads(
    names: Resolver, anyio_backend: str
) -> None:
    transport = HttpxTransport(limits=httpx.Limits(max_connections=1000))
    async with anyio.create_task_group() as calls:
        for _ in range(100):  # neither event loop has so many threads by default
            calls.start_soon(transport.send, make_request(f"http://{HANGS}"))
        await anyio.wait_all_tasks_blocked()
        await in_default_thread(lambda: None, anyio_backend)
        await names.until(asking=MAX_LOOKUPS)
        calls.cancel_scope.cancel()
    await transport.aclose()


@pytest.mark.usefixtures("names")
async def test_a_call_whose_lookup_hangs_ends_at_its_deadline_and_sent_nothing() -> None:
    transport = HttpxTransport()
    with pytest.raises(DeadlineExceededError) as caught:
        await transport.send(make_request(f"http://{HANGS}", timeout=0.05))
    assert caught.value.outcome is Outcome.NOT_SENT
    await transport.aclose()


async def test_while_every_lookup_hangs_whatever_needs_none_goes_on(names: Resolver) -> None:
    own, waiting = HttpxTransport(), HttpxTransport(limits=httpx.Limits(max_connections=1000))
    async with raw_server(answer_for_ever) as server:
        named = f"http://{SERVER}:{server.port}"
        await own.send(make_request(named, repeatable=True))
        await own.preconnect(named)
        asked = len(names.asked)
        async with anyio.create_task_group() as calls:
            for _ in range(MAX_LOOKUPS):
                calls.start_soon(waiting.send, make_request(f"http://{HANGS}"))
            await names.until(asking=MAX_LOOKUPS)
            for request in (
                make_request(named, repeatable=True),  # on a connection that was kept
                make_request(named),  # on one that was opened ahead
                make_request(server.url),  # to an address
            ):
                assert (await own.send(request)).status == 200
            with pytest.raises(DeadlineExceededError) as caught:
                await own.send(make_request(named, timeout=0.05))
            assert caught.value.outcome is Outcome.NOT_SENT
            calls.cancel_scope.cancel()
        assert names.asked[asked:] == [HANGS] * MAX_LOOKUPS
        await own.aclose()


async def test_every_connection_of_our_own_is_looked_up_there(names: Resolver) -> None:
    transport = HttpxTransport(open_ahead_from=PLENTY)
    async with raw_server(answer_for_ever) as server:
        url = f"http://{SERVER}:{server.port}"
        await transport.preconnect(url)
        assert names.asked == [SERVER]
        await transport.send(make_request(url))  # on the one that was opened ahead
        assert names.asked == [SERVER]
        await transport.send(make_request(url))
        await transport.send(make_request(url, repeatable=True))
        assert names.asked == [SERVER] * 3
        assert names.threads == {THREAD}
    await transport.aclose()


async def test_so_is_the_one_that_is_opened_while_a_create_waits(names: Resolver) -> None:
    """The server answers once the second connection is there."""
    opened = threading.Event()

    def act(peer: Peer) -> None:
        if peer.number == 0:
            peer.read_request()
            assert opened.wait(PLENTY)
            peer.send(http_answer(b"{}"))
        opened.set()

    transport = HttpxTransport(open_ahead_from=0)
    async with raw_server(act) as server:
        await transport.send(make_request(f"http://{SERVER}:{server.port}"))
        assert names.asked == [SERVER] * 2
        assert names.threads == {THREAD}
        await transport.aclose()


async def test_a_preconnect_whose_lookup_hangs_ends_at_its_deadline(names: Resolver) -> None:
    transport = HttpxTransport()
    with anyio.fail_after(PLENTY):
        await transport.preconnect(f"http://{HANGS}", deadline=anyio.current_time() + 0.05)
    await names.until(asking=1)
    await transport.aclose()


async def test_an_address_is_not_looked_up(names: Resolver) -> None:
    transport = HttpxTransport()
    async with raw_server(answer_for_ever) as server:
        await transport.preconnect(server.url)
        assert (await transport.send(make_request(server.url))).status == 200
        assert (await transport.send(make_request(server.url, repeatable=True))).status == 200
    await transport.aclose()
    assert names.asked == []


async def test_a_name_that_does_not_exist_is_said_so_and_nothing_was_sent(names: Resolver) -> None:
    transport = HttpxTransport()
    told = r"no connection to nowhere\.example was made \(ConnectError: Name or service not known\)"
    with pytest.raises(TransportError, match=told) as caught:
        await transport.send(make_request("http://nowhere.example"))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert not caught.value.permanent
    assert names.asked == ["nowhere.example"]
    await transport.aclose()


async def test_the_certificate_is_still_that_of_the_name(names: Resolver) -> None:
    names.addresses["other.example"] = ["127.0.0.1"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(SERVER).configure_cert(context)
    transport = HttpxTransport(ssl_context=client_context())
    async with raw_server(answer_for_ever, tls=context) as server:
        await transport.preconnect(f"https://{SERVER}:{server.port}")
        for _ in range(2):  # opened ahead, and not
            assert (await transport.send(make_request(f"https://{SERVER}:{server.port}"))).status == 200
        await transport.preconnect(f"https://other.example:{server.port}")  # the create would use it
        with pytest.raises(TransportError, match="certificate does not verify") as caught:
            await transport.send(make_request(f"https://other.example:{server.port}"))
        assert caught.value.outcome is Outcome.NOT_SENT
        await transport.aclose()


def test_a_client_that_does_not_await_looks_names_up_there_too(names: Resolver) -> None:
    names.addresses["localhost"] = ["127.0.0.1"]
    with (
        FaultServer(answers_well) as server,
        Client(credentials(), base_url=f"http://localhost:{server.port}") as client,
    ):
        client.create_request(financing_request())
    assert set(names.asked) == {"localhost"}
    assert names.threads == {THREAD}


# The threads


@pytest.fixture
def started() -> Started:
    """Return the threads that look names up and have started since."""
    before = set(threading.enumerate())
    return lambda: [each for each in threading.enumerate() if each.name == THREAD and each not in before]


async def test_so_many_lookups_run_at_once_and_more_wait_in_turn(
    started: Started,
) -> None:
    resolver = Resolver({f"{number}.example": [f"10.0.0.{number}"] for number in range(10)})
    resolver.hangs = set(resolver.addresses)
    lookups = NameLookups(resolver.find, at_once=3, idle_seconds=0)
    found: dict[str, list[str]] = {}

    async def find(host: str) -> None:
        found[host] = await lookups.find(host, 80)

    async with anyio.create_task_group() as tasks:
        for host in resolver.addresses:
            tasks.start_soon(find, host)
            await anyio.wait_all_tasks_blocked()
        await resolver.until(asking=3)
        assert len(started()) == 3
        resolver.over()
    assert found == resolver.addresses
    assert sorted(resolver.asked[:3]) == ["0.example", "1.example", "2.example"]


async def test_a_thread_that_was_idle_for_long_enough_ends(
    started: Started,
) -> None:
    lookups = NameLookups(lambda *_: ["127.0.0.1"], idle_seconds=0)
    for _ in range(2):
        assert await lookups.find(SERVER, 80) == ["127.0.0.1"]
        for each in started():
            await anyio.to_thread.run_sync(each.join, PLENTY)
        assert not started()


async def test_one_that_is_idle_is_used_again() -> None:
    used: list[threading.Thread] = []

    def resolve(_host: str, _port: int) -> list[str]:
        used.append(threading.current_thread())
        return ["127.0.0.1"]

    lookups = NameLookups(resolve, at_once=1, idle_seconds=PLENTY)
    for _ in range(3):
        await lookups.find(SERVER, 80)
    assert used == used[:1] * 3


async def test_what_nobody_waits_for_any_more_is_not_looked_up() -> None:
    resolver = Resolver({SERVER: ["127.0.0.1"]}, hangs={HANGS})
    lookups = NameLookups(resolver.find, at_once=1, idle_seconds=0)
    async with anyio.create_task_group() as tasks:
        for host in (HANGS, "given-up.example"):
            tasks.start_soon(lookups.find, host, 80)
            await anyio.wait_all_tasks_blocked()
        await resolver.until(asking=1)
        tasks.cancel_scope.cancel()
    resolver.over()
    assert await lookups.find(SERVER, 80) == ["127.0.0.1"]
    assert resolver.asked == [HANGS, SERVER]


async def test_what_a_lookup_raises_comes_out_where_it_is_waited_for() -> None:
    def fail(_host: str, _port: int) -> list[str]:
        raise KeyError

    lookups = NameLookups(fail, at_once=1, idle_seconds=0)
    for _ in range(2):  # its thread goes on
        with pytest.raises(KeyError):
            await lookups.find(SERVER, 80)


async def test_what_a_lookup_raised_is_left_to_no_collector(started: Started) -> None:
    """A process that freezes its collector, or has it run rarely, keeps nothing of a call that failed."""
    raised: list[weakref.ref[BaseException]] = []

    class FailedError(OSError):
        def __init__(self) -> None:
            raised.append(weakref.ref(self))

    def fail(_host: str, _port: int) -> list[str]:
        raise FailedError

    async def find() -> None:
        with contextlib.suppress(FailedError):
            await NameLookups(fail, idle_seconds=0).find(SERVER, 80)

    gc.disable()
    try:
        await find()
        for each in started():
            await anyio.to_thread.run_sync(each.join, PLENTY)
        assert [each() for each in raised] == [None]
    finally:
        gc.enable()


async def test_a_thread_that_cannot_be_started_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    resolver = Resolver({SERVER: ["127.0.0.1"]})
    lookups = NameLookups(resolver.find, at_once=1, idle_seconds=0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await lookups.find(SERVER, 80)
    with anyio.fail_after(PLENTY):
        assert await lookups.find(SERVER, 80) == ["127.0.0.1"]
    assert resolver.asked == [SERVER]


async def test_a_call_that_no_thread_can_be_started_for_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as in a thread that goes on after the main one has ended, from Python 3.12 on."""

    async def find(host: str, port: int) -> list[str]:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            return await NameLookups().find(host, port)

    def refuse(_: threading.Thread) -> None:
        msg = "can't create new thread at interpreter shutdown"
        raise RuntimeError(msg)

    transport = HttpxTransport(network_backend=ResolvingNetwork(default_network(), find))
    with pytest.raises(TransportError, match="RuntimeError") as caught:
        await transport.send(make_request(f"http://{SERVER}"))
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_a_thread_whose_event_loop_has_ended_goes_on_with_the_next(anyio_backend: str) -> None:
    resolver = Resolver({SERVER: ["127.0.0.1"]}, hangs={HANGS})
    lookups = NameLookups(resolver.find, at_once=1, idle_seconds=0)

    async def give_up() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lookups.find, HANGS, 80)
            await resolver.until(asking=1)
            tasks.cancel_scope.cancel()

    await anyio.to_thread.run_sync(partial(anyio.run, give_up, backend=anyio_backend))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lookups.find, SERVER, 80)
        await anyio.wait_all_tasks_blocked()
        resolver.over()
    assert resolver.asked == [HANGS, SERVER]


def test_event_loops_share_the_threads_of_their_process() -> None:
    async def of_this_process() -> NameLookups:
        return lookups_of_this_process()

    assert anyio.run(of_this_process) is anyio.run(of_this_process, backend="trio")


def test_where_processes_do_not_fork_they_share_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.register_at_fork")
    lookups_of_this_process.cache_clear()
    assert lookups_of_this_process() is lookups_of_this_process()
    lookups_of_this_process.cache_clear()  # for the other tests, where they do


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_process_has_threads_of_its_own(names: Resolver) -> None:
    """All those of the parent hang."""
    lookups = lookups_of_this_process()
    async with anyio.create_task_group() as tasks:
        for _ in range(MAX_LOOKUPS):
            tasks.start_soon(lookups.find, HANGS, 80)
        await names.until(asking=MAX_LOOKUPS)
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                code = _found_in_another_thread()
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 - it ends at once
        tasks.cancel_scope.cancel()


def _found_in_another_thread() -> int:
    """Run an event loop where none runs: not in the thread that has forked."""
    found: list[list[str]] = []

    def look_up() -> None:
        found.append(anyio.run(lookups_of_this_process().find, "127.0.0.1", 80))

    thread = threading.Thread(target=look_up)
    thread.start()
    thread.join(PLENTY)
    return 0 if found == [["127.0.0.1"]] else 3


EXIT = """
import socket, threading
import anyio
import anyio.to_thread
import wegetfinancing as wgf
from wegetfinancing.client.resolving_network import ResolvingNetwork
from wegetfinancing.testing import credentials, financing_request

hung = threading.Event()

def hang(*_, **__):
    hung.set()
    threading.Event().wait()

async def create():
    async with wgf.AsyncClient(credentials(), base_url="https://hangs.example") as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.create_request, financing_request())
            print(await anyio.to_thread.run_sync(hung.wait, 30))
            tasks.cancel_scope.cancel()

socket.getaddrinfo = hang
anyio.run(create, backend={backend!r})
"""


def test_a_lookup_that_hangs_does_not_hold_up_the_exit_of_the_process(anyio_backend: str) -> None:
    command = [sys.executable, "-c", EXIT.format(backend=anyio_backend)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PLENTY)  # noqa: S603 - the text above
    assert (done.stdout, done.stderr) == ("True\n", "")


# The system's answer

V4 = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
V6 = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")


@pytest.mark.parametrize(
    ("found", "addresses"),
    [
        ([(*V4, ("10.0.0.1", 80)), (*V4, ("10.0.0.2", 80))], ["10.0.0.1", "10.0.0.2"]),
        (
            [(*V6, ("fd00::1", 80, 0, 0)), (*V6, ("fd00::2", 80, 0, 0)), (*V4, ("10.0.0.1", 80))],
            ["fd00::1", "10.0.0.1", "fd00::2"],
        ),
        (
            [(*V4, ("10.0.0.1", 80)), (*V4, ("10.0.0.2", 80)), (*V6, ("fd00::1", 80, 0, 0))],
            ["10.0.0.1", "fd00::1", "10.0.0.2"],
        ),
        ([(*V6, ("::1", 80, 0, 0)), (*V4, ("127.0.0.1", 80))], ["::1", "127.0.0.1"]),
        ([(*V4, ("127.0.0.1", 80)), (*V4, ("127.0.0.1", 80))], ["127.0.0.1"]),  # named twice in /etc/hosts
        ([(*V6, ("fe80::1", 80, 0, 2))], ["fe80::1%2"]),
        ([(*V6, (10, b"an address of IPv6")), (*V4, ("10.0.0.1", 80))], ["10.0.0.1"]),
    ],
    ids=["one family", "IPv6 first", "IPv4 first", "one of each", "twice", "local", "Python without IPv6"],
)
def test_the_order_of_the_system_is_kept_but_the_second_is_of_the_other_family(
    monkeypatch: pytest.MonkeyPatch, found: list[Any], addresses: list[str]
) -> None:
    asked: list[Any] = []

    def getaddrinfo(*args: Any, **kwargs: Any) -> list[Any]:
        asked.append((args, kwargs))
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert system_addresses("server.example", 80) == addresses
    assert asked == [((b"server.example", 80), {"type": socket.SOCK_STREAM})]


def test_a_name_without_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(socket.gaierror, match="the name has no address"):
        system_addresses("server.example", 80)
