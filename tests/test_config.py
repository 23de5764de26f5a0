import copy
import pickle
import sys
import traceback
from typing import Any

import pytest

from wegetfinancing import AsyncClient, ConfigurationError, Credentials, Environment
from wegetfinancing.testing import FakeTransport, credentials


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
    ours = [each for each in shown.stack if "test_config" not in each.filename]
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


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    complete = {"merchant_id": "77", "username": "env-user", "password": "env-password"} | values
    for name, value in complete.items():
        monkeypatch.setenv(f"WEGETFINANCING_{name.upper()}", value)


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


def address_of(client: AsyncClient) -> str:
    return repr(client).removeprefix("<AsyncClient ").removesuffix(">")


def test_nobody_goes_live_by_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch)
    assert address_of(AsyncClient(credentials())) == "https://api.sandbox.wegetfinancing.com"
    assert address_of(AsyncClient.from_env()) == "https://api.sandbox.wegetfinancing.com"
    live = AsyncClient(credentials(), environment=Environment.LIVE)
    assert address_of(live) == "https://api.wegetfinancing.com"


@pytest.mark.parametrize(
    "host", ["api.wegetfinancing.com", "API.WeGetFinancing.com", "api.wegetfinancing.com."]
)
def test_the_live_address_needs_the_live_environment(host: str) -> None:
    with pytest.raises(ConfigurationError, match="say environment='live'"):
        AsyncClient(credentials(), base_url=f"https://{host}")
    AsyncClient(credentials(), base_url=f"https://{host}", environment=Environment.LIVE)


def test_the_environment_chooses_environment_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, environment="Live")
    assert address_of(AsyncClient.from_env()) == "https://api.wegetfinancing.com"
    set_environment(monkeypatch, environment="sandbox", base_url="http://127.0.0.1:8200/")
    assert address_of(AsyncClient.from_env()) == "http://127.0.0.1:8200"
    assert address_of(AsyncClient.from_env(base_url="https://other.example")) == "https://other.example"


def test_a_variable_that_is_overridden_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, environment="prod", base_url="nonsense")
    client = AsyncClient.from_env(environment=Environment.SANDBOX, base_url=None)
    assert address_of(client) == "https://api.sandbox.wegetfinancing.com"


def test_from_env_takes_credentials_and_transport_as_overrides() -> None:
    client = AsyncClient.from_env(credentials=credentials(), transport=FakeTransport())
    assert address_of(client) == "https://api.sandbox.wegetfinancing.com"


def test_an_unknown_environment_is_refused_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, environment="production")
    with pytest.raises(ConfigurationError, match="'sandbox' or 'live'") as caught:
        AsyncClient.from_env()
    assert "production" not in str(caught.value)


@pytest.mark.parametrize("environment", ["prod", "LIVE", "", None, [], 5])
def test_an_environment_is_a_member_or_its_text(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch)
    for make in (AsyncClient, AsyncClient.from_env):
        with pytest.raises(ConfigurationError, match=r"^environment must be 'sandbox' or 'live'") as caught:
            make(credentials=credentials(), environment=environment)
        assert caught.value.__context__ is None


def test_the_text_of_an_environment_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch)
    assert address_of(AsyncClient(credentials(), environment="live")) == "https://api.wegetfinancing.com"
    assert address_of(AsyncClient.from_env(environment="live")) == "https://api.wegetfinancing.com"
    sandbox = AsyncClient(credentials(), environment="sandbox")
    assert address_of(sandbox) == "https://api.sandbox.wegetfinancing.com"


def test_from_env_refuses_a_keyword_that_the_constructor_does_not_have() -> None:
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'timeut'"):
        AsyncClient.from_env(timeut=3)  # type: ignore[call-arg] # what is tested


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.example",
        "https://api.example/",
        "https://api.example:8443",
        "http://127.0.0.1:8200",
        "http://127.8.9.1",
        "http://localhost:1",
        "http://[::1]:8200",
    ],
)
def test_https_anywhere_and_http_on_loopback_pass(base_url: str) -> None:
    assert address_of(AsyncClient(credentials(), base_url=base_url)) == base_url.rstrip("/")


@pytest.mark.parametrize(
    ("base_url", "way_out"),
    [
        ("http://api.example", "plain http is for loopback"),
        ("http://127.0.0.1.evil.example", "plain http is for loopback"),
        ("http://localhost.evil.example", "plain http is for loopback"),
        ("http://10.0.0.1", "plain http is for loopback"),
        ("https://user:hunter2@api.example", "pass them as Credentials"),
        ("https://@api.example", "pass them as Credentials"),
        ("https://api.example/?x=hunter2", "no path, query or fragment"),
        ("https://api.example?", "no path, query or fragment"),
        ("https://api.example#hunter2", "no path, query or fragment"),
        ("https://api.example/v1", "no path, query or fragment"),
        ("https://api.example:hunter2", "host or port"),
        ("https://api.example:99999", "host or port"),
        ("https://[::1", "host or port"),
        ("ftp://api.example", "begin with https://"),
        ("api.example", "begin with https://"),
        ("https://", "begin with https://"),
        ("https://api.example\n", "printable ASCII"),
        ("https://api.example\\@evil.example", "printable ASCII"),
        ("https://bücher.example", "printable ASCII"),
        ("", "printable ASCII"),
        (8200, "printable ASCII"),
    ],
)
def test_a_wrong_base_url_is_refused_with_the_way_out(base_url: Any, way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out) as caught:
        AsyncClient(credentials(), base_url=base_url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 10**400, True, "30", None])
def test_a_timeout_must_be_a_finite_number_above_zero(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout must be a finite number"):
        AsyncClient(credentials(), timeout=timeout)


def test_any_finite_number_above_zero_is_a_timeout() -> None:
    for timeout in (0.001, 5, sys.float_info.max):
        AsyncClient(credentials(), timeout=timeout)


def test_credentials_must_be_credentials() -> None:
    with pytest.raises(ConfigurationError, match="must be Credentials, not tuple"):
        AsyncClient(("1234", "user", "hunter2"))  # type: ignore[arg-type] # what is tested
