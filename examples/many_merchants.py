"""A platform with 1,000 merchants in one process: ``python examples/many_merchants.py``.

It makes 20,000 calls to a server on this machine that answers after 250 ms, and prints what they cost:
memory, CPU per call, and how long creates take (the median, and 99 of 100) while nothing else happens and
while one merchant sends 10,000 shipping updates, 200 at a time. The two are measured in turns, so that what
else the machine does meets both, and with them how much of the time this process had to wait for a CPU. It
takes four minutes, and ends with status 0 only if every call was answered.
"""

import asyncio
import contextlib
import datetime as dt
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, cast

import anyio
import attrs

from wegetfinancing import Address, AsyncClient, CartItem, Credentials, FinancingRequest, ShippingEvent
from wegetfinancing.testing import INV_ID, created_response, shipping_response

MERCHANTS, UPDATES, CREATES, MIXED = 1_000, 10_000, 1_500, 3_500
ROUNDS = 5
CREATES_PER_SECOND = 24
SERVER_SECONDS = 0.25
AT_ONCE = 200  # more tasks would keep the event loop busy with starting them
DISPATCHED: Final = ShippingEvent(date=dt.date(2026, 1, 15), state="dispatched")
QUIET = 0.05  # of the time without a CPU
PATIENCE: Final = 600.0  # seconds: the last of the updates waits for all others


def waited_for_cpu() -> float:
    """Return the seconds in which this process could have run and had no CPU; on Linux only."""
    statistics_of_scheduler = Path("/proc/self/schedstat")
    if not statistics_of_scheduler.exists():
        return math.nan
    return int(statistics_of_scheduler.read_text(encoding="ascii").split()[1]) / 1e9


def memory() -> float:
    """Return the MiB of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def credentials_of(number: int) -> Credentials:
    return Credentials(f"shop-{number}", f"user-{number}", f"password-{number}")


def request_of(number: int) -> FinancingRequest:
    return FinancingRequest(
        first_name="Jane",
        last_name="Doe",
        email="jane@example.com",
        billing_address=Address(street1="123 Main St", city="New York", state="NY", zipcode="10001"),
        cart_items=[CartItem(display_name="Super Widget", unit_price="499.00", quantity=1)],
        merchant_transaction_id=f"ORDER-{number}",
    )


@attrs.define
class Platform:
    """Its merchants' clients, and how many calls they have made."""

    merchants: list[AsyncClient]
    calls: int = 0

    async def create(self, number: int) -> float:
        """Let a merchant's customer apply; return the seconds that it took."""
        merchant = self.merchants[number % MERCHANTS]
        began = time.perf_counter()
        await merchant.create_request(request_of(number))
        self.calls += 1
        return time.perf_counter() - began

    async def ship(self, number: int) -> None:
        await self.merchants[number % MERCHANTS].update_shipping(INV_ID, DISPATCHED)
        self.calls += 1

    async def creates(self) -> list[float]:
        """Let customers apply one after another, each at its time, however long the others take."""
        took: list[float] = []

        async def apply(number: int) -> None:
            took.append(await self.create(number))

        begins = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for number in range(CREATES // ROUNDS):
                await anyio.sleep_until(begins + number / CREATES_PER_SECOND)
                tasks.start_soon(apply, number)
        return took

    async def creates_beside_a_bulk(self) -> list[float]:
        """Let customers apply while one merchant ships."""
        took: list[float] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.bulk)
            took += await self.creates()
        return took

    async def everybody(self) -> None:
        """Let all merchants create and ship, as fast as they can."""
        numbers = iter(range(MIXED))

        async def work() -> None:
            for number in numbers:
                await self.create(number)
                await self.ship(number)

        await at_once(work)

    async def bulk(self) -> None:
        """Let one merchant ship its share of this round."""
        updates = iter(range(UPDATES // ROUNDS))

        async def work() -> None:
            for _ in updates:
                await self.ship(0)

        await at_once(work)


async def at_once(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(work)


@attrs.define
class Measured:
    """How long creates have taken under one condition, round by round."""

    name: str
    rounds: list[list[float]] = attrs.field(factory=list)
    seconds: float = 0.0
    waited: float = 0.0

    async def round(self, measure: Callable[[], Coroutine[Any, Any, list[float]]]) -> None:
        began, waited = time.perf_counter(), waited_for_cpu()
        self.rounds.append(await measure())
        self.seconds += time.perf_counter() - began
        self.waited += waited_for_cpu() - waited

    def report(self) -> float:
        """Print the percentiles of all rounds; return the last one."""
        took = [each for one in self.rounds for each in one]
        p50, p99 = percentile(took, 50), percentile(took, 99)
        share = self.waited / self.seconds
        print(
            f"{self.name:24} p50 {p50 * 1000:4.0f} ms, p99 {p99 * 1000:4.0f} ms,"
            f" waited for a CPU {share:.1%} of the time",
            flush=True,
        )
        return p99


def percentile(took: list[float], number: int) -> float:
    return statistics.quantiles(took, n=100)[number - 1]


async def compare(platform: Platform) -> None:
    """Measure creates with and without a bulk, in turns."""
    alone, together = Measured("creates alone"), Measured(f"with {UPDATES:,} updates")
    for _ in range(ROUNDS):
        await alone.round(platform.creates)
        await together.round(platform.creates_beside_a_bulk)
    idle, busy = alone.report(), together.report()
    ratios = [
        percentile(second, 99) / percentile(first, 99)
        for first, second in zip(alone.rounds, together.rounds, strict=True)
    ]
    print(f"p99, with and without    {busy / idle:.2f}, by round {min(ratios):.2f} to {max(ratios):.2f}")
    if alone.waited + together.waited > QUIET * (alone.seconds + together.seconds):
        print("                         the machine was busy: these times are those of its other work too")


async def main(url: str) -> bool:
    before = memory()
    async with AsyncClient(credentials_of(0), base_url=url, timeout=PATIENCE) as client:
        clients = [client.for_merchant(credentials_of(number)) for number in range(MERCHANTS)]
        platform = Platform(clients)
        print(f"{MERCHANTS:,} merchants          {(memory() - before) * 1024 / MERCHANTS:.2f} KiB each")

        cpu, calls = time.process_time(), platform.calls
        await platform.everybody()
        each = (time.process_time() - cpu) / (platform.calls - calls)
        print(f"CPU of a call            {each * 1e6:.0f} µs")

        await compare(platform)
    print(f"memory                   {memory():.0f} MiB, {peak():.0f} MiB at most")
    print(f"calls                    {platform.calls:,}")
    return platform.calls == 2 * MIXED + 2 * CREATES + UPDATES


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Vendor(asyncio.Protocol):
    """Answers every request well, after the time that the vendor needs."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if found and len(body) >= int(length or 0):
            self.received = b""
            body = created_response().body if b"/requests " in head else shipping_response(INV_ID).body
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            answer %= len(body), body
            asyncio.get_running_loop().call_later(SERVER_SECONDS, self.transport.write, answer)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Vendor, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def vendor() -> Iterator[str]:
    """Run the server in a process of its own; yield its address."""
    command = [sys.executable, __file__, "vendor"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this file
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline() if process.stdout else 0)}"
        finally:
            process.terminate()


if __name__ == "__main__":
    if sys.argv[1:] == ["vendor"]:
        asyncio.run(serve())
    with vendor() as address:
        answered = anyio.run(main, address)
    raise SystemExit(0 if answered else 1)
