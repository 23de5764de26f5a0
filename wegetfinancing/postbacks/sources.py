"""Whose credentials a postback is verified with: those of one merchant, or those that a lookup returns.

Without I/O of its own, as ``receiving``: ``lookups`` awaits what has to be awaited.
"""

import inspect
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias, cast

from .._checks import is_async
from ..credentials import Credentials
from ..errors import ConfigurationError
from .receiving import MERCHANT_PLACEHOLDER, CredentialsUnavailableError, check_merchant_id
from .signatures import as_credentials_tuple

FoundCredentials: TypeAlias = Credentials | Iterable[Credentials] | None
CredentialsLookup: TypeAlias = Callable[[str], FoundCredentials | Awaitable[FoundCredentials]]
"""Returns the credentials of the merchant with this ID, several while a password is rotated, or ``None``."""

_ONE_LOOKUP_AND_ITS_PATH: Final = (
    f"path must name the merchant, as in '/postbacks/{MERCHANT_PLACEHOLDER}', if and only if the credentials"
    " come from a lookup"
)
_AWAITED_LOOKUP: Final = (
    "the lookup is async, and nothing awaits it here: use a plain function, or the endpoint for ASGI"
)


def as_credentials_source(
    credentials: Credentials | Iterable[Credentials] | CredentialsLookup, *, path: str | None
) -> tuple[tuple[Credentials, ...], CredentialsLookup | None]:
    """Return one merchant's credentials, or none and the lookup.

    Raises:
        ConfigurationError: no credentials, several merchants', a ``path`` without a slash in front, or one
            with a place for the merchant where there is no lookup, or without one where there is.

    """
    accepted, lookup = as_routed_source(credentials)
    if path and not path.startswith("/"):
        msg = "path must begin with a slash, as in '/postbacks'; every postback would be answered 404"
        raise ConfigurationError(msg)
    if (path or "").count(MERCHANT_PLACEHOLDER) != (lookup is not None):
        raise ConfigurationError(_ONE_LOOKUP_AND_ITS_PATH)
    return accepted, lookup


def as_routed_source(
    credentials: Credentials | Iterable[Credentials] | CredentialsLookup,
) -> tuple[tuple[Credentials, ...], CredentialsLookup | None]:
    """Do the same where a router says which path it is and passes the merchant.

    Raises:
        ConfigurationError: no credentials, or several merchants'.

    """
    if callable(credentials) and not isinstance(credentials, type):
        return (), credentials
    return as_credentials_tuple(cast("Credentials | Iterable[Credentials]", credentials)), None


def check_plain(lookup: CredentialsLookup | None) -> None:
    """Refuse a lookup that has to be awaited.

    Raises:
        ConfigurationError: it is ``async``.

    """
    if lookup is not None and is_async(lookup):
        raise ConfigurationError(_AWAITED_LOOKUP)


def check_routed_merchant(lookup: object, merchant_id: str | None) -> str | None:
    """Return the merchant that a router has found in the path, if it names one.

    Raises:
        ConfigurationError: there is a lookup, and the path names nobody; or the other way round.
        Refusal: no merchant can have this ID.

    """
    if (lookup is None) != (merchant_id is None):
        raise ConfigurationError(_ONE_LOOKUP_AND_ITS_PATH)
    return None if merchant_id is None else check_merchant_id(merchant_id)


def as_found(merchant_id: str, found: FoundCredentials) -> tuple[Credentials, ...]:
    """Turn the result of a lookup into credentials to verify with.

    For a merchant that is not known these are random, so that nothing matches them: whatever is sent, the
    answer is that of a known merchant to somebody else's signature.

    Raises:
        ConfigurationError: it is something else, or several merchants' credentials.

    """
    if found is None:
        return (Credentials(merchant_id, f"unknown-{secrets.token_hex(8)}", secrets.token_hex(32)),)
    return as_credentials_tuple(found)


def find_now(lookup: CredentialsLookup, merchant_id: str) -> FoundCredentials | Awaitable[FoundCredentials]:
    """Call a lookup, and read in the same thread what it returns, which may be a query; or an awaitable."""
    found = lookup(merchant_id)
    return found if inspect.isawaitable(found) else as_found(merchant_id, found)


def look_up(lookup: CredentialsLookup, merchant_id: str) -> tuple[Credentials, ...]:
    """Call a lookup that does not await.

    Raises:
        CredentialsUnavailableError: it raised, or returned something else than one merchant's credentials.

    """
    try:
        return as_found(merchant_id, _not_awaitable(lookup(merchant_id)))
    except Exception as error:
        raise CredentialsUnavailableError from error


def _not_awaitable(found: FoundCredentials | Awaitable[FoundCredentials]) -> FoundCredentials:
    if not inspect.isawaitable(found):
        return found
    if inspect.iscoroutine(found):
        found.close()  # or Python warns that nobody has awaited it
    raise ConfigurationError(_AWAITED_LOOKUP)
