"""An ASGI app that receives the vendor's postbacks. It needs no framework."""

import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any, Final, TypeAlias, cast

import anyio

from ..credentials import Credentials
from ..http import Headers
from .decisions import DecisionHandler, DecisionLedger
from .deliveries import DeliveryStore, MemoryDeliveryStore
from .events import Postback
from .handling import PostbackHandler, SingleHandling
from .lookups import AwaitedSource
from .receiving import (
    BODY_SECONDS,
    TOO_SLOW,
    Answer,
    BoundedBody,
    Refusal,
    ResponseStatuses,
    answer_after,
    check_request,
    is_for_the_log,
)
from .recording import refuse_beside_a_ledger
from .settings import PATIENCE_SECONDS, as_max_age, as_seconds, check_replays
from .sources import CredentialsLookup, as_credentials_source
from .worker import LedgerHandling

__all__ = ["PostbackApp"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Worker: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

_LOGGER: Final = logging.getLogger("wegetfinancing")


class PostbackApp:
    """Receives postbacks: verify, parse, claim, handle, answer.

    Route an exact path to it, in Starlette ``Route("/postbacks", PostbackApp(...))``, or set
    ``path`` and serve it alone. When the handler or the store raises, the answer is sent first and
    the exception then goes on to the server, which logs it.

    Args:
        credentials: one merchant's, several while a password is being rotated. For several merchants, a
            function that returns those of the merchant with the ID that it is passed, or ``None``, which is
            answered as a wrong signature. It may be ``async``; a plain one runs in a thread. If it raises,
            or takes longer than 5 seconds, the answer is 503, and the exception goes on to the server.
        handler: ``async def (postback) -> None``. When it returns, the decision is settled and the
            vendor is answered ``OK``; when it raises, the claim is released. It runs at least once.
            With a ledger that has no ``apply``: ``async def (decision) -> None``.
        ledger: stores each postback before it is answered, and has it handled until that succeeds, by its
            ``apply`` or by ``handler``. The app's lifespan runs a worker; where a framework does not pass
            the lifespan on, run ``wegetfinancing.ledger.run_worker``. It refuses ``store``,
            ``repeat_handler`` and ``max_age``.
        repeat_handler: the same for a postback whose ``key`` was handled before. Nothing tells a late
            repeat from a new decision of the same kind, such as a second rejection after an approval or
            a second refund of the same amount; ``LoanState`` says which ones need manual review.
            Without it a repeat is answered ``OK`` and logged, and nothing else happens.
        store: remembers what was handled; by default in this process alone, until it ends.
        max_age: seconds, or a ``timedelta``, that ``x-timestamp`` may lie in the past or the future;
            ``None`` for any. A store that forgets decisions requires it, see ``DeliveryStore``.
        patience: seconds to try again while the handler raises ``NotYet`` or another delivery of the
            decision is being handled.
        body_seconds: how long the body may take to arrive.
        statuses: the statuses to answer with where a redelivery would help.
        path: such as ``/postbacks``; answer 404 on any other; ``None`` where a router decides. With a lookup
            it names the merchant, as in ``/postbacks/{merchant_id}``, who must be the one who signed.

    Raises:
        ConfigurationError: no credentials, several merchants', a lookup without a ``path`` that names the
            merchant, a handler that is not ``async``, a setting out of range, a ledger with both an ``apply``
            and a handler or with neither, or a store that forgets a decision while a captured postback of it
            would still be accepted.

    """

    __slots__ = ("_body_seconds", "_handle", "_path", "_source", "_statuses")

    def __init__(  # noqa: PLR0913 - keyword-only settings
        self,
        credentials: Credentials | Iterable[Credentials] | CredentialsLookup,
        handler: PostbackHandler | DecisionHandler | None = None,
        *,
        ledger: DecisionLedger | None = None,
        repeat_handler: PostbackHandler | None = None,
        store: DeliveryStore | None = None,
        max_age: float | dt.timedelta | None = None,
        patience: float = PATIENCE_SECONDS,
        body_seconds: float = BODY_SECONDS,
        statuses: ResponseStatuses | None = None,
        path: str | None = None,
    ) -> None:
        """Check the settings."""
        accepted, lookup = as_credentials_source(credentials, path=path)
        max_seconds = as_max_age(max_age)
        self._source = AwaitedSource(accepted, lookup, max_seconds)
        patience = as_seconds("patience", patience, may_be_zero=True)
        self._handle: SingleHandling | LedgerHandling
        if ledger is not None:
            refuse_beside_a_ledger(store, repeat_handler, max_age)
            self._handle = LedgerHandling(ledger, cast("DecisionHandler | None", handler), patience)
        else:
            remembers = MemoryDeliveryStore() if store is None else store
            check_replays(remembers.keep_seconds, max_seconds)
            handler = cast("PostbackHandler", handler)
            self._handle = SingleHandling(handler, repeat_handler, remembers, patience)
        self._body_seconds = as_seconds("body_seconds", body_seconds)
        self._statuses = ResponseStatuses() if statuses is None else statuses
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of an ASGI server."""
        if scope["type"] == "lifespan":
            worker = self._handle.work if isinstance(self._handle, LedgerHandling) else None
            await _lifespan(receive, send, worker)
        elif scope["type"] == "http":
            serving = self._serve(scope, receive, send)
            del scope  # its headers hold the signature, and crash reporters show local variables
            await serving
        else:
            msg = f"PostbackApp serves HTTP, not {scope['type']}"
            raise RuntimeError(msg)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure: Exception | None = None
        try:
            receiving = self._receive(scope, receive)
            del scope  # as in __call__
            await self._handle(await receiving)
        except _DisconnectedError:
            return
        except Exception as error:  # noqa: BLE001 - answered, then raised again
            failure = error
        await _send_response(send, answer_after(failure, self._statuses))
        if failure is not None and is_for_the_log(failure):
            raise failure

    async def _receive(self, scope: Scope, receive: Receive) -> Postback:
        """Read the request to the end and make sure of it."""
        merchant_id = check_request(scope["method"], _path_below_mount(scope), only_path=self._path)
        headers = Headers(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        )
        del scope  # as in __call__
        body: BoundedBody | None = None
        with anyio.move_on_after(self._body_seconds):
            body = await _read_body(receive)
        if body is None:
            raise Refusal(TOO_SLOW)
        reading = self._source.read(bytes(body), headers, merchant_id)
        del body, headers  # as above
        return await reading


class _DisconnectedError(Exception):
    """The sender has gone before the end of the body, so there is nobody to answer."""


async def _read_body(receive: Receive) -> BoundedBody:
    body, more = BoundedBody(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        body.add(message.get("body", b""))
        more = message.get("more_body", False)
        del message  # it holds a part of the body
    return body


def _path_below_mount(scope: Scope) -> str:
    path: str = scope["path"]
    mount = (scope.get("root_path") or "").rstrip("/")
    return path.removeprefix(mount) if path.startswith(f"{mount}/") else path


async def _send_response(send: Send, answer: Answer) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _lifespan(
    receive: Receive, send: Send, worker: Callable[[], Coroutine[Any, Any, None]] | None
) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            await receive()
            if worker is not None:
                tasks.start_soon(worker)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup:  # never of cancellations alone
        # Servers serve on, and uvicorn takes it for an app without a lifespan.
        _LOGGER.exception("the ledger's worker has ended: what fails is not tried again")
        raise
    await send({"type": "lifespan.shutdown.complete"})
