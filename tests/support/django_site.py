"""The example shop in Django as processes: a server with workers that are killed, an emulator, a worker."""

import contextlib
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from wegetfinancing.testing import credentials

from .proof_processes import SCRIPT

EXAMPLES = Path(__file__).parents[2] / "examples"
START_SECONDS = 120.0
COMMANDS = {
    "gunicorn": (
        "gunicorn --no-control-socket --workers={workers} --threads={threads} --bind=fd://{fd}"
        " django_shop.wsgi:application"
    ),
    "uvicorn": "uvicorn --no-access-log --workers={workers} --fd={fd} django_shop.asgi:application",
}
_SECRET_KEY = secrets.token_hex(32)
_WORKER = re.compile(r"(?:Booting worker with pid: |Started server process \[)(\d+)")


def _parent_of(process: int) -> int | None:
    """Read the number of a process's parent, on Linux."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return None


@attrs.define
class Site:
    """The shop under one of the servers.

    Attributes:
        folder: for its database and its log.
        seconds: of a call to the vendor.
        kills: how many workers were killed.

    """

    server: str
    folder: Path
    workers: int
    threads: int
    seconds: float
    url: str = ""
    emulator_url: str = ""
    kills: int = 0
    _parent: int = attrs.field(init=False, default=0)
    _killed: set[int] = attrs.field(factory=set)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    @property
    def database(self) -> Path:
        return self.folder / "shop.db"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run everything until the block ends."""
        with contextlib.ExitStack() as stack:
            shop, emulator = (
                stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512)) for _ in range(2)
            )
            self.url, self.emulator_url = (
                f"http://127.0.0.1:{each.getsockname()[1]}" for each in (shop, emulator)
            )
            self.manage("migrate", "-v0")
            command = COMMANDS[self.server].format(
                workers=self.workers, threads=self.threads, fd=shop.fileno()
            )
            stack.enter_context(self._process([str(SCRIPT), "emulator", str(emulator.fileno())], emulator))
            self._parent = stack.enter_context(self._process(["-m", *command.split()], shop)).pid
            self._wait_for_workers()
            stack.enter_context(self._process(["-m", "django_shop.manage", "wegetfinancing_worker"]))
            yield

    def manage(self, *arguments: str) -> None:
        """Run one of Django's commands to its end."""
        with self._process(["-m", "django_shop.manage", *arguments]) as process:
            assert process.wait() == 0, self._log.read_text()

    def kill_a_worker(self) -> None:
        """Kill one of the server's workers; the server starts another one."""
        with self._lock:
            while not (alive := self._alive()):
                time.sleep(0.1)
            number = random.choice(alive)
            os.kill(number, signal.SIGKILL)
            self._killed.add(number)
            self.kills += 1

    def restart(self) -> None:
        """SQLite has no server."""

    def _alive(self) -> list[int]:
        started = {int(each) for each in _WORKER.findall(self._log.read_text())}
        # One that has ended by itself may have left its number to a process of someone else's.
        return [each for each in started - self._killed if _parent_of(each) == self._parent]

    def _wait_for_workers(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while len(self._alive()) < self.workers:
            assert time.monotonic() < give_up, self._log.read_text()
            time.sleep(0.1)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    @contextlib.contextmanager
    def _process(
        self, arguments: list[str], listening: socket.socket | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        with (
            self._log.open("ab") as log,
            subprocess.Popen(  # noqa: S603 - our own
                [sys.executable, *arguments],
                cwd=EXAMPLES,
                env={**os.environ, **self._environment},
                pass_fds=[] if listening is None else [listening.fileno()],
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.terminate()

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "SHOP_DATABASE": str(self.database),
            "SHOP_LIGHTBOX_URL": f"{self.emulator_url}/libs/1.0/getfinancing.js",
            "SHOP_SECRET_KEY": _SECRET_KEY,
            "SHOP_TIMEOUT": str(self.seconds),
            "SHOP_URL": self.url,
            "WEGETFINANCING_BASE_URL": self.emulator_url,
            "WEGETFINANCING_MERCHANT_ID": credentials().merchant_id,
            "WEGETFINANCING_USERNAME": credentials().username,
            "WEGETFINANCING_PASSWORD": credentials().password,
        }
