import contextlib
import gc
import inspect
import math
import weakref
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.calls import throttled
from wegetfinancing import (
    ConfigurationError,
    DeadlineExceededError,
    Outcome,
    Retry,
    TransportError,
)
from wegetfinancing.client.retry import REPEATED_STATUSES, RetryLimits, pause_before_repeat
from wegetfinancing.http import Request, Response

SETTINGS: dict[str, Any] = {
    "attempts": 4,
    "base_delay": 1.0,
    "max_delay": 3.0,
    "quota": 20,
    "quota_per_success": 0.1,
}
NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
LOST = TransportError("lost", outcome=Outcome.UNKNOWN)


def decide(result: Response | TransportError, **changes: Any) -> float | None:
    limits = RetryLimits(**SETTINGS | changes.pop("limits", {}))
    arguments: dict[str, Any] = {"attempt": 1, "time_left": 100.0, "jitter": 0.5, "now": NOW} | changes
    return pause_before_repeat(limits, result, **arguments)


@pytest.mark.parametrize("status", [408, 421, 425, 429, 500, 502, 503, 504, 520, 521, 527, 530])
def test_statuses_that_may_pass_are_repeated(status: int) -> None:
    assert decide(Response(status)) == 0.5


def test_no_other_status_is_repeated() -> None:
    assert {status for status in range(100, 600) if decide(Response(status)) is not None} == REPEATED_STATUSES


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.UNKNOWN])
def test_a_lost_connection_is_repeated(outcome: Outcome) -> None:
    assert decide(TransportError("lost", outcome=outcome)) == 0.5


def test_what_no_repeat_cures_is_not_repeated() -> None:
    assert decide(TransportError("certificate", outcome=Outcome.NOT_SENT, permanent=True)) is None


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.UNKNOWN])
def test_nothing_is_repeated_once_the_calls_time_ran_out(outcome: Outcome) -> None:
    assert decide(DeadlineExceededError("late", outcome=outcome), jitter=0.0) is None


def test_the_pause_doubles_up_to_the_most() -> None:
    pauses = [decide(LOST, attempt=n, jitter=0.999, limits={"attempts": 9}) for n in range(1, 6)]
    assert pauses == pytest.approx([0.999, 1.998, 2.997, 2.997, 2.997])
    assert decide(LOST, attempt=10**6, limits={"attempts": 10**7}) == 1.5


def test_the_number_of_attempts_is_bounded() -> None:
    assert decide(LOST, attempt=3) is not None
    assert decide(LOST, attempt=4) is None
    assert decide(LOST, attempt=5) is None


def test_no_repeat_begins_after_the_deadline() -> None:
    assert decide(LOST, time_left=0.51) == 0.5
    assert decide(LOST, time_left=0.5) is None
    assert decide(LOST, jitter=0.0, time_left=0.0) is None
    assert decide(LOST, time_left=math.inf) == 0.5


def test_retry_after_is_honoured_when_it_ends_inside_the_deadline() -> None:
    assert decide(throttled("2"), time_left=2.1) == 2.0
    assert decide(throttled("2"), time_left=2.0) is None
    assert decide(throttled("0")) == 0.5


@given(
    st.builds(
        Response, st.integers(100, 599), st.fixed_dictionaries({}, optional={"retry-after": st.text()})
    ),
    st.integers(1, 10),
    st.floats(0, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_a_pause_always_ends_before_the_deadline(
    result: Response, attempt: int, time_left: float, jitter: float
) -> None:
    pause = decide(result, attempt=attempt, time_left=time_left, jitter=jitter)
    assert pause is None or 0 <= pause < time_left


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": True},
        {"base_delay": -0.1},
        {"max_delay": -0.1},
        {"max_delay": math.inf},
        {"quota": -0.1},
        {"quota": math.nan},
        {"quota_per_success": -0.1},
        {"quota_per_success": "1"},
    ],
)
def test_a_setting_that_cannot_be_right_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{next(iter(wrong))} of Retry must be a finite number"):
        Retry(**wrong)


@pytest.mark.anyio
async def test_the_least_of_everything_repeats_nothing() -> None:
    least = {"attempts": 1, "base_delay": 0, "max_delay": 0, "quota": 0, "quota_per_success": 0}
    script = Script([Response(503)])
    assert await make_retry(Time(), **least)(make_request(), script) == Response(503)
    assert len(script.requests) == 1


def test_the_default_settings_are_those_of_the_signature() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(Retry).parameters.items()
        if name in SETTINGS
    }
    assert defaults == {
        "attempts": 3,
        "base_delay": 0.5,
        "max_delay": 8.0,
        "quota": 20,
        "quota_per_success": 0.1,
    }


