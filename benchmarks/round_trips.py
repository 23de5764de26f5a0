"""How long a buyer waits, in round trips: creates through a relay that delays every byte.

The server thinks for 100 ms, which is what a create at the vendor's takes at least. What is measured is the
time to answer without that, except where the server is next door: there is no round trip to count in, and the
customer waits for the thinking.
"""

import asyncio
import contextlib
import math
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import attrs
import httpx
import httpx2

from wegetfinancing import AsyncClient, HttpxTransport
from wegetfinancing.client.operations import create_request_body
from wegetfinancing.testing import credentials

from .calls import new_request
from .harness import Row, compared
from .processes import certified, serving

# Seconds of a round trip, and how many times each wait is measured.
DISTANCES: Final = {0.0: 24, 0.010: 24, 0.040: 20, 0.150: 8}
THINKING: Final = 0.100
BOUND: Final = 1.2
BURST: Final = 32
BURSTS: Final = 3
# Creates until each finds a connection opened ahead, however far away: where an answer comes before a
# connection is open, the third is the first that does not wait for one.
WARMING: Final = 3
LIBRARIES: Final = (httpx, httpx2)
HEADERS: Final = {
    "content-type": "application/json",
    "accept": "application/json",
    "authorization": "Basic YTpi",
}
Call = Callable[[], Awaitable[Any]]


class Relay:
    """Passes bytes on, each half a round trip late, and a connection's first bytes a whole one more.

    On a real network the handshake of TCP takes a round trip before the first byte can leave; to the relay,
    which is on this machine, it takes none.
    """

    def __init__(self, port: int, round_trip: float) -> None:
        self.port = port
        self.round_trip = round_trip
        self.serving: set[object] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The event loop alone would not keep a task that waits for a connection nobody uses any more.
        self.serving.add(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        # A relay that is closed ends what is under way.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                self.copy(reader, back, late=self.round_trip), self.copy(there, writer, late=0.0)
            )

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + late
        while data := await reader.read(65536):
            due = max(due, loop.time())
            # In order, since the event loop runs what is due in the order of its time.
            loop.call_at(due + self.round_trip / 2, writer.write, data)
        loop.call_at(max(due, loop.time()) + self.round_trip / 2 + 0.001, writer.close)


@contextlib.contextmanager
def relayed(url: str, round_trip: float) -> Iterator[str]:
    """Serve ``url`` from a round trip away, in a process of its own."""
    scheme, _, port = url.partition("://127.0.0.1:")
    command = [sys.executable, "-m", "benchmarks.round_trips", port, str(round_trip)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own module
        assert process.stdout is not None
        try:
            yield f"{scheme}://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


async def relay(port: int, round_trip: float) -> None:
    server = await asyncio.start_server(Relay(port, round_trip).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def wait_of(call: Call) -> float:
    """Measure one call in seconds."""
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


async def burst_of(call: Call) -> list[float]:
    return list(await asyncio.gather(*(wait_of(call) for _ in range(BURST))))


class Shop:
    """Its ways to send a create to one address, each a new client or one that it keeps."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self.url = url
        self.context = context
        self.request = new_request()
        self.body = create_request_body(self.request)
        self.open = contextlib.AsyncExitStack()

    def ours(self) -> AsyncClient:
        transport = HttpxTransport(ssl_context=self.context)
        self.open.push_async_callback(transport.aclose)
        return AsyncClient(credentials(), base_url=self.url, transport=transport)

    def library(self, library: Any) -> Any:
        client = library.AsyncClient(verify=self.context, headers=HEADERS)
        self.open.push_async_callback(client.aclose)
        return client

    def create(self, client: AsyncClient) -> Call:
        return lambda: client.create_request(self.request)

    def post(self, client: Any) -> Call:
        path = f"{self.url}/merchant/1234/requests"

        async def by_hand() -> Any:
            return (await client.post(path, content=self.body)).json()

        return by_hand


async def waits_at(shop: Shop, times: int) -> dict[str, list[float]]:
    """Measure each way once a round, each after the others."""
    waits: dict[str, list[float]] = {}

    async def note(name: str, call: Call) -> None:
        waits.setdefault(name, []).append(await wait_of(call))

    kept, ahead = shop.ours(), shop.ours()
    by_hand = {library.__name__: shop.library(library) for library in LIBRARIES}
    for call in (*[shop.create(kept)] * WARMING, *map(shop.post, by_hand.values())):
        await call()
    for _ in range(times):
        await note("consecutive", shop.create(kept))
        await ahead.preconnect()
        await note("preconnected", shop.create(ahead))
        await note("first", shop.create(shop.ours()))
        for name, client in by_hand.items():
            await note(f"{name}, kept alive", shop.post(client))
        for library in LIBRARIES:
            await note(f"{library.__name__}, a connection each", shop.post(shop.library(library)))
    return waits


async def bursts_at(shop: Shop) -> dict[str, list[float]]:
    """Let so many customers come at once to clients that have just been made."""
    waits: dict[str, list[float]] = {}
    for _ in range(BURSTS):
        calls = {
            "ours": shop.create(shop.ours()),
            **{each.__name__: shop.post(shop.library(each)) for each in LIBRARIES},
        }
        for name, call in calls.items():
            waits.setdefault(name, []).extend(await burst_of(call))
    return waits


async def at(url: str, context: ssl.SSLContext, round_trip: float, times: int) -> list[Row]:
    """Measure everything at one distance."""
    shop = Shop(url, context)
    async with shop.open:
        waits = await waits_at(shop, times)
        bursts = await bursts_at(shop)
    where = f"{round_trip * 1000:.0f} ms away"
    rows = []
    for library in LIBRARIES:
        name = library.__name__
        kept, each = f"{name}, kept alive", f"{name}, a connection each"
        at_once = f"{name}, {BURST} at once"
        for what, ours, against, theirs in (
            ("a create after another one", waits["consecutive"], kept, waits[kept]),
            ("a create after `preconnect()`", waits["preconnected"], kept, waits[kept]),
            ("the very first create", waits["first"], each, waits[each]),
            (f"one of {BURST} at once", bursts["ours"], at_once, bursts[name]),
        ):
            bound = BOUND if library is httpx else None
            rows.append(row(f"{what}, {where}", ours, against, theirs, round_trip, bound))
    return rows


def row(
    what: str,
    ours: Sequence[float],
    against: str,
    theirs: Sequence[float],
    round_trip: float,
    bound: float | None,
) -> Row:
    """Compare two medians; the detail has the 99th percentiles too."""
    less, unit, name = (THINKING, round_trip, "round trips") if round_trip else (0.0, 0.001, "ms")
    mine, other = ([(wait - less) / unit for wait in each] for each in (ours, theirs))

    def figures(waits: list[float]) -> str:
        worst = sorted(waits)[math.ceil(0.99 * len(waits)) - 1]
        return f"{statistics.median(waits):.2f} (p99 {worst:.2f})"

    result = compared(f"wait for {what}", mine, against, other, bound=bound)
    return attrs.evolve(result, detail=f"{figures(mine)} against {figures(other)} {name}")


async def measure() -> list[Row]:
    rows = []
    with certified() as (certificate, trusting), serving(THINKING, certificate=certificate) as url:
        for round_trip, times in DISTANCES.items():
            with relayed(url, round_trip) as away:
                rows += await at(away, trusting, round_trip, times)
    return rows


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), float(sys.argv[2])))
