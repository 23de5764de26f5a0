"""What an exception of httpx or httpx2 says: what went wrong first, and whether its name can be believed."""

import enum
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Any, Final

import attrs

from ..errors import ConfigurationError, Outcome

_HTTPCORE_MODULES: Final = frozenset({"httpcore", "httpcore2"})
# What httpx and httpx2 raise before there is a connection.
_BEFORE_ANY_CONNECTION: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
)


class Behind(enum.Enum):
    """What raised first, behind an exception of httpx."""

    NOTHING = enum.auto()
    """Nothing: a stand-in such as MockTransport raised it."""

    HTTPCORE = enum.auto()
    OTHER = enum.auto()
    """Another transport, which uses httpx's names for failures of its own, before or after sending."""


@attrs.frozen
class Failure:
    """Why there is no answer.

    Attributes:
        text: what happened, in words that hold nothing of the request.
        outcome: ``NOT_SENT`` only where that is certain.
        permanent: no repeat cures it.
        timed_out: the library's own clock ended it, or ours.

    """

    text: str
    outcome: Outcome
    permanent: bool = False
    timed_out: bool = False


@attrs.frozen
class ErrorReport:
    """What an exception says.

    Attributes:
        name: of its class.
        detail: what went wrong first, without an address; may be empty.
        incurable: no repeat cures it.
        timed_out: it is called a timeout.
        before_connecting: it is called a failure from before there was a connection.
        in_pool: it is called a timeout while waiting for the pool.
        behind: what raised first.
        misuse: the client given is used or set up wrongly; ``detail`` says how.

    """

    name: str
    detail: str
    incurable: bool
    timed_out: bool
    before_connecting: bool
    in_pool: bool
    behind: Behind
    misuse: bool


def read_error(error: Exception, until: BaseException | None) -> ErrorReport:
    """Read an exception.

    Args:
        error: what was raised.
        until: what the caller was handling already; causes are not sought there.

    """
    names = {cls.__name__ for cls in type(error).__mro__}
    causes = list(_causes(error, until))
    detail, incurable = _detail(causes)
    return ErrorReport(
        name=type(error).__name__,
        detail=detail,
        incurable=incurable,
        timed_out="TimeoutException" in names,
        before_connecting=not _BEFORE_ANY_CONNECTION.isdisjoint(names),
        in_pool="PoolTimeout" in names,
        behind=_behind(causes),
        misuse=any(isinstance(cause, ConfigurationError) for cause in causes),
    )


def is_of_httpcore(value: object) -> bool:
    """Tell whether httpcore made ``value``."""
    return type(value).__module__.partition(".")[0] in _HTTPCORE_MODULES


def _behind(causes: list[BaseException]) -> Behind:
    if len(causes) == 1:
        return Behind.NOTHING
    return Behind.HTTPCORE if any(map(is_of_httpcore, causes)) else Behind.OTHER


def _detail(causes: Iterable[BaseException]) -> tuple[str, bool]:
    detail, incurable = "", False
    for cause in causes:
        if reason := getattr(cause, "verify_message", None):  # ssl.SSLCertVerificationError
            incurable = True
            detail = f"the server's certificate does not verify: {reason}; is SSL_CERT_FILE right?"
        elif isinstance(cause, ConfigurationError):
            incurable = True
            detail = str(cause)
        elif reason := getattr(cause, "reason", None):  # ssl.SSLError
            detail = f"TLS failed: {reason}"
        elif isinstance(cause, socket.gaierror):
            detail = str(cause.strerror)  # its numbers are the resolver's own, above zero on macOS
        elif isinstance(cause, OSError) and cause.errno:
            detail = os.strerror(cause.errno)  # asyncio puts an address into the text
    return detail, incurable


def _causes(error: BaseException, until: BaseException | None) -> Iterator[BaseException]:
    """Walk down to what went wrong first, but not into what the caller was handling already."""
    seen: list[BaseException | None] = [None, until]
    following: Any = error
    while following not in seen:
        seen.append(following)
        yield following
        inside = following.exceptions[0] if isinstance(following, BaseExceptionGroup) else None
        # httpcore's pool raises "from None", which leaves the context as the only way down.
        following = inside or following.__cause__ or following.__context__
