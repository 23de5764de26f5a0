"""Settings, checked before any I/O. No message repeats a value: it may be a secret."""

import enum
import os
import re
from typing import Any, Final, NoReturn, Self

import attrs

from ._tracebacks import clears_locals_of_init
from .errors import ConfigurationError

MERCHANT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


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


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
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
        return f"{name} contains a control character, perhaps a line end that was copied with it"
    if _SURROGATE.search(value):
        return f"{name} cannot be encoded as UTF-8; copy it again from the vendor's back-office"
    return None


def _problem_of(merchant_id: object, username: object, password: object) -> str | None:
    values = {"merchant_id": merchant_id, "username": username, "password": password}
    for name, value in values.items():
        if problem := _problem_of_text(name, value):
            return problem
    if not MERCHANT_ID.fullmatch(str(merchant_id)):
        return (
            "merchant_id must be 1 to 64 letters, digits, '_' or '-': it becomes part of the URL's path;"
            " copy it from the vendor's back-office"
        )
    if ":" in str(username):
        return "username contains a colon, which HTTP Basic authentication cannot carry (RFC 7617)"
    return None


@clears_locals_of_init  # what is refused may be a password
@attrs.frozen
class Credentials:
    """The API credentials of one merchant in one environment, from the vendor's back-office.

    The same username and password sign the vendor's postbacks, so rotating the password rotates
    that secret too: the postback functions take several credentials at once.

    Attributes:
        merchant_id: 1 to 64 of ``A-Z a-z 0-9 _ -``; part of every URL.
        username: the API username.
        password: the API password; never shown by ``repr`` and never pickled.

    Raises:
        ConfigurationError: a value is invalid; the text names the field, not the value.

    """

    merchant_id: str
    username: str = attrs.field(repr=False)
    password: str = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        """Check them."""
        if problem := _problem_of(self.merchant_id, self.username, self.password):
            raise ConfigurationError(problem)

    @classmethod
    def from_env(cls) -> Self:
        """Read ``WEGETFINANCING_MERCHANT_ID``, ``_USERNAME`` and ``_PASSWORD``.

        Raises:
            ConfigurationError: a variable is missing, blank or invalid.

        """
        return cls(
            merchant_id=_variable("WEGETFINANCING_MERCHANT_ID"),
            username=_variable("WEGETFINANCING_USERNAME"),
            password=_variable("WEGETFINANCING_PASSWORD"),
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
