import copy
import functools
import math
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from support.calls import LOST, create, make_client, ship
from support.exchanges import PLENTY, with_enough_time
from support.transports import SilentTransport
from wegetfinancing import (
    APIError,
    AsyncClient,
    CallError,
    ConfigurationError,
    DeadlineExceededError,
    HttpxTransport,
    NotFoundError,
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
    shipping_response,
)

pytestmark = pytest.mark.anyio


# Each row of the table: what the answer is, what it means for a create, and whether an update is repeated.
ROWS: list[tuple[Any, Outcome, bool]] = [
    *[(status, Outcome.UNKNOWN, False) for status in (101, 103, 300, 301, 302, 303, 304, 305)],
    *[(status, Outcome.REFUSED, False) for status in (307, 308)],
    (408, Outcome.UNKNOWN, True),
    *[(status, Outcome.REFUSED, True) for status in (421, 425, 429)],
    *[(status, Outcome.REFUSED, False) for status in (400, 401, 403, 404, 405, 406, 409, 410, 422, 451, 499)],
    *[(status, Outcome.UNKNOWN, True) for status in (500, 502, 503, 504, 520, 523, 527, 530)],
    *[(status, Outcome.UNKNOWN, False) for status in (501, 505, 519, 528, 529, 531, 599, 600, 999)],
    (TransportError(LOST, outcome=Outcome.UNKNOWN), Outcome.UNKNOWN, True),
    (TransportError("refused", outcome=Outcome.NOT_SENT), Outcome.NOT_SENT, True),
    (TransportError("certificate", outcome=Outcome.NOT_SENT, permanent=True), Outcome.NOT_SENT, False),
    (RuntimeError("anything a transport may raise"), Outcome.UNKNOWN, True),
]


def reply(row: Any) -> Any:
    return copy.copy(row) if isinstance(row, Exception) else error_response(row)


@pytest.mark.parametrize(("row", "outcome", "_"), ROWS, ids=str)
async def test_what_each_row_of_the_table_means_for_a_create(row: Any, outcome: Outcome, _: bool) -> None:
    client, transport = make_client(reply(row), created_response())
    async with client:
        with pytest.raises(CallError) as caught:
            await create(client)
    assert caught.value.outcome is outcome
    assert caught.value.operation == "create_request"
    assert len(transport.requests) == 1


@pytest.mark.parametrize(("row", "_", "repeated"), ROWS, ids=str)
async def test_what_each_row_of_the_table_means_for_a_shipping_update(
    row: Any, _: Outcome, repeated: bool
) -> None:
    client, transport = make_client(reply(row), shipping_response())
    async with client:
        if repeated:
            assert (await ship(client)).loan == INV_ID
        else:
            with pytest.raises(CallError):
                await ship(client)
    assert len(transport.requests) == 1 + repeated
    assert len({each.body for each in transport.requests}) == 1


async def test_an_earlier_attempt_that_may_have_happened_is_not_forgotten() -> None:
    not_sent = TransportError("refused", outcome=Outcome.NOT_SENT)
    client, _ = make_client(error_response(503), error_response(404))
    async with client:
        with pytest.raises(NotFoundError) as caught:
            await ship(client)
    assert caught.value.outcome is Outcome.UNKNOWN
    client, _ = make_client(not_sent, error_response(429), copy.copy(not_sent))
    async with client:
        with pytest.raises(TransportError) as lost:
            await ship(client)
    assert lost.value.outcome is Outcome.REFUSED


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_beyond_the_deadline_is_raised_at_once(status: int) -> None:
    client, transport = make_client(error_response(status, retry_after="60"))
    async with client:
        with pytest.raises(APIError) as caught:
            await ship(client)
    assert caught.value.retry_after == 60
    assert len(transport.requests) == 1


def is_unknown(outcome: Outcome) -> bool:
    return outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("call", [create, ship])
async def test_the_deadline_ends_a_call_and_a_transport_that_cannot_tell_counts_as_sent(
    call: Callable[[AsyncClient], Any],
) -> None:
    async def outcome(timeout: float) -> Outcome:
        client, _ = make_client(transport=SilentTransport(), timeout=timeout)
        async with client:
            with pytest.raises(DeadlineExceededError, match="did not end before its deadline") as caught:
                await call(client)
        return caught.value.outcome

    assert await with_enough_time(outcome, is_unknown) is Outcome.UNKNOWN


async def test_a_deadline_before_anything_was_sent_says_so() -> None:
    async def waiting(request: Request, call_next: Handler) -> Response:
        await anyio.sleep_forever()
        raise AssertionError

    client, transport = make_client(middleware=[waiting], timeout=0.02)
    async with client:
        with pytest.raises(DeadlineExceededError) as caught:
            await create(client)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert transport.requests == []


async def never(*_: object) -> Any:
    await anyio.sleep_forever()


class NeverAnswers(HttpxTransport):
    async def send(self, request: Request) -> Response:
        await super().send(request)
        await never()
        raise AssertionError


class NeverRepeats(Retry):
    async def __call__(self, request: Request, call_next: Handler) -> Response:
        await call_next(request)
        await never()
        raise AssertionError


