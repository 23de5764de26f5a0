"""How long a buyer waits, in round trips: creates through a relay that delays every byte.

The server thinks for 100 ms, which is what a create at the vendor's takes at least; what is measured is the
time to answer without that.
"""

import asyncio
import contextlib
import math
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import httpx

from wegetfinancing import AsyncClient, HttpxTransport
from wegetfinancing.client.operations import create_request_body
from wegetfinancing.testing import credentials

from .calls import new_request
from .harness import Row
from .processes import certified, serving

ROUND_TRIPS: Final = (0.0, 0.010, 0.040)  # seconds
THINKING: Final = 0.100
TIMES: Final = 9
BURST: Final = 32
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

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
    """Measure one call in seconds, without the server's thinking."""
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began - THINKING


async def waits_of(call: Call, *, before: Call | None = None, times: int = TIMES) -> list[float]:
    waits = []
    for _ in range(times):
        if before is not None:
            await before()
        waits.append(await wait_of(call))
    return waits


async def burst_of(call: Call) -> list[float]:
    return list(await asyncio.gather(*(wait_of(call) for _ in range(BURST))))


async def at(url: str, context: ssl.SSLContext, round_trip: float) -> list[Row]:
    """Measure everything at one distance."""
    request = new_request()
    body, path = create_request_body(request), f"{url}/merchant/1234/requests"
    hand = httpx.AsyncClient(verify=context, headers=HEADERS)

    async def by_hand() -> Any:
        return (await hand.post(path, content=body)).json()

    async def by_hand_afresh() -> Any:
        async with httpx.AsyncClient(verify=context, headers=HEADERS) as fresh:
            return (await fresh.post(path, content=body)).json()

    transport = HttpxTransport(ssl_context=context)
    plain = HttpxTransport(ssl_context=context, ready_connections=0)
    client = AsyncClient(credentials(), base_url=url, transport=transport)
    unready = AsyncClient(credentials(), base_url=url, transport=plain)

    async def create() -> Any:
        return await client.create_request(request)

    async def create_afresh() -> Any:
        return await unready.create_request(request)

    async with hand, client, unready, contextlib.aclosing(transport), contextlib.aclosing(plain):
        burst, burst_by_hand = await burst_of(create), await burst_of(by_hand)
        first = await waits_of(create_afresh)
        consecutive = await waits_of(create)
        kept = await waits_of(by_hand)
        fresh = await waits_of(by_hand_afresh)
    waited = HttpxTransport(ssl_context=context, ready_seconds=60)
    async with (
        contextlib.aclosing(waited),
        AsyncClient(credentials(), base_url=url, transport=waited) as ahead,
    ):
        preconnected = await waits_of(lambda: ahead.create_request(request), before=ahead.preconnect)

    where = f"{round_trip * 1000:.0f} ms away"
    by_kept, by_fresh = f"httpx kept alive, {where}", f"httpx, a connection each, {where}"

    def row(what: str, ours: list[float], against: str, theirs: list[float], bound: float | None) -> Row:
        return compared_waits(what, ours, against, theirs, round_trip, bound)

    return [
        row("wait for a create after another one", consecutive, by_kept, kept, 1.2),
        row("wait for a create after `preconnect()`", preconnected, by_kept, kept, 1.2),
        row("wait for the very first create", first, by_fresh, fresh, None),
        row(f"wait in a burst of {BURST}", burst, f"httpx, {where}, first burst", burst_by_hand, None),
    ]


def compared_waits(
    what: str,
    ours: list[float],
    against: str,
    theirs: list[float],
    round_trip: float,
    bound: float | None,
) -> Row:
    """Compare two medians; the detail has the 99th percentiles too, in round trips."""
    unit, name = (round_trip, "round trips") if round_trip else (0.001, "ms")

    def figures(waits: list[float]) -> str:
        worst = sorted(waits)[math.ceil(0.99 * len(waits)) - 1]
        return f"{statistics.median(waits) / unit:.2f} (p99 {worst / unit:.2f})"

    mine, other = statistics.median(ours), statistics.median(theirs)
    low, _, high = statistics.quantiles([each / other for each in ours], n=4)
    return Row(
        what=what,
        against=against,
        ratio=mine / other,
        spread=(high - low) / 2,
        detail=f"{figures(ours)} against {figures(theirs)} {name}",
        bound=bound,
    )


async def measure() -> list[Row]:
    rows = []
    with certified() as (certificate, trusting), serving(THINKING, certificate=certificate) as url:
        for round_trip in ROUND_TRIPS:
            with relayed(url, round_trip) as away:
                rows += await at(away, trusting, round_trip)
    return rows


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), float(sys.argv[2])))
