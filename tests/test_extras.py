"""The command that an error message names for what is missing."""

import sys
from importlib.metadata import PackageNotFoundError, requires

import pytest

from wegetfinancing import _extras
from wegetfinancing._extras import install_command

STATED = [
    "anyio>=4.16",
    "django>=4.2.8; extra == 'django'",
    'psycopg>=3.2.2; extra == "sql"',
    'sqlalchemy>=2.0.31 ; extra == "sql"',
]


def test_it_names_the_requirements_and_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extras, "requires", lambda _: STATED)
    python = f"{sys.executable} -m pip install"
    assert install_command("sql") == f'{python} "psycopg>=3.2.2" "sqlalchemy>=2.0.31"'
    assert install_command("django") == f'{python} "django>=4.2.8"'
    monkeypatch.setattr(sys, "executable", "C:\\Program Files\\python.exe")
    assert install_command("django").startswith('"C:\\Program Files\\python.exe" -m pip')


@pytest.mark.parametrize("stated", [None, PackageNotFoundError()])
def test_without_metadata_it_is_that_of_a_checkout(
    stated: PackageNotFoundError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_: str) -> None:
        if stated is not None:
            raise stated

    monkeypatch.setattr(_extras, "requires", answer)
    assert install_command("sql") == f'{sys.executable} -m pip install ".[sql]"'


def test_the_real_metadata_are_read_if_there_are_any() -> None:
    try:
        requires("wegetfinancing")
    except PackageNotFoundError:
        pytest.skip("the package is not installed")
    assert '"starlette>=' in install_command("emulator")
