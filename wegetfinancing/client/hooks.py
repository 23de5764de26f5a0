"""Hooks that watch the calls of a client: how each call began, each of its attempts, and how it ended.

The values here hold nothing of the customer and no secret, so they may be logged and exported. The log of
the package is made of the same ``Attempt``.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

import anyio
import attrs

from .._checks import is_async
from ..errors import CallError, ConfigurationError, Outcome

DONE: Final = "done"
_LOGGER: Final = logging.getLogger("wegetfinancing")


@attrs.frozen(kw_only=True)
class Attempt:
    """One attempt of a call, once it has ended.

    Attributes:
        operation: ``create_request``, ``update_shipping`` or ``create_test_postback``.
        merchant_id: whose call it is.
        number: its number in the call, from 1 on.
        status: the HTTP status; ``None`` where no answer came.
        outcome: the result of this attempt alone: ``done``, where the status is 2xx, or the value of
            an ``Outcome``: ``not_sent``, ``refused`` or ``unknown``.
        seconds: how long it took.
        error_type: the name of the exception's class where no answer came, such as
            ``TransportError``; ``cancelled`` where the deadline or the caller ended it.

    """

    operation: str
    merchant_id: str
    number: int
    status: int | None
    outcome: str
    seconds: float
    error_type: str | None = None


@attrs.frozen(kw_only=True)
class CallStarted:
    """A call that begins.

    Attributes:
        operation: as in ``Attempt``.
        merchant_id: whose call it is: that of the client, or the one of ``for_merchant``.
        base_url: the address that is called, such as ``https://api.wegetfinancing.com``.

    """

    operation: str
    merchant_id: str
    base_url: str


@attrs.frozen(kw_only=True)
class CallEnded:
    """A call that has ended, by its answer or by an error.

    Attributes:
        operation: as in ``Attempt``.
        merchant_id: whose call it was.
        attempts: those that have ended, in the order in which they did.
        outcome: ``done``, or the value of the ``Outcome`` that the caller's error has.
        seconds: how long the whole call took, with every attempt and pause.
        error_type: the name of the class of the error that the caller gets, such as
            ``ServerError``; ``cancelled`` where the caller gave up; ``None`` on success.

    """

    operation: str
    merchant_id: str
    attempts: tuple[Attempt, ...]
    outcome: str
    seconds: float
    error_type: str | None = None


class Hook(Protocol):
    """Watches the calls of a client: ``AsyncClient(..., hooks=[mine])``.

    It is called when a call begins, and may return a function, which is called once when that call has
    ended: after an answer, an error or a cancellation alike, in the same task and context. Neither can
    change the call: what they raise is logged by its class, and goes no further. Neither may block.

    It does not see a call that sends nothing, because its ``problems()`` are not empty, or because a
    ledger answers it or fails to write it down.
    """

    def __call__(self, call: CallStarted, /) -> Callable[[CallEnded], object] | None:
        """Note that a call begins."""
        ...


def check_hooks(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Return the hooks as a tuple, or say which one cannot be one.

    Raises:
        ConfigurationError: not a sequence, or an item that is not a plain function or an object with
            ``__call__``.

    """
    if callable(hooks) or not isinstance(hooks, Iterable):
        msg = "hooks must be a list of hooks; put a single one in brackets"
        raise ConfigurationError(msg)
    found = tuple(hooks)
    for number, hook in enumerate(found, start=1):
        if not callable(hook) or isinstance(hook, type) or is_async(hook):
            msg = f"hook number {number} must be a plain function of one argument, not a class or 'async def'"
            raise ConfigurationError(msg)
    return found


@attrs.define(eq=False, repr=False)
class Watch:
    """Calls the hooks when one call begins, and their functions once it has ended.

    ``outcome`` returns whether the call may have been carried out.
    """

    _hooks: Sequence[Hook]
    _call: CallStarted
    _attempts: Sequence[Attempt] = attrs.field(kw_only=True, alias="attempts")
    _outcome: Callable[[], Outcome] = attrs.field(kw_only=True, alias="outcome")
    _ended: list[Callable[[CallEnded], object]] = attrs.field(factory=list, init=False)
    _began: float = attrs.field(factory=anyio.current_time, init=False)

    def __enter__(self) -> Self:
        """Call each hook."""
        for hook in self._hooks:
            try:
                ended = hook(self._call)
            except Exception as error:  # noqa: BLE001 - the border to code that is not ours
                _report(error)
            else:
                if ended is not None:
                    self._ended.append(ended)
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        """Report the result, to the last hook first, so that what hooks opened is closed inside out."""
        if not self._ended:
            return
        result = CallEnded(
            operation=self._call.operation,
            merchant_id=self._call.merchant_id,
            attempts=tuple(self._attempts),
            outcome=self._outcome_with(error),
            seconds=anyio.current_time() - self._began,
            error_type=None if error is None else error_type(error),
        )
        for ended in reversed(self._ended):
            try:
                ended(result)
            except Exception as failure:  # noqa: BLE001 - the border to code that is not ours
                _report(failure)

    def _outcome_with(self, error: BaseException | None) -> str:
        if error is None:
            return DONE
        return (error.outcome if isinstance(error, CallError) else self._outcome()).value


def error_type(error: BaseException) -> str:
    """Name the class of an error; the error itself may hold anything."""
    return "cancelled" if isinstance(error, anyio.get_cancelled_exc_class()) else type(error).__name__


def _report(error: Exception) -> None:
    with contextlib.suppress(Exception):  # a log filter that raises must not lose an answer
        _LOGGER.error("a hook raised %s", type(error).__name__)
