"""A PostgreSQL server of our own, in a directory of its own, for the length of a ``with`` block."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # Debian's
_START_SECONDS = 30.0


def programs() -> Path | None:
    """Find the folder with ``initdb`` and ``postgres``."""
    on_path = shutil.which("initdb")
    found = [*_FOLDERS, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((folder for folder in found if (folder / "pg_isready").exists()), None)


@attrs.define
class Server:
    """A server that runs.

    Attributes:
        folder: its data directory.
        socket_folder: where its unix socket is; ``5432`` is the port.
        process: to kill, or to stop for a while.

    """

    folder: Path
    socket_folder: Path
    process: "subprocess.Popen[bytes]"
    _start: "Callable[[], subprocess.Popen[bytes]]"

    def restart(self) -> None:
        """Let it end at once, as in a crash, and start it again: it recovers what was committed."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        self.process = self._start()

    def url(self, database: str = "postgres") -> str:
        """Return the URL for SQLAlchemy."""
        return f"postgresql+psycopg://shop@/{database}?host={self.socket_folder}"


def _unprivileged() -> tuple[list[str], int | None, int | None]:
    """Return how to run a command as somebody else where we are root, which initdb refuses."""
    if os.geteuid() != 0:
        return [], None, None
    import pwd  # noqa: PLC0415 - not there on Windows, where no server is started

    user = pwd.getpwnam("nobody")
    command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return command, user.pw_uid, user.pw_gid


@contextlib.contextmanager
def postgresql_server(*, fsync: bool = False, encoding: str = "UTF8") -> Iterator[Server]:
    """Run a server; without ``fsync`` it is fast, and survives a kill of its own but not of the machine."""
    bin_folder = programs()
    assert bin_folder is not None, "on Debian: apt-get install postgresql"
    prefix, uid, gid = _unprivileged()
    root = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    try:
        if uid is not None and gid is not None:
            os.chown(root, uid, gid)
        folder = root / "data"
        initdb = [str(bin_folder / "initdb"), "-D", str(folder), "-U", "shop", "-A", "trust", "--locale=C"]
        subprocess.run(  # noqa: S603 - our own command
            [*prefix, *initdb, "-E", encoding, "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd=root
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(root),
            "fsync": "on" if fsync else "off",
            "deadlock_timeout": "200ms",
            "max_connections": "200",
            "shared_buffers": "32MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*prefix, str(bin_folder / "postgres"), "-D", str(folder), *options]

        def start() -> "subprocess.Popen[bytes]":
            with (root / "log").open("ab") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root)  # noqa: S603 - our own
            _wait_until_ready(bin_folder, root, process)
            return process

        server = Server(folder, root, start(), start)
        try:
            yield server
        finally:
            server.process.send_signal(signal.SIGINT)  # a fast shutdown
            server.process.wait()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _wait_until_ready(bin_folder: Path, root: Path, process: "subprocess.Popen[bytes]") -> None:
    ready = [str(bin_folder / "pg_isready"), "-h", str(root), "-U", "shop", "-q"]
    give_up = time.monotonic() + _START_SECONDS
    while subprocess.run(ready, check=False).returncode:  # noqa: S603 - our own command
        assert process.poll() is None, (root / "log").read_text()
        assert time.monotonic() < give_up, "the server did not start in time"
        time.sleep(0.05)
