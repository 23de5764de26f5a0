"""Many calls at once, each measurement in a process of its own: ``python -m benchmarks.load``."""

import json
import statistics
import sys
import time
from typing import Any, Final

import anyio

from .harness import Row, compared
from .processes import in_a_fresh_process, serving, shipping

_PATIENCE: Final = 29.0  # seconds for all calls together: the client's own timeout is 30


async def calls_at_once(who: str, url: str, number: int) -> dict[str, Any]:
    """Make all calls at once; say how many were answered and what one took of the CPU."""
    answered = 0
    client, call = shipping(who, url)

    async def count() -> None:
        nonlocal answered
        try:
            await call()
        except Exception:  # noqa: BLE001 - how many fail is the figure
            return
        answered += 1

    async with client:
        await call()
        began, cpu = time.perf_counter(), time.process_time()
        with anyio.move_on_after(_PATIENCE):
            async with anyio.create_task_group() as tasks:
                for _ in range(number):
                    tasks.start_soon(count)
        used = (time.process_time() - cpu) / max(1, answered) * 1e6
        return {"answered": answered, "cpu": used, "seconds": time.perf_counter() - began}


def once(who: str, url: str, number: int) -> dict[str, Any]:
    result: dict[str, Any] = in_a_fresh_process("benchmarks.load", who, url, str(number))
    return result


async def measure() -> list[Row]:
    sizes = (10, 100, 1000, 5000)
    took: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    with serving() as url:
        for _ in range(2):
            for size in sizes:
                took[size].append(once("ours", url, size))
        others = {who: once(who, url, 1000) for who in ("httpx", "httpx2")}
    with serving(0.1) as slow:
        delayed = {who: once(who, slow, 1000) for who in ("ours", "httpx", "httpx2")}
    cpu = {size: [run["cpu"] for run in runs] for size, runs in took.items()}
    rows = [
        compared("CPU of a call, 1,000 at once", cpu[1000], "10 at once", cpu[10], bound=1.5),
        compared("CPU of a call, 5,000 at once", cpu[5000], "1,000 at once", cpu[1000], bound=1.2),
    ]
    for size, runs in took.items():
        rows.append(all_answered(f"calls left unanswered, {size:,} at once", runs, size))
    rows.append(all_answered("calls left unanswered, 1,000 at once, 100 ms each", [delayed["ours"]], 1000))
    for who in ("httpx", "httpx2"):
        for name, run in ((f"{who} by hand", others[who]), (f"{who} by hand, 100 ms each", delayed[who])):
            answered = f"{run['answered']:,} of 1,000 answered in {run['seconds']:.1f} s"
            detail = f"{answered}, {run['cpu']:,.0f} µs of CPU each"
            rows.append(Row(what=f"beside it: 1,000 at once, {name}", against="", detail=detail))
    return rows


def all_answered(what: str, runs: list[dict[str, Any]], size: int) -> Row:
    missing = sum(size - run["answered"] for run in runs)
    worst = max(run["seconds"] for run in runs)
    cpu = statistics.median(run["cpu"] for run in runs)
    return Row(
        what=what, against="", ratio=missing, bound=0, detail=f"{worst:.1f} s, {cpu:,.0f} µs of CPU each"
    )


if __name__ == "__main__":
    print(json.dumps(anyio.run(calls_at_once, sys.argv[1], sys.argv[2], int(sys.argv[3]))))
