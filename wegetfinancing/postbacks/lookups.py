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
from .sources import CredentialsLookup, as_found, find_now

_PLACES: Final = 8
LOOKUP_SECONDS: Final = 5.0


class AwaitedSource:
    """Verifies with the credentials of one merchant, or with those that a lookup, sync or async, returns.

    A lookup has a few seconds, and sees nothing of a postback but the merchant that its path names.
    """

    __slots__ = ("_credentials", "_lookup", "_max_age", "_threads")

    def __init__(
        self, credentials: tuple[Credentials, ...], lookup: CredentialsLookup | None, max_age: float | None
    ) -> None:
        """Accept what ``as_credentials_source`` returns; no thread starts yet. ``max_age``: seconds."""
        self._credentials = credentials
        self._lookup = lookup
        self._max_age = max_age
        # The event loop's other threads may all be busy, and a database may block these.
        self._threads = Threads(_PLACES, "lookups")

    async def read(self, body: bytes, headers: Mapping[str, str], merchant_id: str | None) -> Postback:
        """Do what ``read_postback`` does, with the credentials of ``merchant_id`` where there is a lookup.

        Raises:
            Refusal: it is not authentic, or cannot be read.
            CredentialsUnavailableError: the lookup has not told whose credentials to verify with.

        """
        try:
            credentials = self._credentials
            if self._lookup is not None and merchant_id is not None:
                credentials = await self._look_up(self._lookup, merchant_id)
            return read_postback(body, headers, credentials, self._max_age, merchant_id)
        except CredentialsUnavailableError:
            del body, headers  # it goes on to the server, and crash reporters show local variables
            raise

    async def _look_up(self, lookup: CredentialsLookup, merchant_id: str) -> tuple[Credentials, ...]:
        find = partial(find_now, lookup, merchant_id)
        try:
            with anyio.fail_after(LOOKUP_SECONDS):
                # Else a database that comes back would first be asked what nobody waits for any more.
                found = find() if is_async(lookup) else await self._threads.run_unless_late(find)
                return as_found(merchant_id, await found if inspect.isawaitable(found) else found)
        except Exception as error:
            raise CredentialsUnavailableError from error
