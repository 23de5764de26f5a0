"""Spans and metrics, read back from the SDK's in-memory exporter and reader."""

import contextlib
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.exchanges import with_enough_time
from wegetfinancing import (
    AsyncClient,
    CallError,
    DeadlineExceededError,
    InvalidRequestError,
    Outcome,
    Retry,
    Transport,
    TransportError,
)
from wegetfinancing.contrib.opentelemetry import OpenTelemetry
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.testing import (
    INV_ID,
    FakeTransport,
    address,
    created_response,
    credentials,
    error_response,
    financing_request,
    shipping_event,
    shipping_response,
)

pytestmark = pytest.mark.anyio

SERVER = {
    "http.request.method": "POST",
    "server.address": "api.sandbox.wegetfinancing.com",
    "server.port": 443,
}


def lost(_: Request) -> Response:
    raise TransportError("lost", outcome=Outcome.UNKNOWN)


def no_connection(_: Request) -> Response:
    raise TransportError("no connection", outcome=Outcome.NOT_SENT)


async def at_once(_: float) -> None:
    pass


@attrs.define
class Telemetry:
    """The SDK, in memory."""

    exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    tracer_provider: TracerProvider = attrs.field(factory=TracerProvider)

    def hook(self, **settings: Any) -> OpenTelemetry:
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        return OpenTelemetry(
            tracer_provider=self.tracer_provider,
            meter_provider=MeterProvider(metric_readers=[self.reader]),
            **settings,
        )

    def client(
        self, transport: Transport, *middleware: Any, merchant_in_metrics: bool = False, **settings: Any
    ) -> AsyncClient:
        middleware = middleware or (Retry(base_delay=0, sleep=at_once),)
        hooks = [self.hook(merchant_in_metrics=merchant_in_metrics)]
        return AsyncClient(credentials(), transport=transport, middleware=middleware, hooks=hooks, **settings)

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span

    @property
    def points(self) -> dict[str, Any]:
        data: Any = self.reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return {each.name.removeprefix("wegetfinancing.client."): each.data.data_points for each in metrics}


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def result_of(span: ReadableSpan) -> tuple[Any, ...]:
    names = ("wegetfinancing.outcome", "wegetfinancing.attempts", "http.response.status_code", "error.type")
    assert span.attributes is not None
    return tuple(span.attributes.get(name) for name in names)


async def test_a_call_makes_one_client_span_with_these_attributes_and_no_others(telemetry: Telemetry) -> None:
    async with telemetry.client(FakeTransport()) as client:
        await client.create_request(financing_request())
    assert telemetry.span.name == "wegetfinancing.create_request"
    assert telemetry.span.kind is trace.SpanKind.CLIENT
    assert telemetry.span.status.status_code is trace.StatusCode.UNSET
    assert telemetry.span.attributes == SERVER | {
        "wegetfinancing.operation": "create_request",
        "wegetfinancing.merchant_id": "1234",
        "wegetfinancing.outcome": "done",
        "wegetfinancing.attempts": 1,
        "http.response.status_code": 200,
    }
    assert not telemetry.span.events


async def test_metrics_have_the_same_attributes_but_for_the_attempts_and_the_merchant(
    telemetry: Telemetry,
) -> None:
    async with telemetry.client(FakeTransport(error_response(503), shipping_response())) as client:
        await client.update_shipping(INV_ID, shipping_event())
    attributes = SERVER | {
        "wegetfinancing.operation": "update_shipping",
        "wegetfinancing.outcome": "done",
        "http.response.status_code": 200,
    }
    points = telemetry.points
    assert set(points) == {"duration", "calls", "attempts"}
    for (point,) in points.values():
        assert point.attributes == attributes
    assert (points["calls"][0].value, points["attempts"][0].value) == (1, 2)
    assert points["duration"][0].count == 1
    assert points["duration"][0].explicit_bounds[0] == 0.005
    assert telemetry.span.attributes == attributes | {
        "wegetfinancing.attempts": 2,
        "wegetfinancing.merchant_id": "1234",
    }


