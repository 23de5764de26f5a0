"""docs/observability.md names what there is, and no more."""

import gc
import logging
import re
import weakref
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from wegetfinancing import AsyncClient, CallError, TransportError
from wegetfinancing.contrib.opentelemetry import OpenTelemetry
from wegetfinancing.testing import FakeTransport, credentials, error_response, financing_request

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parent.parent / "docs" / "observability.md").read_text(encoding="utf-8")
LOGS, _, SPANS = re.split(r"## (?:Hooks|Spans and metrics)", PAGE)


def named_in_tables(text: str) -> set[str]:
    """The names in the first column of the tables."""
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


async def test_a_log_record_has_the_fields_of_the_page_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    usual = set(vars(logging.makeLogRecord({}))) | {"message"}
    with caplog.at_level(logging.INFO, "wegetfinancing"):
        async with AsyncClient(credentials(), transport=FakeTransport()) as client:
            await client.create_request(financing_request())
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert set(vars(record)) - usual == named_in_tables(LOGS)


async def test_a_span_and_the_metrics_have_the_names_of_the_page_and_no_others() -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider(metric_readers=[reader])
    hook = OpenTelemetry(tracer_provider=provider, meter_provider=meters)
    transport = FakeTransport(error_response(400))
    async with AsyncClient(credentials(), transport=transport, hooks=[hook]) as client:
        with pytest.raises(CallError):
            await client.create_request(financing_request())
    (span,) = exporter.get_finished_spans()
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {each.name for each in data.resource_metrics[0].scope_metrics[0].metrics}
    assert set(span.attributes or ()) | metrics == named_in_tables(SPANS)


async def test_a_failed_call_leaves_no_cycle_for_the_collector() -> None:
    class LostError(TransportError):
        pass

    def lose(_: object) -> None:
        raise LostError("lost")

    transport = FakeTransport(lose)  # type: ignore[arg-type] # it only raises
    gc.disable()
    try:
        async with AsyncClient(credentials(), transport=transport, hooks=[OpenTelemetry()]) as client:
            try:
                await client.create_request(financing_request())
            except LostError as error:
                gone = weakref.ref(error)
        assert gone() is None
    finally:
        gc.enable()
