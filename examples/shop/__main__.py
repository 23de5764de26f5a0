"""Start the emulator and the shop together: ``python -m nox -s shop``."""

import argparse
import contextlib
import secrets
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
def emulator(credentials: Credentials, port: int) -> Iterator[str]:
    """Run ``python -m wegetfinancing emulator`` beside the shop."""
    command = [sys.executable, "-m", "wegetfinancing", "emulator", f"--port={port}"]
    command += [f"--merchant-id={credentials.merchant_id}", f"--username={credentials.username}"]
    command += [f"--password={credentials.password}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        try:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            if not process.stdout.readline():
                sys.exit(f"--emulator-port {port}: the emulator does not start there")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(prog="shop", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--emulator-port", type=int, default=8200)
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds of a call to the vendor")
    chosen = parser.parse_args()
    # Told to end, uvicorn ends and then lets the signal act: it has to unwind, or the emulator stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    credentials = Credentials(
        merchant_id="1234", username="emulator-user", password=secrets.token_urlsafe(12)
    )
    own_url = f"http://127.0.0.1:{chosen.port}"
    try:
        listening = socket.create_server(("127.0.0.1", chosen.port))
    except OSError as error:
        sys.exit(f"--port {chosen.port}: {error}")
    with (
        listening,
        TemporaryDirectory() as folder,
        emulator(credentials, chosen.emulator_port) as emulator_url,
    ):
        settings = Settings(
            credentials=credentials,
            base_url=emulator_url,
            lightbox_url=f"{emulator_url}/libs/1.0/getfinancing.js",
            own_url=own_url,
            database=Path(folder) / "shop.sqlite",
            timeout=chosen.timeout,
        )
        print(
            f"The shop: {own_url}\nIts own people: {own_url}/admin\nThe emulator: {emulator_url}\n\n"
            f"  export WEGETFINANCING_BASE_URL={emulator_url}\n"
            f"  export WEGETFINANCING_MERCHANT_ID={credentials.merchant_id}\n"
            f"  export WEGETFINANCING_USERNAME={credentials.username}\n"
            f"  export WEGETFINANCING_PASSWORD={credentials.password}",
            flush=True,
        )
        server = uvicorn.Server(uvicorn.Config(make_app(settings), log_level="warning"))
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


if __name__ == "__main__":
    main()