def test_a_setting_is_not_given_by_position() -> None:
    with pytest.raises(TypeError, match="positional"):
        Retry(5)  # type: ignore[call-arg] # what is tested


@attrs.define
class Time:
    """A clock that only sleeping moves."""

    now: float = 1000.0
    slept: list[float] = attrs.field(factory=list)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@attrs.define
class Script:
    """A handler that gives one reply after the other."""

    replies: list[Response | TransportError]
    requests: list[Request] = attrs.field(factory=list)

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, TransportError):
            raise reply
        return reply


def make_retry(time: Time, **settings: Any) -> Retry:
    given: dict[str, Any] = SETTINGS | settings
    return Retry(**given, clock=time.clock, sleep=time.sleep, random=lambda: 0.5, wall_clock=lambda: NOW)


def make_request(*, repeatable: bool = True, deadline: float = 1100.0) -> Request:
    return Request(
        operation="update_shipping", method="POST", url="https://x", repeatable=repeatable, deadline=deadline
    )


@pytest.mark.anyio
async def test_it_repeats_until_success_with_the_same_request() -> None:
    time, script = Time(), Script([LOST, Response(503), Response(200)])
    request = make_request()
    assert await make_retry(time)(request, script) == Response(200)
    assert time.slept == [0.5, 1.0]
    assert all(each is request for each in script.requests)


@pytest.mark.anyio
@pytest.mark.parametrize("reply", [LOST, Response(503), Response(429, {"retry-after": "0"})])
async def test_what_must_not_be_repeated_is_passed_on_once(reply: Response | TransportError) -> None:
    time, script = Time(), Script([reply])
    try:
        result: Any = await make_retry(time)(make_request(repeatable=False), script)
    except TransportError as error:
        result = error
    assert result is reply
    assert len(script.requests) == 1
    assert time.slept == []


@pytest.mark.anyio
async def test_the_last_failure_comes_out_as_it_is() -> None:
    last = TransportError("the last one", outcome=Outcome.NOT_SENT)
    with pytest.raises(TransportError) as caught:
        await make_retry(Time())(make_request(), Script([LOST, LOST, LOST, last]))
    assert caught.value is last
    assert await make_retry(Time())(make_request(), Script([LOST, LOST, LOST, Response(500)])) == Response(
        500
    )


@pytest.mark.anyio
async def test_a_retry_after_beyond_the_deadline_is_given_back_at_once() -> None:
    time, script = Time(), Script([throttled("200")])
    assert await make_retry(time)(make_request(), script) == throttled("200")
    assert time.slept == []


@pytest.mark.anyio
async def test_a_failure_that_was_raised_is_freed_without_the_collector() -> None:
    async def failing(request: Request) -> Response:
        raise TransportError("lost")

    gc.disable()
    try:
        with contextlib.suppress(TransportError):
            try:
                await make_retry(Time())(make_request(), failing)
            except TransportError as error:
                failure = weakref.ref(error)
                raise
        assert failure() is None
    finally:
        gc.enable()


@pytest.mark.anyio
async def test_any_other_exception_passes_through() -> None:
    async def broken(request: Request) -> Response:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await make_retry(Time())(make_request(), broken)


@pytest.mark.anyio
async def test_an_outage_is_not_answered_with_a_storm() -> None:
    retry, sent = make_retry(Time(), quota=5, quota_per_success=0.5), []
    for _ in range(10):
        script = Script([Response(503)] * 4)
        await retry(make_request(deadline=math.inf), script)
        sent.append(len(script.requests))
    assert sent == [4, 3, 1, 1, 1, 1, 1, 1, 1, 1]

    for _ in range(2):
        await retry(make_request(), Script([Response(200)]))
    script = Script([Response(503)] * 4)
    await retry(make_request(deadline=math.inf), script)
    assert len(script.requests) == 2


@pytest.mark.anyio
async def test_success_gives_back_no_more_quota_than_there_was() -> None:
    retry = make_retry(Time(), quota=1, quota_per_success=1)
    for _ in range(5):
        await retry(make_request(), Script([Response(200)]))
    script = Script([Response(503)] * 4)
    await retry(make_request(), script)
    assert len(script.requests) == 2


@pytest.mark.anyio
async def test_by_default_it_waits_on_the_event_loops_own_clock() -> None:
    script = Script([LOST, Response(200)])
    assert await Retry(base_delay=0.0)(make_request(deadline=math.inf), script) == Response(200)
    assert len(script.requests) == 2
