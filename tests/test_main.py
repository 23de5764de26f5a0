"""``wegetfinancing``: what its commands have in common."""

import tomllib
from pathlib import Path

import pytest

from wegetfinancing import __version__
from wegetfinancing.__main__ import main

ROOT = Path(__file__).parent.parent


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


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"wegetfinancing {__version__}\n"


def test_the_command_is_installed_under_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"wegetfinancing": "wegetfinancing.__main__:main"}
