"""What becomes of a postback where a ledger keeps the decisions, and what the vendor is answered."""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from ..errors import ConfigurationError, LedgerError
from .decisions import Claim, DecisionLedger, Recorded
from .events import Postback
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
    if not callable(getattr(ledger, "record", None)) or isinstance(ledger, type):
        msg = "ledger must be a ledger, such as SQLLedger(...) of wegetfinancing.contrib.sqlalchemy"
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
    handle: Callable[[Claim], Any]
    has_worker: Callable[[], Any]
    patience: float

    def steps(self, postback: Postback, clock: Callable[[], float]) -> Steps[None]:
        """Return if the vendor is to be answered OK.

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
                "decision %d (%s, order %s) is stored and not handled, and no worker is alive to try again",
                recorded.id,
                postback.status,
                recorded.order_id or postback.merchant_transaction_id,
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
                        "a postback could not be stored: order %s, %s, %s: %s",
                        postback.merchant_transaction_id,
                        postback.inv_id,
                        postback.status,
                        error,
                    )
                    raise NotYet from None
            else:
                return recorded
            yield Pause(pause)
            pause = min(2 * pause, _MAX_PAUSE)


class SyncLedgerHandling:
    """Stores postbacks in a ledger that applies them, in the caller's thread.

    Raises:
        ConfigurationError: not a ledger, one that has no ``apply``, or a handler beside it.

    """

    __slots__ = ("_rules",)

    def __init__(self, ledger: DecisionLedger, handler: object, patience: float) -> None:
        """Check the ledger."""
        check_ledger(ledger)
        if handler is not None or not ledger.applies:
            # A handler outside the ledger's transaction needs a lease that is renewed while it runs, and has
            # to be cut off when the lease is lost; in the request's own thread neither can be done.
            msg = (
                "without ASGI a ledger handles decisions by its own apply:"
                " make the ledger with apply=, and pass no handler"
            )
            raise ConfigurationError(msg)
        self._rules = RecordingRules(ledger.record, ledger.claim, ledger.apply, ledger.has_worker, patience)

    def __call__(self, postback: Postback) -> None:
        """Return if the vendor is to be answered OK.

        Raises:
            NotYet: it could not be stored.
            UnhandledError: it is stored, handling has failed, and no worker is alive.

        """
        run(self._rules.steps(postback, time.monotonic))
