"""An ASGI app that receives the vendor's postbacks. It needs no framework."""

import contextlib
import secrets
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    MutableMapping,
)
from typing import Any, Final, TypeAlias

import anyio
import attrs

from .._rules import is_async
from ..credentials import Credentials
from ..errors import ConfigurationError, MalformedPostbackError, SignatureError
from ..http import Headers
from .deliveries import Claim, DeliveryStore, MemoryDeliveryStore
from .dialects import parse_postback
from .events import Postback
from .signatures import check_accepted, check_max_age

__all__ = ["BODY_LIMIT", "BODY_SECONDS", "Answers", "NotYet", "PostbackApp", "PostbackHandler"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
PostbackHandler: TypeAlias = Callable[[Postback], Awaitable[object]]
"""What a shop does with a postback. It returns when the decision is safely recorded."""

BODY_LIMIT: Final = 64 * 1024
"""Bytes; real postbacks have a few hundred."""

BODY_SECONDS: Final = 10.0
"""How long a body may take to arrive."""

_WITHOUT_BODY: Final = frozenset({204, 205, 304})
_STORE_SECONDS: Final = 5.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class NotYet(Exception):  # noqa: N818 - it reports no error
    """Raise it in a handler while the order is not there yet.

    A postback can come before ``create_request`` has returned. The handler is tried again for
    ``patience`` seconds within the same request; then the answer is ``Answers.not_yet``.
    """


@attrs.frozen(kw_only=True)
class Answers:
    """The HTTP statuses to answer with.

    The vendor's own plugins answer 200 with the text ``OK``. What the vendor does on anything else,
    whether it delivers again for example, nobody outside can see; so each status can be chosen.

    Attributes:
        handled: the decision was handled, now or by an earlier delivery.
        malformed: the postback is authentic and cannot be read.
        bad_signature: missing, malformed, wrong or too old.
        wrong_method: not a POST.
        too_slow: the body did not arrive in time.
        too_large: the body is over 64 KiB.
        failed: the handler or the store raised.
        not_yet: the handler said ``NotYet``, or another delivery was still at it.

    """

    handled: int = 200
    malformed: int = 400
    bad_signature: int = 401
    wrong_method: int = 405
    too_slow: int = 408
    too_large: int = 413
    failed: int = 500
    not_yet: int = 503


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """Ends the receiving of a postback with this answer."""

    def __init__(self, status: int, text: str) -> None:
        """Take the HTTP status and the text to answer with."""
        super().__init__(text)
        self.status = status


async def read_bounded(chunks: AsyncIterable[bytes], answers: Answers) -> bytes:
    """Read a body up to ``BODY_LIMIT``.

    Raises:
        Refusal: it is larger.

    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > BODY_LIMIT:
            raise Refusal(answers.too_large, "the body is over 64 KiB")
    return bytes(body)


def read_postback(
    body: bytes,
    headers: Mapping[str, str],
    credentials: tuple[Credentials, ...],
    max_age: float | None,
    answers: Answers,
) -> Postback:
    """Verify and parse.

    Raises:
        Refusal: it is not authentic, or cannot be read.

    """
    try:
        return parse_postback(body, headers, credentials, max_age=max_age)
    except SignatureError as error:
        raise Refusal(answers.bad_signature, str(error)) from None
    except MalformedPostbackError as error:
        raise Refusal(answers.malformed, str(error)) from None


class PostbackApp:
    """Receives postbacks: verify, parse, claim, handle, answer.

    Mount it under an exact path, in Starlette ``Route("/postbacks", PostbackApp(...))``, or give
    ``path`` and serve it alone. When the handler or the store raises, the answer is sent first and
    the exception then goes on to the server, which logs it.

    Args:
        credentials: one, or several while a password is being rotated.
        handler: ``async def (postback) -> None``. When it returns, the decision is settled and the
            vendor is answered ``OK``; when it raises, the claim is released. It runs at least once.
        repeat_handler: likewise, for a postback whose ``key`` was handled before. Nothing tells a late
            repeat from a new decision of the same kind, such as a second rejection after an approval or
            a second refund of the same amount; ``LoanState`` says which ones a person should look at.
            Without it a repeat is answered ``OK`` and nothing else happens.
        store: who remembers what was handled; this process alone unless told otherwise.
        max_age: seconds that ``x-timestamp`` may lie in the past or the future; ``None`` for any.
        patience: seconds to try again while the handler says ``NotYet`` or another delivery is at it.
        body_seconds: how long the body may take to arrive.
        answers: the statuses to answer with.
        path: answer 404 on any other; ``None`` where a router decides.

    Raises:
        ConfigurationError: no credentials, or a ``max_age`` that is no number of seconds.

    """

    __slots__ = (
        "_answers",
        "_body_seconds",
        "_credentials",
        "_handler",
        "_max_age",
        "_path",
        "_patience",
        "_repeat_handler",
        "_store",
    )

    def __init__(  # noqa: PLR0913 - keyword-only settings
        self,
        credentials: Credentials | Iterable[Credentials],
        handler: PostbackHandler,
        *,
        repeat_handler: PostbackHandler | None = None,
        store: DeliveryStore | None = None,
        max_age: float | None = None,
        patience: float = 5.0,
        body_seconds: float = BODY_SECONDS,
        answers: Answers | None = None,
        path: str | None = None,
    ) -> None:
        """Check the settings."""
        if not is_async(handler) or not (repeat_handler is None or is_async(repeat_handler)):
            msg = "handler and repeat_handler must be 'async def (postback)'"
            raise ConfigurationError(msg)
        self._credentials = check_accepted(credentials)
        self._handler = handler
        self._repeat_handler = repeat_handler
        self._store: DeliveryStore = MemoryDeliveryStore() if store is None else store
        self._max_age = None if max_age is None else check_max_age(max_age)
        self._patience = patience
        self._body_seconds = body_seconds
        self._answers = Answers() if answers is None else answers
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection as ASGI wants it."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            msg = f"PostbackApp serves HTTP, not {scope['type']}"
            raise RuntimeError(msg)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, text = self._answers.handled, "OK"
        raised: Exception | None = None
        try:
            await self._handle_once(await self._receive(scope, receive))
        except _DisconnectedError:
            return
        except Refusal as refusal:
            status, text = refusal.status, str(refusal)
        except _SettlingError as error:
            raised = error
        except Exception as error:  # noqa: BLE001 - answered, then raised again
            status, text, raised = self._answers.failed, "failed", error
        await _answer(send, status, text)
        if raised is not None:
            raise raised

    async def _receive(self, scope: Scope, receive: Receive) -> Postback:
        """Read the request to the end and make sure of it."""
        headers = Headers(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        )
        if self._path is not None and _path_below_mount(scope) != self._path:
            raise Refusal(404, "not found")
        if scope["method"] != "POST":
            raise Refusal(self._answers.wrong_method, "only POST")
        body: bytes | None = None
        with anyio.move_on_after(self._body_seconds):
            async with contextlib.aclosing(_chunks(receive)) as chunks:
                body = await read_bounded(chunks, self._answers)
        if body is None:
            raise Refusal(self._answers.too_slow, "the body did not arrive in time")
        return read_postback(body, headers, self._credentials, self._max_age, self._answers)

    async def _handle_once(self, postback: Postback) -> None:
        """Claim, handle and settle; again while the shop is not ready and patience lasts."""
        give_up = anyio.current_time() + self._patience
        pause = _FIRST_PAUSE
        while not await self._try_to_handle(postback):
            if anyio.current_time() + pause > give_up:
                raise Refusal(self._answers.not_yet, "not yet")
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _try_to_handle(self, postback: Postback) -> bool:
        key, owner = postback.key, secrets.token_hex(8)
        try:
            with anyio.fail_after(_STORE_SECONDS):
                claim = await self._store.claim(key, owner)
            if claim is Claim.SETTLED and self._repeat_handler is not None:
                await self._repeat_handler(postback)
            if claim is not Claim.GRANTED:
                return claim is Claim.SETTLED
            await self._handler(postback)
        except BaseException as error:
            # Even when cancelled, and even where the claim may not have been granted. If it fails, the
            # claim expires by itself, and what went wrong first is what counts.
            with contextlib.suppress(Exception), anyio.move_on_after(_STORE_SECONDS, shield=True):
                await self._store.release(key, owner)
            if isinstance(error, NotYet):
                return False
            raise
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(_STORE_SECONDS):
                await self._store.settle(key, owner)
        except Exception as error:
            msg = "the decision was handled, and the store could not note it"
            raise _SettlingError(msg) from error
        return True


class _SettlingError(Exception):
    """The handler has returned, so the answer is OK all the same."""


class _DisconnectedError(Exception):
    """The sender has gone before the end of the body, so there is nobody to answer."""


async def _chunks(receive: Receive) -> AsyncGenerator[bytes, None]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _path_below_mount(scope: Scope) -> str:
    path: str = scope["path"]
    mount = (scope.get("root_path") or "").rstrip("/")
    return path.removeprefix(mount) if path.startswith(f"{mount}/") else path


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode("ascii", "replace")
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status in _WITHOUT_BODY:
        body, headers = b"", []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})
