"""What hooks are told of a call, and that they cannot change one."""

import logging
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest

from support.exchanges import with_enough_time
from support.transports import SilentTransport
from wegetfinancing import (
    AsyncClient,
    Attempt,
    CallEnded,
    CallError,
    CallStarted,
    ConfigurationError,
    DecodingError,
    Hook,
    InvalidRequestError,
    Outcome,
    Retry,
    ServerError,
    TransportError,
)
from wegetfinancing.contrib.opentelemetry import OpenTelemetry
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.testing import (
    INV_ID,
    FakeTransport,
    created_response,
    credentials,
    error_response,
    financing_request,
    shipping_event,
    shipping_response,
)

pytestmark = pytest.mark.anyio


@attrs.define
class Notes:
    """A hook that keeps what it is told."""

    started: list[CallStarted] = attrs.field(factory=list)
    ended: list[CallEnded] = attrs.field(factory=list)

    def __call__(self, call: CallStarted, /) -> Callable[[CallEnded], None]:
        self.started.append(call)
        return self.ended.append


def client_with(*hooks: Hook, script: Any = (), **settings: Any) -> AsyncClient:
    defaults: dict[str, Any] = {"transport": FakeTransport(*script), "middleware": [Retry(base_delay=0)]}
    return AsyncClient(credentials(), hooks=hooks, **defaults | settings)


def without_time(attempts: tuple[Attempt, ...]) -> list[tuple[Any, ...]]:
    assert all(each.seconds >= 0 for each in attempts)
    return [(each.operation, each.number, each.status, each.outcome, each.error_type) for each in attempts]


async def test_a_call_has_one_record_for_each_attempt() -> None:
    notes = Notes()
    lost = TransportError("lost", outcome=Outcome.NOT_SENT)
    script = (error_response(503), lost, shipping_response())
    async with client_with(notes, script=script) as client:
        await client.update_shipping(INV_ID, shipping_event())
    base_url = "https://api.sandbox.wegetfinancing.com"
    assert notes.started == [CallStarted(operation="update_shipping", merchant_id="1234", base_url=base_url)]
    (ended,) = notes.ended
    assert (ended.operation, ended.outcome, ended.error_type) == ("update_shipping", "done", None)
    assert ended.seconds >= sum(each.seconds for each in ended.attempts)
    assert (ended.merchant_id, {each.merchant_id for each in ended.attempts}) == ("1234", {"1234"})
    assert without_time(ended.attempts) == [
        ("update_shipping", 1, 503, "unknown", None),
        ("update_shipping", 2, None, "not_sent", "TransportError"),
        ("update_shipping", 3, 200, "done", None),
    ]


async def test_the_log_is_made_of_the_same_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wegetfinancing")
    notes = Notes()
    script = (error_response(503), RuntimeError(), shipping_response())
    async with client_with(notes, script=script) as client:
        await client.update_shipping(INV_ID, shipping_event())
    logged = [
        (each.operation, each.attempt, each.status, each.outcome, each.duration)  # type: ignore[attr-defined] # extra
        for each in caplog.records
    ]
    assert logged == [
        (each.operation, each.number, each.status, each.outcome, each.seconds)
        for each in notes.ended[0].attempts
    ]


@pytest.mark.parametrize(
    ("reply", "error", "expected", "attempt"),
    [
        (error_response(500), ServerError, ("unknown", "ServerError"), (500, "unknown", None)),
        (Response(200), DecodingError, ("unknown", "DecodingError"), (200, "done", None)),
        (error_response(400), CallError, ("refused", "InvalidRequestError"), (400, "refused", None)),
        (ValueError(), CallError, ("unknown", "TransportError"), (None, "unknown", "TransportError")),
        (lambda _: None, CallError, ("unknown", "TransportError"), (None, "unknown", "TransportError")),
    ],
)
async def test_the_end_of_a_failed_call_names_what_the_caller_gets(
    reply: Any, error: type[Exception], expected: Any, attempt: Any
) -> None:
    notes = Notes()
    async with client_with(notes, script=(reply,)) as client:
        with pytest.raises(error):
            await client.create_request(financing_request())
    (ended,) = notes.ended
    assert (ended.outcome, ended.error_type) == expected
    assert without_time(ended.attempts) == [("create_request", 1, *attempt)]


