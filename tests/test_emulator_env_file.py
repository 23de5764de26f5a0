"""The file in which a served emulator keeps its credentials."""

import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from wegetfinancing import ConfigurationError
from wegetfinancing.emulator.env_file import read_settings, write_settings

SETTINGS = {
    "WEGETFINANCING_BASE_URL": "http://127.0.0.1:8200",
    "WEGETFINANCING_USERNAME": "some body",
    "WEGETFINANCING_PASSWORD": "a $(id) b#'\"",
}


def test_what_is_written_is_read_again_by_us_and_by_a_shell(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_settings(path, SETTINGS)
    assert read_settings(path) == SETTINGS
    command = f'. {shlex.quote(str(path))}; printf "%s" "$WEGETFINANCING_PASSWORD"'
    shell = subprocess.run(  # noqa: S603 - our own
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=True
    )
    assert shell.stdout == SETTINGS["WEGETFINANCING_PASSWORD"]


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_settings(tmp_path / ".env") == {}


def test_other_lines_are_kept_and_old_values_replaced(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nDEBUG=1\nexport WEGETFINANCING_USERNAME=old # or new\n", encoding="utf-8")
    assert read_settings(path) == {"WEGETFINANCING_USERNAME": "old"}
    write_settings(path, SETTINGS)
    assert path.read_text(encoding="utf-8").startswith("# mine\nDEBUG=1\nWEGETFINANCING_BASE_URL=")
    assert read_settings(path) == SETTINGS


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.touch(0o644)
    write_settings(path, SETTINGS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


LIVE = "WEGETFINANCING_BASE_URL=https://api.wegetfinancing.com\n"
PASSWORD = "WEGETFINANCING_PASSWORD=live-secret\n"


@pytest.mark.parametrize("text", [PASSWORD, LIVE + PASSWORD, LIVE])
def test_settings_of_the_vendor_are_neither_used_nor_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".env"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="name another file") as caught:
        read_settings(path)
    assert "live-secret" not in str(caught.value)


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("DEBUG=1\nWEGETFINANCING_PASSWORD='secret\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="line 2") as caught:
        read_settings(path)
    assert "secret" not in str(caught.value)
