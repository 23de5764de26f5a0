"""Tell the vendor of a night's shipments: ``python examples/ship_from_csv.py shipments.csv``.

Credentials come from the environment, as in ``AsyncClient.from_env()``. What was acknowledged is written
to a journal beside the file; run it again after an interruption, and it continues from there.

Exit status: 0 all is shipped, 1 some lines are not, 2 nothing was tried.
"""

import argparse
import contextlib
import csv
import datetime as dt
import errno
import fcntl
import hashlib
import io
import json
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wegetfinancing import (
    AsyncClient,
    AuthenticationError,
    CallError,
    ConfigurationError,
    PermissionDeniedError,
    ShippingEvent,
    TransportError,
)

REQUIRED = ("inv_id", "date", "state")
TEXTS = ("message", "service_type", "shipment_company", "tracking_number")
COLUMNS = (*REQUIRED, "items", "expected_delivery_date", *TEXTS)
ITEM_SEPARATOR = ";"
TARGET = ("MERCHANT_ID", "ENVIRONMENT", "BASE_URL")
LOANS_PER_CALL = 4  # so many loans for each call at once: while some wait for the disk, others are sent


class UnusableFileError(Exception):
    """The file must be fixed before anything is sent."""


@attrs.frozen
class Line:
    """One line of the file: what happened to the goods of one loan.

    Attributes:
        number: where it begins in the file.
        key: equal for the same line sent to the same place, wherever it stands in the file.
        inv_id: the loan.
        event: what happened, unless there are problems.
        problems: column to text.

    """

    number: int
    key: str
    inv_id: str
    event: ShippingEvent | None
    problems: dict[str, str]


def count_rows(data: bytes) -> int:
    """Read the whole file, so that a bad one is refused before anything is sent."""
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"line {line}: is not UTF-8"
        raise UnusableFileError(message) from None
    rows = read_rows(data)
    read_header(rows)
    return sum(1 for _ in rows)


def read_rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Read the cells of each row, and where it begins."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            message = f"line {number}: {error}"
            raise UnusableFileError(message) from None
        if cells is None:
            return
        if any(cells):
            yield number, cells


