"""A call of ``Client``, the hop between threads included, for code that does not await."""

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import httpx
from asgiref.sync import async_to_sync

from wegetfinancing import AsyncClient, Client, HttpxTransport
from wegetfinancing.client.operations import create_request_body
from wegetfinancing.testing import credentials

from .calls import HEADERS, URL, new_request
from .fake_socket import FakeBlockingTransport, fake_network_transport
from .harness import Row, compared, interleaved_blocking

BOUND = 3.0


def compare() -> list[Row]:
    ready = new_request()
    wire = json.loads(create_request_body(ready))
    who = credentials()
    context = ssl.create_default_context()
    through = fake_network_transport(httpx)
    hand = httpx.Client(transport=FakeBlockingTransport(), auth=(who.username, who.password), headers=HEADERS)
    client = Client(who, transport=HttpxTransport(through(context)))

    async def create_with_a_client_of_its_own() -> Any:
        async with AsyncClient(who, transport=HttpxTransport(through(context))) as alone:
            return await alone.create_request(ready)

    subjects: dict[str, Callable[[], Any]] = {
        "hand": lambda: hand.post(URL, json=wire).json(),
        "client": lambda: client.create_request(ready),
        "asyncio.run": lambda: asyncio.run(create_with_a_client_of_its_own()),
        "async_to_sync": async_to_sync(create_with_a_client_of_its_own),
    }
    with hand, client:
        assert subjects["client"]().inv_id == subjects["hand"]()["inv_id"]
        took = interleaved_blocking(subjects)
    ours = "`Client.create_request`, model ready"
    by_hand = f"`httpx.Client.post(json=…)` + `.json()`, httpx {httpx.__version__}, httpcore on a fake socket"
    alone = "an `AsyncClient` for each call"
    return [
        compared(ours, took["client"], by_hand, took["hand"], bound=BOUND),
        compared(ours, took["client"], f"{alone}, `asyncio.run`", took["asyncio.run"]),
        compared(ours, took["client"], f"{alone}, `async_to_sync`", took["async_to_sync"]),
    ]


async def measure() -> list[Row]:
    """Measure where no event loop runs."""
    return await anyio.to_thread.run_sync(compare)
