"""A request as the client hands it to a transport, and what a server does with it."""

import anyio
from anyio.abc import SocketAttribute

from support.raw_server import Connection
from wegetfinancing.http import Request

PLENTY = 30.0


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


async def answer(connection: Connection) -> None:
    await connection.answer(b'{"ok":1}', headers="X-Extra: 1\r\nX-Extra: 2\r\n")


async def answer_for_ever(connection: Connection) -> None:
    while True:
        await answer(connection)


async def close_after_reading(connection: Connection) -> None:
    await connection.read_request()


async def flood(connection: Connection) -> None:
    await connection.read_request()
    await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await connection.send(b"x" * 65536)


async def closed_port() -> int:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        return int(listener.extra(SocketAttribute.local_port))


async def silent(connection: Connection) -> None:
    await connection.read_request()
    await anyio.sleep_forever()


async def silent_before_reading(connection: Connection) -> None:
    await anyio.sleep_forever()
