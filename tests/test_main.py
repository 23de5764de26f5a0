"""``python -m wegetfinancing``, as it is run in a shell."""

import contextlib
import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from wegetfinancing import (
    Approved,
    AsyncClient,
    CallError,
    Credentials,
    DeadlineExceededError,
    Outcome,
    PostbackError,
    Refunded,
    TransportError,
    __version__,
    parse_postback,
)
from wegetfinancing.__main__ import main
from wegetfinancing.emulator.env_file import read_settings, write_settings
from wegetfinancing.testing import credentials, financing_request, shipping_event

ROOT = Path(__file__).parent.parent


@attrs.define
class Endpoint:
    """A shop's endpoint that believes what verifies."""

    url: str = ""
    accepted: Credentials = attrs.field(factory=credentials)
    got: list[Any] = attrs.field(factory=list)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in ("merchant_id", "username", "password"):
        monkeypatch.setenv(f"WEGETFINANCING_{name.upper()}", getattr(credentials(), name))
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


def test_a_postback_is_signed_and_the_answer_printed(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["postback", endpoint.url, "--inv-id", "a1", "--order", "ORDER-1"]) == 0
    assert capsys.readouterr().out == "inv_id a1\nHTTP 200\nOK\n"
    assert main(["postback", endpoint.url, "--status", "refund", "--amount", "12.50"]) == 0
    printed = capsys.readouterr().out
    approved, refunded = endpoint.got
    assert isinstance(approved, Approved)
    assert (approved.inv_id, approved.merchant_transaction_id) == ("a1", "ORDER-1")
    assert isinstance(refunded, Refunded)
    assert str(refunded.amount) == "12.50"
    assert refunded.merchant_transaction_id is None
    assert printed == f"inv_id {refunded.inv_id}\nHTTP 200\nOK\n"


