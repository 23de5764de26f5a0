"""Calls over real loopback HTTP, with and without TLS, to a fast server in another process."""

import contextlib
import datetime as dt
import ssl
import time
from typing import Any

import httpx

from wegetfinancing import AsyncClient, HttpxTransport, ShippingEvent, ShippingState
from wegetfinancing.client.operations import create_request_body, update_shipping_body
from wegetfinancing.testing import credentials

from .calls import new_request
from .fake_socket import INV_ID
from .harness import Row, compared, interleaved
from .processes import certified, serving

EVENT = ShippingEvent(date=dt.date(2026, 1, 15), state=ShippingState.DISPATCHED, tracking_number="1Z999")


async def against_by_hand(url: str, context: ssl.SSLContext, name: str) -> list[Row]:
    request = new_request()
    create, update = create_request_body(request), update_shipping_body(INV_ID, EVENT)
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        "authorization": "Basic YTpi",
    }
    path = f"{url}/merchant/1234"
    hand = httpx.AsyncClient(verify=context, headers=headers)
    transport = HttpxTransport(ssl_context=context)
    client = AsyncClient(credentials(), base_url=url, transport=transport)

    async def shipping() -> Any:
        return await client.update_shipping(INV_ID, EVENT)

    async def shipping_by_hand() -> Any:
        return (await hand.post(f"{path}/shipping", content=update)).json()

    async def creating() -> Any:
        return await client.create_request(request)

    async def creating_by_hand() -> Any:
        return (await hand.post(f"{path}/requests", content=create)).json()

    async def creating_by_hand_alone() -> Any:
        async with httpx.AsyncClient(verify=context, headers=headers) as alone:
            return (await alone.post(f"{path}/requests", content=create)).json()

    subjects = {
        "shipping": shipping,
        "shipping by hand": shipping_by_hand,
        "creating": creating,
        "creating by hand": creating_by_hand,
        "alone": creating_by_hand_alone,
    }
    async with hand, client, contextlib.aclosing(transport):
        cpu = await interleaved(subjects, rounds=15, calls=10)
        clock = await interleaved(subjects, rounds=15, calls=10, clock=time.perf_counter)
    kept, alone = f"httpx by hand, kept alive, {name}", f"httpx by hand, a client and connection each, {name}"
    return [
        compared("`update_shipping`, kept alive, CPU", cpu["shipping"], kept, cpu["shipping by hand"]),
        compared("`create_request`, a connection of its own, CPU", cpu["creating"], alone, cpu["alone"]),
        compared(
            "`create_request`, a connection of its own, CPU", cpu["creating"], kept, cpu["creating by hand"]
        ),
        compared("`create_request`, time to answer", clock["creating"], kept, clock["creating by hand"]),
    ]


async def measure() -> list[Row]:
    with certified() as (certificate, trusting):
        with serving() as url:
            rows = await against_by_hand(url, trusting, "HTTP")
        with serving(certificate=certificate) as url:
            rows += await against_by_hand(url, trusting, "TLS")
    return rows
