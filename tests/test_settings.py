import sys
from typing import Any

import pytest

from support.environment import set_environment
from wegetfinancing import AsyncClient, ConfigurationError, Environment
from wegetfinancing.testing import FakeTransport, credentials


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


def test_nobody_who_says_live_calls_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its approvals would release goods that no lender pays for."""
    sandbox = "https://api.sandbox.wegetfinancing.com"
    set_environment(monkeypatch, environment="live", base_url=sandbox)
    with pytest.raises(ConfigurationError, match="say environment='sandbox'"):
        AsyncClient.from_env()
    assert address_of(AsyncClient(credentials(), base_url=sandbox)) == sandbox


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
    with pytest.raises(ConfigurationError, match=r"^WEGETFINANCING_ENVIRONMENT must be 'sandbox'") as caught:
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
