"""Settings of endpoints and stores, checked before the first postback arrives."""

import datetime as dt
from typing import Final

from .._rules import is_finite_number
from ..errors import ConfigurationError

PATIENCE_SECONDS: Final = 5.0
"""How long an endpoint tries again within one request, by default."""

_MAX_SECONDS: Final = 10**9  # some 30 years, which every store and event loop can count
_CLOCK_SECONDS: Final = 60  # by which the clocks of two machines may differ


def as_seconds(name: str, value: float, *, may_be_zero: bool = False) -> float:
    """Return the setting ``name`` in seconds.

    Raises:
        ConfigurationError: not a number of seconds above 0, or of 0 or more.

    """
    if is_finite_number(value) and (0 < value <= _MAX_SECONDS or (may_be_zero and value == 0)):
        return value
    least = "0 or more" if may_be_zero else "above 0"
    msg = f"{name} must be a number of seconds, {least} and at most {_MAX_SECONDS}"
    raise ConfigurationError(msg)


def as_max_age(max_age: float | dt.timedelta | None) -> float | None:
    """Return ``max_age`` in seconds.

    Raises:
        ConfigurationError: not a finite number of 0 or more.

    """
    if max_age is None:
        return None
    seconds = max_age.total_seconds() if isinstance(max_age, dt.timedelta) else max_age
    if is_finite_number(seconds) and seconds >= 0:
        return seconds
    msg = "max_age must be a finite number of seconds or a timedelta, 0 or more, or None"
    raise ConfigurationError(msg)


def check_replays(keep_seconds: float | None, max_age: float | None) -> None:
    """Refuse a store that forgets a decision while a captured postback of it would still be accepted.

    A timestamp may lie ``max_age`` in the future when it is first accepted and ``max_age`` in the past
    when it is last accepted.

    Raises:
        ConfigurationError: ``keep_seconds`` is too short, or there is no ``max_age``.

    """
    if keep_seconds is None:
        return
    if max_age is None:
        msg = (
            "the store forgets a decision after keep_seconds, and without max_age a captured postback would"
            " then count as a new decision: set max_age, or leave keep_seconds out"
        )
        raise ConfigurationError(msg)
    if keep_seconds < 2 * max_age + _CLOCK_SECONDS:
        msg = (
            f"keep_seconds of the store must be at least 2 * max_age + {_CLOCK_SECONDS}: it would forget a"
            " decision while a captured postback is young enough to count as a new one"
        )
        raise ConfigurationError(msg)
