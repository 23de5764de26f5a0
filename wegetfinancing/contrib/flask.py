"""A client and a view for postbacks in Flask. Needs ``wegetfinancing[flask]``."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

from flask import Response, current_app, got_request_exception, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from ..client.sync import Client
from ..credentials import Credentials
from ..errors import ConfigurationError
from ..postbacks.decisions import DecisionLedger, SyncDecisionHandler
from ..postbacks.deliveries import SyncDeliveryStore
from ..postbacks.handling import SyncPostbackHandler
from ..postbacks.receiving import BODY_LIMIT, TOO_LARGE, Refusal, ResponseStatuses
from ..postbacks.settings import PATIENCE_SECONDS
from ..postbacks.sources import CredentialsLookup
from ..postbacks.sync_endpoint import SyncEndpoint
from ..postbacks.wsgi import CUT_SHORT, headers_of, read_chunk

__all__ = ["financing_client", "postback_view"]

_EXTENSION: Final = "wegetfinancing"


def financing_client() -> Client:
    """Return the current app's ``Client``, which is made when it is first asked for.

    Its settings are the keywords of ``Client`` in ``app.config["WEGETFINANCING"]``, a dict; what is missing
    there comes from the environment, as with ``Client.from_env``. Each process opens its own connections with
    its first call, and closes them when it exits. A client that stands in
    ``app.extensions["wegetfinancing"]`` is used in its place, such as one of a test with a ``FakeTransport``.

    Raises:
        ConfigurationError: a setting is missing or invalid.

    """
    extensions = current_app.extensions
    if _EXTENSION not in extensions:
        made = Client.from_env(**current_app.config.get("WEGETFINANCING", {}))
        # Another thread may have been first; the client that is dropped has made no call and holds nothing.
        extensions.setdefault(_EXTENSION, made)
    return cast("Client", extensions[_EXTENSION])


def postback_view(  # noqa: PLR0913 - keyword-only settings
    credentials: Credentials | Iterable[Credentials] | CredentialsLookup,
    handler: SyncPostbackHandler | SyncDecisionHandler | None = None,
    *,
    ledger: DecisionLedger | None = None,
    repeat_handler: SyncPostbackHandler | None = None,
    store: SyncDeliveryStore | None = None,
    max_age: float | dt.timedelta | None = None,
    patience: float = PATIENCE_SECONDS,
    statuses: ResponseStatuses | None = None,
) -> Callable[..., Response]:
    """Make a view that receives postbacks, for ``POST`` only.

        app.add_url_rule("/postbacks", view_func=postback_view(credentials, handle))

    For several merchants, pass a lookup in place of the credentials and let the rule name the merchant::

        app.add_url_rule("/postbacks/<merchant_id>", view_func=postback_view(lookup, handle))

    It answers as ``wegetfinancing.postbacks.wsgi.PostbackApp`` does, whose parameters it has except ``path``.
    What the handler or the store raises is answered, and goes to the app's log and to
    ``got_request_exception``; neither error handlers nor a debugger see it. An app that protects its forms
    against CSRF has to exempt the view: its signature proves who sent a postback.

    Raises:
        ConfigurationError: as ``PostbackApp`` does; answered as a failure and logged where the URL rule names
            the merchant and there is no lookup, or the other way round.

    """
    endpoint = SyncEndpoint(
        credentials,
        handler,
        ledger=ledger,
        repeat_handler=repeat_handler,
        store=store,
        max_age=max_age,
        patience=patience,
        statuses=statuses,
        is_routed=True,
    )

    def receive_postback(merchant_id: str | None = None) -> Response:
        headers = headers_of(request.environ)
        answer, failure = endpoint.respond(request.method, request.path, headers, _body_chunks(), merchant_id)
        if failure is not None:
            app = current_app._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - documented for senders of signals
            app.log_exception((type(failure), failure, failure.__traceback__))
            got_request_exception.send(app, exception=failure)
        return Response(answer.body, answer.status, answer.headers)

    cast("Any", receive_postback).methods = ("POST",)  # read by add_url_rule
    return receive_postback


def _body_chunks() -> Iterator[bytes]:
    """Read the body, of which a hook of the app may have read all before."""
    is_read_before = True
    try:
        while chunk := read_chunk(request.stream, BODY_LIMIT + 1):
            is_read_before = False
            yield chunk
    except RequestEntityTooLarge:  # over the app's own limit
        raise Refusal(TOO_LARGE) from None
    except HTTPException:  # Werkzeug's, when the sender has gone
        raise Refusal(CUT_SHORT) from None
    if not is_read_before:
        return
    kept = request.get_data()
    if not kept and request.content_length:
        msg = "the raw body was read as a form before the postback could be verified; read request.get_data()"
        raise ConfigurationError(msg)
    yield kept
