"""HttpxTransport against real sockets, on both event loops, with both libraries where it matters."""

import asyncio
import contextlib
import gc
import json
import select
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import respx
import trustme

from support.exchanges import (
    PLENTY,
    answer,
    answer_for_ever,
    close_after_reading,
    closed_port,
    flood,
    make_request,
    silent,
    silent_before_reading,
    with_enough_time,
)
from support.fault_server import GONE, FaultServer, Peer, happened, http_answer, raw_server
from wegetfinancing import ConfigurationError, DeadlineExceededError, HttpxTransport, Outcome, TransportError
from wegetfinancing.http import Response

pytestmark = pytest.mark.anyio


async def test_nothing_of_a_ready_client_but_its_transport_is_used(library: Any) -> None:
    client = library.AsyncClient(
        base_url="http://127.0.0.1:1/base",
        headers={"X-Default": "1", "User-Agent": "mine"},
        cookies={"session": "1"},
        params={"debug": "1"},
        auth=("other", "password"),
        timeout=0.000001,
        follow_redirects=True,
    )

    def redirect(peer: Peer) -> None:
        peer.answer(b"", "303 See Other", f"Location: {server.url}/elsewhere\r\n")

    async with client, raw_server(redirect) as server:
        response = await HttpxTransport(client).send(make_request(server.url))
    assert response.status == 303
    assert len(server.requests) == 1
    head = server.requests[0].partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"post /merchant/1234/requests http/1.1\r\n")
    for absent in (b"x-default", b"mine", b"cookie", b"authorization"):
        assert absent not in head


async def test_a_request_that_must_not_be_repeated_gets_a_connection_of_its_own(
    transport: HttpxTransport,
) -> None:
    async with raw_server(answer_for_ever) as server:
        for repeatable in (True, False, True, False):
            await transport.send(make_request(server.url, repeatable=repeatable))
        heads = [each.partition(b"\r\n\r\n")[0].lower() for each in server.requests]
    assert all(b"connection: close" in heads[number] for number in (1, 3))
    # Of our own, updates share a kept-alive connection, and one may be open ahead; a ready client keeps none.
    assert server.connections in (3, 4, 5)


async def test_connections_of_our_own_are_kept_alive_for_repeatable_requests() -> None:
    transport = HttpxTransport(ready_connections=0)
    async with raw_server(answer_for_ever) as server:
        for _ in range(5):
            await transport.send(make_request(server.url, repeatable=True))
        assert server.connections == 1
        await transport.aclose()


async def test_limits_bound_requests_at_once_and_idle_connections() -> None:
    at_once = most = 0
    counting = threading.Lock()

    def count(peer: Peer) -> None:
        nonlocal at_once, most
        while True:
            peer.read_request()
            with counting:
                at_once += 1
                most = max(most, at_once)
            peer.server.over.wait(0.01)  # those beside it arrive
            with counting:
                at_once -= 1
            peer.send(http_answer(b"{}"))

    limits = httpx.Limits(max_connections=3, max_keepalive_connections=1, keepalive_expiry=PLENTY)
    transport = HttpxTransport(limits=limits)
    async with raw_server(count) as server:
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(transport.send, make_request(server.url, repeatable=True))
        assert 1 <= most <= 3
        connections = server.connections
        await transport.send(make_request(server.url, repeatable=True))
        assert server.connections == connections
        await transport.aclose()


async def test_calls_at_the_same_time_replace_idle_connections_that_have_expired() -> None:
    transport = HttpxTransport(limits=httpx.Limits(keepalive_expiry=1e-9))
    async with raw_server(answer_for_ever) as server:
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(transport.send, make_request(server.url, repeatable=True))
        assert (len(server.requests), server.connections) == (8, 8)
        await transport.aclose()


async def a_second_call_sends_nothing(transport: HttpxTransport, timeout: float) -> None:
    async with raw_server(silent) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(transport.send, make_request(server.url))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(DeadlineExceededError) as caught:
            await transport.send(make_request(server.url, timeout=timeout))
        assert caught.value.outcome is Outcome.NOT_SENT
        tasks.cancel_scope.cancel()


async def test_a_deadline_while_waiting_for_a_connection_sent_nothing() -> None:
    transport = HttpxTransport(limits=httpx.Limits(max_connections=1), ready_connections=0)
    await a_second_call_sends_nothing(transport, timeout=0.05)
    await transport.aclose()


