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
from .hooks import DONE, Attempt, error_type
from .transport import Transport

_LOGGER: Final = logging.getLogger("wegetfinancing")


class Call:
    """What one call has put on the wire so far. Its ``attempt`` is below every middleware.

    Attributes:
        attempts: one record of each attempt that has ended.

    """

    __slots__ = (
        "_authorization",
        "_ended",
        "_merchant_id",
        "_outcomes",
        "_request",
        "_transport",
        "attempts",
    )

    def __init__(
        self, request: Request, transport: Transport, *, authorization: str, merchant_id: str
    ) -> None:
        """Start with nothing sent of ``request``, which is what the client made and nobody has changed."""
        self._authorization = authorization
        self._merchant_id = merchant_id
        self._request = request
        self._transport = transport
        self._outcomes: list[Outcome] = []
        self.attempts: list[Attempt] = []
        self._ended = False

    @property
    def outcome(self) -> Outcome:
        """May any attempt so far have been carried out? An attempt in flight may."""
        return worst_outcome(*self._outcomes)

    def end(self) -> None:
        """Send nothing more: the outcome that the caller gets must stay true."""
        self._ended = True

    async def attempt(self, request: Request) -> Response:
        """Send one attempt, authenticated, through the transport; note and log the result.

        A second one is sent only where the operation may be repeated, none that is late, and none
        with another body. The client's own request decides, since a middleware can rewrite this one.
        """
        began = anyio.current_time()
        self._refuse(request, began)
        # A transport chooses a connection by the operation, so a middleware must not have the last word.
        request = attrs.evolve(
            request,
            operation=self._request.operation,
            repeatable=self._request.repeatable,
            headers=Headers({**request.headers, "authorization": self._authorization}),
        )
        number = len(self._outcomes) + 1
        self._outcomes.append(Outcome.UNKNOWN)  # until it is known better
        try:
            response = await self._transport.send(request)
        except TransportError as error:
            self._record(number, began, outcome=error.outcome, error=type(error).__name__)
            raise
        except Exception as error:  # noqa: BLE001 - the border to code that is not ours
            fault = f"raised {type(error).__name__} at {_place(error)}"
        except BaseException as error:
            self._record(number, began, outcome=Outcome.UNKNOWN, error=error_type(error))
            raise
        else:
            if isinstance(response, Response):
                outcome = outcome_of_status(response.status)
                self._record(number, began, outcome=outcome, response=response)
                return response
            fault = f"returned {type(response).__name__}, not a Response"
        # Raised out here, so that what was caught does not stay reachable as the context.
        self._record(number, began, outcome=Outcome.UNKNOWN, error=TransportError.__name__)
        msg = f"the transport {fault}"
        raise TransportError(msg, operation=self._request.operation)

    def _refuse(self, request: Request, now: float) -> None:
        operation = self._request.operation
        if self._ended:
            msg = "a middleware called call_next after the call had ended"
            raise TransportError(msg, outcome=self.outcome, operation=operation, permanent=True)
        if request.body != self._request.body:
            # It may be the body of another call, which that call could then send a second time.
            msg = "a middleware changed the body"
            raise TransportError(msg, outcome=self.outcome, operation=operation, permanent=True)
        if now >= self._request.deadline:
            # Our scope has yet to cancel: the event loop was held up, and ran this task first.
            msg = "the deadline passed before it could be sent"
            raise DeadlineExceededError(msg, outcome=self.outcome, operation=operation)
        if self._outcomes and not self._request.repeatable:
            msg = f"{operation} goes out at most once per call, and a middleware called call_next again"
            raise TransportError(msg, outcome=self.outcome, operation=operation)

    def _record(
        self,
        number: int,
        began: float,
        *,
        outcome: Outcome,
        response: Response | None = None,
        error: str | None = None,
    ) -> None:
        """Keep and log the one record of an attempt that has ended."""
        self._outcomes[number - 1] = outcome
        attempt = Attempt(
            operation=self._request.operation,
            merchant_id=self._merchant_id,
            number=number,
            status=None if response is None else response.status,
            outcome=DONE if response is not None and response.is_success else outcome.value,
            seconds=anyio.current_time() - began,
            error_type=error,
        )
        self.attempts.append(attempt)
        with contextlib.suppress(Exception):  # a log filter that raises must not lose an answer
            _log(attempt)


def _log(attempt: Attempt) -> None:
    # No failure is a warning here: it is raised, or repeated with success, and the caller knows.
    if not _LOGGER.isEnabledFor(logging.INFO):
        return
    fields = {
        "operation": attempt.operation,
        "merchant_id": attempt.merchant_id,
        "attempt": attempt.number,
        "status": attempt.status,
        "outcome": attempt.outcome,
        "duration": attempt.seconds,
    }
    result = attempt.error_type or f"HTTP {attempt.status}"
    text = "%(operation)s of merchant %(merchant_id)s, attempt %(attempt)d: "
    text += f"{result} in %(duration).3f s, %(outcome)s"
    _LOGGER.info(text, fields, extra=fields)


def _place(error: Exception) -> str:
    """Name the line that raised; the error and its text are not passed on, since they may hold anything."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
