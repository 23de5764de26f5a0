"""The endpoint for servers and frameworks that give each request a thread; an adapter reads and writes."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import cast

from .._tracebacks import clears_locals
from ..credentials import Credentials
from .decisions import DecisionLedger, SyncDecisionHandler
from .deliveries import SyncDeliveryStore, SyncMemoryDeliveryStore
from .events import Postback
from .handling import SyncPostbackHandler, SyncSingleHandling
from .receiving import (
    Answer,
    ResponseStatuses,
    answer_after,
    check_request,
    collect,
    is_for_the_log,
    read_postback,
)
from .recording import SyncLedgerHandling, refuse_beside_a_ledger
from .settings import as_max_age, as_seconds, check_replays
from .sources import (
    CredentialsLookup,
    as_credentials_source,
    as_routed_source,
    check_plain,
    check_routed_merchant,
    look_up,
)


class SyncEndpoint:
    """Makes an answer of a request, and has its decision handled in the caller's thread.

    Parameters and errors are those of ``wegetfinancing.postbacks.wsgi.PostbackApp``; ``is_routed`` where a
    router decides on the path and passes the merchant that it names.
    """

    __slots__ = ("_credentials", "_handle", "_is_routed", "_lookup", "_max_age", "_path", "_statuses")

    def __init__(  # noqa: PLR0913 - keyword-only settings
        self,
        credentials: Credentials | Iterable[Credentials] | CredentialsLookup,
        handler: SyncPostbackHandler | SyncDecisionHandler | None,
        *,
        ledger: DecisionLedger | None,
        repeat_handler: SyncPostbackHandler | None = None,
        store: SyncDeliveryStore | None = None,
        max_age: float | dt.timedelta | None = None,
        patience: float,
        statuses: ResponseStatuses | None,
        path: str | None = None,
        is_routed: bool = False,
    ) -> None:
        """Check the settings."""
        self._credentials, self._lookup = (
            as_routed_source(credentials) if is_routed else as_credentials_source(credentials, path=path)
        )
        check_plain(self._lookup)
        self._max_age = as_max_age(max_age)
        patience = as_seconds("patience", patience, may_be_zero=True)
        self._handle: SyncSingleHandling | SyncLedgerHandling
        if ledger is not None:
            refuse_beside_a_ledger(store, repeat_handler, max_age)
            self._handle = SyncLedgerHandling(ledger, cast("SyncDecisionHandler | None", handler), patience)
        else:
            remembers = SyncMemoryDeliveryStore() if store is None else store
            handler = cast("SyncPostbackHandler | None", handler)
            self._handle = SyncSingleHandling(handler, repeat_handler, remembers, patience)
            check_replays(remembers.keep_seconds, self._max_age)
        self._statuses = ResponseStatuses() if statuses is None else statuses
        self._path = path
        self._is_routed = is_routed

    def respond(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        chunks: Iterable[bytes],
        merchant_id: str | None = None,
    ) -> tuple[Answer, Exception | None]:
        """Return the answer, and what the log has to hear of once it has been sent.

        Args:
            method: of the request.
            path: below the mount.
            headers: all of them, or those that are signed.
            chunks: the body; it is not read before method and path are right, and not beyond the limit.
            merchant_id: whom the path names, where a router decides.

        """
        failure: Exception | None = None
        try:
            named = check_request(method, path, only_path=self._path)
            if self._is_routed:
                named = check_routed_merchant(self._lookup, merchant_id)
            self._handle(self._read(collect(chunks), headers, named))
        except Exception as error:  # noqa: BLE001 - answered, then handed to the log
            failure = error
        return answer_after(failure, self._statuses), failure if is_for_the_log(failure) else None

    @clears_locals  # a signed body
    def _read(self, body: bytes, headers: Mapping[str, str], merchant_id: str | None) -> Postback:
        credentials = self._credentials
        if self._lookup is not None and merchant_id is not None:
            credentials = look_up(self._lookup, merchant_id)
        return read_postback(body, headers, credentials, self._max_age, merchant_id)
