"""What the commands talk to: a shop's endpoint, and an emulator in a process of its own."""

import contextlib
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import attrs

from wegetfinancing import Credentials, PostbackError, parse_postback
from wegetfinancing.testing import credentials


@attrs.define
class Endpoint:
    """A shop's endpoint that believes what verifies."""

    url: str = ""
    accepted: Credentials = attrs.field(factory=credentials)
    got: list[Any] = attrs.field(factory=list)


@contextlib.contextmanager
def shops_endpoint() -> Iterator[Endpoint]:
    """Serve an endpoint that believes what verifies."""
    shop = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            try:
                shop.got.append(parse_postback(body, dict(self.headers), shop.accepted, max_age=60))
                status, text = 200, b"OK"
            except PostbackError:
                status, text = 401, b"bad signature"
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        shop.url = f"http://127.0.0.1:{server.server_port}/postbacks"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield shop
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def running_emulator(*arguments: str, port: int | None = 0) -> Iterator[dict[str, str]]:
    """Start the command, read the settings that it prints, and stop it with Ctrl-C."""
    command = [sys.executable, "-m", "wegetfinancing", "emulator", *arguments]
    command += [] if port is None else [f"--port={port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        try:
            settings = {}
            for line in process.stdout:
                if line.startswith("  export "):
                    name, _, value = shlex.split(line)[1].partition("=")
                    settings[name] = value
                if line.startswith("Everything"):
                    break
            yield settings
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


@contextlib.contextmanager
def emulator_with_settings_of_its_own(file: Path) -> Iterator[tuple[str, Credentials]]:
    """Start the command on a file that holds settings already; yield its address and credentials."""
    file.write_text(
        "WEGETFINANCING_BASE_URL=http://127.0.0.1:1\nWEGETFINANCING_PASSWORD='a $(id) b'\n", encoding="utf-8"
    )
    with running_emulator("--username=some body", f"--env-file={file}") as settings:
        yield (
            settings["WEGETFINANCING_BASE_URL"],
            Credentials(
                merchant_id=settings["WEGETFINANCING_MERCHANT_ID"],
                username=settings["WEGETFINANCING_USERNAME"],
                password=settings["WEGETFINANCING_PASSWORD"],
            ),
        )
