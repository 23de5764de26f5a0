"""A WSGI app that receives the vendor's postbacks, for shops that do not await. It needs no framework."""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias

from ..credentials import Credentials
from ..http import Headers
from .decisions import DecisionLedger, SyncDecisionHandler
from .deliveries import SyncDeliveryStore
from .handling import SyncPostbackHandler
from .receiving import BODY_LIMIT, MALFORMED, TOO_LARGE, TOO_SLOW, Answer, Refusal, ResponseStatuses
from .settings import PATIENCE_SECONDS
from .sources import CredentialsLookup
from .sync_endpoint import SyncEndpoint

__all__ = ["PostbackApp", "SyncPostbackHandler"]

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[[str, list[tuple[str, str]]], object]

_LENGTH: Final = re.compile(r"[0-9]{1,18}")
CUT_SHORT: Final = Answer(MALFORMED, "the body ended early")
_BAD_LENGTH: Final = Answer(MALFORMED, "the content length is malformed")
_NO_LENGTH: Final = Answer(411, "this server needs a Content-Length")


class PostbackApp:
    """Receives postbacks: verify, parse, claim, handle, answer. All of it in the request's own thread.

    Route an exact path to it, or set ``path`` and serve it alone. Limits and answers are those of
    ``wegetfinancing.postbacks.PostbackApp``. When the handler or the store raises, the answer is sent first
    and the exception then goes on to the server, which logs it.

    How long a body may take to arrive is up to the server: nothing here can interrupt its reading.

    Args:
        credentials: one merchant's, several while a password is being rotated. For several merchants, a
            plain function that returns those of the merchant with the ID that it is passed, or ``None``,
            which is answered as a wrong signature. It runs in the request's thread, and nothing here can
            interrupt it: let its database have a timeout. If it raises, the answer is 503, and the
            exception goes on to the server.
        handler: a plain ``def (postback) -> None``. When it returns, the decision is settled and the
            vendor is answered ``OK``; when it raises, the claim is released. It runs at least once, and
            in several threads at once for different decisions. With a ledger that has no ``apply``:
            ``def (decision) -> None``.
        ledger: stores each postback before it is answered, and has it handled in the request's thread, by its
            ``apply`` or by ``handler``. What failed is tried again by ``wegetfinancing.ledger.run_worker``,
            which needs a process of its own: while none is alive, a failure is answered with
            ``statuses.failed``. It refuses ``store``, ``repeat_handler`` and ``max_age``.
        repeat_handler: the same for a postback whose ``key`` was handled before. Without it a repeat is
            answered ``OK`` and logged, and nothing else happens.
            See ``wegetfinancing.postbacks.PostbackApp``.
        store: remembers what was handled; by default in this process alone, until it ends.
        max_age: seconds, or a ``timedelta``, that ``x-timestamp`` may lie in the past or the future;
            ``None`` for any. A store that forgets decisions requires it, see ``DeliveryStore``.
        patience: seconds to try again while the handler raises ``NotYet`` or another delivery of the
            decision is being handled. The request occupies its thread meanwhile.
        statuses: the statuses to answer with where a redelivery would help.
        path: such as ``/postbacks``; answer 404 on any other; ``None`` where a router decides. With a lookup
            it names the merchant, as in ``/postbacks/{merchant_id}``, who must be the one who signed.

    Raises:
        ConfigurationError: no credentials, several merchants', a lookup without a ``path`` that names the
            merchant, a lookup, a handler or a store that is ``async``, a setting out of range, a ledger
            with both an ``apply`` and a handler or with neither, or a store that forgets a decision while a
            captured postback of it would still be accepted.

    """

    __slots__ = ("_endpoint",)

    def __init__(  # noqa: PLR0913 - keyword-only settings
        self,
        credentials: Credentials | Iterable[Credentials] | CredentialsLookup,
        handler: SyncPostbackHandler | SyncDecisionHandler | None = None,
        *,
        ledger: DecisionLedger | None = None,
        repeat_handler: SyncPostbackHandler | None = None,
        store: SyncDeliveryStore | None = None,
        max_age: float | dt.timedelta | None = None,
        patience: float = PATIENCE_SECONDS,
        statuses: ResponseStatuses | None = None,
        path: str | None = None,
    ) -> None:
        """Check the settings."""
        self._endpoint = SyncEndpoint(
            credentials,
            handler,
            ledger=ledger,
            repeat_handler=repeat_handler,
            store=store,
            max_age=max_age,
            patience=patience,
            statuses=statuses,
            path=path,
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        """Serve one request of a WSGI server."""
        method, path, headers = environ["REQUEST_METHOD"], _path_below_mount(environ), headers_of(environ)
        chunks = body_chunks(environ)
        del environ  # it holds the signature, and crash reporters show local variables
        answer, failure = self._endpoint.respond(method, path, headers, chunks)
        start_response(_status_line(answer.status), list(answer.headers.items()))
        return _write(b"" if method == "HEAD" else answer.body, failure)


class Readable(Protocol):
    """What a body is read from."""

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes; none at the end."""
        ...


def body_chunks(environ: Mapping[str, Any]) -> Iterator[bytes]:
    """Read a request's body. What is returned does not keep the environment alive."""
    return _body_chunks(
        environ["wsgi.input"],
        environ.get("CONTENT_LENGTH", ""),
        ends_by_itself=bool(environ.get("wsgi.input_terminated")),
        is_encoded=is_encoded(environ),
    )


def is_encoded(environ: Mapping[str, Any]) -> bool:
    """Tell whether a body may come although there is no length, such as in chunks."""
    return "HTTP_TRANSFER_ENCODING" in environ


def _body_chunks(stream: Readable, length: str, *, ends_by_itself: bool, is_encoded: bool) -> Iterator[bytes]:
    """Read no more than the body has, and not much more than the limit.

    Where a server says that its stream ends with the body, a body without a length is read to its end.
    Elsewhere the length is all there is to go by: reading on would wait for the connection to be closed.
    """
    if length:
        if not _LENGTH.fullmatch(length):
            raise Refusal(_BAD_LENGTH)
        if (left := int(length)) > BODY_LIMIT:
            raise Refusal(TOO_LARGE)
        while left:
            chunk = read_chunk(stream, left)
            if not chunk:
                raise Refusal(CUT_SHORT)
            left -= len(chunk)
            yield chunk
    elif ends_by_itself:
        while chunk := read_chunk(stream, BODY_LIMIT + 1):
            yield chunk
    elif is_encoded:
        raise Refusal(_NO_LENGTH)


def read_chunk(stream: Readable, size: int) -> bytes:
    """Read up to ``size`` bytes of a body.

    Raises:
        Refusal: it breaks off, or the server has waited for it long enough.

    """
    try:
        return stream.read(size)
    except TimeoutError:
        answer = TOO_SLOW
    except OSError:
        answer = CUT_SHORT
    raise Refusal(answer)


def headers_of(environ: Mapping[str, Any]) -> Headers:
    """Return a request's headers. WSGI decodes them as Latin-1, as ASGI apps do."""
    return Headers(
        (name.removeprefix("HTTP_").replace("_", "-"), value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    )


def _path_below_mount(environ: Environ) -> str:
    # WSGI decodes the bytes of the path as Latin-1; ASGI as UTF-8.
    path: str = environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode(errors="replace")


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"


def _write(body: bytes, failure: Exception | None) -> Iterator[bytes]:
    yield body
    if failure is not None:
        raise failure  # once the answer has been sent
