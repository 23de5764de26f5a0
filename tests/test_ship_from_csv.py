"""The back-office script against an emulator on a real loopback server, seen from the server's side."""

import errno
import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest
import ship_from_csv
import uvicorn
from rich.progress import Progress

from support.fault_server import FaultServer
from support.faults import answers_well, server_context
from wegetfinancing import AsyncClient, Credentials, FinancingRequest
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.emulator.core import Application, Reaction
from wegetfinancing.http import Request, Response
from wegetfinancing.testing import FakeTransport, credentials, financing_request

SCRIPT = Path(ship_from_csv.__file__)
HEADER = "inv_id,date,state,message,shipment_company,tracking_number"
AT_ONCE = 2
LOANS_AT_ONCE = AT_ONCE * ship_from_csv.LOANS_PER_CALL
STATE_PROBLEM = "must be one of accepted, partial, dispatched, delivered, recalled, other"


class WatchedEmulator(Emulator):
    """Calls ``after`` when a request has been carried out, before its answer leaves."""

    __slots__ = ("after",)

    def __init__(self, accepted: Credentials) -> None:
        super().__init__(accepted)
        self.after: Callable[[], None] = lambda: None

    def react(self, request: Request) -> Reaction:
        reaction = super().react(request)
        self.after()
        return reaction

    def add_loans(self, *inv_ids: str) -> None:
        request: FinancingRequest = financing_request()
        for inv_id in inv_ids:
            self.applications[inv_id] = Application(
                merchant_id="1234", inv_id=inv_id, href="", request=request, amount=request.expected_amount
            )

    @property
    def shipped(self) -> dict[str, list[str | None]]:
        """The messages of the events of each loan, as they came."""
        return {
            inv_id: [event.message for event in each.shipping_events]
            for inv_id, each in self.applications.items()
        }


