"""Every error of the package, sorted by what the caller can do about it.

    WeGetFinancingError
    ├── ConfigurationError             wrong settings, found before any I/O
    ├── CallError                      .operation  .outcome
    │   ├── TransportError             no answer; the outcome is NOT_SENT or UNKNOWN
    │   │   └── DeadlineExceededError  the call's timeout ran out
    │   ├── APIError                   an error answer
    │   │   ├── InvalidRequestError    400, or found before sending (status None)
    │   │   ├── AuthenticationError    401
    │   │   ├── PermissionDeniedError  403
    │   │   ├── NotFoundError          404
    │   │   ├── RateLimitError         429
    │   │   └── ServerError            5xx
    │   ├── OrderConflictError         the order's application has other contents (with a ledger)
    │   └── DecodingError              a 2xx answer that cannot be read
    ├── LedgerError                    a ledger's database failed
    └── PostbackError
        ├── SignatureError             missing, malformed, wrong or too old
        └── MalformedPostbackError     authentic or not, it cannot be read

Errors are plain data: they hold no exception, request or connection of the HTTP library, survive
``pickle``, and their ``str()`` and ``repr()`` show neither secrets nor personal data. ``reasons``,
``debug`` and ``body`` may hold personal data; read them on purpose, and keep them out of logs.
"""

import copyreg
import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ._loan import Loan


class Outcome(enum.Enum):
    """May a failed call have been carried out? The one question a checkout has."""

    NOT_SENT = "not_sent"
    """Nothing reached the server. Calling again is safe."""

    REFUSED = "refused"
    """The server said no. Nothing was done."""

    UNKNOWN = "unknown"
    """It may have been carried out. Never create again blindly: wait for the postback."""

    @property
    def in_words(self) -> str:
        """A sentence for logs and error texts."""
        return _IN_WORDS[self]


_BY_CERTAINTY: Final = (Outcome.NOT_SENT, Outcome.REFUSED, Outcome.UNKNOWN)
_IN_WORDS: Final = MappingProxyType(
    {
        Outcome.NOT_SENT: "Nothing was sent.",
        Outcome.REFUSED: "The server refused it.",
        Outcome.UNKNOWN: "It may have been carried out.",
    }
)

# A server that answers one of these did not run the request: 421 and 425 by their definition
# (RFC 9110, RFC 8470), 307 and 308 because the request is still to be made, elsewhere.
_REFUSED_REDIRECTS: Final = frozenset({307, 308})
# A gateway sends 408 for its own idle timer, whatever the server behind it does.
_GATEWAY_TIMEOUT: Final = 408


def worst_outcome(*outcomes: Outcome) -> Outcome:
    """Join what is known of several attempts: one that may have happened outweighs all others."""
    return max(outcomes, key=_BY_CERTAINTY.index, default=Outcome.NOT_SENT)


def outcome_of_status(status: int) -> Outcome:
    """Say what an answer with this HTTP status means for a call that is not a success.

    A 2xx status is ``UNKNOWN`` here: it is asked about only when the answer cannot be used.
    """
    if status in _REFUSED_REDIRECTS or (400 <= status <= 499 and status != _GATEWAY_TIMEOUT):  # noqa: PLR2004 - the 4xx class
        return Outcome.REFUSED
    return Outcome.UNKNOWN


class WeGetFinancingError(Exception):
    """The base of every error this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling whatever the constructor's parameters: rebuild from plain data."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined] # typeshed omits it


class ConfigurationError(WeGetFinancingError):
    """Wrong settings or wrong use, found before anything is sent. A programmer mends it."""


class CallError(WeGetFinancingError):
    """A call that did not succeed.

    Attributes:
        operation: the operation's name, such as ``"create_request"``; ``None`` until the client
            has filled it in.
        outcome: whether the call may have been carried out.
        loan: what the ledger knows of the order; ``None`` without a ledger.

    """

    operation: str | None
    outcome: Outcome
    loan: Loan | None = None

    def __init__(
        self,
        text: str,
        *,
        outcome: Outcome = Outcome.UNKNOWN,
        operation: str | None = None,
    ) -> None:
        """Take a text that holds neither secrets nor personal data: it is logged."""
        super().__init__(text)
        self.outcome = outcome
        self.operation = operation

    def __str__(self) -> str:
        """Show the operation, what failed, and whether it may have happened."""
        what = super().__str__()
        named = f"{self.operation}: {what}" if self.operation else what
        return f"{named}. {self.outcome.in_words}"


class TransportError(CallError):
    """No usable answer came: no connection, a lost connection, or none in time.

    This is what a ``Transport`` raises. ``outcome`` is ``NOT_SENT`` only where that is certain.

    Attributes:
        permanent: no repeat cures it, such as a certificate that does not verify.

    """

    permanent: bool

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome = Outcome.UNKNOWN,
        operation: str | None = None,
        permanent: bool = False,
    ) -> None:
        """Take a message that holds neither secrets nor personal data: it is logged."""
        super().__init__(message, outcome=outcome, operation=operation)
        self.permanent = permanent


class DeadlineExceededError(TransportError):
    """The call's ``timeout`` ran out: waiting for a connection, for the answer, or to repeat."""


