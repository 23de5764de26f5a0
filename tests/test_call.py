"""One call below every middleware: sent at most once, as the client made it, and logged."""

import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs
import pytest

from support.calls import LOST, create, make_client, ship
from support.virtual_time import virtual_time
from wegetfinancing import (
    AsyncClient,
    DeadlineExceededError,
    Middleware,
    Outcome,
    Retry,
    TransportError,
)
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

AT_ONCE = Retry(base_delay=0.0)
CALLS: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "create_request": lambda client: client.create_request(financing_request()),
    "update_shipping": lambda client: client.update_shipping("x", shipping_event()),
}


async def never(seconds: float) -> None:
    raise AssertionError


@pytest.mark.parametrize("first", [created_response(), error_response(500), TransportError("lost")])
async def test_a_middleware_cannot_send_a_create_twice(first: Any) -> None:
    async def twice(request: Request, call_next: Handler) -> Response:
        with contextlib.suppress(TransportError):
            await call_next(request)
        return await call_next(request)

    transport = FakeTransport(first, created_response())
    async with AsyncClient(credentials(), transport=transport, middleware=[twice]) as client:
        with pytest.raises(TransportError, match="at most once per call") as caught:
            await client.create_request(financing_request())
    assert len(transport.requests) == 1
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_not_even_when_it_claims_that_the_request_is_repeatable() -> None:
    async def claiming(request: Request, call_next: Handler) -> Response:
        return await AT_ONCE(attrs.evolve(request, repeatable=True), call_next)

    transport = FakeTransport(error_response(503), created_response())
    async with AsyncClient(credentials(), transport=transport, middleware=[claiming]) as client:
        with pytest.raises(TransportError, match="at most once per call"):
            await client.create_request(financing_request())
    assert [each.repeatable for each in transport.requests] == [False]


@pytest.mark.parametrize("other", ["a", "update_shipping"])
async def test_a_middleware_cannot_give_a_call_the_name_of_another_operation(other: str) -> None:
    async def renaming(request: Request, call_next: Handler) -> Response:
        return await call_next(attrs.evolve(request, operation=other))

    transport = FakeTransport(created_response())
    async with AsyncClient(credentials(), transport=transport, middleware=[renaming]) as client:
        await client.create_request(financing_request())
    assert [each.operation for each in transport.requests] == ["create_request"]


async def test_a_middleware_that_hides_what_was_sent_cannot_make_the_outcome_better() -> None:
    async def lying(request: Request, call_next: Handler) -> Response:
        await call_next(request)
        raise TransportError("never mind", outcome=Outcome.NOT_SENT)

    async with AsyncClient(credentials(), transport=FakeTransport(), middleware=[lying]) as client:
        with pytest.raises(TransportError) as caught:
            await client.create_request(financing_request())
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_while_an_attempt_is_in_flight_nobody_can_say_that_nothing_was_sent() -> None:
    reached = anyio.Event()

    class Silent(FakeTransport):
        async def send(self, _: Request) -> Response:
            reached.set()
            await anyio.sleep_forever()
            raise AssertionError

    async def leaving(request: Request, call_next: Handler) -> Response:
        async def pass_on() -> None:
            await call_next(request)

        beside.start_soon(pass_on)
        await reached.wait()
        raise TransportError("never mind", outcome=Outcome.NOT_SENT)

    async with (
        anyio.create_task_group() as beside,
        AsyncClient(credentials(), transport=Silent(), middleware=[leaving]) as client,
    ):
        with pytest.raises(TransportError) as caught:
            await client.create_request(financing_request())
        assert caught.value.outcome is Outcome.UNKNOWN
        beside.cancel_scope.cancel()


@pytest.mark.parametrize("operation", CALLS)
async def test_nothing_is_sent_once_the_call_has_ended(operation: str) -> None:
    kept: list[tuple[Request, Handler]] = []

    async def keeping(request: Request, call_next: Handler) -> Response:
        kept.append((request, call_next))
        raise TransportError("later, perhaps", outcome=Outcome.NOT_SENT)

    transport = FakeTransport()
    async with AsyncClient(credentials(), transport=transport, middleware=[keeping]) as client:
        with pytest.raises(TransportError) as caught:
            await CALLS[operation](client)
        (request, call_next) = kept.pop()
        with pytest.raises(TransportError, match="a middleware called call_next after the call had ended"):
            await Retry(sleep=never)(request, call_next)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert transport.requests == []


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("late", [0.0, 1.0])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nothing_is_sent_from_the_deadline_on_when_a_middleware_held_up_the_event_loop(
    backend: str, late: float, call: Callable[[AsyncClient], Awaitable[object]]
) -> None:
    transport = FakeTransport()
    with virtual_time(backend) as time:

        async def blocking(request: Request, call_next: Handler) -> Response:
            time.jump(request.deadline - anyio.current_time() + late)
            return await call_next(request)

        async def run() -> None:
            middleware: list[Middleware] = [Retry(), blocking]
            async with AsyncClient(credentials(), transport=transport, middleware=middleware) as client:
                await call(client)

        with pytest.raises(DeadlineExceededError) as caught:
            time.portal.call(run)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert transport.requests == []


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("change", [lambda body: body + b" ", lambda body: body[:-1], lambda _: b"{}"])
async def test_a_middleware_cannot_change_the_body(operation: str, change: Callable[[bytes], bytes]) -> None:
    async def rewriting(request: Request, call_next: Handler) -> Response:
        return await call_next(attrs.evolve(request, body=change(request.body)))

    transport = FakeTransport()
    async with AsyncClient(credentials(), transport=transport, middleware=[Retry(), rewriting]) as client:
        with pytest.raises(TransportError, match="a middleware changed the body") as caught:
            await CALLS[operation](client)
    assert (caught.value.outcome, caught.value.permanent) == (Outcome.NOT_SENT, True)
    assert transport.requests == []


