"""Every command in README.md, docs/ and CONTRIBUTING.md, run as it is written there."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from wegetfinancing import Credentials
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.postbacks.wsgi import PostbackApp

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = {
    r"python3? -m venv \.venv": "the tests have their environment",
    r"\S*python -m pip install .*": "installs from the network",
    r"\S*python -m nox\b.*": "a session of nox installs too; CI runs each",
    r"\.venv/bin/python -m pytest .*": "runs tests",
    r"(cloudflared|ngrok|ssh) .*": "opens a tunnel of somebody else's",
    r"(celery|rq) .*": "needs a broker; tests/test_celery_docs.py runs the tasks of that page",
    r"\$ python manage\.py .*": "tests/test_django_docs.py runs it",
}
"""Parts of commands that are not run, and why."""
TESTED_ELSEWHERE = {"get-started.md": "tests/test_docs.py pastes it block by block"}
SERVES = re.compile(r"python -m wegetfinancing emulator\b.*")
"""What runs until it is stopped."""


def commands_of(page: Path) -> list[str]:
    """Return the commands of a page's blocks of shell, one for each that stands on a line of its own."""
    blocks = re.findall(
        r"^```(?:sh|bash|shell|console)\n(.*?)```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def what_can_run(command: str) -> str:
    parts = re.sub(r"\s+#.*", "", command).split(" && ")
    return " && ".join(
        part for part in parts if not any(re.fullmatch(each, part.strip()) for each in NOT_RUN)
    )


WRITTEN = [(page.name, command) for page in PAGES for command in commands_of(page)]
COMMANDS = [
    pytest.param(command, id=f"{page}: {command[:60]}")
    for page, command in dict.fromkeys(WRITTEN)
    if page not in TESTED_ELSEWHERE and what_can_run(command)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has in front of them: a checkout, a ledger, a file of shipments."""
    folder: Path = tmp_path_factory.mktemp("checkout")
    (folder / "examples").symlink_to(ROOT / "examples")
    with contextlib.closing(SQLLedger(f"sqlite:///{folder / 'shop.db'}", environment="sandbox")) as ledger:
        ledger.create_tables()
    programs = {"python": [], "wegetfinancing": ["-m", "wegetfinancing"]}
    (folder / "bin").mkdir()
    for name, arguments in programs.items():
        program = folder / "bin" / name
        program.write_text(
            f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n', encoding="utf-8"
        )
        program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a shell that has loaded the settings of a running emulator."""
    environment = os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = "wegetfinancing emulator --port=0 --env-file=.env"
    with started(command, folder, environment) as emulator:
        assert emulator.stdout is not None
        while "Everything is forgotten" not in emulator.stdout.readline():
            pass
        lines = (folder / ".env").read_text(encoding="utf-8").splitlines()
        yield environment | {
            name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines)
        }


@pytest.fixture(scope="module")
def endpoint(settings: dict[str, str]) -> Iterator[str]:
    """The address of a shop's endpoint."""
    accepted = Credentials(
        **{
            name: settings[f"WEGETFINANCING_{name.upper()}"]
            for name in ("merchant_id", "username", "password")
        }
    )

    class Silent(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            """Print nothing."""

    app = PostbackApp(accepted, lambda _: None, path="/postbacks")
    with make_server("127.0.0.1", 0, app, handler_class=Silent) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@contextlib.contextmanager
def started(command: str, folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603 - our own pages
        ["bash", "-c", command],  # noqa: S607 - as a reader has it
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def test_every_part_that_is_not_run_is_written_somewhere() -> None:
    parts = [part.strip() for _, command in WRITTEN for part in re.sub(r"\s+#.*", "", command).split(" && ")]
    assert [each for each in NOT_RUN if not any(re.fullmatch(each, part) for part in parts)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_it_says(
    command: str, folder: Path, settings: dict[str, str], endpoint: str
) -> None:
    typed = re.sub(r"http://127\.0\.0\.1:8000|https://your-shop", endpoint, what_can_run(command))
    environment = settings | {"PUBLIC_URL": endpoint}
    if SERVES.fullmatch(typed):
        with started(f"{typed} --port=0", folder, environment) as process:
            assert process.stdout is not None
            assert "http://127.0.0.1:" in process.stdout.readline()
        return
    if "shipments.csv" in typed:
        with started("wegetfinancing trigger approved", folder, environment) as creating:
            inv_id = re.findall(r"^inv_id (\S+)$", creating.communicate(timeout=60)[0], re.MULTILINE)[0]
        csv = re.findall(
            r"```csv\n(.*?)```", (ROOT / "docs" / "ship-from-csv.md").read_text("utf-8"), re.DOTALL
        )
        (folder / "shipments.csv").write_text(re.sub(r"^\w{32}", inv_id, csv[0], flags=re.MULTILINE), "utf-8")
    with started(typed, folder, environment) as process:
        printed, _ = process.communicate(timeout=60)
    refused = re.search(r"# (?:HTTP 401|must be refused)", command)
    assert process.returncode == (1 if refused else 0), printed
    if refused:
        assert "HTTP 401" in printed
