"""The calls that a served emulator received, with what was sent and answered, for its dashboard."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import attrs

from .._json import from_json
from ..http import Request
from .core import Application, Emulator, Reaction
from .faults import Effect
from .report import loan_of, order_of

_CALLS_KEPT: Final = 50
_MAX_CHARACTERS: Final = 4000
# Credentials are in a header, so only headers without secrets are shown.
_HEADERS_SHOWN: Final = ("accept", "content-type", "retry-after", "user-agent")


@attrs.define(kw_only=True)
class LoggedCall:
    """A call of the API.

    Attributes:
        number: from 1, in the order of arrival.
        at: seconds since the epoch.
        method: of HTTP.
        path: without the query.
        sent: the body and some headers of the request.
        result: the answer's status, or that there is none.
        fault: the name of the fault that it met, if any.
        answer: the body and some headers of the answer; empty if none arrives.
        order: the shop's order ID or the ``inv_id``; empty if the call named none that is known.
        inv_id: of the application; empty if there is none.
        application: what it created or named.
        seconds: from the arrival to the answer; ``None`` if there is none, or not yet.

    """

    number: int
    at: float
    method: str
    path: str
    sent: str = attrs.field(repr=False)
    result: str
    fault: str | None
    answer: str = attrs.field(repr=False)
    order: str
    inv_id: str
    application: Application | None = attrs.field(repr=False)
    seconds: float | None = None


class CallLog:
    """The newest calls.

    Args:
        emulator: what answers them.

    """

    def __init__(self, emulator: Emulator) -> None:
        """Start empty."""
        self._emulator = emulator
        self._calls: deque[LoggedCall] = deque(maxlen=_CALLS_KEPT)
        self._received = 0

    def add(self, request: Request, reaction: Reaction, *, path: str, created: bool, at: float) -> LoggedCall:
        """Keep a call and the reaction to it; ``created`` says that the newest application is its result."""
        emulator = self._emulator
        application = (
            next(reversed(emulator.applications.values())) if created else loan_of(request.body, emulator)
        )
        order = _order_in(request.body) if application is None else order_of(application)
        arrives = reaction.effect in {Effect.ANSWER, Effect.SLOW}
        response = reaction.response
        self._received += 1
        call = LoggedCall(
            number=self._received,
            at=at,
            method=request.method,
            path=path,
            sent=_shown(request.headers, request.body),
            result=f"HTTP {response.status}" if arrives else "no answer",
            fault=None if reaction.fault is None else reaction.fault.name,
            answer=_shown(response.headers, response.body) if arrives else "",
            order=order,
            inv_id="" if application is None else application.inv_id,
            application=application,
        )
        self._calls.append(call)
        return call

    def newest_first(self) -> list[LoggedCall]:
        """Return the calls that are kept."""
        return list(self._calls)[::-1]

    def clear(self) -> None:
        """Forget all of them."""
        self._calls.clear()


def _order_in(body: bytes) -> str:
    """Return the order ID of a request from which nothing was created."""
    try:
        wire: Any = from_json(body)
    except ValueError:
        return ""
    order = wire.get("merchant_transaction_id") if isinstance(wire, dict) else None
    return order if isinstance(order, str) else ""


def _shown(headers: Mapping[str, str], body: bytes) -> str:
    lines = [f"{name}: {headers[name]}" for name in _HEADERS_SHOWN if name in headers]
    return "\n".join([*lines, "", body.decode("utf-8", "replace")])[:_MAX_CHARACTERS].strip()