async def test_a_create_cannot_be_sent_under_the_guard_of_another_call_in_flight() -> None:
    first: list[Handler] = []
    waiting, finished = anyio.Event(), anyio.Event()

    async def crossing(request: Request, call_next: Handler) -> Response:
        if not first:
            first.append(call_next)
            waiting.set()
            await finished.wait()
            return created_response("answered by the middleware")
        with contextlib.suppress(TransportError):
            await first[0](request)
        return await call_next(request)

    transport = FakeTransport()
    client = AsyncClient(credentials(), transport=transport, middleware=[crossing])
    async with client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.create_request, financing_request(merchant_transaction_id="A"))
        await waiting.wait()
        await client.create_request(financing_request(merchant_transaction_id="B"))
        finished.set()
    assert [each.merchant_transaction_id for each in transport.financing_requests] == ["B"]


async def test_a_transport_that_returns_no_response_is_named() -> None:
    client, _ = make_client(lambda _: None)
    async with client:
        with pytest.raises(TransportError, match="the transport returned NoneType") as caught:
            await create(client)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_what_a_transport_raised_does_not_stay_reachable() -> None:
    client, _ = make_client(RuntimeError("secret"))
    async with client:
        with pytest.raises(TransportError, match=r"raised RuntimeError at fakes\.py:\d+\.") as caught:
            await create(client)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_what_a_transport_raised_is_named_by_its_innermost_line() -> None:
    def outer(request: Request) -> Response:
        return inner(request)

    def inner(request: Request) -> Response:
        raise RuntimeError

    client, _ = make_client(outer)
    async with client:
        with pytest.raises(TransportError) as caught:
            await create(client)
    line = inner.__code__.co_firstlineno + 1
    assert f"raised RuntimeError at test_call.py:{line}." in str(caught.value)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
async def test_the_log_has_the_allowed_fields_and_no_others(
    caplog: pytest.LogCaptureFixture, level: int
) -> None:
    caplog.set_level(level)
    client, _ = make_client(
        error_response(503, reasons={"email": "jane@example.com"}),
        TransportError(LOST, outcome=Outcome.UNKNOWN),
        shipping_response(),
    )
    async with client:
        await ship(client)
    records = [each for each in caplog.records if each.name == "wegetfinancing"]
    assert {each.levelno for each in records} == {logging.INFO}
    plain = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    assert {name for each in records for name in vars(each)} - plain == {
        "operation",
        "merchant_id",
        "attempt",
        "status",
        "outcome",
        "duration",
    }
    assert [(each.attempt, each.status, each.outcome) for each in records] == [  # type: ignore[attr-defined] # extra
        (1, 503, "unknown"),
        (2, None, "unknown"),
        (3, 200, "done"),
    ]
    texts = [each.getMessage() for each in records]
    assert texts[0].startswith("update_shipping of merchant 1234, attempt 1: HTTP 503 in ")
    assert texts[1].startswith("update_shipping of merchant 1234, attempt 2: TransportError in ")
    assert "jane@example.com" not in caplog.text


async def test_a_log_filter_that_raises_does_not_lose_the_answer() -> None:
    def broken(record: logging.LogRecord) -> bool:
        raise KeyError

    logger = logging.getLogger("wegetfinancing")
    logger.addFilter(broken)
    logger.setLevel(logging.INFO)
    try:
        client, _ = make_client()
        async with client:
            assert (await create(client)).inv_id == INV_ID
    finally:
        logger.removeFilter(broken)
        logger.setLevel(logging.NOTSET)


async def test_nothing_is_logged_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "wegetfinancing")
    client, _ = make_client()
    async with client:
        await create(client)
    assert caplog.records == []
