import functools
from typing import Any

import pytest

from wegetfinancing import (
    AsyncClient,
    ConfigurationError,
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


async def test_one_that_returns_none_instead_of_passing_the_request_on_has_sent_nothing() -> None:
    async def forgetful(request: Request, call_next: Handler) -> Any:
        pass

    async with AsyncClient(credentials(), transport=FakeTransport(), middleware=[forgetful]) as client:
        with pytest.raises(TransportError, match="returned NoneType, not a Response") as caught:
            await client.create_request(financing_request())
    assert caught.value.outcome is Outcome.NOT_SENT


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
