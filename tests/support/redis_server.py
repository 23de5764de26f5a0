"""A Redis server of our own, for tests that need a real one."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

SERVER = shutil.which("redis-server")


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a server on a free port of this machine, which writes nothing to disk."""
    assert SERVER is not None, "on Debian: apt-get install redis-server"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [SERVER, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        assert process.stdout is not None
        assert any("Ready to accept connections" in line for line in process.stdout)
        try:
            yield port
        finally:
            process.terminate()
