"""The first call of a process, from the imports to the answer: ``python -m benchmarks.first_call``.

It is nearly all CPU, which a busy machine does not change. Also for how long the first call holds up the
event loop, and what ``preconnect`` leaves of that.

httpx and httpcore import what they find: trio, h2 and rich among others, which a shop need not have. So the
first call is measured with what the package requires only, and also with all that is here.
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
FOUND: Final = ("click", "h2", "rich", "trio")  # what httpx and httpcore import if it is there
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

    took: dict[tuple[str, ...], list[dict[str, float]]] = {
        (name, *hidden): [] for hidden in ((), FOUND) for name in WAYS
    }
    with serving() as url:
        for _ in range(ROUNDS):
            for (name, *hidden), runs in took.items():
                runs.append(in_a_fresh_process("benchmarks.first_call", url, name, *hidden))

    def each(figure: str, *way: str) -> list[float]:
        return [run[figure] * 1000 for run in took[way]]

    def against_httpx(what: str, *hidden: str, bound: float | None = None) -> Row:
        ours, theirs = each("seconds", "ours", *hidden), each("seconds", "httpx", *hidden)
        return compared(what, ours, "httpx by hand", theirs, bound=bound, unit="ms")

    def stall(what: str, figure: str, name: str) -> Row:
        return Row(what=what, against="", detail=f"{statistics.median(each(figure, name, *FOUND)):.0f} ms")

    what = "first call of a process, import to answer"
    return [
        # Both import httpx; attrs, cattrs, the models and the rest of the package come on top.
        against_httpx(what, *FOUND, bound=1.6),
        against_httpx(f"{what}, with {', '.join(FOUND)} there", bound=1.4),
        stall("first create: the event loop stands still for", "stall", "ours"),
        stall("the same after `preconnect()`", "stall", "preconnected"),
        stall("`preconnect()` itself", "preconnect", "preconnected"),
        stall("first post by hand, httpx", "stall", "httpx"),
    ]


async def run(url: str, way: str) -> dict[str, float]:
    found = await WAYS[way](url)
    return {**found, "seconds": time.process_time() - BEGAN}


if __name__ == "__main__":
    for hidden in sys.argv[3:]:
        sys.modules[hidden] = None  # type: ignore[assignment] # so that it cannot be imported
    print(json.dumps(asyncio.run(run(sys.argv[1], sys.argv[2]))))
