"""One call of an operation, below every middleware: sent at most once, watched and logged."""

import contextlib
import functools
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from ..errors import DeadlineExceededError, Outcome, TransportError, outcome_of_status, worst_outcome
from ..http import Request, Response
from .transport import Transport

if TYPE_CHECKING:
    import logging

_INFO: Final = 20  # logging.INFO


@functools.cache
def _logger() -> "logging.Logger":
    import logging  # noqa: PLC0415 - not before a client calls

    return logging.getLogger("wegetfinancing")


class Call:
    """What one call has put on the wire so far. ``attempt`` is what the whole chain is around."""

    __slots__ = ("_deadline", "_ended", "_operation", "_outcomes", "_repeatable", "_transport")

    def __init__(self, operation: str, transport: Transport, *, repeatable: bool, deadline: float) -> None:
        """Start with nothing sent."""
        self._deadline = deadline
        self._operation = operation
        self._transport = transport
        self._repeatable = repeatable
        self._outcomes: list[Outcome] = []
        self._ended = False

    @property
    def outcome(self) -> Outcome:
        """May any attempt so far have been carried out? An attempt in flight may."""
        return worst_outcome(*self._outcomes)

    def end(self) -> None:
        """Let nothing more through: what the caller was told of the outcome has to stay true."""
        self._ended = True

    async def attempt(self, request: Request) -> Response:
        """Let one attempt through to the transport, keep what came of it, and log it.

        A second one is let through only where the operation may be repeated, and none that is late.
        Asked are the operation and the call, not the request, which a middleware can rewrite.
        """
        began = anyio.current_time()
        self._refuse(began)
        # A transport chooses a connection by these, so a middleware must not have the last word.
        if request.operation != self._operation or request.repeatable is not self._repeatable:
            request = attrs.evolve(request, operation=self._operation, repeatable=self._repeatable)
        number = len(self._outcomes)
        self._outcomes.append(Outcome.UNKNOWN)
        try:
            response = await self._send(request)
        except TransportError as error:
            self._outcomes[number] = error.outcome
            self._log(type(error).__name__, None, error.outcome.value, began)
            raise
        outcome = self._outcomes[number] = outcome_of_status(response.status)
        done = response.is_success
        self._log(f"HTTP {response.status}", response.status, "done" if done else outcome.value, began)
        return response

    def _refuse(self, now: float) -> None:
        if self._ended:
            msg = "a middleware called call_next after the call had ended"
            raise TransportError(msg, outcome=self.outcome, operation=self._operation, permanent=True)
        if now >= self._deadline:
            # Our scope has yet to cancel: the event loop was held up, and ran this task first.
            msg = "the deadline passed before it could be sent"
            raise DeadlineExceededError(msg, outcome=self.outcome, operation=self._operation)
        if self._outcomes and not self._repeatable:
            msg = f"{self._operation} goes out at most once per call, and a middleware called call_next again"
            raise TransportError(msg, outcome=self.outcome, operation=self._operation)

    def _log(self, result: str, status: int | None, outcome: str, began: float) -> None:
        # No failure is a warning here: it is raised, or repeated with success, and the caller knows.
        if not _logger().isEnabledFor(_INFO):
            return
        fields = {
            "operation": self._operation,
            "attempt": len(self._outcomes),
            "status": status,
            "outcome": outcome,
            "duration": anyio.current_time() - began,
        }
        text = f"%(operation)s attempt %(attempt)d: {result} in %(duration).3f s, %(outcome)s"
        with contextlib.suppress(Exception):  # a filter that raises must not lose an answer
            _logger().info(text, fields, extra=fields)

    async def _send(self, request: Request) -> Response:
        """Hand the request to the transport; whatever it lets out becomes a ``TransportError``."""
        try:
            response = await self._transport.send(request)
        except TransportError:
            raise
        except Exception as error:  # noqa: BLE001 - the border to code that is not ours
            fault = f"raised {type(error).__name__} at {_place(error)}"
        else:
            if isinstance(response, Response):
                return response
            fault = f"returned {type(response).__name__} in place of a Response"
        # Raised out here, so that what was caught does not stay reachable as the context.
        msg = f"the transport {fault}"
        raise TransportError(msg, operation=self._operation)


def _place(error: Exception) -> str:
    """Name the line that raised; the error and its text are not passed on, since they may hold anything."""
    import traceback  # noqa: PLC0415 - for the rare failure only
    from pathlib import Path  # noqa: PLC0415 - likewise

    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
