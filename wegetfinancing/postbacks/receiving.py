"""What decides the answer to a postback: the limits, the checks and their order, the statuses and texts.

Without a protocol and without I/O: an endpoint reads a request, asks here, and writes the answer.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from .._tracebacks import clears_locals
from ..credentials import MERCHANT_ID, Credentials
from ..errors import ConfigurationError, MalformedPostbackError, SignatureError
from .dialects import parse_postback
from .events import Postback

_LOGGER: Final = logging.getLogger("wegetfinancing")

BODY_LIMIT: Final = 64 * 1024
"""Bytes; real postbacks have a few hundred."""

BODY_SECONDS: Final = 10.0
"""How long a body may take to arrive, by default."""


class NotYet(Exception):  # noqa: N818 - it reports no error
    """Raise it in a handler while the order is not there yet.

    A postback can come before ``create_request`` has returned. The handler is tried again for
    ``patience`` seconds within the same request; then the answer is ``ResponseStatuses.not_yet``.
    """


class SettlingError(Exception):
    """The handler has returned, but the store could not record it. The answer is OK all the same."""


class CredentialsUnavailableError(Exception):
    """A lookup has not told whose credentials to verify with; its cause says why. A redelivery would help."""


class UnhandledError(Exception):
    """The decision is in the ledger, and nobody handles it now: a redelivery would help. It was logged."""


def _check_status(_: object, attribute: "attrs.Attribute[int]", value: object) -> None:
    if not isinstance(value, int) or not (value == _OK or 400 <= value <= 599):  # noqa: PLR2004 - the errors
        msg = f"{attribute.name} must be an HTTP status: 200, or from 400 to 599"
        raise ConfigurationError(msg)


@attrs.frozen(kw_only=True)
class ResponseStatuses:
    """The HTTP statuses of the answers after which a redelivery would help.

    The vendor's own plugins answer 200. Whether the vendor delivers again after any other status is
    not documented, so these two can be chosen.

    Attributes:
        failed: the handler or the store raised.
        not_yet: the handler raised ``NotYet``, or another delivery was being handled.

    Raises:
        ConfigurationError: neither 200 nor from 400 to 599.

    """

    failed: int = attrs.field(default=500, validator=_check_status)
    not_yet: int = attrs.field(default=503, validator=_check_status)


@attrs.frozen
class Answer:
    """An HTTP status and the text to answer with."""

    status: int
    text: str

    @property
    def body(self) -> bytes:
        """The text as bytes."""
        return self.text.encode()

    @property
    def headers(self) -> dict[str, str]:
        """The headers that describe the body."""
        return {"content-type": "text/plain; charset=utf-8", "content-length": str(len(self.body))}


_OK: Final = 200
MALFORMED: Final = 400
BAD_SIGNATURE: Final = 401
HANDLED: Final = Answer(_OK, "OK")
NOT_FOUND: Final = Answer(404, "not found")
WRONG_METHOD: Final = Answer(405, "only POST")
TOO_SLOW: Final = Answer(408, "the body did not arrive in time")
TOO_LARGE: Final = Answer(413, "the body is over 64 KiB")
UNAVAILABLE: Final = Answer(503, "not now")

MERCHANT_PLACEHOLDER: Final = "{merchant_id}"


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """Ends the receiving of a postback with an answer."""

    def __init__(self, answer: Answer) -> None:
        """Keep the answer."""
        super().__init__(answer.text)
        self.answer = answer


def check_request(method: str, path: str, *, only_path: str | None) -> str | None:
    """Check what is known before the body, and return the merchant that the path names, if it names one.

    Args:
        method: of the request.
        path: decoded, below the mount.
        only_path: the one that is served, perhaps with a place for the merchant; ``None`` for any.

    Raises:
        Refusal: another path than ``only_path``, or not a POST.

    """
    before, placeholder, after = (only_path or "").partition(MERCHANT_PLACEHOLDER)
    merchant_id: str | None = None
    if placeholder:
        named = path[len(before) : len(path) - len(after)]
        if path != f"{before}{named}{after}":
            raise Refusal(NOT_FOUND)
        merchant_id = check_merchant_id(named)
    elif only_path is not None and path != only_path:
        raise Refusal(NOT_FOUND)
    if method != "POST":
        raise Refusal(WRONG_METHOD)
    return merchant_id


def check_merchant_id(text: str) -> str:
    """Return what a path names as the merchant.

    Raises:
        Refusal: no merchant can have this ID.

    """
    if not MERCHANT_ID.fullmatch(text):
        raise Refusal(NOT_FOUND)
    return text


class BoundedBody:
    """Collects the chunks of a body, up to ``BODY_LIMIT``."""

    __slots__ = ("_collected",)

    def __init__(self) -> None:
        """Start empty."""
        self._collected = bytearray()

    def add(self, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            Refusal: the body is larger than ``BODY_LIMIT``.

        """
        self._collected += chunk
        if len(self._collected) > BODY_LIMIT:
            raise Refusal(TOO_LARGE)

    def __bytes__(self) -> bytes:
        """Return what was collected."""
        return bytes(self._collected)


@clears_locals
def collect(chunks: Iterable[bytes]) -> bytes:
    """Put a body together.

    Raises:
        Refusal: it is larger than ``BODY_LIMIT``.

    """
    body = BoundedBody()
    for chunk in chunks:
        body.add(chunk)
    return bytes(body)


@clears_locals
def read_postback(
    body: bytes,
    headers: Mapping[str, str],
    credentials: tuple[Credentials, ...],
    max_age: float | None,
    merchant_id: str | None = None,
) -> Postback:
    """Verify and parse.

    Args:
        body: the raw bytes.
        headers: all of them, or those that are signed.
        credentials: of one merchant.
        max_age: seconds.
        merchant_id: the merchant whom the path names, who must be the one who signed; ``None`` where it
            names nobody.

    Raises:
        Refusal: it is not authentic, or cannot be read.
        CredentialsUnavailableError: a lookup has returned the credentials of another merchant.

    """
    level = logging.ERROR
    try:
        postback = parse_postback(body, headers, credentials, max_age=max_age)
    except SignatureError as error:
        answer = Answer(BAD_SIGNATURE, str(error))
        level = logging.WARNING  # a stranger's, or the vendor's after a password was changed on one side
    except MalformedPostbackError as error:
        answer = Answer(MALFORMED, str(error))
    else:
        if merchant_id in (None, postback.merchant_id):
            return postback
        # Only now, so that a stranger hears nothing of a lookup that ignores case.
        msg = "the lookup returned the credentials of another merchant than it was asked for"
        raise CredentialsUnavailableError from ConfigurationError(msg)
    # Nobody else would hear that the vendor's decisions are lost; the texts repeat nothing of what was sent.
    _LOGGER.log(level, "a postback to merchant %s was refused: %s", credentials[0].merchant_id, answer.text)
    raise Refusal(answer)  # out here, so that no error whose frames hold the body is its context


def answer_after(failure: Exception | None, statuses: ResponseStatuses) -> Answer:
    """Choose the answer when receiving and handling have ended, with ``failure`` if they raised."""
    match failure:
        case None | SettlingError():
            return HANDLED
        case Refusal(answer=answer):
            return answer
        case NotYet():
            return Answer(statuses.not_yet, "not yet")
        case CredentialsUnavailableError():
            return UNAVAILABLE
        case _:
            return Answer(statuses.failed, "failed")


def is_for_the_log(failure: Exception | None) -> bool:
    """Tell whether the server has to hear of ``failure`` too, once the answer has been sent."""
    return failure is not None and not isinstance(failure, Refusal | NotYet | UnhandledError)
