"""A lookup of credentials, awaited: plain functions run in threads of their own."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Final

import anyio

from .._checks import is_async
from .._threads import Threads
from ..credentials import Credentials
from .events import Postback
from .receiving import CredentialsUnavailableError, read_postback
from .sources import CredentialsLookup, FoundCredentials, as_found, find_now

_PLACES: Final = 8
LOOKUP_SECONDS: Final = 5.0


class AwaitedLookup:
    """Awaits a lookup, sync or async, for a few seconds. It sees nothing of a postback but its path."""

    __slots__ = ("_is_async", "_lookup", "_threads")

    def __init__(self, lookup: CredentialsLookup) -> None:
        """Start no thread yet."""
        self._lookup = lookup
        self._is_async = is_async(lookup)
        # The event loop's other threads may all be busy, and a database may block these.
        self._threads = Threads(_PLACES, "lookups")

    async def __call__(self, merchant_id: str) -> tuple[Credentials, ...]:
        """Return the credentials to verify with.

        Raises:
            CredentialsUnavailableError: the lookup raised, did not end within 5 seconds, or returned
                something else than one merchant's credentials.

        """
        try:
            with anyio.fail_after(LOOKUP_SECONDS):
                return as_found(merchant_id, await self._find(merchant_id))
        except Exception as error:
            raise CredentialsUnavailableError from error

    async def _find(self, merchant_id: str) -> FoundCredentials:
        call = partial(find_now, self._lookup, merchant_id)
        found = call() if self._is_async else await self._threads.run(call)
        return await found if inspect.isawaitable(found) else found


class AwaitedSource:
    """The same as ``Source``, for a lookup of either kind."""

    __slots__ = ("_credentials", "_lookup", "_max_age")

    def __init__(
        self, credentials: tuple[Credentials, ...], lookup: CredentialsLookup | None, max_age: float | None
    ) -> None:
        """Accept what ``as_credentials_source`` returns. ``max_age``: seconds."""
        self._credentials = credentials
        self._lookup = None if lookup is None else AwaitedLookup(lookup)
        self._max_age = max_age

    async def read(self, body: bytes, headers: Mapping[str, str], merchant_id: str | None) -> Postback:
        """Do what ``read_postback`` does, with the credentials of ``merchant_id`` where there is a lookup.

        Raises:
            Refusal: it is not authentic, or cannot be read.
            CredentialsUnavailableError: the lookup has not told whose credentials to verify with.

        """
        try:
            credentials = self._credentials
            if self._lookup is not None and merchant_id is not None:
                credentials = await self._lookup(merchant_id)
            return read_postback(body, headers, credentials, self._max_age, merchant_id)
        except CredentialsUnavailableError:
            del body, headers  # it goes on to the server, and crash reporters show local variables
            raise
