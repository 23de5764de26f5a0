"""``wegetfinancing postback``: one signed postback to an endpoint, and what it answers."""

import json

import pytest

from support.commands import Endpoint
from wegetfinancing import Approved, Refunded
from wegetfinancing.__main__ import main


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


def test_no_decision_is_signed_with_the_credentials_of_the_live_environment(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGETFINANCING_ENVIRONMENT", "LIVE")
    assert main(["postback", endpoint.url, "--order", "ORDER-1"]) == 2
    assert "WEGETFINANCING_ENVIRONMENT is live" in capsys.readouterr().err
    assert main(["postback", endpoint.url, "--wrong-signature"]) == 1
    assert capsys.readouterr().out.endswith("\nHTTP 401\nbad signature\n")
    assert endpoint.got == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["postback", "http://shop.example/postbacks"], "plain http is for loopback addresses only"),
        (["postback", "shop.example"], "the URL must be"),
        (["postback", "http://127.0.0.1:abc/"], "the URL must be"),
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


def test_without_credentials_the_command_names_the_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postback", "http://127.0.0.1:9/"]) == 2
    assert "WEGETFINANCING_MERCHANT_ID" in capsys.readouterr().err


def test_an_endpoint_that_is_not_there_is_told(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert endpoint.url
    assert main(["postback", "http://127.0.0.1:9/"]) == 1
    assert "Nothing was sent." in capsys.readouterr().err