async def test_metrics_tell_merchants_apart_if_they_are_told_to(telemetry: Telemetry) -> None:
    other = credentials(merchant_id="5678")
    async with telemetry.client(FakeTransport(), merchant_in_metrics=True) as client:
        await client.create_request(financing_request())
        await client.for_merchant(other).create_request(financing_request())
        await client.for_merchant(other).create_request(financing_request())
    for points in telemetry.points.values():
        assert [each.attributes["wegetfinancing.merchant_id"] for each in points] == ["1234", "5678"]
    assert [each.value for each in telemetry.points["calls"]] == [1, 2]
    spans = telemetry.exporter.get_finished_spans()
    assert [(each.attributes or {})["wegetfinancing.merchant_id"] for each in spans] == [
        "1234",
        "5678",
        "5678",
    ]


CASES = [
    ([error_response(400)], ("refused", 1, 400, "InvalidRequestError")),
    ([error_response(500)] * 3, ("unknown", 3, 500, "ServerError")),
    ([Response(200, {}, b"{")], ("unknown", 1, 200, "DecodingError")),
    ([no_connection] * 3, ("not_sent", 3, None, "TransportError")),
    ([lost, no_connection, no_connection], ("unknown", 3, None, "TransportError")),
    ([lost, error_response(400)], ("unknown", 2, 400, "InvalidRequestError")),
    ([ValueError("anything")] * 3, ("unknown", 3, None, "TransportError")),
]


@pytest.mark.parametrize(("script", "expected"), CASES, ids=[str(expected) for _, expected in CASES])
async def test_the_outcome_and_the_error_are_those_the_caller_gets(
    telemetry: Telemetry, script: Any, expected: Any
) -> None:
    async with telemetry.client(FakeTransport(*script)) as client:
        with pytest.raises(CallError) as caught:
            await client.update_shipping(INV_ID, shipping_event())
    assert result_of(telemetry.span) == expected
    assert (caught.value.outcome.value, type(caught.value).__name__) == (expected[0], expected[3])
    assert telemetry.span.status.status_code is trace.StatusCode.ERROR
    assert telemetry.span.status.description is None
    assert not telemetry.span.events


