"""The variables that the package reads its settings from."""

import pytest

from wegetfinancing import Credentials
from wegetfinancing.testing import credentials


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    complete = {"merchant_id": "77", "username": "env-user", "password": "env-password"} | values
    for name, value in complete.items():
        monkeypatch.setenv(f"WEGETFINANCING_{name.upper()}", value)


def set_credentials(monkeypatch: pytest.MonkeyPatch, accepted: Credentials | None = None) -> None:
    """Name them in the environment; by default those of ``wegetfinancing.testing.credentials()``."""
    chosen = credentials() if accepted is None else accepted
    set_environment(
        monkeypatch, merchant_id=chosen.merchant_id, username=chosen.username, password=chosen.password
    )