def busy() -> HttpxTransport:
    return HttpxTransport(httpx.MockTransport(lambda _: httpx.Response(503)))


@pytest.mark.parametrize(
    ("transport", "middleware"),
    [
        (lambda: HttpxTransport(httpx.MockTransport(never)), Retry),
        (lambda: NeverAnswers(httpx.MockTransport(lambda _: httpx.Response(200))), Retry),
        (busy, NeverRepeats),
        (busy, lambda: Retry(base_delay=0.0, sleep=never)),
        (busy, lambda: Retry(base_delay=1e6, max_delay=1e6, clock=lambda: -1e9)),
    ],
    ids=["ours", "derived transport", "derived retry", "other sleep", "other clock"],
)
async def test_the_deadline_ends_what_is_ours_and_what_is_made_of_it(
    transport: Callable[[], HttpxTransport], middleware: Callable[[], Retry]
) -> None:
    async def outcome(timeout: float) -> Outcome:
        client, _ = make_client(transport=transport(), middleware=[middleware()], timeout=timeout)
        async with client:
            with pytest.raises(DeadlineExceededError) as caught:
                await ship(client)
        return caught.value.outcome

    with anyio.fail_after(PLENTY):
        assert await with_enough_time(outcome, is_unknown) is Outcome.UNKNOWN


async def test_a_call_may_have_a_timeout_of_its_own() -> None:
    client, transport = make_client(timeout=1000)
    async with client:
        await client.create_request(financing_request(), timeout=7)
        await create(client)
        left = [each.deadline - anyio.current_time() for each in transport.requests]
    assert left == [pytest.approx(7, abs=1), pytest.approx(1000, abs=1)]


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, True, "1"])
async def test_a_call_with_a_timeout_that_cannot_be_right_sends_nothing(timeout: Any) -> None:
    client, transport = make_client()
    async with client:
        with pytest.raises(ConfigurationError, match="timeout must be a finite number"):
            await client.create_request(financing_request(), timeout=timeout)
    assert transport.requests == []


async def test_a_shorter_cancellation_of_the_caller_stays_a_cancellation() -> None:
    client, _ = make_client(transport=SilentTransport())
    async with client:
        with anyio.move_on_after(0.02) as scope:
            await create(client)
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("wrong", "way_out"),
    [
        (httpx.AsyncClient(), r"wrap it: transport=HttpxTransport\(client\)"),
        (httpx2.AsyncClient(), r"wrap it: transport=HttpxTransport\(client\)"),
        (httpx.MockTransport(lambda _: httpx.Response(200)), "must be an instance with 'async def send"),
        (FakeTransport, "must be an instance with 'async def send"),
        ("https://x", "must be an instance with 'async def send"),
    ],
)
async def test_what_is_no_transport_is_refused_at_construction(wrong: Any, way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        AsyncClient(credentials(), transport=wrong)


@pytest.mark.parametrize("script", [error_response(500), Response(200), TransportError(LOST)], ids=str)
async def test_a_traceback_with_locals_shows_nothing_of_the_customer(script: Any) -> None:
    client, _ = make_client(script)
    async with client:
        with pytest.raises(CallError) as caught:
            await create(client)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    locals_of_ours = str([each.locals for each in shown.stack if "test_client" not in each.filename])
    assert "AsyncClient" in locals_of_ours
    for secret in ("jane@example.com", "Doe", "2125551234", "123 Main St", "api-password", "YXBp"):
        assert secret not in locals_of_ours


async def passes_on(key: str, request: Request, call_next: Handler) -> Response:
    return await call_next(request)


async def test_a_traceback_with_locals_shows_nothing_that_a_middleware_holds() -> None:
    client, _ = make_client(error_response(500), middleware=[functools.partial(passes_on, "its-key")])
    async with client:
        with pytest.raises(CallError) as caught:
            await create(client)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "its-key" not in str([each.locals for each in shown.stack if "test_client" not in each.filename])


async def test_a_transport_that_was_given_is_not_closed() -> None:
    client, transport = make_client()
    async with client:
        await create(client)
    assert not transport.closed


async def test_a_client_shows_no_secret() -> None:
    client = AsyncClient(credentials(username="user-secret", password="password-secret"))
    assert "secret" not in repr(client)
    with pytest.raises(TypeError):
        vars(client)
    await client.aclose()


@pytest.mark.parametrize(
    ("is_sent", "outcome"), [(False, "Nothing was sent."), (True, "It may have been carried out.")]
)
async def test_a_cancelled_call_says_whether_it_may_have_been_carried_out(
    is_sent: bool, outcome: str
) -> None:
    async def wait(request: Request, call_next: Handler) -> Response:
        scope.cancel()
        if not is_sent:
            await anyio.sleep_forever()
        return await call_next(request)

    notes: list[str] = []
    async with AsyncClient(credentials(), transport=SilentTransport(), middleware=[wait]) as client:
        with anyio.CancelScope() as scope:
            try:
                await client.create_request(financing_request())
            except BaseException as cancelled:
                notes += cancelled.__notes__
                raise
    assert notes == [f"create_request was interrupted. {outcome}"]
