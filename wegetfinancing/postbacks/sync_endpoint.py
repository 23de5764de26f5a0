"""The endpoint for servers and frameworks that give each request a thread; an adapter reads and writes."""

import datetime as dt
from collections.abc import Iterable, Mapping

from ..credentials import Credentials
from .decisions import DecisionLedger
from .deliveries import SyncDeliveryStore, SyncMemoryDeliveryStore
from .events import Postback
from .handling import SyncPostbackHandler, SyncSingleHandling
from .receiving import (
    Answer,
    BoundedBody,
    ResponseStatuses,
    answer_after,
    check_request,
    is_for_the_log,
    read_postback,
)
from .recording import SyncLedgerHandling, refuse_beside_a_ledger
from .settings import as_max_age, as_seconds, check_replays
from .signatures import as_credentials_tuple
from .tracebacks import clears_locals


class SyncEndpoint:
    """Makes an answer of a request, and has its decision handled in the caller's thread.

    Parameters and errors are those of ``wegetfinancing.postbacks.wsgi.PostbackApp``.
    """

    __slots__ = ("_credentials", "_handle", "_max_age", "_path", "_statuses")

    def __init__(  # noqa: PLR0913 - keyword-only settings
        self,
        credentials: Credentials | Iterable[Credentials],
        handler: SyncPostbackHandler | None,
        *,
        ledger: DecisionLedger | None,
        repeat_handler: SyncPostbackHandler | None,
        store: SyncDeliveryStore | None,
        max_age: float | dt.timedelta | None,
        patience: float,
        statuses: ResponseStatuses | None,
        path: str | None,
    ) -> None:
        """Check the settings."""
        self._credentials = as_credentials_tuple(credentials)
        self._max_age = as_max_age(max_age)
        patience = as_seconds("patience", patience, may_be_zero=True)
        self._handle: SyncSingleHandling | SyncLedgerHandling
        if ledger is not None:
            refuse_beside_a_ledger(store, repeat_handler, max_age)
            self._handle = SyncLedgerHandling(ledger, handler, patience)
        else:
            remembers = SyncMemoryDeliveryStore() if store is None else store
            self._handle = SyncSingleHandling(handler, repeat_handler, remembers, patience)
            check_replays(remembers.keep_seconds, self._max_age)
        self._statuses = ResponseStatuses() if statuses is None else statuses
        self._path = path

    def respond(
        self, method: str, path: str, headers: Mapping[str, str], chunks: Iterable[bytes]
    ) -> tuple[Answer, Exception | None]:
        """Return the answer, and what the log has to hear of once it has been sent.

        Args:
            method: of the request.
            path: below the mount.
            headers: all of them, or those that are signed.
            chunks: the body; it is not read before method and path are right, and not beyond the limit.

        """
        failure: Exception | None = None
        try:
            check_request(method, path, only_path=self._path)
            self._handle(self._read(headers, chunks))
        except Exception as error:  # noqa: BLE001 - answered, then handed to the log
            failure = error
        return answer_after(failure, self._statuses), failure if is_for_the_log(failure) else None

    def _read(self, headers: Mapping[str, str], chunks: Iterable[bytes]) -> Postback:
        return read_postback(_collect(chunks), headers, self._credentials, self._max_age)


@clears_locals
def _collect(chunks: Iterable[bytes]) -> bytes:
    body = BoundedBody()
    for chunk in chunks:
        body.add(chunk)
    return bytes(body)
