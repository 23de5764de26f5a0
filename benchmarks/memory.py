"""Memory, each measurement in a process of its own: ``python -m benchmarks.memory``."""

import json
import os
import sys
import tracemalloc
from typing import Any, Final

import anyio

from .harness import Row
from .processes import in_a_fresh_process, serving, shipping

_CLIENTS: Final = 20
_IN_FLIGHT: Final = 1000


async def idle(who: str) -> float:
    """Bytes of one client that has been made, after the first."""
    import httpx  # noqa: PLC0415 - measured is what a client takes beyond its modules

    from wegetfinancing import AsyncClient  # noqa: PLC0415 - for the same reason
    from wegetfinancing.testing import credentials  # noqa: PLC0415 - for the same reason

    who_calls = credentials()
    make: Any = {"ours": lambda: AsyncClient(who_calls), "httpx": httpx.AsyncClient}[who]
    kept = [make()]
    before = resident()
    kept += [make() for _ in range(_CLIENTS)]
    grown = (resident() - before) / _CLIENTS
    tracemalloc.start()
    kept += [make() for _ in range(_CLIENTS)]
    counted = tracemalloc.get_traced_memory()[0] / _CLIENTS
    assert kept
    return max(grown, counted)  # OpenSSL's memory is not Python's, and pages are too coarse for a few kB


def resident() -> int:
    """Bytes of this process that are in memory, OpenSSL's included."""
    with open("/proc/self/statm", encoding="ascii") as pages:  # noqa: PTH123 - a figure of the system
        return int(pages.read().split()[1]) * 4096


async def in_flight(who: str, url: str) -> None:
    """Print the bytes that a call in flight takes, while the server is silent."""
    client, call = shipping(who, url, timeout=60.0)
    async with client:
        with anyio.move_on_after(1):
            await call()  # what is imported and made once
        before = resident()
        async with anyio.create_task_group() as tasks:
            for _ in range(_IN_FLIGHT):
                tasks.start_soon(call)
            await anyio.sleep(4)
            print(json.dumps((resident() - before) / _IN_FLIGHT), flush=True)
            os._exit(0)  # cancelling them takes httpx's pool longer than all the rest


async def measure() -> list[Row]:
    ours, theirs = (in_a_fresh_process("benchmarks.memory", "idle", who) for who in ("ours", "httpx"))
    with serving(30) as url:
        mine, other = (in_a_fresh_process("benchmarks.memory", "busy", who, url) for who in ("ours", "httpx"))
    return [
        in_kilobytes("memory of an idle client", ours, "`httpx.AsyncClient()`", theirs, bound=0.02),
        in_kilobytes("memory of each of 1,000 calls in flight", mine, "httpx by hand", other, bound=1.25),
    ]


def in_kilobytes(what: str, ours: float, against: str, theirs: float, *, bound: float) -> Row:
    detail = f"{ours / 1000:,.1f} against {theirs / 1000:,.1f} kB"
    return Row(what=what, against=against, ratio=ours / theirs, bound=bound, detail=detail)


if __name__ == "__main__":
    run: Any = {"idle": idle, "busy": in_flight}[sys.argv[1]]
    print(json.dumps(anyio.run(run, *sys.argv[2:])))
