"""One request through httpx and httpx2: what goes out, what was sent, and how its answer is read."""

import contextlib
import gc
import gzip
import json
import math
import select
import warnings
from collections.abc import AsyncIterator
from typing import Any

import anyio
import attrs
import pytest

from support.canaries import is_ours
from support.exchanges import (
    PLENTY,
    answer,
    close_after_reading,
    flood,
    make_request,
    silent,
    silent_before_reading,
    with_enough_time,
)
from support.fault_server import Peer, raw_server
from support.virtual_time import virtual_time
from wegetfinancing import DeadlineExceededError, HttpxTransport, Outcome, TransportError
from wegetfinancing.http import Response

pytestmark = pytest.mark.anyio


async def test_a_request_goes_out_as_it_is_and_the_answer_comes_back_whole(transport: HttpxTransport) -> None:
    async with raw_server(answer) as server:
        response = await transport.send(make_request(server.url, authorization="Basic abc"))
    assert response == Response(
        200,
        {"content-type": "application/json", "content-length": "8", "x-extra": "1, 2"},
        b'{"ok":1}',
    )
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    assert first == "POST /merchant/1234/requests HTTP/1.1"
    assert sorted(headers, key=str.lower) == [
        "authorization: Basic abc",
        "connection: close",
        "Content-Length: 7",
        "content-type: application/json",
        f"Host: 127.0.0.1:{server.port}",
    ]
    assert body == b'{"a":1}'


# What a server does, and what is then known. The head decides as soon as it has been read.


def refuse_to_read(peer: Peer) -> None:
    select.select([peer.sock], [], [])  # before something came, nothing may have been sent
    peer.reset()


