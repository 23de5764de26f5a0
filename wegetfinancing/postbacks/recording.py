"""What becomes of a postback where a ledger keeps the decisions, and what the vendor is answered."""

import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs

from .._checks import has_methods, is_async
from ..errors import ConfigurationError, LedgerError
from .decisions import ClaimedDecision, DecisionLedger, Recorded, SyncDecisionHandler
from .events import Postback
from .leases import hand_over
from .receiving import NotYet, UnhandledError
from .steps import Call, Pause, Steps, run

_FIRST_PAUSE: Final = 0.05
_MAX_PAUSE: Final = 1.0

_LOGGER: Final = logging.getLogger("wegetfinancing")


def check_ledger(ledger: DecisionLedger) -> None:
    """Require a ledger.

    Raises:
        ConfigurationError: something else, or the class of one.

    """
    if not has_methods(ledger, "record"):
        msg = "ledger must be a ledger, such as SQLLedger(...) of wegetfinancing.contrib.sqlalchemy"
        raise ConfigurationError(msg)


def check_handler(ledger: DecisionLedger, handler: object) -> None:
    """Require exactly one of the ledger's ``apply`` and ``handler``.

    Raises:
        ConfigurationError: both, neither, not a ledger, or something that cannot be called.

    """
    check_ledger(ledger)
    if ledger.applies and handler is not None:
        msg = "the ledger has an apply of its own, and a handler was passed too; choose one"
        raise ConfigurationError(msg)
    if not ledger.applies and handler is None:
        msg = (
            "nothing handles decisions: make the ledger with apply=, or pass handler="
            " (in Django: 'APPLY' or 'HANDLER' in settings.WEGETFINANCING)"
        )
        raise ConfigurationError(msg)
    if not (handler is None or callable(handler)):
        msg = "handler must be a function of one decision"
        raise ConfigurationError(msg)


def refuse_beside_a_ledger(*settings: object) -> None:
    """Refuse ``store``, ``repeat_handler`` and ``max_age`` of an endpoint that has a ledger.

    Raises:
        ConfigurationError: one of them is not ``None``.

    """
    if any(each is not None for each in settings):
        msg = (
            "store, repeat_handler and max_age are not for an endpoint with a ledger: it remembers every"
            " delivery for ever, and one that comes again after an outage has to count"
        )
        raise ConfigurationError(msg)


@attrs.frozen
class RecordingRules:
    """Stores a postback, and has its decision handled and those before it of the same loan.

    Attributes:
        record: as of ``DecisionLedger``, or the same awaited.
        claim: the same.
        handle: hands a claimed decision over, and returns whether that has succeeded.
        has_worker: as of ``DecisionLedger``, or the same awaited.
        patience: seconds to try to store.

    """

    record: Callable[[Postback], Any]
    claim: Callable[[int], Any]
    handle: Callable[[ClaimedDecision], Any]
    has_worker: Callable[[], Any]
    patience: float

    def steps(self, postback: Postback, clock: Callable[[], float]) -> Steps[None]:
        """Store a postback and have it handled; return if the vendor is to be answered OK.

        That is when nothing is left to do, or when handling failed and a worker is alive to try again.
        Otherwise a vendor that delivers again may do so.

        Raises:
            NotYet: it could not be stored.
            UnhandledError: it is stored, handling has failed, and no worker is alive.

        """
        recorded = yield from self._record(postback, clock)
        is_done = recorded.settled
        with contextlib.suppress(LedgerError):  # it is stored, and that is as far as it came
            is_done = is_done or (yield from self._is_handled(postback, recorded.id))
        if not is_done:
            _LOGGER.error(
                "decision %d (%s, order %s of merchant %s) is stored and not handled, and no worker is alive"
                " to try again",
                recorded.id,
                postback.status,
                recorded.order_id or postback.merchant_transaction_id,
                postback.merchant_id,
            )
            raise UnhandledError

    def _is_handled(self, postback: Postback, decision_id: int) -> Steps[bool]:
        while (claim := (yield Call(self.claim, (decision_id,)))) is not None:
            if not (yield Call(self.handle, (claim,))):
                break
        if (yield Call(self.record, (postback,))).settled:
            return True
        has_worker: bool = yield Call(self.has_worker, ())
        return has_worker

    def _record(self, postback: Postback, clock: Callable[[], float]) -> Steps[Recorded]:
        give_up = clock() + self.patience
        pause = _FIRST_PAUSE
        while True:
            try:
                recorded: Recorded = yield Call(self.record, (postback,))
            except LedgerError as error:
                if clock() + pause > give_up:
                    _LOGGER.error(  # noqa: TRY400 - the error's text says it all
                        "a postback could not be stored: order %s, %s, %s, merchant %s: %s",
                        postback.merchant_transaction_id,
                        postback.inv_id,
                        postback.status,
                        postback.merchant_id,
                        error,
                    )
                    raise NotYet from None
            else:
                return recorded
            yield Pause(pause)
            pause = min(2 * pause, _MAX_PAUSE)


class SyncLedgerHandling:
    """Stores postbacks in a ledger and has their decisions handled, in the caller's thread.

    Raises:
        ConfigurationError: not a ledger, one with both an ``apply`` and a handler or with neither, or a
            handler that is ``async``.

    """

    __slots__ = ("_rules",)

    def __init__(self, ledger: DecisionLedger, handler: SyncDecisionHandler | None, patience: float) -> None:
        """``handler``: ``None`` where the ledger applies. ``patience``: seconds to try to store."""
        check_handler(ledger, handler)
        if is_async(handler):
            msg = "handler must be a plain 'def (decision)' here; 'async def' needs ASGI"
            raise ConfigurationError(msg)
        handle = ledger.apply if handler is None else partial(hand_over, ledger, handler)
        self._rules = RecordingRules(ledger.record, ledger.claim, handle, ledger.has_worker, patience)

    def __call__(self, postback: Postback) -> None:
        """Do what ``RecordingRules.steps`` says, in this thread."""
        run(self._rules.steps(postback, time.monotonic))
