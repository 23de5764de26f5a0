"""Where a client calls and how long it waits, checked before any I/O."""

import os
import re
from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

import attrs

from .._checks import is_finite_number, is_loopback
from ..credentials import Credentials, Environment
from ..errors import ConfigurationError

# A page that opens a connection ahead waits for it, also while the vendor cannot be reached.
PRECONNECT_SECONDS: Final = 2.0
_PRINTABLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")


def check_base_url(base_url: str) -> str:
    """Return ``base_url`` as ``scheme://host[:port]``, or say why it cannot be one.

    Raises:
        ConfigurationError: a plain ``http`` address other than loopback, an address with user,
            path, query or fragment, or none at all.

    """
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
        msg = "base_url must not contain a username or password; pass them as Credentials"
        raise ConfigurationError(msg)
    if "?" in base_url or "#" in base_url or parts.path not in {"", "/"}:
        msg = "base_url must end after the host and port: no path, query or fragment"
        raise ConfigurationError(msg)
    if parts.scheme == "http" and not is_loopback(host):
        msg = "base_url must use https://; plain http is for loopback addresses only"
        raise ConfigurationError(msg)
    literal = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{literal}" + (f":{port}" if port is not None else "")


def to_environment(value: object) -> Environment | None:
    """Return the environment that a member or its text names, or ``None`` if it names none."""
    try:
        return Environment(value)
    except ValueError:
        return None


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where the calls of one client go."""

    base_url: str
    environment: Environment

    @classmethod
    def of(cls, environment: Environment | str, base_url: str | None) -> Self:
        """Choose the address. The live one needs ``environment="live"``, and the sandbox's is refused there.

        Who believes to be live and calls the sandbox would ship for approvals that anybody can have.

        Raises:
            ConfigurationError: an unknown environment, a wrong address, or the vendor's address of the other
                environment.

        """
        chosen = to_environment(environment)
        if chosen is None:
            msg = "environment must be 'sandbox' or 'live', or a member of Environment"
            raise ConfigurationError(msg)
        if base_url is None:
            return cls(base_url=chosen.base_url, environment=chosen)
        url = check_base_url(base_url)
        host = url.partition("://")[2].partition(":")[0].rstrip(".")
        for other in Environment:
            if other is not chosen and host == other.base_url.partition("://")[2]:
                msg = f"base_url is the {other.value} address; for that one, say environment='{other.value}'"
                raise ConfigurationError(msg)
        return cls(base_url=url, environment=chosen)


def settings_from_env(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``WEGETFINANCING_ENVIRONMENT`` (``sandbox`` or ``live``) and ``_BASE_URL``, if set.

    A setting in ``overrides`` is kept, and its variable is not read.

    Raises:
        ConfigurationError: the environment is neither.

    """
    settings = dict(overrides)
    text = os.environ.get("WEGETFINANCING_ENVIRONMENT", "").strip().lower()
    if text and "environment" not in settings:
        environment = to_environment(text)
        if environment is None:
            msg = "WEGETFINANCING_ENVIRONMENT must be 'sandbox' or 'live'"
            raise ConfigurationError(msg)
        settings["environment"] = environment
    base_url = os.environ.get("WEGETFINANCING_BASE_URL", "").strip()
    if base_url:
        settings.setdefault("base_url", base_url)
    return settings


def check_credentials(credentials: Credentials) -> Credentials:
    """Return the credentials, or say that they are something else.

    Raises:
        ConfigurationError: they are not ``Credentials``.

    """
    if isinstance(credentials, Credentials):
        return credentials
    msg = f"credentials must be Credentials, not {type(credentials).__name__}"
    raise ConfigurationError(msg)


def check_timeout(timeout: object) -> float:
    """Return ``timeout`` in seconds, or say why it cannot be one.

    Raises:
        ConfigurationError: not a finite number above zero.

    """
    if is_finite_number(timeout) and timeout > 0:
        return float(timeout)
    msg = "timeout must be a finite number of seconds above zero; it bounds the whole call"
    raise ConfigurationError(msg)
