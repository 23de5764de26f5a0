"""``wegetfinancing emulator``, as it is run in a shell."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from support.commands import Endpoint, emulator_with_settings_of_its_own, running_emulator
from wegetfinancing import AsyncClient, CallError, Credentials, DeadlineExceededError, Outcome, TransportError
from wegetfinancing.__main__ import main
from wegetfinancing._extras import install_command
from wegetfinancing.emulator.env_file import read_settings, write_settings
from wegetfinancing.emulator.server import emulator_server
from wegetfinancing.testing import credentials, financing_request, shipping_event


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Credentials]]:
    with emulator_with_settings_of_its_own(tmp_path_factory.mktemp("emulator") / ".env") as served:
        yield served


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "wegetfinancing.emulator.server", raising=False)
    assert main(["emulator"]) == 2
    assert f"uvicorn is missing; {install_command('emulator')}\n" in capsys.readouterr().err


@pytest.mark.anyio
async def test_the_served_emulator_does_the_whole_flow(
    emulator: tuple[str, Credentials], endpoint: Endpoint
) -> None:
    base_url, accepted = emulator
    assert (accepted.username, accepted.password) == ("some body", "a $(id) b")
    request = financing_request(postback_url=endpoint.url)
    async with AsyncClient(accepted, base_url=base_url) as client, httpx.AsyncClient(timeout=60) as browser:
        created = await client.create_request(request)
        assert created.href == f"{base_url}/lc/{created.inv_id}"
        receipt = await client.update_shipping(created.inv_id, shipping_event())
        assert receipt.loan == created.inv_id
        assert "Finance your purchase" in (await browser.get(created.href)).text
        decided = await browser.post(created.href, data={"decision": "approved"})
        # Signed with the emulator's password, which this endpoint does not have.
        assert decided.json() == {"decision": "approved", "postback": "HTTP 401"}
        assert created.inv_id in (await browser.get(base_url)).text


def test_the_settings_are_kept_between_starts(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    with running_emulator(f"--env-file={file}") as first:
        assert read_settings(file) == first
    with socket.create_server(("127.0.0.1", 0)) as free:  # the port of the first may be taken by now
        port = free.getsockname()[1]
    write_settings(file, {"WEGETFINANCING_BASE_URL": f"http://127.0.0.1:{port}"})
    with running_emulator(f"--env-file={file}", port=None) as second:
        assert second == first | {"WEGETFINANCING_BASE_URL": f"http://127.0.0.1:{port}"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("fault-reset", TransportError),
        ("fault-reset-after-commit", TransportError),
        ("fault-timeout-after-commit", DeadlineExceededError),
    ],
)
async def test_the_served_emulator_fails_on_the_wire(
    emulator: tuple[str, Credentials], fault: str, kind: type[CallError]
) -> None:
    base_url, accepted = emulator
    async with AsyncClient(accepted, base_url=base_url, timeout=1) as client:
        with pytest.raises(kind) as caught:
            await client.create_request(financing_request(merchant_transaction_id=fault))
    assert caught.value.outcome is Outcome.UNKNOWN


@pytest.mark.anyio
async def test_a_name_of_the_internet_that_resolves_here_is_refused(
    emulator: tuple[str, Credentials],
) -> None:
    async with httpx.AsyncClient(timeout=60) as browser:
        answer = await browser.get(emulator[0], headers={"host": "evil.example"})
    assert answer.status_code == 400


def test_it_is_announced_once_ctrl_c_ends_it() -> None:
    """Python drops the KeyboardInterrupt of a Ctrl-C that comes at the wrong moment of an import."""
    handlers: list[object] = []

    def ready() -> None:
        handlers.append(signal.getsignal(signal.SIGINT))
        server.should_exit = True

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = emulator_server(credentials(), listening, ready=ready)
        server.run(sockets=[listening])
    assert handlers == [server.handle_exit]


def test_the_emulator_for_programs(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "wegetfinancing", "emulator", "--port=0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        try:
            started = json.loads(process.stdout.readline())
            for name, value in started["settings"].items():
                monkeypatch.setenv(name, value)
            assert started == {
                "event": "started",
                "base_url": os.environ["WEGETFINANCING_BASE_URL"],
                "settings": started["settings"],
            }
            assert main(["trigger", "approved", "--order", "ORDER-7", "--postback-url", endpoint.url]) == 1
            call, delivery = (json.loads(process.stdout.readline()) for _ in range(2))
        finally:
            process.send_signal(signal.SIGINT)
    assert call["inv_id"]
    assert call == {
        "event": "call",
        "method": "POST",
        "path": "/merchant/1234/requests",
        "result": "HTTP 200",
        "order": "ORDER-7",
        "inv_id": call["inv_id"],
        "amount": "499.00",
    }
    assert delivery["milliseconds"] >= 0
    del delivery["milliseconds"]
    assert delivery == {
        "event": "delivery",
        "status": "approved",
        "order": "ORDER-7",
        "answer": "HTTP 401",
        "how": "",
    }


def test_without_a_file_every_start_has_a_password_of_its_own() -> None:
    with running_emulator() as first, running_emulator() as second:
        assert first["WEGETFINANCING_PASSWORD"] != second["WEGETFINANCING_PASSWORD"]


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        assert main(["emulator", "--port", str(server.server_port)]) == 2
    told = capsys.readouterr().err
    assert os.strerror(errno.EADDRINUSE) in told
    assert "choose another --port" in told


def test_another_failure_to_listen_is_told_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "create_server", fail)
    assert main(["emulator"]) == 2
    assert os.strerror(errno.EMFILE) in capsys.readouterr().err


@pytest.mark.parametrize("port", ["99999", "-1", "abc", "", "８０", "9" * 5_000])
def test_a_port_that_cannot_be_is_told(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["emulator", f"--port={port}"])
    assert caught.value.code == 2
    assert "must be a number from 0 to 65535" in capsys.readouterr().err


def test_a_merchant_that_cannot_be_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulator", "--merchant-id", "../admin"]) == 2
    told = capsys.readouterr().err
    assert "merchant_id" in told
    assert told.count("\n") == 1
