"""A span and metrics for each call, by OpenTelemetry. Needs ``wegetfinancing[otel]``.

Names are those of the semantic conventions where there is one
(https://opentelemetry.io/docs/specs/semconv/http/), and begin with ``wegetfinancing.`` where there is none.
"""

import contextlib
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import anyio
from opentelemetry import metrics, trace

from .._version import __version__
from ..client.client import default_middleware
from ..client.middleware import Middleware, check_middleware, compose
from ..client.operations import OPERATIONS
from ..errors import (
    CallError,
    DeadlineExceededError,
    Outcome,
    TransportError,
    outcome_of_status,
    worst_outcome,
)
from ..http import Handler, Request, Response

__all__ = ["OpenTelemetry"]

_SCOPE: Final = "wegetfinancing"
_OTHER: Final = "_OTHER"  # what the conventions call anything that would make ever more series
# Those of http.client.request.duration, and two more, since a call may be repeated for half a minute.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60)
_PORTS: Final = {"http": 80, "https": 443}


class OpenTelemetry:
    """Middleware that makes one client span and one set of measurements for each call.

    It holds the other links, so that it sees both the call as a whole and every attempt::

        AsyncClient(credentials, middleware=[OpenTelemetry([*default_middleware(), mine])])

    Attributes of the span are the operation, the outcome (``done``, or the name of an ``Outcome``), how
    many attempts were made, method, status, server and the error's class. Metrics have the same, but for
    the attempts. Nothing else of a request or an answer is recorded, and nothing is added to what goes to
    the vendor. A call that ``problems()`` refuses makes no span: it never reaches a middleware.

    Args:
        middleware: the links to hold, outermost first; ``default_middleware()`` unless told otherwise.
        tracer_provider: the global one unless told otherwise.
        meter_provider: likewise.

    Raises:
        ConfigurationError: a link that cannot be one.

    """

    __slots__ = ("_attempts", "_calls", "_duration", "_middleware", "_tracer")

    def __init__(
        self,
        middleware: Sequence[Middleware] | None = None,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        """Make the instruments."""
        self._middleware = check_middleware(default_middleware() if middleware is None else middleware)
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._duration = meter.create_histogram(
            "wegetfinancing.client.duration",
            "s",
            "How long a call took, repeats and pauses included.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._calls = meter.create_counter("wegetfinancing.client.calls", "{call}", "Calls that ended.")
        self._attempts = meter.create_counter(
            "wegetfinancing.client.attempts", "{attempt}", "Attempts that those calls made."
        )

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Pass the request on through the links it holds, watched."""
        attempts = _Attempts(repeatable=request.repeatable)
        handler = compose([*self._middleware, attempts], call_next)
        known = _attributes_of(request)
        span = self._tracer.start_span(
            f"wegetfinancing.{known['wegetfinancing.operation']}",
            kind=trace.SpanKind.CLIENT,
            attributes=known,
        )
        began = anyio.current_time()
        failure: BaseException | None = None
        try:
            # The exception itself is not recorded: its text may be a middleware's, and hold anything.
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                response = await handler(request)
            failure = _failure_in(request, response)
            if isinstance(response, Response):
                known["http.response.status_code"] = response.status
        except BaseException as error:
            failure = error
            raise
        else:
            return response
        finally:
            known |= _result(failure, attempts.outcome, request.deadline)
            del failure  # its traceback holds this frame: without this, a cycle for the collector
            with contextlib.suppress(Exception):  # telemetry that fails must not lose an answer
                self._record(span, known, attempts.made, anyio.current_time() - began)

    def _record(self, span: trace.Span, known: dict[str, str | int], attempts: int, seconds: float) -> None:
        span.set_attributes({**known, "wegetfinancing.attempts": attempts})
        if "error.type" in known:
            span.set_status(trace.StatusCode.ERROR)
        span.end()
        self._duration.record(seconds, known)
        self._calls.add(1, known)
        self._attempts.add(attempts, known)


class _Attempts:
    """The innermost link: counts what is passed on, and keeps what is known of it."""

    __slots__ = ("_outcomes", "_repeatable")

    def __init__(self, *, repeatable: bool) -> None:
        self._repeatable = repeatable
        self._outcomes: list[Outcome] = []

    @property
    def made(self) -> int:
        return len(self._outcomes)

    @property
    def outcome(self) -> Outcome:
        return worst_outcome(*self._outcomes)

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        if self._outcomes and not self._repeatable:
            return await call_next(request)  # which refuses it
        number = len(self._outcomes)
        self._outcomes.append(Outcome.UNKNOWN)
        try:
            response = await call_next(request)
        except TransportError as error:
            self._outcomes[number] = error.outcome
            raise
        self._outcomes[number] = outcome_of_status(response.status)
        return response


def _attributes_of(request: Request) -> dict[str, str | int]:
    url = urlsplit(request.url)
    return {
        "wegetfinancing.operation": request.operation if request.operation in OPERATIONS else _OTHER,
        "http.request.method": request.method,
        "server.address": url.hostname or "",
        "server.port": url.port or _PORTS.get(url.scheme, 0),
    }


def _failure_in(request: Request, response: object) -> CallError | None:
    """Say what the client will raise for this answer."""
    if not isinstance(response, Response):
        return TransportError("a middleware returned no Response", outcome=Outcome.NOT_SENT)
    if operation := OPERATIONS.get(request.operation):
        try:
            operation.read(response)
        except CallError as error:
            return error
    return None


def _result(failure: BaseException | None, of_attempts: Outcome, deadline: float) -> dict[str, str | int]:
    if failure is None:
        return {"wegetfinancing.outcome": "done"}
    name = type(failure).__name__
    if isinstance(failure, anyio.get_cancelled_exc_class()):
        name = DeadlineExceededError.__name__ if anyio.current_time() >= deadline else "cancelled"
    # As the client does: an earlier attempt may have been carried out.
    outcome = worst_outcome(failure.outcome, of_attempts) if isinstance(failure, CallError) else of_attempts
    return {"wegetfinancing.outcome": outcome.value, "error.type": name}
