"""A request as the client hands it to a transport, and what a server does with it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio.abc import SocketAttribute

from support.fault_server import Peer
from wegetfinancing.http import Request

_Result = TypeVar("_Result")

PLENTY = 30.0


async def with_enough_time(
    call: Callable[[float], Awaitable[_Result]], is_enough: Callable[[_Result], bool]
) -> _Result:
    """Call with a longer deadline until what has to come before it has come, however busy the machine is."""
    timeouts = [0.2, 2.0, PLENTY / 2]
    result = await call(timeouts.pop(0))
    while timeouts and not is_enough(result):
        result = await call(timeouts.pop(0))
    return result


def make_request(
    url: str, *, repeatable: bool = False, timeout: float = PLENTY, body: bytes = b'{"a":1}', **headers: str
) -> Request:
    return Request(
        operation="update_shipping" if repeatable else "create_request",
        method="POST",
        url=f"{url}/merchant/1234/requests",
        headers={"content-type": "application/json"} | headers,
        body=body,
        repeatable=repeatable,
        deadline=anyio.current_time() + timeout,
    )


def answer(peer: Peer) -> None:
    peer.answer(b'{"ok":1}', headers="X-Extra: 1\r\nX-Extra: 2\r\n")


def answer_for_ever(peer: Peer) -> None:
    while True:
        answer(peer)


def close_after_reading(peer: Peer) -> None:
    peer.read_request()


def flood(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        peer.send(b"x" * 65536)


async def closed_port() -> int:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        return int(listener.extra(SocketAttribute.local_port))


def silent(peer: Peer) -> None:
    peer.read_request()
    peer.silence()


def silent_before_reading(peer: Peer) -> None:
    peer.silence()