def test_a_postback_for_programs(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postback", endpoint.url, "--inv-id", "a1", "--order", "ORDER-1", "--json"]) == 0
    expected = {"inv_id": "a1", "order": "ORDER-1", "status": "approved", "http_status": 200, "answer": "OK"}
    assert json.loads(capsys.readouterr().out) == expected
    assert main(["postback", "http://127.0.0.1:9/", "--inv-id", "a1", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["inv_id"], told["order"]) == ("a1", None)
    assert "Nothing was sent." in told["error"]


def test_a_forged_postback_is_refused_and_the_command_says_so(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["postback", endpoint.url, "--wrong-signature", "--version", "0.2"]) == 1
    assert capsys.readouterr().out.endswith("\nHTTP 401\nbad signature\n")
    assert endpoint.got == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["postback", "http://shop.example/postbacks"], "plain http is for loopback addresses only"),
        (["postback", "shop.example"], "the URL must be"),
        (["postback", "http://127.0.0.1:abc/"], "the URL must be"),
        (["emulator", "--merchant-id", "../admin"], "merchant_id"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_sent(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert problem in told
    assert told.count("\n") == 1
    assert endpoint.got == []


def test_without_credentials_the_command_names_the_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postback", "http://127.0.0.1:9/"]) == 2
    assert "WEGETFINANCING_MERCHANT_ID" in capsys.readouterr().err


def test_an_endpoint_that_is_not_there_is_told(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert endpoint.url
    assert main(["postback", "http://127.0.0.1:9/"]) == 1
    assert "Nothing was sent." in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "wegetfinancing.emulator.server", raising=False)
    assert main(["emulator"]) == 2
    assert "uvicorn is missing; python -m pip install 'wegetfinancing[emulator]'" in capsys.readouterr().err


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
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait() == 0


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Credentials]]:
    file = tmp_path_factory.mktemp("emulator") / ".env"
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


@pytest.mark.anyio
async def test_the_served_emulator_does_the_whole_flow(
    emulator: tuple[str, Credentials], endpoint: Endpoint
) -> None:
    base_url, accepted = emulator
    assert (accepted.username, accepted.password) == ("some body", "a $(id) b")
    request = financing_request(postback_url=endpoint.url)
    async with AsyncClient(accepted, base_url=base_url) as client, httpx.AsyncClient() as browser:
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
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(emulator[0], headers={"host": "evil.example"})
    assert answer.status_code == 400


@pytest.fixture
def settings_of_the_emulator(
    emulator: tuple[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> Credentials:
    base_url, accepted = emulator
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", base_url)
    for name in ("merchant_id", "username", "password"):
        monkeypatch.setenv(f"WEGETFINANCING_{name.upper()}", getattr(accepted, name))
    return accepted


@pytest.mark.parametrize(
    ("status", "decisions", "amount"),
    [
        ("approved", ["approved"], None),
        ("rejected", ["rejected"], None),
        ("refund", ["approved", "refund"], 5),
    ],
)
def test_one_command_creates_an_application_and_decides_it(
    endpoint: Endpoint,
    settings_of_the_emulator: Credentials,
    capsys: pytest.CaptureFixture[str],
    status: str,
    decisions: list[str],
    amount: int | None,
) -> None:
    endpoint.accepted = settings_of_the_emulator
    command = ["trigger", status, "--postback-url", endpoint.url, "--order", "ORDER-7", "--amount", "5"]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [each.status for each in endpoint.got] == decisions
    assert {each.merchant_transaction_id for each in endpoint.got} == {"ORDER-7"}
    assert getattr(endpoint.got[-1], "amount", None) == amount
    assert printed[0] == "order  ORDER-7"
    assert printed[3:] == [f"{each}: HTTP 200" for each in decisions]


@pytest.mark.usefixtures("settings_of_the_emulator")
def test_a_trigger_whose_postback_fails_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trigger", "refund"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("order  ORDER-")
    assert printed[3:] == ["approved: discarded: the request named no postback_url"]


@pytest.mark.usefixtures("settings_of_the_emulator")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_trigger_that_is_refused_says_so(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    assert main(["trigger", "approved", "--order", "fault-400", *["--json"] * as_json]) == 1
    captured = capsys.readouterr()
    assert "HTTP 400 invalid_parameters: billing_address.zipcode" in captured.err
    if as_json:
        told = json.loads(captured.out)
        assert (told["order"], told["decisions"]) == ("fault-400", [])
        assert "HTTP 400" in told["error"]


def test_a_trigger_for_programs(
    endpoint: Endpoint, settings_of_the_emulator: Credentials, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings_of_the_emulator != endpoint.accepted
    command = ["trigger", "rejected", "--json", "--order", "ORDER-7", "--postback-url", endpoint.url]
    assert main(command) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["page"].endswith(told["inv_id"])
    assert (told["order"], told["decisions"]) == (
        "ORDER-7",
        [{"decision": "rejected", "postback": "HTTP 401"}],
    )


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ("abc", "argument --amount: must be US dollars such as 499.00, without a currency sign"),
        ("$5", "must be US dollars such as 499.00"),
        ("1,558.00", "must be US dollars such as 499.00"),
        ("1.234", "must have at most two decimals"),
        ("-1", "must be 0 or more"),
    ],
)
@pytest.mark.parametrize("command", [["trigger", "approved"], ["postback", "http://127.0.0.1:9/"]])
def test_an_amount_that_cannot_be_is_told(
    command: list[str], amount: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, f"--amount={amount}"])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("base_url", [None, "https://api.wegetfinancing.com"])
def test_only_an_emulator_is_triggered(
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    base_url: str | None,
) -> None:
    if base_url is not None:
        monkeypatch.setenv("WEGETFINANCING_BASE_URL", base_url)
    assert main(["trigger", "approved", "--postback-url", endpoint.url]) == 2
    assert "the address of an emulator on this machine" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    "command", [[], *([each] for each in ("emulator", "trigger", "postback", "check", "ledger"))]
)
def test_the_help_is_plain_text_where_nobody_watches(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: wegetfinancing")
    assert not any(mark in told for mark in ("\x1b", "``", "**"))


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


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"wegetfinancing {__version__}\n"


def test_the_command_is_installed_under_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"wegetfinancing": "wegetfinancing.__main__:main"}