async def test_a_deadline_in_the_queue_of_a_ready_client_sent_nothing(library: Any) -> None:
    class Impatient(library.AsyncHTTPTransport):  # type: ignore[misc] # either library
        """The end of its queue comes long before ours: 20 ms pass at once on a busy machine."""

        async def handle_async_request(self, request: Any) -> Any:
            request.extensions["timeout"]["pool"] /= 100
            return await super().handle_async_request(request)

    limits = library.Limits(max_connections=1)
    async with library.AsyncClient(transport=Impatient(limits=limits)) as client:
        await a_second_call_sends_nothing(HttpxTransport(client), timeout=20.0)


async def test_an_endless_body_on_a_kept_alive_connection_ends_at_the_bound_too() -> None:
    def answer_then_flood(peer: Peer) -> None:
        answer(peer)
        flood(peer)

    transport = HttpxTransport(ready_connections=0)
    async with raw_server(answer_then_flood) as server:
        await transport.send(make_request(server.url, repeatable=True))
        began = anyio.current_time()
        response = await transport.send(make_request(server.url, repeatable=True, timeout=20))
        assert anyio.current_time() - began < 10
        assert server.connections == 1
    assert response.body_error == "is larger than 1 MiB"


async def test_a_second_answer_behind_the_first_does_not_reach_the_next_create() -> None:
    """httpcore hands such bytes to the next request on the connection: order A gets order B's loan."""

    def two_answers(peer: Peer) -> None:
        peer.read_request()
        peer.send(http_answer(b'{"n":1}') + http_answer(b'{"forged":1}'))
        answer_for_ever(peer)

    transport = HttpxTransport(ready_connections=0)
    async with raw_server(two_answers, answer) as server:
        assert (await transport.send(make_request(server.url))).body == b'{"n":1}'
        assert (await transport.send(make_request(server.url))).body == b'{"ok":1}'
        assert server.connections == 2


async def test_a_kept_alive_connection_that_died_is_not_used_for_a_create_and_replaced_for_an_update() -> (
    None
):
    def answer_and_close(peer: Peer) -> None:
        answer(peer)
        peer.sock.shutdown(socket.SHUT_WR)
        closed.set()

    closed = threading.Event()
    transport = HttpxTransport(ready_connections=0)
    async with raw_server(answer_and_close) as server:
        for _ in range(3):
            await transport.send(make_request(server.url, repeatable=True))
            await happened(closed)
            closed.clear()
        assert server.connections == 3
        await transport.aclose()


# Cancellation


async def test_cancelling_leaves_no_socket_open_and_the_transport_usable() -> None:
    transport = HttpxTransport(limits=httpx.Limits(max_connections=2), ready_connections=0)
    arrived, closed = threading.Event(), threading.Event()

    def note_the_end(peer: Peer) -> None:
        peer.read_request()
        arrived.set()
        with contextlib.suppress(*GONE):
            peer.listen_on()
        closed.set()

    gc.disable()
    try:
        async with raw_server(note_the_end, answer) as server:
            with anyio.fail_after(PLENTY):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(transport.send, make_request(server.url))
                    await happened(arrived)
                    tasks.cancel_scope.cancel()
                await happened(closed)
            for _ in range(3):
                assert (await transport.send(make_request(server.url))).status == 200
    finally:
        gc.enable()
    await transport.aclose()


async def test_cancelling_at_once_loses_no_place() -> None:
    """Old versions of anyio lose a place that is granted and cancelled in the same step."""
    transport = HttpxTransport(limits=httpx.Limits(max_connections=2), ready_connections=0)
    async with raw_server(answer_for_ever) as server:
        for _ in range(10):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await transport.send(make_request(server.url))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(transport.send, make_request(server.url))
                tasks.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(transport.send, make_request(server.url))


async def test_a_native_cancellation_of_asyncio_loses_no_place(anyio_backend: str) -> None:
    transport = HttpxTransport(limits=httpx.Limits(max_connections=1), ready_connections=0)
    async with raw_server(answer_for_ever) as server:
        if anyio_backend == "asyncio":
            for steps in range(6):
                task = asyncio.ensure_future(transport.send(make_request(server.url)))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert (await transport.send(make_request(server.url, timeout=5))).status == 200


async def test_cancelling_during_the_tls_handshake_closes_the_socket() -> None:
    transport = HttpxTransport(ready_connections=0)
    began, closed = threading.Event(), threading.Event()

    def stall_the_handshake(peer: Peer) -> None:
        peer.receive(1)
        began.set()
        with contextlib.suppress(*GONE):
            peer.listen_on()
        closed.set()

    gc.disable()
    try:
        async with raw_server(stall_the_handshake) as server, anyio.create_task_group() as tasks:
            tasks.start_soon(transport.send, make_request(server.url.replace("http:", "https:")))
            await happened(began)
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await happened(closed)
    finally:
        gc.enable()


