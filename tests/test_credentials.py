import copy
import pickle
import traceback
from typing import Any

import pytest

from support.environment import set_environment
from wegetfinancing import ConfigurationError, Credentials
from wegetfinancing.testing import credentials


@pytest.mark.parametrize(
    ("field", "value", "way_out"),
    [
        ("merchant_id", "", "is blank"),
        ("merchant_id", "../admin", "1 to 64 letters, digits"),
        ("merchant_id", "a/b", "1 to 64 letters, digits"),
        ("merchant_id", "a#f", "1 to 64 letters, digits"),
        ("merchant_id", "12\n", "control character"),
        ("merchant_id", "x" * 65, "1 to 64 letters, digits"),
        ("merchant_id", "١٢", "1 to 64 letters, digits"),
        ("merchant_id", 1234, "must be a str, not int"),
        ("username", " ", "is blank"),
        ("username", "a:b", "colon"),
        ("username", "a\r\nx: y", "control character"),
        ("username", "\ud800", "UTF-8"),
        ("username", None, "must be a str, not NoneType"),
        ("password", "", "is blank"),
        ("password", "hunter2\n", "control character"),
        ("password", "hunter2\udfff", "UTF-8"),
        ("password", b"hunter2", "must be a str, not bytes"),
    ],
)
def test_wrong_credentials_are_named_with_the_way_out_and_without_the_value(
    field: str, value: Any, way_out: str
) -> None:
    with pytest.raises(ConfigurationError, match=way_out) as caught:
        credentials(**{field: value})
    assert field in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("merchant_id", ["1", "1234", "A-z_9", "x" * 64])
def test_merchant_ids_of_the_allowed_alphabet_pass(merchant_id: str) -> None:
    assert credentials(merchant_id=merchant_id).merchant_id == merchant_id


def test_credentials_are_taken_by_position_too() -> None:
    assert Credentials("1234", "api-user", "api-password") == credentials()


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "s3cret\n"},
        {"password": "s3cret\ud800"},
        {"password": "s3cret", "merchant_id": "../"},
    ],
)
def test_a_traceback_with_locals_does_not_show_a_password_that_was_refused(changes: dict[str, str]) -> None:
    good = {"merchant_id": "1", "username": "u", "password": "p"}
    with pytest.raises(ConfigurationError) as caught:
        Credentials(**good | changes)
    assert caught.value.__context__ is None
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [each for each in shown.stack if "test_credentials" not in each.filename]
    assert ours
    assert "s3cret" not in str([each.locals for each in ours])


def test_credentials_show_no_secret() -> None:
    secret = credentials(username="user-secret", password="password-secret")
    assert repr(secret) == "Credentials(merchant_id='1234')"
    with pytest.raises(TypeError):
        vars(secret)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_credentials_are_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="from_env"):
        pickle.dumps(credentials(), protocol)


def test_copies_of_credentials_are_the_same_object() -> None:
    secret = credentials()
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch)
    assert Credentials.from_env() == credentials(
        merchant_id="77", username="env-user", password="env-password"
    )


@pytest.mark.parametrize("name", ["MERCHANT_ID", "USERNAME", "PASSWORD"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    set_environment(monkeypatch)
    if value is None:
        monkeypatch.delenv(f"WEGETFINANCING_{name}")
    else:
        monkeypatch.setenv(f"WEGETFINANCING_{name}", value)
    with pytest.raises(ConfigurationError, match=f"WEGETFINANCING_{name} is not set"):
        Credentials.from_env()
