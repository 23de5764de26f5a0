"""The README's examples, run as they stand there against the in-memory sandbox."""

import re
from pathlib import Path
from typing import Any

import pytest

from wegetfinancing.sandbox import Sandbox
from wegetfinancing.testing import credentials, financing_request, signed_postback

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(example: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - what is tested
    return names


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_as_it_stands(
    number: int, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    run(EXAMPLES[0])
    names = run(EXAMPLES[number])
    if "receive" in names:
        receive = names["receive"]
        for status in ("approved", "preapproved", "rejected", "refund"):
            made = signed_postback(status, amount="5" if status == "refund" else None)
            assert receive(made.body, made.headers, credentials()) == (200, "OK")
        assert receive(made.body, {}, credentials())[0] == 401
        assert "create ORDER-123 and ship it" in capsys.readouterr().out


def test_the_examples_do_what_the_text_says(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    run(EXAMPLES[0])
    application = next(iter(sandbox.applications.values()))
    assert application.request.merchant_transaction_id == "ORDER-123"
    assert capsys.readouterr().out == f"send the customer's browser to {application.href}\n"


def test_the_first_screen_holds_the_two_commands_and_an_example() -> None:
    screen = "\n".join(README.splitlines()[:30])
    assert "python -m pip install nox && python -m nox -s demo" in screen
    assert "python -m pip install nox && python -m nox -s tests" in screen
    assert EXAMPLES[0] in README[: len(screen)]
    assert len(EXAMPLES[0].splitlines()) <= 16


def test_the_problems_shown_are_those_of_the_models() -> None:
    assert financing_request().problems() == {}


def test_every_name_in_the_settings_table_exists() -> None:
    for name in re.findall(r"`(WEGETFINANCING_[A-Z_]+)`", README):
        source = (Path(__file__).parent.parent / "wegetfinancing" / "config.py").read_text(encoding="utf-8")
        assert name in source
