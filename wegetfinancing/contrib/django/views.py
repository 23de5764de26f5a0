"""Views that receive the vendor's postbacks, under WSGI and ASGI."""

import functools
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, TypeAlias, TypeVar, cast

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse

from ..._checks import is_async
from ...credentials import Credentials
from ...http import Headers
from ...postbacks.decisions import DecisionHandler, DecisionLedger, SyncDecisionHandler
from ...postbacks.lookups import AwaitedSource
from ...postbacks.receiving import (
    BODY_LIMIT,
    TOO_SLOW,
    Answer,
    Refusal,
    ResponseStatuses,
    answer_after,
    check_request,
    collect,
    is_for_the_log,
)
from ...postbacks.settings import PATIENCE_SECONDS, as_seconds
from ...postbacks.sources import (
    CredentialsLookup,
    as_routed_source,
    check_plain,
    check_routed_merchant,
    find_now,
)
from ...postbacks.sync_endpoint import SyncEndpoint
from ...postbacks.worker import LedgerHandling
from ...postbacks.wsgi import CUT_SHORT, body_chunks, is_encoded
from .conf import get_credentials, get_handler, get_ledger
from .threads import in_any_thread

_View = TypeVar("_View", bound=Callable[..., Any])
AsyncView: TypeAlias = Callable[..., Coroutine[Any, Any, HttpResponse]]
View: TypeAlias = Callable[..., HttpResponse]

_LOGGER: Final = logging.getLogger("wegetfinancing")


def postback_view(
    handler: SyncDecisionHandler | None = None,
    *,
    ledger: DecisionLedger | None = None,
    credentials: Credentials | Iterable[Credentials] | CredentialsLookup | None = None,
    patience: float = PATIENCE_SECONDS,
    statuses: ResponseStatuses | None = None,
) -> View:
    """Make a view that receives postbacks.

    Each postback is stored before it is answered, and handled in the request's thread; what fails is tried
    again by ``manage.py wegetfinancing_worker``. The view is exempt from CSRF, ``LoginRequiredMiddleware``
    and ``ATOMIC_REQUESTS``.

    Args:
        handler: a plain ``def (decision)`` where the ledger has no ``apply``. It runs at least once. By
            default the ``"HANDLER"`` of the settings, which the worker calls too.
        ledger: by default the one of ``settings.WEGETFINANCING``.
        credentials: one merchant's, several while a password is being rotated; by default those of the
            settings. For several merchants, a plain function that returns those of the merchant with the ID
            that it is passed, or ``None``, which is answered as a wrong signature; the path then names the
            merchant, as in ``path("postbacks/<str:merchant_id>", ...)``, who must be the one who signed. What
            it raises is logged, and answered with 503.
        patience: seconds to try again while the database fails.
        statuses: the statuses to answer with where a redelivery would help.

    Raises:
        ConfigurationError: ``patience`` is out of range, no credentials, several merchants', or a lookup that
            is ``async``; at the first request, a setting is missing, there is not exactly one of the ledger's
            ``apply`` and ``handler``, or the path names a merchant and there is no lookup, or the other way
            round.

    """
    seconds = as_seconds("patience", patience, may_be_zero=True)
    own = ResponseStatuses() if statuses is None else statuses
    accepted, lookup = _given(credentials)
    check_plain(lookup)

    @functools.lru_cache(maxsize=1)
    def endpoint_with(found: Any, handles: Any, trusted: tuple[Credentials, ...]) -> SyncEndpoint:  # noqa: ANN401 - by their identity
        return SyncEndpoint(
            trusted if lookup is None else lookup,
            handles if handler is None else handler,
            ledger=found,
            patience=seconds,
            statuses=own,
            is_routed=True,
        )

    def view(request: HttpRequest, merchant_id: str | None = None) -> HttpResponse:
        try:
            endpoint = endpoint_with(*_of_settings(ledger), _trusted(accepted, lookup))
        except Exception as error:  # noqa: BLE001 - answered and logged
            return _response(answer_after(error, own), error)
        headers = Headers(request.headers.items())
        return _response(
            *endpoint.respond(str(request.method), request.path, headers, _body_chunks(request), merchant_id)
        )

    return _exempt(view)


