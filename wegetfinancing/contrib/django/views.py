"""Views that receive the vendor's postbacks, under WSGI and ASGI."""

import functools
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeAlias, TypeVar

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse

from ..._tracebacks import clears_locals
from ...credentials import Credentials
from ...http import Headers
from ...postbacks.decisions import DecisionHandler, DecisionLedger
from ...postbacks.events import Postback
from ...postbacks.receiving import (
    BODY_LIMIT,
    MALFORMED,
    TOO_SLOW,
    Answer,
    BoundedBody,
    Refusal,
    ResponseStatuses,
    answer_after,
    check_request,
    is_for_the_log,
    read_postback,
)
from ...postbacks.settings import as_seconds
from ...postbacks.signatures import as_credentials_tuple
from ...postbacks.worker import LedgerHandling
from .conf import get_credentials, get_ledger
from .handling import SyncDecisionHandler, SyncLedgerHandling

__all__ = ["async_postback_view", "postback_view"]

_View = TypeVar("_View", bound=Callable[..., Any])
AsyncView: TypeAlias = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]]
View: TypeAlias = Callable[[HttpRequest], HttpResponse]

PATIENCE_SECONDS: Final = 5.0
_CUT_SHORT: Final = Answer(MALFORMED, "the body ended early")
_LOGGER: Final = logging.getLogger("wegetfinancing")


def postback_view(
    handler: SyncDecisionHandler | None = None,
    *,
    ledger: DecisionLedger | None = None,
    credentials: Credentials | Iterable[Credentials] | None = None,
    patience: float = PATIENCE_SECONDS,
    statuses: ResponseStatuses | None = None,
) -> View:
    """Make a view that receives postbacks.

    Each postback is stored before it is answered, and handled in the request's thread; what fails is tried
    again by ``manage.py wegetfinancing_worker``. The view is exempt from CSRF and from ``ATOMIC_REQUESTS``.

    Args:
        handler: a plain ``def (decision)`` where the ledger has no ``apply``. It runs at least once.
        ledger: by default the one of ``settings.WEGETFINANCING``.
        credentials: one, or several while a password is being rotated; by default those of the settings.
        patience: seconds to try again while the database fails.
        statuses: the statuses to answer with where a redelivery would help.

    Raises:
        ConfigurationError: ``patience`` is out of range; at the first request, a setting is missing, or
            there is not exactly one of the ledger's ``apply`` and ``handler``.

    """
    seconds = as_seconds("patience", patience, may_be_zero=True)
    own = ResponseStatuses() if statuses is None else statuses
    trusted = _credentials(credentials)

    @functools.lru_cache(maxsize=1)
    def handling(found: Any) -> SyncLedgerHandling:  # noqa: ANN401 - a ledger, by its identity
        return SyncLedgerHandling(found, handler, seconds)

    def view(request: HttpRequest) -> HttpResponse:
        failure: Exception | None = None
        try:
            handle = handling(_of_settings(ledger))
            handle(_read(request, trusted()))
        except Exception as error:  # noqa: BLE001 - answered and logged
            failure = error
        return _response(failure, own)

    return _exempt(view)


def async_postback_view(
    handler: DecisionHandler | None = None,
    *,
    ledger: DecisionLedger | None = None,
    credentials: Credentials | Iterable[Credentials] | None = None,
    patience: float = PATIENCE_SECONDS,
    statuses: ResponseStatuses | None = None,
) -> AsyncView:
    """Make the same as an async view, for ASGI. The ledger runs in threads of its own.

    Args:
        handler: ``async def (decision)`` where the ledger has no ``apply``. It runs at least once, and is
            cut off after half a lease.
        ledger: by default the one of ``settings.WEGETFINANCING``.
        credentials: one, or several while a password is being rotated; by default those of the settings.
        patience: seconds to try again while the database fails.
        statuses: the statuses to answer with where a redelivery would help.

    Raises:
        ConfigurationError: as ``postback_view`` does.

    """
    seconds = as_seconds("patience", patience, may_be_zero=True)
    own = ResponseStatuses() if statuses is None else statuses
    trusted = _credentials(credentials)

    @functools.lru_cache(maxsize=1)
    def handling(found: Any) -> LedgerHandling:  # noqa: ANN401 - a ledger, by its identity
        return LedgerHandling(found, handler, seconds)

    async def view(request: HttpRequest) -> HttpResponse:
        failure: Exception | None = None
        try:
            handle = handling(_of_settings(ledger))
            await handle(_read(request, trusted()))
        except Exception as error:  # noqa: BLE001 - answered and logged
            failure = error
        return _response(failure, own)

    return _exempt(view)


def _of_settings(ledger: DecisionLedger | None) -> Any:  # noqa: ANN401 - hashable, which a protocol does not say
    return get_ledger() if ledger is None else ledger


def _credentials(
    credentials: Credentials | Iterable[Credentials] | None,
) -> Callable[[], tuple[Credentials, ...]]:
    if credentials is None:
        return lambda: (get_credentials(),)
    checked = as_credentials_tuple(credentials)
    return lambda: checked


def _exempt(view: _View) -> _View:
    """Mark a view: Django's own decorator for CSRF makes a plain function of an async one before 5.0."""
    view.csrf_exempt = True  # type: ignore[attr-defined] # what Django's middleware looks for
    for alias in connections:
        view = transaction.non_atomic_requests(alias)(view)
    return view


def _read(request: HttpRequest, credentials: tuple[Credentials, ...]) -> Postback:
    check_request(str(request.method), request.path, only_path=None)
    return read_postback(_body(request), Headers(request.headers.items()), credentials, None)


@clears_locals
def _body(request: HttpRequest) -> bytes:
    body = BoundedBody()
    try:
        while chunk := request.read(BODY_LIMIT + 1):
            body.add(chunk)
    except OSError as error:  # Django's UnreadablePostError is one
        answer = TOO_SLOW if isinstance(error.__cause__ or error, TimeoutError) else _CUT_SHORT
    else:
        return bytes(body)
    raise Refusal(answer)


def _response(failure: Exception | None, statuses: ResponseStatuses) -> HttpResponse:
    if is_for_the_log(failure):
        _LOGGER.error("a postback could not be handled", exc_info=failure)
    answer = answer_after(failure, statuses)
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)
