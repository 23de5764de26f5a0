"""Shipping updates in bulk and creates in one transport: the creates do not wait."""

import json
from typing import Any

import anyio
import httpx
import pytest

from wegetfinancing import AsyncClient, HttpxTransport, RateLimitError, Retry
from wegetfinancing.client.places import Places
from wegetfinancing.http import Request
from wegetfinancing.testing import (
    INV_ID,
    created_response,
    credentials,
    financing_request,
    shipping_event,
    shipping_response,
)

pytestmark = pytest.mark.anyio

BULK = 100


class Exchange:
    """What borrows a place."""

    def __init__(self, *, repeatable: bool) -> None:
        self.request = Request(operation="", method="POST", url="", repeatable=repeatable)


async def held(places: Places, count: int, *, repeatable: bool) -> list[Exchange]:
    """Say who gets a place at once, of so many who ask for one."""
    found: list[Exchange] = []

    async def ask() -> None:
        each = Exchange(repeatable=repeatable)
        await places.acquire_on_behalf_of(each)
        found.append(each)

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    return found


@pytest.mark.parametrize(("count", "updates"), [(1, 1), (2, 1), (3, 2), (4, 3), (32, 24), (100, 75)])
async def test_a_quarter_of_the_places_is_for_what_must_not_be_repeated(count: int, updates: int) -> None:
    places = Places(count)
    bulk = await held(places, 2 * count, repeatable=True)
    assert len(bulk) == updates
    creates = await held(places, 2 * count, repeatable=False)
    assert len(creates) == count - updates
    for each in (*bulk, *creates):
        places.release_on_behalf_of(each)
    assert len(await held(places, 2 * count, repeatable=False)) == count


async def test_an_update_that_gives_up_leaves_its_place_to_another() -> None:
    places = Places(4)
    creates = await held(places, 4, repeatable=False)
    assert await held(places, 4, repeatable=True) == []  # three of them waited behind the creates
    for each in creates:
        places.release_on_behalf_of(each)
    assert len(await held(places, 4, repeatable=True)) == 3


class VendorThatHoldsUpdates:
    """Answers creates at once, and updates when it is told to, or with 429 for one merchant."""

    def __init__(self) -> None:
        self.goes_on = anyio.Event()
        self.waiting = 0
        self.slowed_down: str | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        merchant_id, operation = request.url.path.split("/")[2:]
        if operation == "requests":
            return httpx.Response(200, json=json.loads(created_response().body))
        if merchant_id == self.slowed_down:
            return httpx.Response(429, headers={"retry-after": "5"})
        self.waiting += 1
        await self.goes_on.wait()
        return httpx.Response(200, json=json.loads(shipping_response(INV_ID).body))


async def test_a_bulk_of_updates_does_not_delay_creates() -> None:
    vendor = VendorThatHoldsUpdates()
    transport = HttpxTransport(httpx.MockTransport(vendor))
    async with AsyncClient(credentials(), transport=transport) as client, anyio.create_task_group() as tasks:
        for _ in range(BULK):
            tasks.start_soon(client.update_shipping, INV_ID, shipping_event())
        await anyio.wait_all_tasks_blocked()
        assert vendor.waiting == 24
        other = client.for_merchant(credentials(merchant_id="other"))
        for each in (client, other):
            assert (await each.create_request(financing_request())).inv_id == INV_ID
        assert not vendor.goes_on.is_set()
        vendor.goes_on.set()
    assert vendor.waiting == BULK


async def test_429_for_one_merchant_slows_down_that_merchants_updates_only() -> None:
    vendor = VendorThatHoldsUpdates()
    vendor.slowed_down = "busy"
    vendor.goes_on.set()
    pauses: list[float] = []
    all_pause, over = anyio.Event(), anyio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == BULK:
            all_pause.set()
        await over.wait()

    transport = HttpxTransport(httpx.MockTransport(vendor))
    retry = Retry(attempts=2, quota=BULK, sleep=sleep)
    async with AsyncClient(credentials(), transport=transport, middleware=[retry]) as client:
        busy = client.for_merchant(credentials(merchant_id="busy"))

        async def update(who: AsyncClient) -> Any:
            with pytest.raises(RateLimitError):
                await who.update_shipping(INV_ID, shipping_event())

        async with anyio.create_task_group() as tasks:
            for _ in range(BULK):
                tasks.start_soon(update, busy)
            with anyio.fail_after(30):
                await all_pause.wait()  # none of them keeps its place while it pauses
            assert min(pauses) >= 5
            await client.update_shipping(INV_ID, shipping_event())
            await client.create_request(financing_request())
            over.set()
