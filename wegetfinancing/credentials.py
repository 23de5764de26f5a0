"""Settings, checked before any I/O. No message repeats a value: it may be a secret."""

import enum
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn, Self, TypeGuard, cast

import attrs

from .errors import ConfigurationError

_MERCHANT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_PRINTABLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")


class Environment(enum.Enum):
    """Which of the vendor's two environments to call; each has its own credentials.

    The hosts are documented on https://docs.wegetfinancing.com.
    """

    SANDBOX = "sandbox"
    """The vendor's place to try things out."""

    LIVE = "live"
    """Real applications of real customers."""

    @property
    def base_url(self) -> str:
        """The vendor's address of this environment."""
        return _BASE_URLS[self]


_BASE_URLS: Final = {
    Environment.SANDBOX: "https://api.sandbox.wegetfinancing.com",
    Environment.LIVE: "https://api.wegetfinancing.com",
}


def _variable(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value.strip():
        msg = f"the environment variable {name} is not set; the vendor's back-office shows its value"
        raise ConfigurationError(msg)
    return value


def _problem_of_text(name: str, value: object) -> str | None:
    if not isinstance(value, str):
        return f"{name} must be a str, not {type(value).__name__}"
    if not value.strip():
        return f"{name} is blank; the vendor's back-office shows it"
    if _CONTROL.search(value):
        return f"{name} holds a control character, perhaps a line end that was copied with it"
    if _SURROGATE.search(value):
        return f"{name} cannot be encoded as UTF-8; copy it again from the vendor's back-office"
    return None


def _problem_of(merchant_id: object, username: object, password: object) -> str | None:
    values = {"merchant_id": merchant_id, "username": username, "password": password}
    for name, value in values.items():
        if problem := _problem_of_text(name, value):
            return problem
    if not _MERCHANT_ID.fullmatch(str(merchant_id)):
        return (
            "merchant_id must be 1 to 64 letters, digits, '_' or '-': it becomes part of the URL's path;"
            " copy it from the vendor's back-office"
        )
    if ":" in str(username):
        return "username holds a colon, which HTTP Basic authentication cannot carry (RFC 7617)"
    return None


@attrs.frozen(init=False)
class Credentials:
    """The API credentials of one merchant in one environment, from the vendor's back-office.

    The same username and password sign the vendor's postbacks, so rotating the password rotates
    that secret too: the postback functions take several credentials at once.

    Attributes:
        merchant_id: 1 to 64 of ``A-Z a-z 0-9 _ -``; part of every URL.
        username: the API username.
        password: the API password. In no ``repr`` and never pickled.

    Raises:
        ConfigurationError: a value that cannot be right; its text names the field, not the value.

    """

    merchant_id: str
    username: str = attrs.field(repr=False)
    password: str = attrs.field(repr=False)

    def __init__(self, merchant_id: str, username: str, password: str) -> None:
        """Check and keep them."""
        problem = _problem_of(merchant_id, username, password)
        if problem is not None:
            # A traceback with local variables must not show what was refused, nor stumble over the
            # repr of an object that has no fields yet.
            del self, merchant_id, username, password
            raise ConfigurationError(problem)
        self.__attrs_init__(merchant_id, username, password)  # pyright: ignore[reportAttributeAccessIssue] # made by attrs

    @classmethod
    def from_env(cls) -> Self:
        """Read ``WEGETFINANCING_MERCHANT_ID``, ``_USERNAME`` and ``_PASSWORD``.

        Raises:
            ConfigurationError: a variable is missing, blank or cannot be right.

        """
        return cls(
            merchant_id=_variable(os.environ, "WEGETFINANCING_MERCHANT_ID"),
            username=_variable(os.environ, "WEGETFINANCING_USERNAME"),
            password=_variable(os.environ, "WEGETFINANCING_PASSWORD"),
        )

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a pickle is a plain-text copy of the password."""
        msg = "Credentials are not pickled; call Credentials.from_env() in the other process"
        raise TypeError(msg)

    def __copy__(self) -> Self:
        """Return itself: it is immutable."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: it is immutable."""
        return self


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is this machine: ``localhost``, ``127.0.0.0/8`` or ``::1``."""
    if host == "localhost":
        return True
    import ipaddress  # noqa: PLC0415 - for plain http only

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(base_url: str) -> str:
    """Return ``base_url`` as ``scheme://host[:port]``, or say why it cannot be one.

    Raises:
        ConfigurationError: a plain ``http`` address other than loopback, an address with user,
            path, query or fragment, or none at all.

    """
    from urllib.parse import urlsplit  # noqa: PLC0415 - not needed for the vendor's own address

    if not isinstance(base_url, str) or not _PRINTABLE_ASCII.fullmatch(base_url) or "\\" in base_url:
        msg = "base_url must be a str of printable ASCII such as https://api.sandbox.wegetfinancing.com"
        raise ConfigurationError(msg)
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        msg = "base_url is not a URL: its host or port cannot be read"
        raise ConfigurationError(msg) from None
    if parts.scheme not in {"http", "https"} or not host:
        msg = "base_url must begin with https:// and a host"
        raise ConfigurationError(msg)
    if "@" in parts.netloc:
        msg = "base_url must not hold a username or password; give them as Credentials"
        raise ConfigurationError(msg)
    if "?" in base_url or "#" in base_url or parts.path not in {"", "/"}:
        msg = "base_url must end after the host and port: no path, query or fragment"
        raise ConfigurationError(msg)
    if parts.scheme == "http" and not is_loopback(host):
        msg = "base_url must use https://; plain http is for loopback addresses only"
        raise ConfigurationError(msg)
    literal = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{literal}" + (f":{port}" if port is not None else "")


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where the calls of one client go."""

    base_url: str
    is_live: bool

    @classmethod
    def of(cls, environment: Environment, base_url: str | None) -> Self:
        """Choose the address; a live address has to be asked for by name.

        Raises:
            ConfigurationError: an unknown environment, a wrong address, or the live address
                without ``environment=Environment.LIVE``.

        """
        if not isinstance(environment, Environment):
            msg = "environment must be Environment.SANDBOX or Environment.LIVE"
            raise ConfigurationError(msg)
        is_live = environment is Environment.LIVE
        if base_url is None:
            return cls(base_url=environment.base_url, is_live=is_live)
        url = check_base_url(base_url)
        host = url.partition("://")[2].partition(":")[0]
        if not is_live and host.rstrip(".") == Environment.LIVE.base_url.partition("://")[2]:
            msg = "base_url is the live address; to go live, say environment=Environment.LIVE"
            raise ConfigurationError(msg)
        return cls(base_url=url, is_live=is_live)


def settings_from_env(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``WEGETFINANCING_ENVIRONMENT`` (``sandbox`` or ``live``) and ``_BASE_URL``, if set.

    What ``overrides`` holds is taken from there, and its variable is not even looked at.

    Raises:
        ConfigurationError: the environment is neither.

    """
    settings = dict(overrides)
    environment = os.environ.get("WEGETFINANCING_ENVIRONMENT", "").strip().lower()
    if environment and "environment" not in settings:
        if environment not in {each.value for each in Environment}:
            msg = "WEGETFINANCING_ENVIRONMENT must be 'sandbox' or 'live'"
            raise ConfigurationError(msg)
        settings["environment"] = Environment(environment)
    base_url = os.environ.get("WEGETFINANCING_BASE_URL", "").strip()
    if base_url:
        settings.setdefault("base_url", base_url)
    return settings


def is_finite_number(value: object) -> TypeGuard[float]:
    """Tell whether a setting is a number that fits a float; an int may be larger than any."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(cast("float", value)) <= sys.float_info.max


def check_timeout(timeout: object) -> float:
    """Return ``timeout`` in seconds, or say why it cannot be one.

    Raises:
        ConfigurationError: not a finite number above zero.

    """
    if is_finite_number(timeout) and timeout > 0:
        return float(timeout)
    msg = "timeout must be a finite number of seconds above zero; it bounds the whole call"
    raise ConfigurationError(msg)
