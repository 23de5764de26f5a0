"""Repeating what may be repeated: when, how often and after which pause.

The decision is a pure function, ``pause_before_repeat``; the clock, the sleep and the random source
are given to ``Retry``, so that tests need neither wait nor patch.
"""

import copy
import random as random_numbers
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

import anyio
import attrs

from .._rules import is_finite_number
from ..errors import ConfigurationError, DeadlineExceededError, TransportError
from ..http import Handler, Request, Response
from .answers import retry_after

# 408 to 504 by their definition; 520 to 527 and 530 are the CDN's words for an origin out of reach.
# https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
REPEATED_STATUSES: Final = frozenset({408, 421, 425, 429, 500, 502, 503, 504, *range(520, 528), 530})

_MAX_DOUBLINGS: Final = 30


def _at_least(limit: float) -> Callable[[object, "attrs.Attribute[Any]", Any], None]:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if is_finite_number(value) and value >= limit:
            return
        msg = f"{attribute.name} of Retry must be a finite number, {limit} or more"
        raise ConfigurationError(msg)

    return check


@attrs.frozen(kw_only=True)
class RetryLimits:
    """The settings of ``Retry``, which documents them."""

    attempts: int = attrs.field(validator=_at_least(1))
    base_delay: float = attrs.field(validator=_at_least(0))
    max_delay: float = attrs.field(validator=_at_least(0))
    quota: float = attrs.field(validator=_at_least(0))
    quota_per_success: float = attrs.field(validator=_at_least(0))


def pause_before_repeat(
    limits: RetryLimits,
    result: Response | TransportError,
    *,
    attempt: int,
    time_left: float,
    jitter: float,
    now: float,
) -> float | None:
    """Decide whether a repeatable call is sent again: seconds to wait, or ``None`` for no.

    Args:
        limits: how often, and how long a pause may be.
        result: the answer or the failure of the attempt.
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
    if attempt >= limits.attempts:
        return None
    longest = min(limits.max_delay, limits.base_delay * 2 ** min(attempt - 1, _MAX_DOUBLINGS))
    pause = max(jitter * longest, asked or 0.0)
    return pause if pause < time_left else None


class Retry:
    """Middleware that repeats a repeatable call until it succeeds or a limit is reached.

    The pause before a repeat is drawn evenly between 0 and ``base_delay`` doubled with each
    attempt, up to ``max_delay`` ("full jitter"); a ``Retry-After`` of the server makes it at least
    that long. No repeat begins after the call's deadline.

    It holds the client's retry quota, so make one per client; ``for_merchant`` makes one for each
    merchant. A middleware before it in the list runs once per call, one after it once per attempt.

    Args:
        attempts: how often a call is sent in all, the first time included; 1 repeats nothing.
        base_delay: seconds; the first pause is at most this long.
        max_delay: seconds; no pause of our own is longer.
        quota: how many repeats a client may spend while nothing succeeds, so that an outage is not
            answered with a storm.
        quota_per_success: how much of the quota a success restores.
        clock: for tests: seconds on the clock of ``Request.deadline``.
        sleep: for tests: waits so many seconds.
        random: for tests: draws a number from 0 up to 1.
        wall_clock: for tests: seconds since the epoch.

    Raises:
        ConfigurationError: a value that is not a finite number, or too small.

    """

    __slots__ = ("_clock", "_limits", "_quota", "_random", "_sleep", "_wall_clock")

    def __init__(  # noqa: PLR0913 - settings by keyword, all optional
        self,
        *,
        attempts: int = 3,
        base_delay: float = 0.5,
        max_delay: float = 8.0,
        quota: float = 20,
        quota_per_success: float = 0.1,
        clock: Callable[[], float] = anyio.current_time,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
        random: Callable[[], float] = random_numbers.random,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Check the limits."""
        self._limits = RetryLimits(
            attempts=attempts,
            base_delay=base_delay,
            max_delay=max_delay,
            quota=quota,
            quota_per_success=quota_per_success,
        )
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._wall_clock = wall_clock
        self._quota = float(quota)

    def with_full_quota(self) -> Self:
        """Return a ``Retry`` of the same settings that has spent nothing of its quota."""
        other = copy.copy(self)
        other._quota = float(self._limits.quota)  # noqa: SLF001 - of this class
        return other

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Pass the request on, again if need be. What must not be repeated is passed on once."""
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
                    self._quota = min(self._limits.quota, self._quota + self._limits.quota_per_success)
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
            self._limits,
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