def read_header(rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    header = [name.strip() for name in next(rows, (1, []))[1]]
    if missing := [name for name in REQUIRED if name not in header]:
        message = f"columns are missing: {', '.join(missing)}"
        raise UnusableFileError(message)
    if unknown := [name for name, times in Counter(header).items() if name not in COLUMNS or times > 1]:
        message = f"columns are unknown or come twice: {', '.join(map(repr, unknown))}"
        raise UnusableFileError(message)
    return header


def read_lines(data: bytes) -> Iterator[Line]:
    """Read every line, bad ones too."""
    rows = read_rows(data)
    header = read_header(rows)
    # The journal of the sandbox must not pass for that of the live environment.
    target = [os.environ.get(f"WEGETFINANCING_{name}", "") for name in TARGET]
    for number, cells in rows:
        row = dict(zip(header, map(str.strip, cells), strict=False))
        # A column that is empty says nothing, as one that is missing.
        filled = sorted(item for item in row.items() if item[1])
        text = json.dumps([target, filled, cells[len(header) :]])
        key = hashlib.sha256(text.encode()).hexdigest()
        if len(cells) == len(header):
            event, problems = parsed_event(row)
        else:
            event, problems = None, {"line": f"has {len(cells)} cells where the header has {len(header)}"}
        yield Line(number, key, row.get("inv_id", ""), event, problems)


def parsed_event(row: dict[str, str]) -> tuple[ShippingEvent | None, dict[str, str]]:
    problems = {name: "is required" for name in REQUIRED if not row[name]}
    dates: dict[str, dt.date | None] = dict.fromkeys(("date", "expected_delivery_date"))
    for name in dates:
        if text := row.get(name):
            try:
                dates[name] = dt.date.fromisoformat(text)
            except ValueError:
                problems[name] = "must be a date such as 2026-01-31"
    event = ShippingEvent(
        date=dates["date"] or dt.date.min,
        state=row["state"],
        items=[each.strip() for each in row.get("items", "").split(ITEM_SEPARATOR) if each.strip()],
        expected_delivery_date=dates["expected_delivery_date"],
        **{name: row.get(name) or None for name in TEXTS},
    )
    problems = {**event.problems(), **problems}
    return (None if problems else event), problems


@attrs.define
class Batch:
    """Lines that are written to the journal together."""

    text: str = ""
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    error: BaseException | None = None


class Journal:
    """What was acknowledged, on disk before its loan goes on. One run at a time can use it."""

    MAGIC = b"shipped by ship_from_csv.py\n"

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            message = f"another run is using {path}"
            raise UnusableFileError(message) from None
        self._file.seek(0)
        data = self._file.readall()
        if not (data.startswith(self.MAGIC) or self.MAGIC.startswith(data)):
            self._file.close()
            message = f"{path} is not a journal of this script; name another with --journal"
            raise UnusableFileError(message)
        # A line without its end was being written when the last run was killed.
        whole = data[: data.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        if not whole:
            self._append(self.MAGIC)
            self._sync_directory(path.absolute().parent)
        self._keys = Counter(line.split()[0].decode() for line in whole.splitlines()[1:])
        self._batch = Batch()
        self._lock = anyio.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def pop(self, line: Line) -> bool:
        """Tell whether the line was shipped by an earlier run; two equal lines are two shipments."""
        was_shipped = self._keys[line.key] > 0
        if was_shipped:
            self._keys[line.key] -= 1
        return was_shipped

    async def add(self, line: Line) -> None:
        """Record the line, even while being cancelled: the vendor has it.

        Lines that come while others are being synced are written together, since each sync takes long.
        """
        batch = self._batch
        is_first = not batch.text
        batch.text += f"{line.key} {line.number}\n"
        with anyio.CancelScope(shield=True):
            if is_first:
                await self._write(batch)
            await batch.ended.wait()
        if batch.error is not None:
            raise batch.error

    async def _write(self, batch: Batch) -> None:
        async with self._lock:  # the batch before this one is being written
            self._batch = Batch()
            try:
                await anyio.to_thread.run_sync(self._append, batch.text.encode())
            except BaseException as error:  # noqa: BLE001 - raised for each of its lines
                batch.error = error
            batch.ended.set()

    def _append(self, data: bytes) -> None:
        size = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(data)
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)  # half a line would corrupt the next one
            raise
        if written != len(data):
            self._file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @staticmethod
    def _sync_directory(path: Path) -> None:
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@attrs.define
class Night:
    """One run: the lines of each loan strictly in their order, several loans at once.

    Updates do not commute. So when a line fails, the later lines of its loan are held back, and the next
    run begins with the one that failed.
    """

    client: AsyncClient
    journal: Journal
    progress: Progress
    at_once: int
    calls: anyio.Semaphore = attrs.Factory(lambda self: anyio.Semaphore(self.at_once), takes_self=True)
    shipped: int = 0
    before: int = 0
    troubles: dict[int, str] = attrs.field(factory=dict)
    failed: dict[str, int] = attrs.field(factory=dict)  # loan to the number of its line
    stopped: bool = False

    async def ship(self, lines: Iterable[Line], total: int) -> None:
        task = self.progress.add_task("shipping", total=total)
        unread = iter(lines)
        loans: dict[str, deque[Line]] = {}  # in flight, and what was read of them meanwhile

        async def work() -> None:
            for line in unread:
                if line.inv_id in loans:
                    loans[line.inv_id].append(line)
                    continue
                loan = loans[line.inv_id] = deque([line])
                while loan:
                    await self._ship_line(loan.popleft())
                    self.progress.advance(task)
                del loans[line.inv_id]

        async with anyio.create_task_group() as tasks:
            for _ in range(self.at_once * LOANS_PER_CALL):
                tasks.start_soon(work)

    async def _ship_line(self, line: Line) -> None:
        if self.journal.pop(line):
            self.before += 1
        elif line.inv_id in self.failed:
            self._report(line, f"held back: line {self.failed[line.inv_id]} comes first")
        else:
            async with self.calls:
                trouble = await self._send(line)
            if trouble is None:
                trouble = await self._record(line)
            if trouble is None:
                self.shipped += 1
            else:
                self._report(line, trouble)
                self.failed[line.inv_id] = line.number

    def _report(self, line: Line, trouble: str) -> None:
        self.troubles[line.number] = f"line {line.number} (loan {line.inv_id or 'not named'}): {trouble}"

    async def _send(self, line: Line) -> str | None:
        """Tell the vendor, and return what went wrong."""
        if self.stopped:
            return "not tried: the run was stopped"
        if line.event is None:
            return "bad line: " + "; ".join(f"{column} {text}" for column, text in line.problems.items())
        try:
            await self.client.update_shipping(line.inv_id, line.event)
        except CallError as error:
            # No other line would fare better, and a thousand wrong passwords may lock the account.
            hopeless = isinstance(error, AuthenticationError | PermissionDeniedError)
            self.stopped |= hopeless or (isinstance(error, TransportError) and error.permanent)
            return f"{error.outcome.value}: {error}"
        return None

    async def _record(self, line: Line) -> str | None:
        """Write down what was acknowledged, and return what went wrong."""
        try:
            await self.journal.add(line)
        except OSError as error:
            self.stopped = True
            return f"shipped, but the journal cannot be written: {error.strerror}"
        return None


async def run(data: bytes, total: int, journal: Journal, at_once: int) -> Night:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with AsyncClient.from_env() as client:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            night = Night(client, journal, progress, at_once)
            await night.ship(read_lines(data), total)
    return night


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path, help=f"CSV with {', '.join(COLUMNS)}")
    parser.add_argument("--journal", type=Path, help="default: the file's name and .journal")
    parser.add_argument("--at-once", type=int, default=8, choices=range(1, 33), metavar="1..32")
    chosen = parser.parse_args(arguments)
    chosen.journal = chosen.journal or chosen.file.with_name(chosen.file.name + ".journal")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parse_arguments(arguments)
    try:
        data = chosen.file.read_bytes()
        total = count_rows(data)
        with Journal(chosen.journal) as journal:
            night = anyio.run(run, data, total, journal, chosen.at_once)
    except (UnusableFileError, ConfigurationError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"shipped {night.shipped}, shipped before {night.before}, not shipped {len(night.troubles)}")
    for _, trouble in sorted(night.troubles.items()):
        print(f"  {trouble}")
    return 1 if night.troubles else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(1)
