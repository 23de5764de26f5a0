"""Rules that neither await nor block: they yield what to do, and an endpoint awaits it or calls it.

So the same rules serve endpoints that await and endpoints that run in threads.
"""

import inspect
import time
from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

import anyio
import attrs

from ..errors import ConfigurationError

_Result = TypeVar("_Result")


@attrs.frozen
class Call:
    """Call a function; the rules receive what it returns or raises.

    Attributes:
        function: ``async`` for ``run_async``, plain for ``run``.
        args: what to call it with.
        seconds: how long it may take; ``None`` for any. ``run`` cannot interrupt what blocks, and leaves the
            limit to the function's own timeout.
        is_shielded: whether it runs to its end even when the caller is cancelled.

    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    seconds: float | None = None
    is_shielded: bool = False


@attrs.frozen
class Pause:
    """Wait for so many seconds."""

    seconds: float


Steps: TypeAlias = Generator[Call | Pause, Any, _Result]
"""Rules that are under way."""


async def run_async(steps: Steps[_Result]) -> _Result:
    """Await each step, and return what the rules return."""
    try:
        step = next(steps)
        while True:
            try:
                done = await _await(step)
            except BaseException as error:  # noqa: BLE001 - the rules raise it again
                step = steps.throw(error)
            else:
                step = steps.send(done)
    except StopIteration as end:
        result: _Result = end.value
        return result


def run(steps: Steps[_Result]) -> _Result:
    """Take each step in this thread, and return what the rules return."""
    try:
        step = next(steps)
        while True:
            try:
                done = _call(step)
            except BaseException as error:  # noqa: BLE001 - the rules raise it again
                step = steps.throw(error)
            else:
                step = steps.send(done)
    except StopIteration as end:
        result: _Result = end.value
        return result


async def _await(step: Call | Pause) -> object:
    if isinstance(step, Pause):
        await anyio.sleep(step.seconds)
        return None
    if step.seconds is None:
        return await step.function(*step.args)
    with anyio.fail_after(step.seconds, shield=step.is_shielded):
        return await step.function(*step.args)


def _call(step: Call | Pause) -> object:
    if isinstance(step, Pause):
        time.sleep(step.seconds)
        return None
    return call(step.function, *step.args)


def call(function: Callable[..., Any], *args: object) -> object:
    """Call a plain function.

    Raises:
        ConfigurationError: it returned an awaitable.
        Exception: what it raised.

    """
    done: object = function(*args)
    if inspect.isawaitable(done):  # nothing has happened yet, and nobody will await it
        if inspect.iscoroutine(done):
            done.close()
        name = getattr(function, "__qualname__", type(function).__name__)
        msg = f"{name} returned an awaitable, and nothing awaits it here: use a plain function"
        raise ConfigurationError(msg)
    return done