async def test_an_attempt_that_the_deadline_cuts_off_has_a_record_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def cut_off(timeout: float) -> CallEnded:
        notes = Notes()
        async with client_with(notes, transport=SilentTransport(), timeout=timeout) as client:
            with pytest.raises(CallError):
                await client.create_request(financing_request())
        (ended,) = notes.ended
        return ended

    caplog.set_level(logging.INFO, "wegetfinancing")
    ended = await with_enough_time(cut_off, lambda ended: bool(ended.attempts))
    assert (ended.outcome, ended.error_type) == ("unknown", "DeadlineExceededError")
    assert without_time(ended.attempts) == [("create_request", 1, None, "unknown", "cancelled")]
    (record,) = caplog.records
    assert record.getMessage().startswith("create_request of merchant 1234, attempt 1: cancelled in ")


async def test_a_caller_that_gives_up_is_told_from_a_deadline() -> None:
    notes = Notes()
    async with (
        client_with(notes, transport=SilentTransport()) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.create_request, financing_request())
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert [(each.outcome, each.error_type) for each in notes.ended] == [("unknown", "cancelled")]


async def test_an_error_of_a_middleware_is_named_by_its_class() -> None:
    async def broken(request: Request, call_next: Handler) -> Response:
        await call_next(request)
        raise ZeroDivisionError

    async def broken_before(request: Request, call_next: Handler) -> Response:
        raise ZeroDivisionError

    notes = Notes()
    for middleware in (broken, broken_before):
        async with client_with(notes, middleware=[middleware]) as client:
            with pytest.raises(ZeroDivisionError):
                await client.create_request(financing_request())
    results = [(each.outcome, each.error_type, len(each.attempts)) for each in notes.ended]
    assert results == [("unknown", "ZeroDivisionError", 1), ("not_sent", "ZeroDivisionError", 0)]


async def test_what_is_refused_before_sending_is_no_call_to_a_hook() -> None:
    notes = Notes()
    async with client_with(notes) as client:
        with pytest.raises(InvalidRequestError):
            await client.create_request(financing_request(first_name=""))
        with pytest.raises(ConfigurationError):
            await client.create_request(financing_request(), timeout=-1)
    assert (notes.started, notes.ended) == ([], [])


async def test_the_last_hook_ends_first() -> None:
    log: list[str] = []

    def hook(name: str) -> Hook:
        def started(_: CallStarted, /) -> Callable[[CallEnded], None]:
            log.append(f"> {name}")
            return lambda _: log.append(f"< {name}")

        return started

    def brief(_: CallStarted, /) -> None:
        log.append("> brief")

    async with client_with(hook("a"), brief, hook("b")) as client:
        await client.create_request(financing_request())
    assert log == ["> a", "> brief", "> b", "< b", "< a"]


def raising(call: CallStarted, /) -> Callable[[CallEnded], None]:
    raise ValueError(call)


def raising_later(_: CallStarted, /) -> Callable[[CallEnded], None]:
    return raising  # type: ignore[return-value] # it only raises


@pytest.mark.parametrize("hook", [raising, raising_later])
@pytest.mark.parametrize("broken_filter", [False, True])
async def test_a_hook_that_raises_loses_no_answer_and_is_logged(
    caplog: pytest.LogCaptureFixture, hook: Hook, broken_filter: bool
) -> None:
    def broken(_: logging.LogRecord) -> bool:
        raise KeyError

    notes = Notes()
    logger = logging.getLogger("wegetfinancing")
    if broken_filter:
        logger.addFilter(broken)
    try:
        async with client_with(notes, hook, notes, script=(created_response(),)) as client:
            assert (await client.create_request(financing_request())).inv_id == INV_ID
    finally:
        logger.removeFilter(broken)
    assert len(notes.ended) == 2
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert errors == ([] if broken_filter else ["a hook raised ValueError"])


async def asynchronous(call: CallStarted, /) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("hooks", "problem"),
    [
        (Notes(), "put a single one in brackets"),
        (5, "put a single one in brackets"),
        ([Notes(), 5], "hook number 2 must be a plain function"),
        ([asynchronous], "hook number 1 must be a plain function"),
        ([OpenTelemetry], "hook number 1 must be a plain function"),
    ],
)
def test_what_cannot_be_a_hook_is_refused_at_construction(hooks: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        AsyncClient(credentials(), hooks=hooks)