def async_postback_view(
    handler: DecisionHandler | SyncDecisionHandler | None = None,
    *,
    ledger: DecisionLedger | None = None,
    credentials: Credentials | Iterable[Credentials] | CredentialsLookup | None = None,
    patience: float = PATIENCE_SECONDS,
    statuses: ResponseStatuses | None = None,
) -> AsyncView:
    """Make the same as an async view, for ASGI. The ledger runs in threads of its own.

    Args:
        handler: ``async def (decision)`` or ``def (decision)`` where the ledger has no ``apply``. It runs at
            least once. One that is ``async`` is cut off after half a lease, and a plain one runs in a thread.
        ledger: by default the one of ``settings.WEGETFINANCING``.
        credentials: as of ``postback_view``; a lookup may be ``async``, and has 5 seconds. A plain one runs
            in a thread, whose connections are closed afterwards.
        patience: seconds to try again while the database fails.
        statuses: the statuses to answer with where a redelivery would help.

    Raises:
        ConfigurationError: as ``postback_view`` does.

    """
    seconds = as_seconds("patience", patience, may_be_zero=True)
    own = ResponseStatuses() if statuses is None else statuses
    accepted, lookup = _given(credentials)
    awaited = lookup
    if lookup is not None and not is_async(lookup):
        awaited = in_any_thread(functools.partial(find_now, lookup))

    @functools.lru_cache(maxsize=1)
    def handling_with(found: Any, handles: Any) -> LedgerHandling:  # noqa: ANN401 - by their identity
        handles = handles if handler is None else handler
        return LedgerHandling(found, in_any_thread(handles), seconds, may_be_plain=True)

    @functools.lru_cache(maxsize=1)
    def source_with(trusted: tuple[Credentials, ...]) -> AwaitedSource:
        return AwaitedSource(trusted, awaited, None)

    async def view(request: HttpRequest, merchant_id: str | None = None) -> HttpResponse:
        failure: Exception | None = None
        try:
            handle = handling_with(*_of_settings(ledger))
            source = source_with(_trusted(accepted, lookup))
            check_request(str(request.method), request.path, only_path=None)
            named = check_routed_merchant(lookup, merchant_id)
            await handle(
                await source.read(collect(_body_chunks(request)), Headers(request.headers.items()), named)
            )
        except Exception as error:  # noqa: BLE001 - answered and logged
            failure = error
        return _response(answer_after(failure, own), failure)

    return _exempt(view)


def _given(
    credentials: Credentials | Iterable[Credentials] | CredentialsLookup | None,
) -> tuple[tuple[Credentials, ...], CredentialsLookup | None]:
    return ((), None) if credentials is None else as_routed_source(credentials)


def _trusted(accepted: tuple[Credentials, ...], lookup: object) -> tuple[Credentials, ...]:
    return accepted if accepted or lookup is not None else (get_credentials(),)


def _of_settings(ledger: DecisionLedger | None) -> tuple[Any, Any]:
    """Return the ledger and, with that of the settings, their handler."""
    return (get_ledger(), get_handler()) if ledger is None else (ledger, None)


def _exempt(view: _View) -> _View:
    """Mark a view: Django's own decorator for CSRF makes a plain function of an async one before 5.0."""
    marked = cast("Any", view)
    marked.csrf_exempt = True  # what Django's middleware looks for
    marked.login_required = False  # what LoginRequiredMiddleware looks for, since 5.1
    for alias in connections:
        view = transaction.non_atomic_requests(alias)(view)
    return view


def _body_chunks(request: HttpRequest) -> Iterator[bytes]:
    environ = getattr(request, "environ", None)
    if environ is not None and is_encoded(environ) and not environ.get("CONTENT_LENGTH"):
        # Over WSGI Django reads as much as CONTENT_LENGTH says, which is nothing.
        return body_chunks(environ)
    return _chunks_that_django_reads(request)


def _chunks_that_django_reads(request: HttpRequest) -> Iterator[bytes]:
    try:
        while chunk := request.read(BODY_LIMIT + 1):
            yield chunk
    except OSError as error:  # Django's UnreadablePostError is one
        answer = TOO_SLOW if isinstance(error.__cause__ or error, TimeoutError) else CUT_SHORT
    else:
        return
    raise Refusal(answer)


def _response(answer: Answer, failure: Exception | None) -> HttpResponse:
    if is_for_the_log(failure):
        _LOGGER.error("a postback could not be handled", exc_info=failure)
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)
