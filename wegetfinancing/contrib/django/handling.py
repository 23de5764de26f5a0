"""A decision stored and handled in the thread of the request, by the rules of ``LedgerHandling``."""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from ..._checks import is_async
from ...errors import ConfigurationError, LedgerError
from ...postbacks.decisions import Claim, Decision, DecisionLedger, Recorded
from ...postbacks.events import Postback
from ...postbacks.receiving import NotYet, UnhandledError

SyncDecisionHandler: TypeAlias = Callable[[Decision], object]
"""What a shop does with a decision, as a plain function. It runs at least once, until it has returned."""

_FIRST_PAUSE: Final = 0.05
_MAX_PAUSE: Final = 1.0
_LOGGER: Final = logging.getLogger("wegetfinancing")


class SyncLedgerHandling:
    """Stores a postback, and has its decision handled, in the caller's thread.

    Raises:
        ConfigurationError: the ledger has an ``apply`` and a handler was passed, or neither; or the handler
            is ``async``.

    """

    def __init__(self, ledger: DecisionLedger, handler: SyncDecisionHandler | None, patience: float) -> None:
        """``handler``: ``None`` where the ledger applies. ``patience``: seconds to try to store."""
        if ledger.applies == (handler is not None):
            msg = "decisions need one handler: either the ledger's apply, 'APPLY' in settings, or handler="
            raise ConfigurationError(msg)
        if handler is not None and (is_async(handler) or not callable(handler)):
            msg = "handler must be a plain 'def (decision)'; async_postback_view is for 'async def'"
            raise ConfigurationError(msg)
        self._ledger = ledger
        self._handler = handler
        self._patience = patience

    def __call__(self, postback: Postback) -> None:
        """Store a postback and have it handled; return if the vendor is to be answered OK.

        Raises:
            NotYet: it could not be stored.
            UnhandledError: it is stored, handling has failed, and no worker is alive.

        """
        recorded = self._record(postback)
        is_done = recorded.settled
        with contextlib.suppress(LedgerError):  # it is stored, and that is as far as it came
            is_done = is_done or self._is_handled(postback, recorded.id)
        if not is_done:
            _LOGGER.error(
                "decision %d (%s, order %s) is stored and not handled, and no worker is alive to try again",
                recorded.id,
                postback.status,
                recorded.order_id or postback.merchant_transaction_id,
            )
            raise UnhandledError

    def _record(self, postback: Postback) -> Recorded:
        give_up = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._ledger.record(postback)
            except LedgerError as error:
                if time.monotonic() + pause > give_up:
                    _LOGGER.error(  # noqa: TRY400 - the error's text says it all
                        "a postback could not be stored: order %s, %s, %s: %s",
                        postback.merchant_transaction_id,
                        postback.inv_id,
                        postback.status,
                        error,
                    )
                    raise NotYet from None
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)

    def _is_handled(self, postback: Postback, decision_id: int) -> bool:
        while (claim := self._ledger.claim(decision_id)) is not None:
            if not self._handle(claim, self._handler):
                break
        return self._ledger.record(postback).settled or self._ledger.has_worker()

    def _handle(self, claim: Claim, handler: SyncDecisionHandler | None) -> bool:
        if handler is None:
            return self._ledger.apply(claim)
        try:
            handler(claim.decision)
        except Exception as error:
            _LOGGER.exception(
                "the handler of decision %d (%s, order %s) failed in attempt %d; it is tried again",
                claim.decision.id,
                claim.decision.postback.status,
                claim.decision.order_id,
                claim.decision.attempt,
            )
            self._ledger.fail(claim, type(error).__name__)
            return False
        return self._ledger.complete(claim)
