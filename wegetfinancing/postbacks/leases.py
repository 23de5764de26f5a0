"""A decision handed to a plain handler, under a lease that another thread keeps meanwhile."""

import contextlib
import threading
from typing import Final

from ..errors import LedgerError
from .decisions import ClaimedDecision, DecisionLedger, SyncDecisionHandler, log_failed_attempt
from .steps import call

RENEWALS: Final = 6  # of a lease, for each lease


def hand_over(ledger: DecisionLedger, handler: SyncDecisionHandler, claim: ClaimedDecision) -> bool:
    """Call a plain handler in this thread, and return whether that has succeeded.

    Nobody else begins with the decision meanwhile, however long the handler takes, unless the ledger's
    database is away for a whole lease: then the handler may run a second time, as after a crash.

    Raises:
        BaseException: what has interrupted the handler, such as ``SystemExit``; it counts as a failure.

    """
    ended = threading.Event()
    threading.Thread(
        target=_keep_lease, args=(ledger, claim, ended), name="wegetfinancing-lease", daemon=True
    ).start()
    failed_with: str | None = "interrupted"
    try:
        call(handler, claim.decision)
        failed_with = None
    except Exception as error:  # noqa: BLE001 - the border to the shop's code; the decision stays waiting
        log_failed_attempt(claim, error)
        failed_with = type(error).__name__
    finally:
        ended.set()
        if failed_with is not None:
            with contextlib.suppress(LedgerError):  # the lease ends by itself
                ledger.fail(claim, failed_with)
    return failed_with is None and ledger.complete(claim)


def _keep_lease(ledger: DecisionLedger, claim: ClaimedDecision, ended: threading.Event) -> None:
    is_kept = True
    while is_kept and not ended.wait(claim.seconds / RENEWALS):
        with contextlib.suppress(LedgerError):  # tried again, long before the lease ends
            is_kept = ledger.renew(claim)
