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
    ├── MalformedDictError             from_dict() received what to_dict() has not written
    └── PostbackError
        ├── SignatureError             missing, malformed, wrong or too old
        └── MalformedPostbackError     authentic or not, it cannot be read

Errors are plain data: they hold no exception, request or connection of the HTTP library and can be
pickled. Their ``str()`` and ``repr()`` show neither secrets nor personal data. What the server sent
(``error``, ``message``, ``subjects``, ``reasons``, ``debug`` and ``body``) may hold personal data: keep
it out of logs.
"""

import copyreg
import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ._loan import Loan


class Outcome(enum.StrEnum):
    """Whether a failed call may have been carried out: what a checkout has to know. It equals its text."""

    NOT_SENT = "not_sent"
    """Nothing reached the server. Calling again is safe."""

    REFUSED = "refused"
    """The server said no. Nothing was done."""

    UNKNOWN = "unknown"
    """It may have been carried out. Never create again blindly: wait for the postback."""

    @property
    def description(self) -> str:
        """A sentence for logs and error texts."""
        return _DESCRIPTIONS[self]


_BY_CERTAINTY: Final = (Outcome.NOT_SENT, Outcome.REFUSED, Outcome.UNKNOWN)
_DESCRIPTIONS: Final = MappingProxyType(
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
    """Return the outcome of several attempts together: one that may have happened outweighs all others."""
    return max(outcomes, key=_BY_CERTAINTY.index, default=Outcome.NOT_SENT)


def outcome_of_status(status: int) -> Outcome:
    """Return the outcome of a call that failed although an answer with this HTTP status came.

    A 2xx status is ``UNKNOWN``: such a call fails only if the answer cannot be used.
    """
    if status in _REFUSED_REDIRECTS or (400 <= status <= 499 and status != _GATEWAY_TIMEOUT):  # noqa: PLR2004 - the 4xx class
        return Outcome.REFUSED
    return Outcome.UNKNOWN


class WeGetFinancingError(Exception):
    """The base of every error this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain data, whatever the constructor's parameters."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined] # typeshed omits it


class ConfigurationError(WeGetFinancingError):
    """Wrong settings or wrong use, found before anything is sent. A programmer has to fix it."""


class CallError(WeGetFinancingError):
    """A call that did not succeed.

    Attributes:
        operation: the operation's name, such as ``"create_request"``; ``None`` until the client
            has set it.
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
        """Keep ``text``, which must hold neither secrets nor personal data: it is logged."""
        super().__init__(text)
        self.outcome = outcome
        self.operation = operation

    def __str__(self) -> str:
        """Return the operation, what failed, and whether it may have happened."""
        what = super().__str__()
        named = f"{self.operation}: {what}" if self.operation else what
        return f"{named}. {self.outcome.description}"


class TransportError(CallError):
    """No usable answer came: no connection, a lost connection, or none in time.

    This is what a ``Transport`` raises. ``outcome`` is ``NOT_SENT`` only where that is certain.

    Attributes:
        permanent: whether repeating the call cannot help, as with a certificate that does not verify.

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
        """Keep ``message``, which must hold neither secrets nor personal data: it is logged."""
        super().__init__(message, outcome=outcome, operation=operation)
        self.permanent = permanent


class DeadlineExceededError(TransportError):
    """The call's ``timeout`` ran out: waiting for a connection, for the answer, or to repeat."""


class APIError(CallError):
    """The server answered with an error.

    Attributes:
        status: the HTTP status; ``None`` when the request was refused before sending.
        error: the vendor's name of the error: ``generic``, ``http``, ``missing_parameters`` or
            ``invalid_parameters``. ``str()`` shows no other one.
        code: the vendor's code, usually the status again.
        message: the vendor's text.
        subjects: names of the invalid fields, nested ones with dots. ``str()`` shows those that the
            models know.
        reasons: field name to text. **May repeat the rejected value**, personal data included.
        debug: anything that the vendor sent under this name. May hold personal data.
        stamp: a hex text that the vendor's support asks for.
        body: the answer's bytes. May hold personal data.
        retry_after: seconds to wait before another call, if the server sent it.
        headers: lower-case name to value of the headers that help the vendor's support to find the call,
            such as ``x-request-id``, ``cf-ray`` and ``date``, if the server sent them; no others.

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
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep the answer's members; ``text`` must hold neither secrets nor personal data: it is logged."""
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
        self.headers: dict[str, str] = dict(headers or {})


class InvalidRequestError(APIError):
    """The request is wrong: answered with 400, or found before sending (``status`` is ``None``).

    ``reasons`` names the fields by the same paths either way; found before sending, they have an index
    too: ``cart_items[1].unit_price``. ``error`` is then ``missing_parameters`` if any field is missing,
    whatever else is invalid, and ``invalid_parameters`` otherwise.
    """


class AuthenticationError(APIError):
    """401: username or password are not those of this environment."""


class PermissionDeniedError(APIError):
    """403: the credentials are valid, but not for this merchant id."""


class NotFoundError(APIError):
    """404: no such merchant or loan."""


class RateLimitError(APIError):
    """429: too many calls. ``retry_after`` is how many seconds to wait, if the server said so."""


class ServerError(APIError):
    """5xx. After ``create_request`` the outcome is ``UNKNOWN``: the application may exist.

    The vendor also answers 500 for permanent business refusals; ``message`` then says why.
    """


class DecodingError(CallError):
    """A 2xx answer that cannot be read. The call was most likely carried out.

    Attributes:
        status: the HTTP status.
        body: the answer's bytes, empty if it was cut short. May hold personal data.

    """

    def __init__(
        self,
        text: str,
        *,
        status: int,
        body: bytes = b"",
        operation: str | None = None,
    ) -> None:
        """Keep the status and the body as far as it arrived."""
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
            COMMIT was lost. Otherwise it was rolled back.

    """

    uncertain: bool

    def __init__(self, text: str, *, uncertain: bool = False) -> None:
        """Accept a text without values of the shop's: it is logged."""
        super().__init__(text)
        self.uncertain = uncertain


class MalformedDictError(WeGetFinancingError):
    """What ``from_dict()`` received is not what ``to_dict()`` returned. Its text names fields, no values."""


class PostbackError(WeGetFinancingError):
    """A postback that must not be acted on."""


class SignatureError(PostbackError):
    """The signature is missing, malformed, wrong or too old. Answer 401."""


class MalformedPostbackError(PostbackError):
    """The postback cannot be read, whether it is authentic or not. Answer 400."""
