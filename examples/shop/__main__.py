"""Start the emulator and the shop together: ``python -m nox -s shop``."""

import argparse
import contextlib
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from wegetfinancing import Credentials

from .app import make_app
from .state import Settings


@contextlib.contextmanager
def emulator(env_file: Path, port: int) -> Iterator[dict[str, str]]:
    """Run ``python -m wegetfinancing emulator`` beside the shop, and return what it wrote into the file."""
    # Not as an argument: those of a process are shown to every user of the machine.
    command = [sys.executable, "-m", "wegetfinancing", "emulator", f"--port={port}", f"--env-file={env_file}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        try:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            if not process.stdout.readline():
                sys.exit(f"--emulator-port {port}: the emulator does not start there")
            words = shlex.split(env_file.read_text(encoding="utf-8"))
            yield {name: value for name, _, value in (word.partition("=") for word in words)}
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(prog="shop", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--emulator-port", type=int, default=8200)
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds of a call to the vendor")
    chosen = parser.parse_args()
    # After stopping, uvicorn raises the signal again: exit by unwinding, or the emulator keeps running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    own_url = f"http://127.0.0.1:{chosen.port}"
    try:
        listening = socket.create_server(("127.0.0.1", chosen.port))
    except OSError as error:
        sys.exit(f"--port {chosen.port}: {error}")
    with (
        listening,
        TemporaryDirectory() as folder,
        emulator(Path(folder) / "emulator.env", chosen.emulator_port) as env,
    ):
        emulator_url = env["WEGETFINANCING_BASE_URL"]
        settings = Settings(
            credentials=Credentials(
                merchant_id=env["WEGETFINANCING_MERCHANT_ID"],
                username=env["WEGETFINANCING_USERNAME"],
                password=env["WEGETFINANCING_PASSWORD"],
            ),
            base_url=emulator_url,
            lightbox_url=f"{emulator_url}/libs/1.0/getfinancing.js",
            own_url=own_url,
            database=Path(folder) / "shop.sqlite",
            timeout=chosen.timeout,
        )
        exports = "".join(f"\n  export {name}={shlex.quote(value)}" for name, value in env.items())
        print(
            f"The shop: {own_url}\nStaff page: {own_url}/admin\nThe emulator: {emulator_url}\n{exports}",
            flush=True,
        )
        server = uvicorn.Server(uvicorn.Config(make_app(settings), log_level="warning"))
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


if __name__ == "__main__":
    main()