class APIError(CallError):
    """The server answered with an error.

    Attributes:
        status: the HTTP status; ``None`` when the request was refused before sending.
        error: the vendor's error name, such as ``"missing_parameters"``.
        code: the vendor's code, usually the status again.
        message: the vendor's text.
        subjects: names of the fields at fault, nested ones with dots.
        reasons: field name to text. **May repeat the rejected value**, personal data included.
        debug: whatever the vendor put there. May hold personal data.
        stamp: a hex text that the vendor's support asks for.
        body: the answer's bytes. May hold personal data.
        retry_after: seconds to wait before another call, where the server said so.

    Every member but ``status`` and ``body`` may be absent from an answer
    (https://docs.wegetfinancing.com; optional members as seen in the official clients).

    """

    def __init__(  # noqa: PLR0913 - plain data, keyword-only, one parameter per documented member
        self,
        text: str,
        *,
        status: int | None = None,
        outcome: Outcome = Outcome.UNKNOWN,
        operation: str | None = None,
        error: str | None = None,
        code: int | None = None,
        message: str | None = None,
        subjects: tuple[str, ...] = (),
        reasons: Mapping[str, str] | None = None,
        debug: object = None,
        stamp: str | None = None,
        body: bytes = b"",
        retry_after: float | None = None,
    ) -> None:
        """Take the answer's members; ``text`` is what ``str()`` shows and must be harmless."""
        super().__init__(text, outcome=outcome, operation=operation)
        self.status = status
        self.error = error
        self.code = code
        self.message = message
        self.subjects = subjects
        self.reasons: dict[str, str] = dict(reasons or {})
        self.debug = debug
        self.stamp = stamp
        self.body = body
        self.retry_after = retry_after


class InvalidRequestError(APIError):
    """The request is at fault: 400, or found before sending, and then ``status`` is ``None``.

    ``reasons`` names the fields by the same paths either way; found before sending they carry the
    index too: ``cart_items[1].unit_price``.
    """


class AuthenticationError(APIError):
    """401: username or password are not those of this environment."""


class PermissionDeniedError(APIError):
    """403: the credentials are good, but not for this merchant id."""


class NotFoundError(APIError):
    """404: no such merchant or loan."""


class RateLimitError(APIError):
    """429: too many calls. ``retry_after`` says how long to wait, if the server did."""


class ServerError(APIError):
    """5xx. To ``create_request`` it means ``UNKNOWN``: the application may exist.

    The vendor also answers 500 for permanent business refusals; ``message`` then says why.
    """


class DecodingError(CallError):
    """A 2xx answer that cannot be read. The call was most likely carried out.

    Attributes:
        status: the HTTP status.
        body: the bytes that came, empty if the answer was cut short. May hold personal data.

    """

    def __init__(
        self,
        text: str,
        *,
        status: int,
        body: bytes = b"",
        operation: str | None = None,
    ) -> None:
        """Take the answer as far as it came."""
        super().__init__(text, outcome=Outcome.UNKNOWN, operation=operation)
        self.status = status
        self.body = body


class OrderConflictError(CallError):
    """The order was applied for with other contents. The outcome is ``UNKNOWN``: that application exists.

    Only a client with a ledger raises it. Another cart needs another ``merchant_transaction_id``.
    """


class LedgerError(WeGetFinancingError):
    """A ledger's database failed: it is gone, locked, full, read-only or of another version.

    Attributes:
        uncertain: whether the transaction may have been committed all the same, as when the answer to
            COMMIT was lost. Otherwise nothing of it is there.

    """

    uncertain: bool

    def __init__(self, text: str, *, uncertain: bool = False) -> None:
        """Accept a text without values of the shop's: it is logged."""
        super().__init__(text)
        self.uncertain = uncertain


class PostbackError(WeGetFinancingError):
    """A postback that must not be acted upon."""


class SignatureError(PostbackError):
    """The signature is missing, malformed, wrong or too old. Answer 401."""


class MalformedPostbackError(PostbackError):
    """The postback cannot be read, whether it is authentic or not. Answer 400."""
