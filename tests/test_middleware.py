import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs
import pytest

from support.virtual_time import virtual_time
from wegetfinancing import (
    AsyncClient,
    ConfigurationError,
    DeadlineExceededError,
    Middleware,
    Outcome,
    Retry,
    TransportError,
    default_middleware,
)
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.testing import (
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


class Recorder:
    """A middleware that notes when it was called."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.requests: list[Request] = []

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        self.log.append(f"> {self.name}")
        self.requests.append(request)
        response = await call_next(request)
        self.log.append(f"< {self.name}")
        return response


async def passing(request: Request, call_next: Handler) -> Response:
    return await call_next(request)


async def never(seconds: float) -> None:
    raise AssertionError


def plain(request: Request, call_next: Handler) -> Any:
    return call_next(request)


async def test_middleware_run_outermost_first() -> None:
    log: list[str] = []
    middleware = [Recorder("a", log), Recorder("b", log)]
    async with AsyncClient(credentials(), transport=FakeTransport(), middleware=middleware) as client:
        await client.create_request(financing_request())
    assert log == ["> a", "> b", "< b", "< a"]


async def test_a_middleware_before_retry_runs_once_per_call_and_one_after_it_once_per_attempt() -> None:
    log: list[str] = []
    outer, inner = Recorder("outer", log), Recorder("inner", log)
    transport = FakeTransport(error_response(503), error_response(502), shipping_response("x"))
    middleware: list[Middleware] = [outer, Retry(base_delay=0.0), inner]
    async with AsyncClient(credentials(), transport=transport, middleware=middleware) as client:
        await client.update_shipping("x", shipping_event())
    assert (len(outer.requests), len(inner.requests)) == (1, 3)


async def test_no_middleware_sees_the_authorization_header_and_the_transport_does() -> None:
    middleware, transport = Recorder("a", []), FakeTransport()
    async with AsyncClient(credentials(), transport=transport, middleware=[middleware]) as client:
        await client.create_request(financing_request())
    assert "authorization" not in middleware.requests[0].headers
    assert transport.requests[0].headers["authorization"] == "Basic YXBpLXVzZXI6YXBpLXBhc3N3b3Jk"


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
async def test_a_middleware_cannot_change_the_body(operation: str) -> None:
    async def rewriting(request: Request, call_next: Handler) -> Response:
        return await call_next(attrs.evolve(request, body=request.body + b" "))

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


async def test_a_middleware_may_answer_by_itself() -> None:
    async def answering(request: Request, call_next: Handler) -> Response:
        return created_response("canned")

    transport = FakeTransport()
    async with AsyncClient(credentials(), transport=transport, middleware=[answering]) as client:
        created = await client.create_request(financing_request())
    assert created.inv_id == "canned"
    assert transport.requests == []


async def test_a_middleware_that_returns_no_response_is_named() -> None:
    async def forgetful(request: Request, call_next: Handler) -> Any:
        await call_next(request)

    async with AsyncClient(credentials(), transport=FakeTransport(), middleware=[forgetful]) as client:
        with pytest.raises(TransportError, match="returned NoneType, not a Response") as caught:
            await client.create_request(financing_request())
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_an_exception_of_the_callers_own_middleware_passes_through() -> None:
    async def broken(request: Request, call_next: Handler) -> Response:
        raise ZeroDivisionError

    async with AsyncClient(credentials(), transport=FakeTransport(), middleware=[broken]) as client:
        with pytest.raises(ZeroDivisionError) as caught:
            await client.create_request(financing_request())
    assert caught.value.__notes__ == ["raised by a middleware of create_request. Nothing was sent."]


async def test_an_exception_raised_after_sending_says_so() -> None:
    async def broken(request: Request, call_next: Handler) -> Response:
        await call_next(request)
        raise ZeroDivisionError

    async with AsyncClient(credentials(), transport=FakeTransport(), middleware=[broken]) as client:
        with pytest.raises(ZeroDivisionError) as caught:
            await client.create_request(financing_request())
    assert caught.value.__notes__ == [
        "raised by a middleware of create_request. It may have been carried out."
    ]


async def test_async_callables_of_every_kind_are_middleware() -> None:
    middleware: list[Any] = [
        passing,
        functools.partial(passing),
        functools.partial(Recorder("a", [])),
        *default_middleware(),
    ]
    async with AsyncClient(credentials(), transport=FakeTransport(), middleware=middleware) as client:
        await client.create_request(financing_request())


@pytest.mark.parametrize(
    ("middleware", "way_out"),
    [
        ([plain], r"number 1 \(plain\) must be 'async def'"),
        ([passing, functools.partial(plain)], "number 2 .* must be 'async def'"),
        ([None], r"number 1 \(NoneType\) must be 'async def'"),
        ([Retry], "number 1 .* must be 'async def'"),
        (passing, "put a single one in brackets"),
        (Retry(), "put a single one in brackets"),
        (5, "put a single one in brackets"),
    ],
)
async def test_what_cannot_be_a_middleware_is_refused_at_construction(middleware: Any, way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        AsyncClient(credentials(), middleware=middleware)


async def test_each_client_has_a_retry_quota_of_its_own() -> None:
    assert default_middleware()[0] is not default_middleware()[0]
