"""Repeating what may be repeated: when, how often and after which pause.

The decision is a pure function, ``pause_before_repeat``; the clock, the sleep and the random source
are given to ``Retry``, so that tests need neither wait nor patch.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import attrs

from .._rules import is_finite_number
from ..errors import ConfigurationError, DeadlineExceededError, TransportError
from ..http import Handler, Request, Response
from .answers import retry_after

# 408 to 504 by their definition; 520 to 527 and 530 are the CDN's words for an origin out of reach.
# https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
REPEATED_STATUSES: Final = frozenset({408, 421, 425, 429, 500, 502, 503, 504, *range(520, 528), 530})

_MOST_DOUBLINGS: Final = 30


def _at_least(limit: float) -> Callable[[object, "attrs.Attribute[Any]", Any], None]:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if is_finite_number(value) and value >= limit:
            return
        msg = f"RetryPolicy.{attribute.name} must be a finite number, {limit} or more"
        raise ConfigurationError(msg)

    return check


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How a repeatable call is repeated.

    The pause before a repeat is drawn evenly between 0 and ``base_delay`` doubled with each
    attempt, up to ``max_delay`` ("full jitter"); a ``Retry-After`` of the server makes it at least
    that long. No repeat begins after the call's deadline.

    Attributes:
        attempts: how often a call is sent in all, the first time included; 1 repeats nothing.
        base_delay: seconds; the most the first pause can last.
        max_delay: seconds; the most any pause of our own can last.
        quota: how many repeats a client may spend while nothing succeeds, so that an outage is not
            answered with a storm.
        quota_per_success: how much of the quota a success gives back.

    Raises:
        ConfigurationError: a value that is no number or too small.

    """

    attempts: int = attrs.field(default=3, validator=_at_least(1))
    base_delay: float = attrs.field(default=0.5, validator=_at_least(0))
    max_delay: float = attrs.field(default=8.0, validator=_at_least(0))
    quota: float = attrs.field(default=20, validator=_at_least(0))
    quota_per_success: float = attrs.field(default=0.1, validator=_at_least(0))


def pause_before_repeat(
    policy: RetryPolicy,
    result: Response | TransportError,
    *,
    attempt: int,
    time_left: float,
    jitter: float,
    now: float,
) -> float | None:
    """Decide whether a repeatable call is sent again: seconds to wait, or ``None`` for no.

    Args:
        policy: the limits.
        result: what the attempt came to.
        attempt: its number, from 1 on.
        time_left: seconds until the call's deadline.
        jitter: a random number from 0 up to 1.
        now: seconds since the epoch, for a ``Retry-After`` that is a date.

    """
    asked: float | None = None
    if isinstance(result, TransportError):
        # A transport ends a little before the deadline; an attempt in what is left could only be cut off,
        # and then nobody knows whether it was sent.
        if result.permanent or isinstance(result, DeadlineExceededError):
            return None
    elif result.status not in REPEATED_STATUSES:
        return None
    else:
        asked = retry_after(result, now)
    if attempt >= policy.attempts:
        return None
    most = min(policy.max_delay, policy.base_delay * 2 ** min(attempt - 1, _MOST_DOUBLINGS))
    pause = max(jitter * most, asked or 0.0)
    return pause if pause < time_left else None


def _draw() -> float:
    import random  # noqa: PLC0415 - not before something is repeated

    return random.random()  # noqa: S311 - spreads pauses, and keeps no secret


class Retry:
    """Middleware that repeats a repeatable call until it succeeds or the policy says stop.

    It holds the client's retry quota, so make one per client. Put before other middleware, that
    middleware runs once per attempt; put after it, once per call.
    """

    __slots__ = ("_clock", "_policy", "_quota", "_random", "_sleep", "_wall_clock")

    def __init__(
        self,
        policy: RetryPolicy = RetryPolicy(),
        *,
        clock: Callable[[], float] = anyio.current_time,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
        random: Callable[[], float] = _draw,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the policy and, for tests, other sources of time and chance.

        Args:
            policy: the limits.
            clock: seconds on the clock of ``Request.deadline``.
            sleep: waits so many seconds.
            random: draws a number from 0 up to 1.
            wall_clock: seconds since the epoch.

        """
        if not isinstance(policy, RetryPolicy):
            msg = f"Retry takes a RetryPolicy, such as RetryPolicy(attempts=5), not {type(policy).__name__}"
            raise ConfigurationError(msg)
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._wall_clock = wall_clock
        self._quota = float(policy.quota)

    @property
    def ends_by_deadline(self) -> bool:
        """Whether no pause of its own lasts beyond the call's deadline."""
        own_clock = self._clock is anyio.current_time and self._sleep is anyio.sleep
        return own_clock and type(self) is Retry

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Pass the request on, again if need be; what may not be repeated is passed on once."""
        if not request.repeatable:
            return await call_next(request)
        attempt = 1
        while True:
            result: Response | TransportError
            try:
                result = await call_next(request)
            except TransportError as error:
                result = error
            else:
                if result.status not in REPEATED_STATUSES:
                    self._quota = min(self._policy.quota, self._quota + self._policy.quota_per_success)
                    return result
            pause = self._pause(result, attempt, request.deadline)
            if pause is None:
                break
            await self._sleep(pause)
            attempt += 1
        if isinstance(result, TransportError):
            try:
                raise result
            finally:
                del result  # its traceback holds this frame: without this, a cycle for the collector
        return result

    def _pause(self, result: Response | TransportError, attempt: int, deadline: float) -> float | None:
        pause = pause_before_repeat(
            self._policy,
            result,
            attempt=attempt,
            time_left=deadline - self._clock(),
            jitter=self._random(),
            now=self._wall_clock(),
        )
        if pause is None or self._quota < 1:
            return None
        self._quota -= 1
        return pause
