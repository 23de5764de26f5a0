"""What the endpoint and the worker need of a ledger: to record a decision, and to have it handled."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import attrs

from .._loan import Loan
from .events import Postback

_LOGGER: Final = logging.getLogger("wegetfinancing")


@attrs.frozen(kw_only=True)
class Decision:
    """A lender's decision about an order of the shop, as its handler receives it.

    Attributes:
        id: the ledger's number of it; later decisions have greater ones.
        order_id: the shop's order ID, even where the postback names none.
        merchant_id: the merchant whose order it is.
        postback: what was said. From a ledger its ``raw`` is empty.
        loan: what the ledger knows now, this decision included.
        attempt: 1 for the first time that a handler sees it.

    """

    id: int
    order_id: str
    merchant_id: str
    postback: Postback
    loan: Loan
    attempt: int


DecisionHandler: TypeAlias = Callable[[Decision], Awaitable[object]]
"""What a shop does with a decision. It runs at least once, until it has returned."""

SyncDecisionHandler: TypeAlias = Callable[[Decision], object]
"""The same as a plain function. Nothing can interrupt it: give what it calls a timeout."""


@attrs.frozen(kw_only=True)
class Recorded:
    """What became of a postback that is on disk.

    Attributes:
        id: of the decision.
        settled: whether nothing is left to do for a handler now, of this one and earlier ones of its loan.
        order_id: the order it belongs to; ``None`` while that is not known.

    """

    id: int
    settled: bool
    order_id: str | None


@attrs.frozen(kw_only=True)
class ClaimedDecision:
    """A decision that is someone's to handle, until the lease ends.

    Attributes:
        decision: what to hand to the handler.
        lease: names this claim.
        seconds: how long the lease lasts unless it is renewed.

    """

    decision: Decision
    lease: str
    seconds: float


class DecisionLedger(Protocol):
    """The part of a ledger that postbacks need. Each method blocks, and is one transaction."""

    @property
    def applies(self) -> bool:
        """Whether the ledger has an ``apply`` of its own."""
        ...

    def record(self, postback: Postback) -> Recorded:
        """Put a verified postback on disk; a repeat is recognised.

        Raises:
            LedgerError: the database failed.
            ConfigurationError: the postback was not verified.

        """
        ...

    def claim(self, decision_id: int | None = None) -> ClaimedDecision | None:
        """Claim what is to be handled next, and count the attempt.

        Args:
            decision_id: claim the first waiting decision of the same loan, up to this one, even if
                it is not due; by default whatever is due.

        """
        ...

    def apply(self, claim: ClaimedDecision) -> bool:
        """Hand a claimed decision to the ledger's ``apply``; ``False`` if it failed or is not waiting.

        The effects of ``apply`` and that it is handled are committed together.
        """
        ...

    def renew(self, claim: ClaimedDecision) -> bool:
        """Make the lease last again; ``False`` if it is lost."""
        ...

    def complete(self, claim: ClaimedDecision) -> bool:
        """Note that the handler has succeeded; ``False`` if the lease is lost."""
        ...

    def fail(self, claim: ClaimedDecision, error: str) -> None:
        """Note that the handler has failed, and let it be tried again later."""
        ...

    def match_again(self) -> int:
        """Match what arrived before its order was known; return how many decisions were matched."""
        ...

    def beat(self, worker: str) -> None:
        """Note that a worker is alive."""
        ...

    def end_beat(self, worker: str) -> None:
        """Note that a worker has ended."""
        ...

    def has_worker(self) -> bool:
        """Whether a worker was alive lately."""
        ...


def log_failed_attempt(claim: ClaimedDecision, error: Exception) -> None:
    """Log that a handler, or a ledger's ``apply``, has failed."""
    _log(claim, "failed in attempt %d; it is tried again", error)


def log_failed_follow_up(claim: ClaimedDecision, error: Exception) -> None:
    """Log that what ``apply`` has left for after the commit has failed, such as a hook of Django's."""
    _log(claim, "was committed in attempt %d, and what followed failed; it is not tried again", error)


def _log(claim: ClaimedDecision, what: str, error: Exception) -> None:
    _LOGGER.error(
        f"the handler of decision %d (%s, order %s of merchant %s) {what}",  # noqa: G004 - one of the texts above
        claim.decision.id,
        claim.decision.postback.status,
        claim.decision.order_id,
        claim.decision.merchant_id,
        claim.decision.attempt,
        exc_info=error,
    )
