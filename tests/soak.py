"""Fifty workers against faults at random: ``python tests/soak.py [SECONDS]``, two minutes unless told.

The server runs in a process of its own and says at the end which creates reached it. A fifth of the calls
is cancelled. The figures are printed, and the script ends with status 0 only if every promise was kept.
"""

import collections
import itertools
import multiprocessing
import random
import re
import resource
import sys
import threading
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import anyio
import attrs

from support.fault_server import Arrived, FaultServer, Peer
from support.faults import FAULTS, Processed
from support.figures import open_sockets
from wegetfinancing import AsyncClient, CallError, Outcome
from wegetfinancing.testing import INV_ID, credentials, financing_request, shipping_event

WORKERS = 50
CANCELLED = 0.2
TIMEOUT, GRACE = 1.0, 0.5
MOST_GROWTH = 16 * 1024 * 1024
# What a plain server on a port can do; those that keep a client busy would only slow all others down.
HOSTILE = [
    each
    for each in FAULTS
    if each.listens
    and each.accepts
    and not (each.proxy or each.expects_tls or each.tls or each.large or each.alone or each.warm_up)
]
GOOD = FAULTS[0]


class Seen:
    """Which creates reached the server, by number: how often, and whether one was carried out."""

    def __init__(self) -> None:
        self.requests: collections.Counter[int] = collections.Counter()
        self.processed: set[int] = set()
        self._lock = threading.Lock()
        self._faults: dict[int, Processed] = {}

    def act(self, peer: Peer) -> None:
        """Misbehave in one connection of two."""
        fault = random.choice(HOSTILE) if random.random() < 0.5 else GOOD
        with self._lock:
            self._faults[id(peer)] = fault.processed
        fault.act(peer)

    def report(self, peer: Peer) -> None:
        with self._lock:
            processed = self._faults.pop(id(peer))
            for each in peer.arrivals:
                if number := re.search(rb'"merchant_transaction_id":"soak-([0-9]+)"', each.data):
                    self.requests[int(number[1])] += 1
                    if processed is Processed.YES and each.how_far is Arrived.WHOLE:
                        self.processed.add(int(number[1]))


def serve(pipe: Connection) -> None:
    """Run in a process of its own until told to end."""
    seen = Seen()
    with FaultServer(seen.act, report=seen.report) as server:
        pipe.send(server.port)
        pipe.recv()
    pipe.send((seen.requests, seen.processed))


@attrs.define
class Figures:
    """What the workers have met."""

    ended: collections.Counter[str] = attrs.field(factory=collections.Counter)
    others: list[str] = attrs.field(factory=list)
    not_sent: set[int] = attrs.field(factory=set)
    refused: set[int] = attrs.field(factory=set)
    latest: float = 0.0


async def work(client: AsyncClient, numbers: "itertools.count[int]", until: float, figures: Figures) -> None:
    while anyio.current_time() < until:
        number = next(numbers)
        cancel_after = random.uniform(0, TIMEOUT / 4) if random.random() < CANCELLED else 2 * TIMEOUT + GRACE
        began = anyio.current_time()
        ended = "cancelled"
        with anyio.move_on_after(cancel_after):
            try:
                if number % 2:
                    await client.create_request(financing_request(merchant_transaction_id=f"soak-{number}"))
                else:
                    await client.update_shipping(INV_ID, shipping_event())
                ended = "done"
            except CallError as error:
                ended = error.outcome.value
                if number % 2 and error.outcome is Outcome.NOT_SENT:
                    figures.not_sent.add(number)
                if number % 2 and error.outcome is Outcome.REFUSED:
                    figures.refused.add(number)
            except Exception as error:  # noqa: BLE001 - that none comes is what is looked at
                figures.others.append(repr(error))
        figures.ended[ended] += 1
        figures.latest = max(figures.latest, anyio.current_time() - began - TIMEOUT)


def memory() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


async def run_workers(port: int, seconds: float, numbers: "itertools.count[int]", figures: Figures) -> None:
    async with AsyncClient(credentials(), base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client:
        until = anyio.current_time() + seconds
        async with anyio.create_task_group() as tasks:
            for _ in range(WORKERS):
                tasks.start_soon(work, client, numbers, until, figures)


async def soak(
    port: int, seconds: float, numbers: "itertools.count[int]", figures: Figures
) -> tuple[list[int], list[int]]:
    """Work for so long; return the sockets and the memory before and after."""
    warm_up = min(10.0, seconds / 5)
    await run_workers(port, warm_up, numbers, figures)
    sockets, used = [open_sockets()], [memory()]
    await run_workers(port, seconds - warm_up, numbers, figures)
    return [*sockets, open_sockets()], [*used, memory()]


def main(seconds: float) -> int:
    """Soak on both event loops, half of the time each."""
    broken = 0
    for backend in ("asyncio", "trio"):
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()
        figures = Figures()
        numbers = itertools.count(1)
        run = partial(soak, ours.recv(), seconds / 2, numbers, figures)
        sockets, used = anyio.run(run, backend=backend)
        ours.send("end")
        requests, processed = ours.recv()
        process.join()

        twice = sum(count > 1 for count in requests.values())
        wrong = len(figures.not_sent & requests.keys())
        refused = len(figures.refused & processed)
        grown = used[1] - used[0]
        outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(figures.ended.items()))
        print(f"{backend}: {seconds / 2:.0f} s, {WORKERS} workers, {len(HOSTILE)} faults at random")
        print(f"  calls     {figures.ended.total():,}: {outcomes}")
        print(f"  creates   {len(requests):,} arrived; sent twice {twice}; NOT_SENT wrong {wrong};", end=" ")
        print(f"processed and called refused {refused}; other exceptions {len(figures.others)}")
        print(f"  sockets   {sockets[0]} at the start, {sockets[1]} at the end")
        print(f"  memory    {used[0] / 2**20:.1f} MiB at the start, {used[1] / 2**20:.1f} MiB at the end")
        print(f"  latest    {figures.latest * 1000:.0f} ms after the deadline")
        for each in figures.others[:5]:
            print("  ", each)
        kept = not (twice or wrong or refused or figures.others or sockets[1] > sockets[0])
        broken += not (kept and grown < MOST_GROWTH and figures.latest <= GRACE)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 120.0))
