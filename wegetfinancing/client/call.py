"""One call of an operation, below every middleware: sent at most once, authenticated, watched and logged."""

import contextlib
import logging
import traceback
from pathlib import Path
from typing import Final

import anyio
import attrs

from ..errors import DeadlineExceededError, Outcome, TransportError, outcome_of_status, worst_outcome
from ..http import Headers, Request, Response
from .transport import Transport

_LOGGER: Final = logging.getLogger("wegetfinancing")


class Call:
    """What one call has put on the wire so far. Its ``attempt`` is below every middleware."""

    __slots__ = (
        "_authorization",
        "_deadline",
        "_ended",
        "_operation",
        "_outcomes",
        "_repeatable",
        "_transport",
    )

    def __init__(
        self, operation: str, transport: Transport, *, authorization: str, repeatable: bool, deadline: float
    ) -> None:
        """Start with nothing sent."""
        self._authorization = authorization
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
        """Send one attempt, authenticated, through the transport; note and log the result.

        A second one is sent only where the operation may be repeated, and none that is late. The
        operation and the call decide, not the request, which a middleware can rewrite.
        """
        began = anyio.current_time()
        self._refuse(began)
        # A transport chooses a connection by the operation, so a middleware must not have the last word.
        request = attrs.evolve(
            request,
            operation=self._operation,
            repeatable=self._repeatable,
            headers=Headers({**request.headers, "authorization": self._authorization}),
        )
        number = len(self._outcomes)
        self._outcomes.append(Outcome.UNKNOWN)
        try:
            response = await self._transport.send(request)
        except TransportError as error:
            self._outcomes[number] = error.outcome
            self._log(type(error).__name__, None, error.outcome.value, began)
            raise
        except Exception as error:  # noqa: BLE001 - the border to code that is not ours
            fault = f"raised {type(error).__name__} at {_place(error)}"
        else:
            if isinstance(response, Response):
                outcome = self._outcomes[number] = outcome_of_status(response.status)
                done = response.is_success
                self._log(
                    f"HTTP {response.status}", response.status, "done" if done else outcome.value, began
                )
                return response
            fault = f"returned {type(response).__name__} in place of a Response"
        # Raised out here, so that what was caught does not stay reachable as the context.
        self._log(TransportError.__name__, None, Outcome.UNKNOWN.value, began)
        msg = f"the transport {fault}"
        raise TransportError(msg, operation=self._operation)

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
        if not _LOGGER.isEnabledFor(logging.INFO):
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
            _LOGGER.info(text, fields, extra=fields)


def _place(error: Exception) -> str:
    """Name the line that raised; the error and its text are not passed on, since they may hold anything."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