async def test_a_deadline_during_the_tls_handshake_sent_nothing(transport: HttpxTransport) -> None:
    async with raw_server(silent_before_reading) as server:
        with pytest.raises(DeadlineExceededError) as caught:
            await transport.send(make_request(server.url.replace("http:", "https:"), timeout=0.3))
    assert caught.value.outcome is Outcome.NOT_SENT


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates of the environment, as httpx's users set them."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


async def test_https_works_with_the_environments_certificates(authority: trustme.CA, trusting: None) -> None:
    transport = HttpxTransport(ready_connections=0)
    async with raw_server(answer_for_ever, tls=server_context(authority)) as server:
        for repeatable in (False, True, True):
            response = await transport.send(make_request(server.url, repeatable=repeatable))
            assert response.body == b'{"ok":1}'
        assert server.connections == 2
        await transport.aclose()


async def test_https_works_with_a_context_of_the_callers(authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    transport = HttpxTransport(ssl_context=context, ready_connections=0)
    async with raw_server(answer, tls=server_context(authority)) as server:
        assert (await transport.send(make_request(server.url))).status == 200


async def test_a_certificate_nobody_vouches_for_is_a_fault_no_repeat_cures(
    transport: HttpxTransport, authority: trustme.CA
) -> None:
    async with raw_server(answer, tls=server_context(authority)) as server:
        with pytest.raises(TransportError, match=r"certificate does not verify: .*SSL_CERT_FILE") as caught:
            await transport.send(make_request(server.url))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.permanent


async def test_a_certificate_of_another_host_is_refused(authority: trustme.CA, trusting: None) -> None:
    async with raw_server(answer, tls=server_context(authority, "other.example")) as server:
        with pytest.raises(TransportError, match="certificate does not verify") as caught:
            await HttpxTransport(ready_connections=0).send(make_request(server.url))
    assert caught.value.outcome is Outcome.NOT_SENT


def plain_text(peer: Peer) -> None:
    peer.send(b"220 smtp.example ready\r\n")


async def test_a_server_that_speaks_no_tls_was_sent_nothing(transport: HttpxTransport) -> None:
    async with raw_server(plain_text) as server:
        with pytest.raises(TransportError, match=r"TLS failed: \w+") as caught:
            await transport.send(make_request(server.url.replace("http:", "https:")))
    assert caught.value.outcome is Outcome.NOT_SENT


def count_ssl_contexts() -> int:
    gc.collect()
    # By type(), since isinstance() makes lazy objects of other libraries load.
    return sum(issubclass(type(each), ssl.SSLContext) for each in gc.get_objects())


async def test_the_tls_context_is_shared_between_clients(authority: trustme.CA, trusting: None) -> None:
    one, two = HttpxTransport(ready_connections=0), HttpxTransport(ready_connections=0)
    async with raw_server(answer, tls=server_context(authority)) as server:
        await one.send(make_request(server.url))
        contexts = count_ssl_contexts()
        await two.send(make_request(server.url))
        assert count_ssl_contexts() == contexts


# Proxies


def proxy_that_refuses(peer: Peer) -> None:
    peer.read_tunnel()
    peer.send(http_answer(b"", "407 Proxy Authentication Required"))


def proxy_that_closes(peer: Peer) -> None:
    peer.read_tunnel()


def proxy_that_stalls(peer: Peer) -> None:
    peer.read_tunnel()
    peer.silence()


@pytest.mark.parametrize("behaviour", [proxy_that_refuses, proxy_that_closes, proxy_that_stalls])
@pytest.mark.parametrize("configured_by", ["environment", "argument"])
async def test_a_proxy_that_fails_to_connect_was_sent_nothing_of_the_request(
    behaviour: Any, configured_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def outcome(timeout: float) -> Outcome:
        with pytest.raises(TransportError) as caught:
            await transport.send(make_request("https://api.sandbox.wegetfinancing.com", timeout=timeout))
        return caught.value.outcome

    async with raw_server(behaviour) as proxy:
        if configured_by == "environment":
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            transport = HttpxTransport(ready_connections=0)
        else:
            transport = HttpxTransport(proxy=proxy.url)
        told = await with_enough_time(outcome, lambda _: bool(proxy.requests))
    assert told is Outcome.NOT_SENT
    assert [each.split(b" ")[:2] for each in proxy.requests] == [
        [b"CONNECT", b"api.sandbox.wegetfinancing.com:443"]
    ]


def tunnel(peer: Peer, server: FaultServer) -> None:
    """A proxy that connects: bytes go both ways."""
    peer.read_tunnel()
    peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port)) as target:
        ways = {peer.sock: target, target: peer.sock}
        while True:
            for source in select.select(list(ways), [], [])[0]:
                if not (data := source.recv(65536)):
                    return
                ways[source].sendall(data)