def reset_after_reading(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


def half_a_status_line(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 20")


def garbage(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"\x00\x01\x02\r\n\r\n")


def bad_length(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")


LOST = [
    refuse_to_read,
    close_after_reading,
    reset_after_reading,
    half_a_status_line,
    garbage,
    bad_length,
]


@pytest.mark.parametrize("behaviour", LOST, ids=lambda each: each.__name__)
async def test_once_sending_began_a_lost_connection_is_unknown(
    transport: HttpxTransport, behaviour: Any
) -> None:
    async with raw_server(behaviour) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(make_request(server.url))
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.operation == "create_request"
    assert not isinstance(caught.value, DeadlineExceededError)


async def test_a_body_that_was_not_sent_to_its_end_leaves_nothing_to_the_collector(
    transport: HttpxTransport,
) -> None:
    """Trio warns of an async generator that is collected before its end."""

    def read_a_little(peer: Peer) -> None:
        peer.receive(1000)
        peer.reset()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with raw_server(read_a_little) as server:
            with pytest.raises(TransportError):
                await transport.send(make_request(server.url, body=bytes(8 * 1024 * 1024)))
        gc.collect()
    assert [str(each.message) for each in caught] == []


async def test_nothing_of_httpx_stays_reachable_from_an_error(transport: HttpxTransport) -> None:
    async with raw_server(close_after_reading) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(make_request(server.url, authorization="Basic secret", body=b"secret"))
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    traceback = error.__traceback__
    while traceback is not None:
        if is_ours(traceback.tb_frame.f_code.co_filename):
            assert "secret" not in repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


def drip_head(peer: Peer) -> None:
    peer.read_request()
    while not peer.server.over.wait(0.001):
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize(
    "behaviour", [silent, silent_before_reading, drip_head], ids=lambda each: each.__name__
)
async def test_the_deadline_ends_it_when_no_answer_comes(transport: HttpxTransport, behaviour: Any) -> None:
    async def outcome(timeout: float) -> Outcome:
        with pytest.raises(DeadlineExceededError, match="no answer came before the deadline") as caught:
            await transport.send(make_request(server.url, timeout=timeout))
        return caught.value.outcome

    async with raw_server(behaviour) as server:
        with anyio.fail_after(PLENTY):
            told = await with_enough_time(outcome, lambda told: told is Outcome.UNKNOWN)
    assert told is Outcome.UNKNOWN


@pytest.mark.parametrize("timeout", [0.0, -1.0])
async def test_a_deadline_that_has_passed_sends_nothing(transport: HttpxTransport, timeout: float) -> None:
    async with raw_server(answer) as server:
        with pytest.raises(DeadlineExceededError) as caught:
            await transport.send(make_request(server.url, timeout=timeout))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert server.requests == []


async def test_a_request_without_a_deadline_waits_as_long_as_it_takes(transport: HttpxTransport) -> None:
    async with raw_server(answer) as server:
        response = await transport.send(make_request(server.url, timeout=math.inf))
    assert response.status == 200


@pytest.mark.parametrize(("timeout", "margin"), [(30.0, 0.02), (0.1, 0.01)])
def test_the_librarys_end_comes_before_ours_and_ours_before_the_deadline(
    anyio_backend: str, library: Any, timeout: float, margin: float
) -> None:
    allowed: list[dict[str, float]] = []
    ended: list[Outcome] = []

    async def never_answer(request: Any) -> Any:
        allowed.append(request.extensions["timeout"])
        await anyio.sleep_forever()

    async def call() -> None:
        transport = HttpxTransport(library.MockTransport(never_answer))
        with pytest.raises(DeadlineExceededError) as caught:
            await transport.send(make_request("https://x.example", timeout=timeout))
        ended.append(caught.value.outcome)

    with virtual_time(anyio_backend) as time:
        called = time.portal.start_task_soon(call)
        time.advance(0)
        time.advance(timeout - 1.05 * margin)
        ended_before = list(ended)
        time.advance(0.1 * margin)
        ended_after = list(ended)
        called.cancel()
    assert (ended_before, ended_after) == ([], [Outcome.UNKNOWN])
    seconds = pytest.approx(timeout - 2 * margin)
    assert allowed == [dict.fromkeys(("connect", "read", "write", "pool"), seconds)]


async def test_without_a_deadline_the_library_has_none_either(library: Any) -> None:
    def handler(request: Any) -> Any:
        assert set(request.extensions["timeout"].values()) == {None}
        return library.Response(200)

    transport = HttpxTransport(library.MockTransport(handler))
    assert (await transport.send(make_request("https://x.example", timeout=math.inf))).status == 200


def answering(head: str, body: bytes = b"") -> Any:
    def behaviour(peer: Peer) -> None:
        peer.read_request()
        peer.send(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)

    return behaviour


def half_a_body_then_silence(peer: Peer) -> None:
    answering("HTTP/1.1 400 Bad Request\nContent-Length: 100", b'{"type":')(peer)
    peer.silence()


def drip_body(peer: Peer) -> None:
    answering("HTTP/1.1 200 OK\nContent-Length: 1000000", b"{")(peer)
    while not peer.server.over.wait(0.001):
        peer.send(b" ")


@pytest.mark.parametrize(
    ("behaviour", "status", "problem"),
    [
        (answering("HTTP/1.1 200 OK\nContent-Length: 100", b'{"inv_id":"x"}'), 200, "was cut short"),
        (answering("HTTP/1.1 503 No\nTransfer-Encoding: chunked", b"5\r\nab"), 503, "was cut short"),
        (answering("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"zz\r\n"), 200, "was cut short"),
        (answering("HTTP/1.1 200 OK\nContent-Encoding: gzip", gzip.compress(b"{}")), 200, "came compressed"),
        (answering("HTTP/1.1 200 OK", b"x" * (1024 * 1024 + 1)), 200, "is larger than 1 MiB"),
        (flood, 200, "is larger than 1 MiB"),
        (answering("HTTP/1.1 302 Found\nLocation: http://[", b""), 302, "was cut short|None"),
        (answering("HTTP/1.1 302 Found\nLocation: \x7f\xff://", b""), 302, "was cut short|None"),
    ],
)
async def test_once_the_head_was_read_the_status_decides(
    transport: HttpxTransport, behaviour: Any, status: int, problem: str
) -> None:
    async with raw_server(behaviour) as server:
        response = await transport.send(make_request(server.url))
    assert response.status == status
    assert str(response.body_error).startswith(tuple(problem.split("|")))
    assert response.body == b""


@pytest.mark.parametrize(
    ("behaviour", "status", "problem"),
    [
        (half_a_body_then_silence, 400, "was cut short|did not end before the deadline"),
        (drip_body, 200, "did not end before the deadline"),
    ],
)
async def test_it_decides_too_if_the_deadline_comes_before_the_end_of_the_body(
    transport: HttpxTransport, behaviour: Any, status: int, problem: str
) -> None:
    async def send(timeout: float) -> Response | None:
        with contextlib.suppress(DeadlineExceededError):
            return await transport.send(make_request(server.url, timeout=timeout))
        return None

    async with raw_server(behaviour) as server:
        response = await with_enough_time(send, lambda response: response is not None)
    assert response is not None
    assert response.status == status
    assert str(response.body_error).startswith(tuple(problem.split("|")))
    assert response.body == b""


async def test_a_head_the_library_does_not_take_says_when_to_repeat(library: Any) -> None:
    """httpx looks at the address of a redirect even when it follows none."""
    head = "HTTP/1.1 302 Found\nLocation: https://x:abc/\nRetry-After: 7\nContent-Length: 0"
    async with library.AsyncClient() as client, raw_server(answering(head)) as server:
        response = await HttpxTransport(client).send(make_request(server.url))
    assert response.status == 302
    assert response.headers["retry-after"] == "7"


async def test_an_answer_in_crumbs_does_not_keep_the_event_loop_busy(transport: HttpxTransport) -> None:
    crumbs = answering("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"1\r\nx\r\n" * 100_000)
    async with raw_server(crumbs) as server:
        response = await transport.send(make_request(server.url))
    assert response.body_error == "came in too many pieces"
    assert response.body == b""


async def test_a_body_of_exactly_the_bound_is_read(transport: HttpxTransport) -> None:
    body = b"x" * (1024 * 1024)
    async with raw_server(answering(f"HTTP/1.1 200 OK\nContent-Length: {len(body)}", body)) as server:
        response = await transport.send(make_request(server.url))
    assert response.body == body


async def test_identity_is_no_compression(transport: HttpxTransport) -> None:
    async with raw_server(answering("HTTP/1.1 200 OK\nContent-Encoding: Identity", b"{}")) as server:
        response = await transport.send(make_request(server.url))
    assert response.body == b"{}"


# Stand-ins for the network, as users have them in their tests


async def test_the_answer_of_a_mock_transport_is_read(library: Any) -> None:
    def handler(request: Any) -> Any:
        return library.Response(201, json={"a": request.content.decode()}, headers={"x": "1"})

    async with library.AsyncClient(transport=library.MockTransport(handler)) as client:
        response = await HttpxTransport(client).send(make_request("https://x.example"))
    assert response.status == 201
    assert json.loads(response.body) == {"a": '{"a":1}'}
    assert response.headers["x"] == "1"


async def test_an_event_hook_finds_the_content(library: Any) -> None:
    seen: list[bytes] = []

    async def hook(request: Any) -> None:
        seen.append(request.content)

    mock = library.MockTransport(lambda _: library.Response(200))
    async with library.AsyncClient(transport=mock, event_hooks={"request": [hook]}) as client:
        await HttpxTransport(client).send(make_request("https://x.example"))
    assert seen == [b'{"a":1}']


async def test_every_request_has_its_own_address_headers_and_length(library: Any) -> None:
    seen: list[tuple[str, str, str, str]] = []

    def handler(request: Any) -> Any:
        headers = request.headers
        seen.append((request.url.host, headers["host"], headers["number"], headers["content-length"]))
        return library.Response(200)

    transport = HttpxTransport(library.MockTransport(handler))
    for number in [*range(20), 1, 1]:
        url, body = f"https://x{number}.example", b"x" * number
        await transport.send(make_request(url, body=body, number=f"{len(seen)}"))
    assert seen == [
        (f"x{number}.example", f"x{number}.example", f"{place}", f"{number}")
        for place, number in enumerate([*range(20), 1, 1])
    ]


async def test_a_host_and_a_length_that_were_given_go_out_as_they_are(transport: HttpxTransport) -> None:
    given = {"host": "other.example", "content-length": "7"}
    async with raw_server(answer) as server:
        await transport.send(attrs.evolve(make_request(server.url), headers=given))
    head = server.requests[0].partition(b"\r\n\r\n")[0].lower()
    assert head.count(b"host:") == head.count(b"host: other.example") == 1
    assert head.count(b"content-length:") == head.count(b"content-length: 7") == 1


async def in_pieces() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * (1024 * 1024)


@pytest.mark.parametrize("content", [lambda: b"x" * (1024 * 1024 + 1), in_pieces], ids=["read", "streamed"])
async def test_a_stand_ins_answer_is_bounded_too(library: Any, content: Any) -> None:
    def handler(request: Any) -> Any:
        return library.Response(200, content=content())

    async with library.AsyncClient(transport=library.MockTransport(handler)) as client:
        response = await HttpxTransport(client).send(make_request("https://x.example"))
    assert response.body_error == "is larger than 1 MiB"
    assert response.body == b""
