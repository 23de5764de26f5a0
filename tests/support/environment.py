"""The variables that the package reads its settings from."""

import pytest


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    complete = {"merchant_id": "77", "username": "env-user", "password": "env-password"} | values
    for name, value in complete.items():
        monkeypatch.setenv(f"WEGETFINANCING_{name.upper()}", value)