@attrs.frozen
class EmulatedVendor:
    """An emulator that is served."""

    emulator: WatchedEmulator
    environment: dict[str, str]


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedVendor]:
    emulator = WatchedEmulator(credentials())
    with socket.create_server(("127.0.0.1", 0)) as bound:
        config = uvicorn.Config(emulator_app(emulator), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        environment = {
            "WEGETFINANCING_BASE_URL": f"http://127.0.0.1:{bound.getsockname()[1]}",
            "WEGETFINANCING_MERCHANT_ID": credentials().merchant_id,
            "WEGETFINANCING_USERNAME": credentials().username,
            "WEGETFINANCING_PASSWORD": credentials().password,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield EmulatedVendor(emulator, environment)
        server.should_exit = True
        thread.join()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shipments.csv"


def write(file: Path, *rows: str, header: str = HEADER) -> None:
    file.write_text("\n".join([header, *rows, ""]), encoding="utf-8")


def row(inv_id: str, message: str, date: str = "2026-01-15", state: str = "dispatched") -> str:
    return f"{inv_id},{date},{state},{message},UPS,1Z999"


def start(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(file), "--at-once", str(AT_ONCE)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own script


def journaled(file: Path) -> int:
    journal = file.with_name(file.name + ".journal")
    return len(journal.read_bytes().splitlines()) - 1 if journal.exists() else 0


LOANS = [f"loan-{number}" for number in range(10)]
EVENTS_PER_LOAN = 6


@pytest.mark.long
def test_killed_again_and_again_it_loses_nothing_and_repeats_only_what_was_in_flight(
    vendor: EmulatedVendor, file: Path
) -> None:
    emulator = vendor.emulator
    emulator.add_loans(*LOANS)
    write(file, *(row(loan, f"{loan}-{step}") for step in range(EVENTS_PER_LOAN) for loan in LOANS))

    kills = [1, 17, 40]  # when so many updates have been carried out in all
    for most in kills:
        process = start(file)

        def kill_when_due(process: subprocess.Popen[str] = process, most: int = most) -> None:
            if sum(map(len, emulator.shipped.values())) >= most:
                process.kill()

        emulator.after = kill_when_due
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL

    emulator.after = lambda: None
    known = journaled(file)
    before = sum(map(len, emulator.shipped.values()))
    process = start(file)
    out, progress = process.communicate(timeout=60)
    assert process.returncode == 0, out
    total = len(LOANS) * EVENTS_PER_LOAN
    assert f"{total}/{total}" in progress
    assert out.startswith(f"shipped {total - known}, shipped before {known}, not shipped 0")

    for loan, messages in emulator.shipped.items():
        assert [message for message, _ in itertools.groupby(messages)] == [
            f"{loan}-{step}" for step in range(EVENTS_PER_LOAN)
        ]
    after = sum(map(len, emulator.shipped.values()))
    # What was written down went out once; so many were at most being sent or written down each time.
    assert after - before == total - known
    assert after - total <= LOANS_AT_ONCE * len(kills)

    assert ship_from_csv.main([str(file)]) == 0
    assert sum(map(len, emulator.shipped.values())) == after
    assert journaled(file) == total


HINT = "check base_url and, in an update, that the inv_id is of this merchant_id and environment"


def test_what_cannot_be_shipped_is_named_and_the_rest_is_shipped(
    vendor: EmulatedVendor, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vendor.emulator.add_loans("loan-1", "loan-2", "loan-3", "loan-4")
    write(
        file,
        row("loan-1", "1"),
        row("loan-2", "1", date="15.1.2026"),
        row("loan-2", "2"),
        row("loan-3", "1", state="lost"),
        row("", "1"),
        row("nobody", "1"),
        row("nobody", "2"),
        row("loan-1", '"two\nlines"'),
        "loan-4,2026-01-15",
        "",
        row("loan-1", "3"),
    )
    assert ship_from_csv.main([str(file)]) == 1
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "shipped 3, shipped before 0, not shipped 7",
        "  line 3 (loan loan-2): bad line: date must be a date such as 2026-01-31",
        "  line 4 (loan loan-2): held back: line 3 comes first",
        f"  line 5 (loan loan-3): bad line: state {STATE_PROBLEM}",
        "  line 6 (loan not named): bad line: inv_id is required",
        f"  line 7 (loan nobody): refused: update_shipping: HTTP 404 generic; {HINT}. The server refused it.",
        "  line 8 (loan nobody): held back: line 7 comes first",
        "  line 11 (loan loan-4): bad line: line has 2 cells where the header has 6",
    ]
    assert vendor.emulator.shipped == {
        "loan-1": ["1", "two\nlines", "3"],
        "loan-2": [],
        "loan-3": [],
        "loan-4": [],
    }


def test_a_mended_file_goes_on_in_its_order(vendor: EmulatedVendor, file: Path) -> None:
    vendor.emulator.add_loans("loan-1", "loan-2")
    write(file, row("loan-1", "1"), row("loan-1", "2", date="soon"), row("loan-1", "3"), row("loan-2", "1"))
    assert ship_from_csv.main([str(file)]) == 1
    assert vendor.emulator.shipped == {"loan-1": ["1"], "loan-2": ["1"]}
    # The lines stand elsewhere now; it is their content that is known.
    write(file, row("loan-2", "1"), row("loan-1", "1"), row("loan-1", "2"), row("loan-1", "3"))
    assert ship_from_csv.main([str(file)]) == 0
    assert vendor.emulator.shipped == {"loan-1": ["1", "2", "3"], "loan-2": ["1"]}


def test_a_line_is_known_by_its_content_whatever_columns_are_empty(
    vendor: EmulatedVendor, file: Path
) -> None:
    vendor.emulator.add_loans("loan-1")
    write(file, row("loan-1", "1"))
    assert ship_from_csv.main([str(file)]) == 0
    write(file, f",{row('loan-1', '1')}", header=f"items,{HEADER}")
    assert ship_from_csv.main([str(file)]) == 0
    assert vendor.emulator.shipped == {"loan-1": ["1"]}


def test_two_equal_lines_are_two_shipments(vendor: EmulatedVendor, file: Path) -> None:
    vendor.emulator.add_loans("loan-1")
    write(file, row("loan-1", "1"), row("loan-1", "1"))
    for _ in range(2):
        assert ship_from_csv.main([str(file)]) == 0
    assert vendor.emulator.shipped == {"loan-1": ["1", "1"]}


def test_of_two_equal_lines_one_may_have_been_shipped_before(vendor: EmulatedVendor, file: Path) -> None:
    vendor.emulator.add_loans("loan-1")
    write(file, row("loan-1", "1"))
    assert ship_from_csv.main([str(file)]) == 0
    write(file, row("loan-1", "1"), row("loan-1", "1"))
    assert ship_from_csv.main([str(file)]) == 0
    assert vendor.emulator.shipped == {"loan-1": ["1", "1"]}


def test_a_line_whose_outcome_is_unknown_is_not_written_down_and_holds_back_its_loan(
    vendor: EmulatedVendor, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vendor.emulator.add_loans("loan-1")
    vendor.emulator.fail_next("fault-html")
    write(file, row("loan-1", "1"), row("loan-1", "2"))
    assert ship_from_csv.main([str(file)]) == 1
    out = capsys.readouterr().out
    assert "line 2 (loan loan-1): unknown: update_shipping: HTTP 200, but the answer" in out
    assert "line 3 (loan loan-1): held back: line 2 comes first" in out
    assert ship_from_csv.main([str(file)]) == 0
    # It had been carried out; saying it again does no harm, as the later one has not been said yet.
    assert vendor.emulator.shipped == {"loan-1": ["1", "1", "2"]}


@pytest.mark.parametrize(("name", "told"), [("PASSWORD", "HTTP 401"), ("MERCHANT_ID", "HTTP 403")])
def test_what_is_wrong_for_every_line_is_tried_once(
    vendor: EmulatedVendor,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    told: str,
) -> None:
    calls: list[None] = []
    vendor.emulator.after = lambda: calls.append(None)
    monkeypatch.setenv(f"WEGETFINANCING_{name}", "wrong")
    write(file, *(row(loan, "1") for loan in LOANS))
    assert ship_from_csv.main([str(file), "--at-once", "1"]) == 1
    assert len(calls) == 1
    out = capsys.readouterr().out
    assert told in out
    assert out.count("not tried: the run was stopped") == len(LOANS) - 1


@pytest.mark.usefixtures("vendor")
def test_so_is_a_server_whose_certificate_does_not_verify(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, *(row(loan, "1") for loan in LOANS))
    with FaultServer(answers_well, tls=server_context("good")) as server:  # by an authority nobody trusts
        monkeypatch.setenv("WEGETFINANCING_BASE_URL", f"https://127.0.0.1:{server.port}")
        assert ship_from_csv.main([str(file), "--at-once", "1"]) == 1
    out = capsys.readouterr().out
    assert "the server's certificate does not verify" in out
    assert out.count("not tried: the run was stopped") == len(LOANS) - 1


def test_what_was_shipped_in_the_emulator_is_not_shipped_elsewhere(
    vendor: EmulatedVendor, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.emulator.add_loans("loan-1")
    write(file, row("loan-1", "1"))
    assert ship_from_csv.main([str(file)]) == 0
    elsewhere = vendor.environment["WEGETFINANCING_BASE_URL"].replace("127.0.0.1", "localhost")
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", elsewhere)
    assert ship_from_csv.main([str(file)]) == 0
    assert vendor.emulator.shipped == {"loan-1": ["1", "1"]}


def test_half_a_line_in_the_journal_counts_for_nothing(vendor: EmulatedVendor, file: Path) -> None:
    vendor.emulator.add_loans("loan-1")
    write(file, row("loan-1", "1"), row("loan-1", "2"))
    assert ship_from_csv.main([str(file)]) == 0
    journal = file.with_name(file.name + ".journal")
    whole = journal.read_bytes()
    for most in (0, 5, len(whole) - 1):
        journal.write_bytes(whole[:most])
        assert ship_from_csv.main([str(file)]) == 0
        assert journal.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "columns are missing: inv_id, date, state"),
        (b"inv_id,date\n", "columns are missing: state"),
        (b"inv_id,date,state,date,colour\n", "columns are unknown or come twice: 'date', 'colour'"),
        (b"inv_id,date,state\nloan-1,2026-01-15,\xff\n", "line 2: is not UTF-8"),
        (b'inv_id,date,state\n\nloan-1,2026-01-15,"other\n', "line 3: unexpected end of data"),
        (None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole_is_refused_as_a_whole(
    vendor: EmulatedVendor, file: Path, capsys: pytest.CaptureFixture[str], content: Any, problem: str
) -> None:
    if content is not None:
        file.write_bytes(content)
    assert ship_from_csv.main([str(file)]) == 2
    assert problem in capsys.readouterr().err
    assert vendor.emulator.shipped == {}


def test_what_is_no_journal_is_left_alone(
    vendor: EmulatedVendor, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, row("loan-1", "1"))
    assert ship_from_csv.main([str(file), "--journal", str(file)]) == 2
    assert "is not a journal of this script" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8").startswith(HEADER)


def test_two_runs_at_once_are_refused(
    vendor: EmulatedVendor, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, row("loan-1", "1"))
    journal = file.with_name(file.name + ".journal")
    with ship_from_csv.Journal(journal):
        assert ship_from_csv.main([str(file)]) == 2
    assert "another run is using" in capsys.readouterr().err
    assert vendor.emulator.shipped == {}


@pytest.mark.parametrize("at_once", [1, AT_ONCE])
def test_a_journal_that_cannot_be_written_stops_the_run(
    vendor: EmulatedVendor, file: Path, at_once: int
) -> None:
    vendor.emulator.add_loans(*LOANS)
    write(file, *(row(loan, "1") for loan in LOANS))
    # As on a disk that is full: the journal may not grow beyond its first lines.
    code = f"""
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
sys.argv = ["ship", {str(file)!r}, "--at-once", "{at_once}"]
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
"""
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert done.returncode == 1, done.stderr
    again = done.stdout.count("shipped, but the journal cannot be written")
    assert 1 <= again <= at_once * ship_from_csv.LOANS_PER_CALL
    assert "not tried: the run was stopped" in done.stdout
    # Those that were not written down go out again, and no others.
    assert ship_from_csv.main([str(file)]) == 0
    assert sorted(map(len, vendor.emulator.shipped.values())) == [1] * (len(LOANS) - again) + [2] * again


def a_line(number: int, inv_id: str) -> ship_from_csv.Line:
    event, _ = ship_from_csv.parsed_event({"inv_id": inv_id, "date": "2026-01-15", "state": "dispatched"})
    return ship_from_csv.Line(number, f"key-{number}", inv_id, event, {})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[ship_from_csv.Journal]:
    with ship_from_csv.Journal(tmp_path / "journal") as journal:
        yield journal


@pytest.mark.anyio
async def test_lines_that_are_acknowledged_at_once_share_a_sync(
    journal: ship_from_csv.Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[int] = []
    sync = os.fsync

    def watched_sync(file: int) -> None:
        sync(file)
        on_disk.append(len((tmp_path / "journal").read_bytes().splitlines()) - 1)

    monkeypatch.setattr("os.fsync", watched_sync)

    async def add(number: int) -> None:
        await journal.add(a_line(number, f"loan-{number}"))
        assert f"key-{number} " in (tmp_path / "journal").read_text(encoding="utf-8")
        assert on_disk, "it was not on disk before its loan went on"

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(add, number)
    assert len(on_disk) <= 2
    assert on_disk[-1] == 8


@pytest.mark.anyio
async def test_a_batch_that_cannot_be_written_leaves_no_line_and_fails_for_each_of_its_lines(
    journal: ship_from_csv.Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[int] = []

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def add(number: int) -> None:
        try:
            await journal.add(a_line(number, f"loan-{number}"))
        except OSError:
            failed.append(number)

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(add, number)
    assert sorted(failed) == list(range(8))
    await journal.add(a_line(9, "loan-9"))
    assert (tmp_path / "journal").read_bytes() == journal.MAGIC + b"key-9 9\n"


@pytest.mark.anyio
async def test_of_a_line_that_a_full_disk_cuts_short_nothing_stays(
    journal: ship_from_csv.Journal, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(journal.MAGIC) + 4, limits[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            await journal.add(a_line(1, "loan-1"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await journal.add(a_line(2, "loan-2"))
    assert (tmp_path / "journal").read_bytes() == journal.MAGIC + b"key-2 2\n"


@pytest.mark.anyio
async def test_what_is_acknowledged_while_the_run_is_cancelled_is_written_down(
    journal: ship_from_csv.Journal, tmp_path: Path
) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(journal.add, a_line(number, f"loan-{number}"))
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert len((tmp_path / "journal").read_bytes().splitlines()) == 1 + 8


class SlowVendor(FakeTransport):
    """Answers after a few turns of the event loop, and counts what is in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight: Counter[str] = Counter()
        self.most_of_a_loan = 0
        self.most = 0

    async def send(self, request: Request) -> Response:
        loan = json.loads(request.body)["loan_id"]
        self.in_flight[loan] += 1
        self.most_of_a_loan = max(self.most_of_a_loan, self.in_flight[loan])
        self.most = max(self.most, self.in_flight.total())
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        self.in_flight[loan] -= 1
        return await super().send(request)


@pytest.mark.anyio
@pytest.mark.parametrize("by_loan", [True, False])
async def test_one_line_of_a_loan_is_in_flight_and_so_many_calls_as_were_asked_for(
    journal: ship_from_csv.Journal, by_loan: bool
) -> None:
    lines = [a_line(10 * loan + step, f"loan-{loan}") for step in range(4) for loan in range(8)]
    if by_loan:
        lines.sort(key=lambda line: line.inv_id)
    transport = SlowVendor()
    async with AsyncClient(credentials(), transport=transport) as client:
        night = ship_from_csv.Night(client, journal, Progress(disable=True), AT_ONCE)
        await night.ship(lines, len(lines))
    assert night.shipped == len(lines)
    assert transport.most_of_a_loan == 1
    assert transport.most == AT_ONCE


@pytest.mark.anyio
async def test_a_line_is_read_when_there_is_room_for_it(journal: ship_from_csv.Journal) -> None:
    most_ahead = 0

    def lines() -> Iterator[ship_from_csv.Line]:
        nonlocal most_ahead
        for number in range(100):
            most_ahead = max(most_ahead, number - night.shipped)
            yield a_line(number, f"loan-{number}")

    async with AsyncClient(credentials(), transport=SlowVendor()) as client:
        night = ship_from_csv.Night(client, journal, Progress(disable=True), AT_ONCE)
        await night.ship(lines(), 100)
    assert night.shipped == 100
    assert most_ahead < LOANS_AT_ONCE
