"""The first call of a process, from the imports to the answer: ``python -m benchmarks.first_call``.

It is nearly all CPU, which a busy machine does not change. Also for how long the first call holds up the
event loop, and what ``preconnect`` leaves of that.
"""

import time

BEGAN = time.process_time()  # before anything heavy is imported, as a process of a shop begins

import asyncio  # noqa: E402 - see above
import contextlib  # noqa: E402 - see above
import json  # noqa: E402 - see above
import statistics  # noqa: E402 - see above
import sys  # noqa: E402 - see above
from collections.abc import Awaitable, Callable  # noqa: E402 - see above
from typing import Any, Final  # noqa: E402 - see above

ROUNDS: Final = 11
BODY: Final = {
    "first_name": "Jane",
    "last_name": "Doe",
    "email": "jane@example.com",
    "billing_address": {
        "street1": "123 Main St",
        "city": "New York",
        "state": "NY",
        "zipcode": "10001",
        "country": "US",
    },
    "amount": "499.00",
    "version": "1.9",
}


async def ours(url: str, *, ahead: bool = False) -> dict[str, float]:
    from wegetfinancing import Address, AsyncClient, Credentials, FinancingRequest  # noqa: PLC0415 - it is measured

    async with AsyncClient(Credentials("1234", "user", "password"), base_url=url) as client:
        longest_of_preconnect = await longest_stall(client.preconnect) if ahead else 0.0

        async def create() -> None:
            address = Address(street1="123 Main St", city="New York", state="NY", zipcode="10001")
            await client.create_request(
                FinancingRequest(
                    first_name="Jane",
                    last_name="Doe",
                    email="jane@example.com",
                    billing_address=address,
                    amount="499.00",
                )
            )

        return {"stall": await longest_stall(create), "preconnect": longest_of_preconnect}


async def by_hand(url: str) -> dict[str, float]:
    import httpx  # noqa: PLC0415 - it is measured

    async with httpx.AsyncClient(auth=("user", "password")) as client:

        async def create() -> None:
            (await client.post(f"{url}/merchant/1234/requests", json=BODY)).json()

        return {"stall": await longest_stall(create)}


async def longest_stall(call: Callable[[], Awaitable[object]]) -> float:
    """Make the call, and measure how long nothing else could run meanwhile."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest = max(longest, now - before)
            before = now

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    await call()
    await asyncio.sleep(0)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return longest


WAYS: Final[dict[str, Callable[[str], Awaitable[dict[str, float]]]]] = {
    "ours": ours,
    "preconnected": lambda url: ours(url, ahead=True),
    "httpx": by_hand,
}


async def measure() -> list[Any]:
    from .harness import Row, compared  # noqa: PLC0415 - the measured processes do without
    from .processes import in_a_fresh_process, serving  # noqa: PLC0415 - for the same reason

    took: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    with serving() as url:
        for _ in range(ROUNDS):
            for name, runs in took.items():
                runs.append(in_a_fresh_process("benchmarks.first_call", name, url))

    def each(name: str, figure: str) -> list[float]:
        return [run[figure] * 1000 for run in took[name]]

    def stall(what: str, name: str, figure: str, against: str) -> Row:
        return Row(what=what, against=against, detail=f"{statistics.median(each(name, figure)):.0f} ms")

    what, against = "first call of a process, import to answer", "httpx by hand"
    return [
        # Both import httpx; the models, their converter and the rest of the package come on top.
        compared(what, each("ours", "seconds"), against, each("httpx", "seconds"), bound=1.4, unit="ms"),
        stall("first create: the event loop stands still for", "ours", "stall", ""),
        stall("the same after `preconnect()`", "preconnected", "stall", ""),
        stall("`preconnect()` itself", "preconnected", "preconnect", ""),
        stall("first post by hand, httpx", "httpx", "stall", ""),
    ]


async def run(way: str, url: str) -> dict[str, float]:
    found = await WAYS[way](url)
    return {**found, "seconds": time.process_time() - BEGAN}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], sys.argv[2]))))
