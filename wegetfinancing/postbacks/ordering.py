"""Which of two decisions about one loan is the newer one, as far as that can be determined."""

import datetime as dt
import enum
from typing import Final

from .events import Approved, Preapproved, Rejected

FINAL: Final = frozenset({Approved.status, Rejected.status})
DECISIONS: Final = FINAL | {Preapproved.status}


class Order(enum.Enum):
    """What a decision means next to the last one that counts."""

    COUNTS = "counts"
    """It is the newer one: it counts from now on."""

    CHANGES_NOTHING = "changes_nothing"
    """It is older, and the newer one says more."""

    CANNOT_BE_TOLD = "cannot_be_told"
    """The two contradict each other, and which is newer cannot be determined."""


def order_of(last: str | None, last_at: dt.datetime | None, new: str, new_at: dt.datetime | None) -> Order:
    """Put two decisions of one loan in order by when they were signed.

    Args:
        last: the status that counts; ``None`` if there is none.
        last_at: when it was signed; ``None`` if that is not known.
        new: the status of the decision that arrived.
        new_at: when that was signed; ``None`` if that is not known.

    """
    if last is None:
        return Order.COUNTS
    if last_at is not None and new_at is not None and new_at != last_at:
        if new_at > last_at:
            return Order.COUNTS
        return Order.CHANGES_NOTHING if new == Preapproved.status else Order.CANNOT_BE_TOLD
    # A preapproval is followed by the decision; nothing says that it ever follows one.
    if last == Preapproved.status and new in FINAL:
        return Order.COUNTS
    return Order.CANNOT_BE_TOLD
