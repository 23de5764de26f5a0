"""One loan's state across late, repeated or reordered postbacks.

Any status may follow any other, and nothing the vendor sends distinguishes a late repeat from a new
decision of the same kind. So there are three kinds of advice, and goods may ship only if nothing speaks
against it.
"""

import datetime as dt
import enum
from typing import Final, Self

import attrs

from .events import Approved, Postback, Preapproved, Refunded, Rejected, UnknownPostback
from .ordering import DECISIONS, Order, order_of


class Advice(enum.StrEnum):
    """What to do with a postback. It equals its text."""

    APPLY = "apply"
    """It follows from what is known: do what it says."""

    DUPLICATE = "duplicate"
    """It changes nothing: answer OK."""

    SURPRISING = "surprising"
    """It contradicts what is known, or may be a repeat: hold it for manual review. Do not ship."""


_APPROVED: Final = Approved.status
_PREAPPROVED: Final = Preapproved.status
_REJECTED: Final = Rejected.status
_REFUND: Final = Refunded.status

# Repeats that change nothing. Not among them: a rejection repeated after an approval, and an approval
# repeated after a rejection, since either may be a new decision. Nor is a refund that was signed later.
_CHANGES_NOTHING: Final = frozenset(
    {
        (_PREAPPROVED, _PREAPPROVED),
        (_APPROVED, _PREAPPROVED),
        (_APPROVED, _APPROVED),
        (_REJECTED, _REJECTED),
        (_REFUND, _PREAPPROVED),
        (_REFUND, _APPROVED),
        (_REFUND, _REFUND),
    }
)


@attrs.frozen(kw_only=True)
class LoanState:
    """What a shop knows about one financing request. Keep the fields with the order.

    Of two decisions that contradict each other the one that was signed later counts. Where that cannot be
    determined, since they were signed at the same time or a timestamp is not understood, and where the later
    delivery was signed first, the second one is surprising.

    Attributes:
        status: of the last postback that was applied; ``None`` before the first.
        signed_at: when that, or its latest repeat, was signed, in UTC; ``None`` where that is not known.
        handled: the ``key`` of every postback that was applied.
        surprises: the ``key`` of every surprising one that has not been reviewed yet.

    """

    status: str | None = None
    signed_at: dt.datetime | None = None
    handled: frozenset[str] = frozenset()
    surprises: frozenset[str] = frozenset()

    @property
    def may_ship(self) -> bool:
        """Whether the last decision is an approval and nothing waits for manual review."""
        return self.status == Approved.status and not self.surprises

    def advise(self, postback: Postback) -> Advice:
        """Return what to do with a postback now. Never raises on what the vendor sent."""
        step = (self.status, postback.status)
        if postback.key in self.surprises:
            return Advice.DUPLICATE
        if postback.key in self.handled:
            same = step in _CHANGES_NOTHING or isinstance(postback, UnknownPostback)
            if isinstance(postback, Refunded):  # another one of the same amount is signed later
                same = same and self._is_signed_later(postback) is False
            return Advice.DUPLICATE if same else Advice.SURPRISING
        if self.surprises:
            return Advice.SURPRISING
        return self._advise_on_new(postback)

    def _advise_on_new(self, postback: Postback) -> Advice:
        if isinstance(postback, Refunded):
            return Advice.APPLY if self.status in (_APPROVED, _REFUND) else Advice.SURPRISING
        if postback.status not in DECISIONS or self.status == _REFUND:
            return Advice.SURPRISING
        order = order_of(self.status, self.signed_at, postback.status, postback.signed_at)
        if order is Order.CHANGES_NOTHING:
            return Advice.DUPLICATE
        return Advice.APPLY if order is Order.COUNTS else Advice.SURPRISING

    def after(self, postback: Postback) -> Self:
        """Return what is known after the postback, whatever the advice was. Store it each time."""
        advice = self.advise(postback)
        if advice is Advice.APPLY:
            return attrs.evolve(
                self,
                status=postback.status,
                signed_at=postback.signed_at,
                handled=self.handled | {postback.key},
            )
        if advice is Advice.SURPRISING:
            return attrs.evolve(self, surprises=self.surprises | {postback.key})
        if postback.status == self.status and self._is_signed_later(postback):
            # What was signed in between, and arrives later, is older than this decision.
            return attrs.evolve(self, signed_at=postback.signed_at)
        return self

    def _is_signed_later(self, postback: Postback) -> bool | None:
        """Compare with the decision that counts; ``None`` where that cannot be done."""
        if self.signed_at is None or postback.signed_at is None:
            return None
        return postback.signed_at > self.signed_at

    def resolved(self, status: str | None) -> Self:
        """Return what is known after a manual review, in which ``status`` turned out to be the decision."""
        handled = self.handled | self.surprises
        return attrs.evolve(self, status=status, signed_at=None, handled=handled, surprises=frozenset())
