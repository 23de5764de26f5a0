"""A night's shipments from a file: ``examples/ship_from_csv.py`` next to a loop of plain httpx2 calls.

``python -m benchmarks.bulk 100000`` ships as many rows.
"""

import asyncio
import contextlib
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from .harness import Row, compared, table
from .processes import serving, with_compiled_files

ROWS: Final = 5_000
ROUNDS: Final = 5
AT_ONCE: Final = 8
HEADER: Final = ("inv_id", "date", "state", "tracking_number")


def rows_of_file(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def write_file(path: Path, rows: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(
            (f"inv-{number}", "2026-01-15", "dispatched", f"1Z{number}") for number in range(rows)
        )


async def ship_by_hand(path: Path, url: str) -> None:
    """Post each row, so many at once; nothing is checked, repeated or written down."""
    import httpx2  # noqa: PLC0415 - the other process does without

    rows = rows_of_file(path)
    async with httpx2.AsyncClient(auth=("user", "password")) as client:

        async def work() -> None:
            for row in rows:
                body = {"loan_id": row.pop("inv_id"), "shipping_event": row}
                answer = await client.post(f"{url}/merchant/1234/shipping", json=body)
                answer.raise_for_status()
                answer.json()

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


@attrs.frozen
class Run:
    """What one process took."""

    seconds: float
    cpu: float
    megabytes: float


def run(command: list[str], url: str) -> Run:
    """Run a process alone, to its end."""
    settings = {"MERCHANT_ID": "1234", "USERNAME": "user", "PASSWORD": "password", "BASE_URL": url}
    environment = with_compiled_files() | {
        f"WEGETFINANCING_{name}": value for name, value in settings.items()
    }
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own
    peak = 0.0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        peak = max(peak, peak_memory(process.pid))
        time.sleep(0.02)
    _, status, used = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    return Run(time.perf_counter() - began, used.ru_utime + used.ru_stime, peak)


def peak_memory(pid: int) -> float:
    """Megabytes so far; what ``wait4`` reports includes this process, from which that one was forked."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0  # it is ending


def ship(rows: int, url: str) -> tuple[Run, Run]:
    """Ship a file by the example, and by hand."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shipments.csv"
        write_file(path, rows)
        example = ["examples/ship_from_csv.py", str(path), "--at-once", str(AT_ONCE)]
        ours = run([sys.executable, *example], url)
        theirs = run([sys.executable, "-m", "benchmarks.bulk", "by-hand", str(path), url], url)
    return ours, theirs


def compare(rows: int) -> list[Row]:
    with serving() as url:
        few, _ = ship(rows // 10, url)
        runs = [ship(rows, url) for _ in range(ROUNDS)]
    name = f"{rows:,} shipments from a file"
    against = f"a loop of httpx2 calls, {AT_ONCE} at once too"

    def for_each_row(seconds: list[float]) -> list[float]:
        return [each / rows * 1e6 for each in seconds]

    cpu = [for_each_row([run.cpu for run in way]) for way in zip(*runs, strict=True)]
    seconds = [for_each_row([run.seconds for run in way]) for way in zip(*runs, strict=True)]
    megabytes = max(ours.megabytes for ours, _ in runs)
    return [
        compared(f"{name}, CPU of a row", cpu[0], against, cpu[1], bound=1.25),
        compared(f"{name}, time of a row", seconds[0], against, seconds[1]),
        Row(
            what=f"{name}, memory",
            against=f"{rows // 10:,} shipments",
            ratio=megabytes / few.megabytes,
            bound=1.1,
            detail=f"{megabytes:.0f} against {few.megabytes:.0f} MB",
        ),
    ]


async def measure() -> list[Row]:
    return await asyncio.to_thread(compare, ROWS)


def main(arguments: list[str]) -> Any:
    if arguments[0] == "by-hand":
        return asyncio.run(ship_by_hand(Path(arguments[1]), arguments[2]))
    return print(table(compare(int(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
