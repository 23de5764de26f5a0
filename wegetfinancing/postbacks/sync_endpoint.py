"""The endpoint for servers and frameworks that give each request a thread; an adapter reads and writes."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import cast

from ..credentials import Credentials
from .decisions import DecisionLedger, SyncDecisionHandler
from .deliveries import SyncDeliveryStore, SyncMemoryDeliveryStore
from .handling import SyncPostbackHandler, SyncSingleHandling
from .receiving import (
    Answer,
    ResponseStatuses,
    answer_after,
    check_request,
    collect,
    is_for_the_log,
)
from .recording import SyncLedgerHandling, refuse_beside_a_ledger
from .settings import as_max_age, as_seconds, check_replays
from .sources import (
    CredentialsLookup,
    Source,
    as_credentials_source,
    as_routed_source,
    check_routed_merchant,
)


class SyncEndpoint:
    """Makes an answer of a request, and has its decision handled in the caller's thread.

    Parameters and errors are those of ``wegetfinancing.postbacks.wsgi.PostbackApp``; ``is_routed`` where a
    router decides on the path and passes the merchant that it names.
    """

    __slots__ = ("_handle", "_is_routed", "_path", "_source", "_statuses")

    def __init__(  # noqa: PLR0913 - keyword-only settings
        self,
        credentials: Credentials | Iterable[Credentials] | CredentialsLookup,
        handler: SyncPostbackHandler | SyncDecisionHandler | None,
        *,
        ledger: DecisionLedger | None,
        repeat_handler: SyncPostbackHandler | None,
        store: SyncDeliveryStore | None,
        max_age: float | dt.timedelta | None,
        patience: float,
        statuses: ResponseStatuses | None,
        path: str | None = None,
        is_routed: bool = False,
    ) -> None:
        """Check the settings."""
        source = as_routed_source(credentials) if is_routed else as_credentials_source(credentials, path=path)
        max_seconds = as_max_age(max_age)
        self._source = Source(*source, max_seconds)
        patience = as_seconds("patience", patience, may_be_zero=True)
        self._handle: SyncSingleHandling | SyncLedgerHandling
        if ledger is not None:
            refuse_beside_a_ledger(store, repeat_handler, max_age)
            self._handle = SyncLedgerHandling(ledger, cast("SyncDecisionHandler | None", handler), patience)
        else:
            remembers = SyncMemoryDeliveryStore() if store is None else store
            handler = cast("SyncPostbackHandler | None", handler)
            self._handle = SyncSingleHandling(handler, repeat_handler, remembers, patience)
            check_replays(remembers.keep_seconds, max_seconds)
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
                named = check_routed_merchant(self._source.lookup, merchant_id)
            self._handle(self._source.read(collect(chunks), headers, named))
        except Exception as error:  # noqa: BLE001 - answered, then handed to the log
            failure = error
        return answer_after(failure, self._statuses), failure if is_for_the_log(failure) else None
