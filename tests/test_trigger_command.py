"""``wegetfinancing trigger``: an application at a running emulator, created and decided."""

import json
from collections.abc import Iterator

import pytest

from support.commands import Endpoint, emulator_with_settings_of_its_own
from support.environment import set_credentials
from wegetfinancing import Credentials
from wegetfinancing.__main__ import main


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Credentials]]:
    with emulator_with_settings_of_its_own(tmp_path_factory.mktemp("emulator") / ".env") as served:
        yield served


@pytest.fixture
def settings_of_the_emulator(
    emulator: tuple[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> Credentials:
    base_url, accepted = emulator
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", base_url)
    set_credentials(monkeypatch, accepted)
    return accepted


@pytest.mark.parametrize(
    ("status", "decisions", "orders", "amount"),
    [
        ("approved", ["approved"], ["ORDER-7"], None),
        ("rejected", ["rejected"], [None], None),
        ("refund", ["approved", "refund"], ["ORDER-7", None], 5),
    ],
)
def test_one_command_creates_an_application_and_decides_it(
    endpoint: Endpoint,
    settings_of_the_emulator: Credentials,
    capsys: pytest.CaptureFixture[str],
    status: str,
    decisions: list[str],
    orders: list[str | None],
    amount: int | None,
) -> None:
    endpoint.accepted = settings_of_the_emulator
    command = ["trigger", status, "--postback-url", endpoint.url, "--order", "ORDER-7", "--amount", "5"]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [each.status for each in endpoint.got] == decisions
    assert [each.merchant_transaction_id for each in endpoint.got] == orders
    assert getattr(endpoint.got[-1], "amount", None) == amount
    assert printed[0] == "order  ORDER-7"
    assert printed[3:] == [f"{each}: HTTP 200" for each in decisions]


@pytest.mark.usefixtures("settings_of_the_emulator")
def test_a_trigger_whose_postback_fails_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trigger", "refund"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("order  ORDER-")
    assert printed[3:] == ["approved: discarded: the request has no postback_url; pass --postback-url"]


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


def test_an_emulator_that_is_not_running_is_named(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", "http://127.0.0.1:1")
    assert main(["trigger", "approved", "--postback-url", endpoint.url]) == 1
    told = capsys.readouterr().err
    assert "no connection to 127.0.0.1:1 was made" in told
    assert "is the emulator running? python -m wegetfinancing emulator --env-file .env" in told


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