@pytest.mark.parametrize(
    ("behaviour", "outcome"), [(answer, None), (close_after_reading, Outcome.UNKNOWN)], ids=["good", "lost"]
)
async def test_through_a_proxy_the_request_itself_counts(
    authority: trustme.CA,
    trusting: None,
    behaviour: Any,
    outcome: Outcome | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        raw_server(behaviour, tls=server_context(authority)) as server,
        raw_server(lambda peer: tunnel(peer, server)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        if outcome is None:
            assert (
                await HttpxTransport(ready_connections=0).send(make_request(server.url))
            ).body == b'{"ok":1}'
        else:
            with pytest.raises(TransportError) as caught:
                await HttpxTransport(ready_connections=0).send(make_request(server.url))
            assert caught.value.outcome is outcome
    assert len(server.requests) == 1


@pytest.mark.parametrize("is_named", [True, False])
async def test_no_proxy_is_honoured(
    authority: trustme.CA, trusting: None, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{await closed_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1" if is_named else "other.example")
    transport = HttpxTransport(ready_connections=0)
    async with raw_server(answer, tls=server_context(authority)) as server:
        if is_named:
            assert (await transport.send(make_request(server.url))).status == 200
        else:
            with pytest.raises(TransportError, match="through the proxy"):
                await transport.send(make_request(server.url))


async def test_a_proxy_setting_that_cannot_be_used_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://proxy.example")
    with pytest.raises(TransportError, match=r"are HTTPS_PROXY and SSL_CERT_FILE right\?") as caught:
        await HttpxTransport(ready_connections=0).send(make_request("https://api.sandbox.wegetfinancing.com"))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.permanent


# Stand-ins for the network, as users have them in their tests


async def test_a_transport_of_theirs_does_in_place_of_a_client(library: Any) -> None:
    def handler(request: Any) -> Any:
        return library.Response(201, json={"a": request.content.decode()})

    transport = HttpxTransport(library.MockTransport(handler))
    assert json.loads((await transport.send(make_request("https://x.example"))).body) == {"a": '{"a":1}'}
    async with raw_server(answer) as server, library.AsyncHTTPTransport() as theirs:
        assert (await HttpxTransport(theirs).send(make_request(server.url))).body == b'{"ok":1}'


async def test_a_ready_client_that_repeats_by_itself_sends_a_create_once(library: Any) -> None:
    class Repeating(library.AsyncHTTPTransport):  # type: ignore[misc] # either library
        async def handle_async_request(self, request: Any) -> Any:
            for _ in range(2):
                with contextlib.suppress(library.TransportError):
                    return await super().handle_async_request(request)
            return await super().handle_async_request(request)

    async with (
        library.AsyncClient(transport=Repeating()) as client,
        raw_server(close_after_reading) as server,
    ):
        with pytest.raises(TransportError, match="sends requests again by itself") as caught:
            await HttpxTransport(client).send(make_request(server.url))
    assert caught.value.outcome is Outcome.UNKNOWN
    assert len(server.requests) == 1


async def test_respx_answers_for_connections_of_our_own(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post("https://x.example/merchant/1234/requests").respond(200, json={"ok": 1})
    response = await HttpxTransport(ready_connections=0).send(make_request("https://x.example"))
    assert json.loads(response.body) == {"ok": 1}
    assert route.calls.last.request.content == b'{"a":1}'


async def test_a_ready_client_that_speaks_http_2_is_refused_before_anything_is_sent() -> None:
    import httpcore  # noqa: PLC0415 - only this test looks below httpx

    class Http2(httpx.AsyncBaseTransport):
        pool = httpcore.AsyncConnectionPool(
            http1=False, http2=True, network_backend=httpcore.AsyncMockBackend([], http2=True)
        )

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await self.pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    str(request.url),
                    headers=request.headers.raw,
                    content=request.content,
                    extensions=request.extensions,
                )
            )
            raise AssertionError

    async with httpx.AsyncClient(transport=Http2()) as client:
        with pytest.raises(TransportError, match=r"make it with http2=False") as caught:
            await HttpxTransport(client).send(make_request("https://x.example"))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.permanent


# Construction and end


@pytest.mark.parametrize("most", [0, -1, 5.0, "5"])
async def test_limits_that_cannot_be_right_are_refused(most: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_connections must be a whole number"):
        HttpxTransport(limits=httpx.Limits(max_connections=most))


async def test_in_another_event_loop_it_says_so_and_sends_nothing() -> None:
    transport = HttpxTransport(ready_connections=0)

    async def elsewhere() -> None:
        with pytest.raises(TransportError, match="belongs to another event loop") as caught:
            await transport.send(make_request("https://x.example"))
        assert caught.value.outcome is Outcome.NOT_SENT

    async with raw_server(answer) as server:
        await transport.send(make_request(server.url, repeatable=True))
        await anyio.to_thread.run_sync(anyio.run, elsewhere)
        await transport.aclose()


@pytest.mark.parametrize("client", [httpx.Client(), httpx2.Client(), object(), "https://x"])
async def test_what_is_no_async_client_is_refused(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be an AsyncClient of httpx or httpx2"):
        HttpxTransport(client)


@pytest.mark.parametrize("settings", [{"proxy": "http://x"}, {"ssl_context": ssl.create_default_context()}])
async def test_settings_of_our_own_connections_do_not_go_with_a_ready_client(
    library: Any, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="set them on the client given"):
        HttpxTransport(library.AsyncClient(), **settings)


async def test_a_subclass_of_a_ready_client_is_one(library: Any) -> None:
    class Mine(library.AsyncClient):  # type: ignore[misc] # either library
        pass

    async with Mine() as client, raw_server(answer) as server:
        assert (await HttpxTransport(client).send(make_request(server.url))).status == 200


async def test_a_closed_transport_says_so_and_sends_nothing(transport: HttpxTransport) -> None:
    await transport.aclose()
    await transport.aclose()
    async with raw_server(answer) as server:
        with pytest.raises(TransportError, match="is closed; make a new one") as caught:
            await transport.send(make_request(server.url))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert server.connections == 0


async def test_closing_does_not_end_a_call_in_flight() -> None:
    transport, go_on = HttpxTransport(ready_connections=0), threading.Event()
    arrived = threading.Event()

    def wait_then_answer(peer: Peer) -> None:
        peer.read_request()
        arrived.set()
        go_on.wait(PLENTY)
        peer.send(http_answer(b"{}"))

    responses: list[Response] = []

    async def call(server: FaultServer) -> None:
        responses.append(await transport.send(make_request(server.url, repeatable=True)))

    async with raw_server(wait_then_answer) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(call, server)
        await happened(arrived)
        await transport.aclose()
        go_on.set()
    assert responses[0].status == 200


async def test_a_ready_client_that_was_closed_sent_nothing(library: Any) -> None:
    client = library.AsyncClient()
    await client.aclose()
    with pytest.raises(TransportError, match="closed; make a new one") as caught:
        await HttpxTransport(client).send(make_request("https://x.example"))
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_a_create_does_not_go_out_on_a_connection_the_ready_client_had_open(library: Any) -> None:
    async with library.AsyncClient() as client, raw_server(answer_for_ever) as server:
        await client.post(f"{server.url}/something-else", content=b"x")
        with pytest.raises(TransportError, match="give it to HttpxTransport and to nothing else") as caught:
            await HttpxTransport(client).send(make_request(server.url))
        assert caught.value.outcome is Outcome.NOT_SENT
        assert caught.value.permanent
        response = await HttpxTransport(client).send(make_request(server.url, repeatable=True))
    assert response.status == 200
    assert len(server.requests) == 2


async def test_an_answer_that_is_not_read_costs_a_ready_client_no_place(library: Any) -> None:
    def compress(peer: Peer) -> None:
        peer.answer(b"{}", headers="Content-Encoding: gzip\r\n")

    gc.disable()
    try:
        async with (
            raw_server(compress, answer) as server,
            library.AsyncClient(limits=library.Limits(max_connections=1)) as client,
        ):
            transport = HttpxTransport(client, limits=httpx.Limits(max_connections=1))
            response = await transport.send(make_request(server.url))
            assert response.body_error == "came compressed, which was not asked for"
            assert (await transport.send(make_request(server.url))).status == 200
    finally:
        gc.enable()


async def test_a_ready_client_is_left_open(library: Any) -> None:
    async with library.AsyncClient() as client:
        await HttpxTransport(client).aclose()
        assert not client.is_closed
