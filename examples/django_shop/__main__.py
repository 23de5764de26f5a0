"""Start the emulator, the shop and the ledger's worker together: ``python -m nox -s django_shop``."""

import argparse
import contextlib
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
STAFF = "staff"


@contextlib.contextmanager
def running(
    command: list[str], env: Mapping[str, str], stdout: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(  # noqa: S603 - our own
        command, cwd=HERE.parent, env={**os.environ, **env}, stdout=stdout, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def manage(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "django_shop.manage", *arguments]


@contextlib.contextmanager
def emulator(env_file: Path, port: int) -> Iterator[dict[str, str]]:
    """Run ``python -m wegetfinancing emulator`` beside the shop, and return what it wrote into the file."""
    # Not as an argument: those of a process are shown to every user of the machine.
    command = [sys.executable, "-m", "wegetfinancing", "emulator", f"--port={port}", f"--env-file={env_file}"]
    with running(command, {}, subprocess.PIPE) as process:
        if not process.stdout or not process.stdout.readline():
            sys.exit(f"--emulator-port {port}: the emulator does not start there")
        words = shlex.split(env_file.read_text(encoding="utf-8"))
        yield {name: value for name, _, value in (word.partition("=") for word in words)}


def wait_for(server: "subprocess.Popen[str]", port: int) -> None:
    while server.poll() is None:
        with contextlib.suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.1)
    sys.exit(f"--port {port}: the shop does not start there")


def main() -> None:
    parser = argparse.ArgumentParser(prog="django_shop", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--emulator-port", type=int, default=8200)
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds of a call to the vendor")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # exit by unwinding, or the others keep running
    own_url = f"http://127.0.0.1:{chosen.port}"
    with (
        TemporaryDirectory() as folder,
        emulator(Path(folder) / "emulator.env", chosen.emulator_port) as vendor,
    ):
        emulator_url = vendor["WEGETFINANCING_BASE_URL"]
        password = secrets.token_hex(8)
        env = {
            **vendor,
            "SHOP_DATABASE": str(Path(folder) / "shop.db"),
            "SHOP_DEBUG": "yes",  # or nothing would serve the admin's styles
            "SHOP_LIGHTBOX_URL": f"{emulator_url}/libs/1.0/getfinancing.js",
            "SHOP_SECRET_KEY": secrets.token_hex(32),
            "SHOP_TIMEOUT": str(chosen.timeout),
            "SHOP_URL": own_url,
        }
        for command in (["migrate", "-v0"], ["createsuperuser", "--noinput", f"--username={STAFF}"]):
            told = {"DJANGO_SUPERUSER_PASSWORD": password, "DJANGO_SUPERUSER_EMAIL": "staff@shop.example"}
            with running(manage(*command), env | told) as process:
                if process.wait() != 0:
                    sys.exit(f"{command[0]} has failed")
        serve = manage("runserver", "--noreload", f"127.0.0.1:{chosen.port}")
        with running(manage("wegetfinancing_worker"), env), running(serve, env) as server:
            wait_for(server, chosen.port)
            exports = "".join(f"\n  export {name}={shlex.quote(value)}" for name, value in env.items())
            print(
                f"The shop: {own_url}\nAdmin: {own_url}/admin/ ({STAFF}, {password})\n"
                f"The emulator: {emulator_url}\n{exports}",
                flush=True,
            )
            with contextlib.suppress(KeyboardInterrupt):
                server.wait()


if __name__ == "__main__":
    main()