class SilentOnceSent(FakeTransport):
    """Never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = anyio.Event()

    async def send(self, request: Request) -> Response:
        self.sent.set()
        await anyio.sleep_forever()
        return await super().send(request)


async def test_a_deadline_is_told_from_a_caller_that_gave_up() -> None:
    async def result(timeout: float) -> tuple[Any, ...]:
        late = Telemetry()
        async with late.client(SilentOnceSent(), timeout=timeout) as client:
            with pytest.raises(DeadlineExceededError):
                await client.create_request(financing_request())
        return result_of(late.span)

    expected = ("unknown", 1, None, "DeadlineExceededError")
    assert await with_enough_time(result, lambda result: result == expected) == expected

    given_up, transport = Telemetry(), SilentOnceSent()
    async with given_up.client(transport) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.create_request, financing_request())
        await transport.sent.wait()
        tasks.cancel_scope.cancel()
    assert result_of(given_up.span) == ("unknown", 1, None, "cancelled")


async def nothing(request: Request, call_next: Handler) -> Any:
    return None


async def twice(request: Request, call_next: Handler) -> Response:
    await call_next(request)
    return await call_next(request)


async def raising(request: Request, call_next: Handler) -> Response:
    await call_next(request)
    raise ValueError(request.body)


async def renaming(request: Request, call_next: Handler) -> Response:
    return await call_next(attrs.evolve(request, operation=str(request.body)))


@pytest.mark.parametrize(
    ("middleware", "error", "expected"),
    [
        (nothing, TransportError, ("not_sent", 0, None, "TransportError")),
        (twice, TransportError, ("unknown", 1, 200, "TransportError")),
        (raising, ValueError, ("unknown", 1, 200, "ValueError")),
    ],
)
async def test_a_middleware_that_misbehaves_is_recorded_without_what_it_says(
    telemetry: Telemetry, middleware: Any, error: type[Exception], expected: Any
) -> None:
    async with telemetry.client(FakeTransport(), middleware) as client:
        with pytest.raises(error):
            await client.create_request(financing_request())
    assert result_of(telemetry.span) == expected
    assert "Jane" not in telemetry.span.to_json()


async def test_the_span_is_named_by_the_call_whatever_a_middleware_does(telemetry: Telemetry) -> None:
    async with telemetry.client(FakeTransport(), renaming) as client:
        await client.create_request(financing_request())
    assert telemetry.span.name == "wegetfinancing.create_request"
    assert "Jane" not in telemetry.span.to_json()


async def test_the_span_is_current_during_the_call_only(telemetry: Telemetry) -> None:
    seen = []

    def look(_: Request) -> Response:
        seen.append(trace.get_current_span())
        return created_response()

    async with telemetry.client(FakeTransport(look, lost)) as client:
        await client.create_request(financing_request())
        with pytest.raises(CallError):
            await client.create_request(financing_request())
        assert trace.get_current_span() is trace.INVALID_SPAN
    assert seen[0] is not trace.INVALID_SPAN


async def test_what_is_refused_before_sending_makes_no_span(telemetry: Telemetry) -> None:
    async with telemetry.client(FakeTransport()) as client:
        with pytest.raises(InvalidRequestError):
            await client.create_request(financing_request(first_name=""))
    assert telemetry.exporter.get_finished_spans() == ()


async def test_what_runs_inside_a_call_is_a_child_of_its_span(telemetry: Telemetry) -> None:
    tracer = telemetry.tracer_provider.get_tracer("below")

    def below(_: Request) -> Response:
        with tracer.start_as_current_span("below"):
            return created_response()

    async with telemetry.client(FakeTransport(below)) as client:
        await client.create_request(financing_request())
    child, parent = telemetry.exporter.get_finished_spans()
    assert child.parent == parent.get_span_context()


class FailingSpanProcessor(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError(span.name)


async def test_telemetry_that_fails_loses_no_answer(telemetry: Telemetry) -> None:
    telemetry.tracer_provider.add_span_processor(FailingSpanProcessor())
    async with telemetry.client(FakeTransport()) as client:
        created = await client.create_request(financing_request())
    assert created.inv_id == INV_ID


CANARIES = ["Canaryfirst", "Canarylast", "canary@example.com", "2125550001", "1 Canary St", "Canaryville"]
CANARIES += [
    "CANARY-ORDER",
    "canary-message",
    "CANARY-TRACKING",
    "canary-password",
    "canary-user",
    "X-CANARY",
]
ECHOED = error_response(400, message="X-CANARY", reasons={"email": "X-CANARY canary@example.com"})


def canary_request() -> Any:
    return financing_request(
        first_name="Canaryfirst",
        last_name="Canarylast",
        email="canary@example.com",
        phone="2125550001",
        billing_address=address(street1="1 Canary St", city="Canaryville"),
        merchant_transaction_id="CANARY-ORDER",
    )


@pytest.mark.parametrize(
    "reply", [created_response, lambda: ECHOED, lambda: Response(500, {"x-canary": "X-CANARY"}, b"X-CANARY")]
)
async def test_nothing_of_the_customer_and_no_secret_is_recorded(
    telemetry: Telemetry, reply: Callable[[], Response]
) -> None:
    secret = credentials(username="canary-user", password="canary-password")
    event = shipping_event(message="canary-message", tracking_number="CANARY-TRACKING")
    transport = FakeTransport(lambda _: reply(), lambda _: ECHOED)
    async with AsyncClient(secret, transport=transport, hooks=[telemetry.hook()]) as client:
        for call in (client.create_request(canary_request()), client.update_shipping("CANARY-ORDER", event)):
            with contextlib.suppress(CallError):
                await call
    shown = "".join(each.to_json() for each in telemetry.exporter.get_finished_spans())
    shown += telemetry.reader.get_metrics_data().to_json()  # type: ignore[union-attr] # there is data
    assert shown.count("wegetfinancing.operation") >= 4
    assert not [canary for canary in CANARIES if canary in shown]


async def test_it_uses_the_global_providers_by_default() -> None:
    transport = FakeTransport(error_response(503, retry_after="0"), shipping_response())
    async with AsyncClient(credentials(), transport=transport, hooks=[OpenTelemetry()]) as client:
        await client.update_shipping(INV_ID, shipping_event())
    assert len(transport.requests) == 2
