"""A span and metrics for each call, by OpenTelemetry. Needs ``wegetfinancing[otel]``.

Names are those of the semantic conventions where there is one
(https://opentelemetry.io/docs/specs/semconv/http/), and begin with ``wegetfinancing.`` where there is none.
"""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace

from .._version import __version__
from ..client.hooks import CallEnded, CallStarted

__all__ = ["OpenTelemetry"]

_SCOPE: Final = "wegetfinancing"
# Those of http.client.request.duration, and two more, since a call may be repeated for half a minute.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60)
_MERCHANT: Final = "wegetfinancing.merchant_id"
_PORTS: Final = {"http": 80, "https": 443}


class OpenTelemetry:
    """A hook that makes one client span and one set of measurements for each call.

    ::

        AsyncClient(credentials, hooks=[OpenTelemetry()])

    Attributes of the span are the operation, the merchant's ID, the outcome (``done``, or the value of an
    ``Outcome``), how many attempts were made, method, status, server and the error's class. Metrics have the
    same, but for the merchant's ID and the attempts. Nothing else of a request or an answer is recorded, and
    nothing is added to what goes to the vendor. A call that ``problems()`` refuses makes no span.

    Args:
        tracer_provider: the global one by default.
        meter_provider: the global one by default.
        merchant_in_metrics: whether metrics have the merchant's ID too. Each merchant multiplies the time
            series, which backends charge for, and beyond 2000 of one metric the SDK puts all others into a
            single one: use it for a few merchants.

    """

    __slots__ = ("_attempts", "_calls", "_duration", "_merchant_in_metrics", "_tracer")

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        merchant_in_metrics: bool = False,
    ) -> None:
        """Make the instruments."""
        self._merchant_in_metrics = merchant_in_metrics
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

    def __call__(self, call: CallStarted, /) -> Callable[[CallEnded], None]:
        """Start a span, and make it the current one until the call has ended."""
        attributes = _attributes_of(call)
        merchant: dict[str, str | int] = {_MERCHANT: call.merchant_id}
        span = self._tracer.start_span(
            f"wegetfinancing.{call.operation}", kind=trace.SpanKind.CLIENT, attributes=attributes | merchant
        )
        if self._merchant_in_metrics:
            attributes |= merchant
        token = context.attach(trace.set_span_in_context(span))

        def ended(result: CallEnded) -> None:
            context.detach(token)
            self._record(span, attributes | _attributes_of_result(result), result)

        return ended

    def _record(self, span: trace.Span, attributes: dict[str, str | int], result: CallEnded) -> None:
        span.set_attributes({**attributes, "wegetfinancing.attempts": len(result.attempts)})
        if result.error_type is not None:
            span.set_status(trace.StatusCode.ERROR)
        span.end()
        self._duration.record(result.seconds, attributes)
        self._calls.add(1, attributes)
        self._attempts.add(len(result.attempts), attributes)


def _attributes_of(call: CallStarted) -> dict[str, str | int]:
    url = urlsplit(call.base_url)
    return {
        "wegetfinancing.operation": call.operation,
        "http.request.method": "POST",  # as all three operations are
        "server.address": url.hostname or "",
        "server.port": url.port or _PORTS.get(url.scheme, 0),
    }


def _attributes_of_result(result: CallEnded) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {"wegetfinancing.outcome": result.outcome}
    status = result.attempts[-1].status if result.attempts else None
    if status is not None:
        attributes["http.response.status_code"] = status
    if result.error_type is not None:
        attributes["error.type"] = result.error_type
    return attributes
