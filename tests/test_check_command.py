"""``wegetfinancing check``: against the emulator and answers of every kind."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from support.environment import set_credentials
from support.resolvers import Resolver, resolving
from support.serving import Served, serving
from wegetfinancing import Outcome, TransportError
from wegetfinancing.__main__ import main
from wegetfinancing._check_findings import Finding, Status, as_line
from wegetfinancing._check_setup import Setup, credentials_finding
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.http import Response as Answer
from wegetfinancing.testing import FakeTransport, created_response, credentials, error_response

VENDOR = ["settings", "dns", "tls", "credentials"]
ENDPOINT = ["genuine", "forged", "unsigned", "old", "oversized", "get"]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    served = Served()
    with serving(served) as served.url:
        yield served


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch)


@pytest.fixture
def emulator(server: Served, settings: None, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """An emulator that the settings name, beside whatever endpoint a test adds."""
    emulator = Emulator(credentials(), page=f"{server.url}/lc/")
    server.app = emulator_app(emulator)
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", server.url)
    return emulator


def test_each_check_is_a_line_and_nothing_is_created(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "settings"],
        ["ok", "dns"],
        ["skipped", "tls"],
        ["ok", "credentials"],
    ]
    assert "it cannot create an application" in lines[-1]
    assert not any(secret in line for line in lines for secret in (credentials().password, "api-user"))
    assert emulator.applications == {}


def test_every_variable_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEGETFINANCING_USERNAME", "api-user")
    assert main(["check", "--json", "--postback-url", "http://127.0.0.1:9/"]) == 1
    first, *others = json.loads(capsys.readouterr().out)["checks"]
    assert first["text"] == "not set: WEGETFINANCING_MERCHANT_ID, WEGETFINANCING_PASSWORD"
    assert [each["name"] for each in others] == [*VENDOR[1:], *ENDPOINT]
    assert {each["status"] for each in others} == {"skipped"}


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MERCHANT_ID", "../admin", "merchant_id must be"),
        ("USERNAME", "2026", "characters of a timestamp only"),
        ("ENVIRONMENT", "production", "WEGETFINANCING_ENVIRONMENT must be"),
        ("BASE_URL", "http://shop.example", "base_url must use https"),
        ("BASE_URL", "https://api.wegetfinancing.com", "say environment='live'"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"WEGETFINANCING_{name}", value)
    assert main(["check"]) == 1
    assert told in capsys.readouterr().out.splitlines()[0]


@pytest.mark.usefixtures("settings")
def test_a_name_that_does_not_resolve_ends_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", "https://vendor.invalid")
    monkeypatch.setenv("WEGETFINANCING_ENVIRONMENT", "live")
    assert main(["check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok      settings    live at https://vendor.invalid, merchant 1234"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["failed", "dns"],
        ["skipped", "tls"],
        ["skipped", "credentials"],
    ]


@pytest.mark.usefixtures("settings")
def test_a_name_server_that_does_not_answer_holds_up_neither_the_command_nor_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", "https://vendor.example")
    monkeypatch.setenv("WEGETFINANCING_ENVIRONMENT", "live")
    with resolving(Resolver(hangs={"vendor.example"}), monkeypatch) as resolver:
        assert main(["check", "--timeout", "0.05"]) == 1
        anyio.run(resolver.until, 1)  # it still hangs
    told = "failed  dns         vendor.example cannot be resolved (no answer within 0.05 seconds)"
    told += "; is the name in WEGETFINANCING_BASE_URL right? "
    assert told in capsys.readouterr().out


@pytest.mark.usefixtures("settings")
def test_an_address_that_is_the_vendors_own_is_not_said_to_be_mistyped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with resolving(Resolver({"api.sandbox.wegetfinancing.com": []}), monkeypatch):
        assert main(["check"]) == 1
    printed = capsys.readouterr().out
    assert "); may this machine use DNS? " in printed
    assert "WEGETFINANCING_BASE_URL" not in printed


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a certificate authority and of a certificate for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    made = trustme.CA()
    made.cert_pem.write_to_path(folder / "ca.pem")
    made.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("is_trusted", [True, False])
def test_the_certificate_is_verified_as_the_client_does(
    authority: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_trusted: bool,
) -> None:
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    app = emulator_app(Emulator(credentials()))
    with serving(app, ssl_certfile=str(authority / "server.pem")) as address:
        url = address.replace("http://127.0.0.1", "https://localhost")
        monkeypatch.setenv("WEGETFINANCING_BASE_URL", url)
        assert main(["check"]) == (0 if is_trusted else 1)
    tls, last = capsys.readouterr().out.splitlines()[2:]
    if is_trusted:
        assert tls == "ok      tls         TLSv1.3, and the certificate of localhost verifies"
        assert last.startswith("ok      credentials")
    else:
        assert tls.startswith("failed  tls")
        assert "is SSL_CERT_FILE right?" in tls
        assert last == "skipped credentials needs a connection"


@pytest.mark.usefixtures("settings")
def test_a_server_that_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WEGETFINANCING_BASE_URL", f"https://127.0.0.1:{silent.getsockname()[1]}")
        assert main(["check", "--timeout", "0.2"]) == 1
    assert "no answer within 0.2 seconds" in capsys.readouterr().out.splitlines()[2]


@pytest.mark.usefixtures("settings")
def test_behind_a_proxy_the_call_alone_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:secret@127.0.0.1:9")
    assert main(["check"]) == 1
    told = capsys.readouterr().out
    assert [line.split()[:2] for line in told.splitlines()[1:]] == [
        ["skipped", "dns"],
        ["skipped", "tls"],
        ["failed", "credentials"],
    ]
    assert "is the vendor's API reachable from here?" in told
    assert "secret" not in told


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (error_response(400, "missing_parameters"), Status.OK, "are accepted"),
        (error_response(400, "invalid_parameters"), Status.OK, "are accepted"),
        (error_response(400), Status.FAILED, "not the API's answer"),
        (Answer(400, {"content-type": "text/html"}, b"<p>"), Status.FAILED, "not the API's answer"),
        (error_response(401, "http"), Status.FAILED, "WEGETFINANCING_PASSWORD is wrong"),
        (error_response(403, "http"), Status.FAILED, "WEGETFINANCING_MERCHANT_ID is not theirs"),
        (error_response(404, "http"), Status.FAILED, "is WEGETFINANCING_MERCHANT_ID right"),
        (error_response(500), Status.FAILED, "try again later"),
        (created_response(), Status.FAILED, "look into its back-office"),
        (TransportError("lost", outcome=Outcome.UNKNOWN), Status.FAILED, "reachable from here"),
    ],
)
async def test_the_answer_to_a_create_without_fields_says_which_setting_is_wrong(
    answer: Any, status: Status, told: str
) -> None:
    transport = FakeTransport(answer)
    setup = Setup(credentials(), "https://vendor.example")
    finding = await credentials_finding(setup, transport, 5)
    assert finding.status is status
    assert told in f"{finding.text} {finding.remedy}"
    (request,) = transport.requests  # once, whatever comes
    assert request.body == b"{}"
    assert request.url == "https://vendor.example/merchant/1234/requests"


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(
    ("variable", "wrong"),
    [("PASSWORD", "WEGETFINANCING_PASSWORD is wrong"), ("MERCHANT_ID", "WEGETFINANCING_MERCHANT_ID is not")],
)
def test_what_the_emulator_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, wrong: str
) -> None:
    monkeypatch.setenv(f"WEGETFINANCING_{variable}", "other")
    assert main(["check"]) == 1
    assert wrong in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--max-age", "-1"], "must be a number of seconds above 0"),
        (["--timeout", "inf"], "must be a number of seconds above 0"),
        (["--timeout", "abc"], "invalid"),
    ],
)
def test_wrong_arguments_are_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", *arguments])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.usefixtures("settings")
def test_a_signed_postback_is_not_sent_in_plain_text_to_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--postback-url", "http://shop.example/postbacks"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "plain http is for loopback addresses only" in captured.err


def test_a_line_cannot_control_the_terminal() -> None:
    assert as_line(Finding("get", Status.OK, "\x1b[2J")) == "ok      get         ?[2J"


def test_the_secrets_are_in_no_repr() -> None:
    assert credentials().password not in repr(Setup(credentials(), "https://vendor.example"))
