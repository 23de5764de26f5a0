"""A ledger: safe beyond the wire, in the shop's own database.

An order is applied for at most once; a verified decision is never lost, and is handled until the handler has
succeeded; ``loan.may_ship`` is true only if nothing speaks against it.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal, Protocol

from ._ledger.memory import MemoryLedger
from ._loan import ApplicationState, Hold, Loan, PendingDecision, Review
from .client.intents import ApplicationLedger
from .errors import OrderConflictError
from .postbacks.decisions import Decision, DecisionHandler, DecisionLedger, SyncDecisionHandler
from .postbacks.events import Postback
from .postbacks.worker import run_worker

__all__ = [
    "ApplicationState",
    "Decision",
    "DecisionHandler",
    "Hold",
    "Ledger",
    "Loan",
    "MemoryLedger",
    "OrderConflictError",
    "PendingDecision",
    "Review",
    "SyncDecisionHandler",
    "run_worker",
]


class Ledger(ApplicationLedger, DecisionLedger, Protocol):
    """What ``AsyncClient``, ``PostbackApp`` and ``run_worker`` accept as ``ledger=``.

    Its methods block, and each is one transaction. ``merchant_id`` says whose order is meant; it is required
    where a ledger knows several merchants.
    """

    def loan(self, order_id: str, *, merchant_id: str | None = None) -> Loan | None:
        """Return what is known of an order's loan, or ``None``.

        Raises:
            ConfigurationError: the ledger knows several merchants, and none is named.
            LedgerError: the database failed.

        """
        ...

    def loans(self, order_ids: Iterable[str], *, merchant_id: str | None = None) -> Mapping[str, Loan]:
        """Return the loans of several orders by order ID; unknown ones are left out."""
        ...

    def once(self, connection: Any, postback: Postback) -> Decision | None:  # noqa: ANN401 - the shop's own
        """Record a postback in the shop's own transaction, and return what to apply in it, or ``None``."""
        ...

    def review(self, *, undecided_for: dt.timedelta | None = None, merchant_id: str | None = None) -> Review:
        """List what someone should look at, of one merchant or of all.

        ``undecided_for``: list also what was created so long ago and has had no final decision.
        """
        ...

    def resolve(
        self, order_id: str, state: Literal["absent"] = "absent", *, merchant_id: str | None = None
    ) -> Loan:
        """Say that the vendor has no application of this order. Its ID is closed for ever.

        Raises:
            ValueError: the application exists, or its request may still be on its way.

        """
        ...

    def adopt(
        self,
        order_id: str,
        inv_id: str,
        amount: Decimal | int | str | None = None,
        *,
        merchant_id: str | None = None,
    ) -> Loan:
        """Take over an application that was found at the vendor's; ``amount`` in USD.

        Raises:
            ValueError: the ID belongs to another order, or the order has another ID.

        """
        ...

    def accept(
        self,
        order_id: str,
        holds: Iterable[Hold | str],
        *,
        apply: bool = False,
        merchant_id: str | None = None,
    ) -> Loan:
        """Accept exactly these holds; with ``apply`` the held decisions behind them count and are handled.

        Raises:
            ValueError: the order is not known, has no such hold, or with ``apply`` a later decision waits or
                one of them was dismissed.

        """
        ...

    def retry(self, decision_id: int, *, merchant_id: str | None = None) -> None:
        """Let a decision that waits be handled now, whatever its pause.

        Raises:
            ValueError: the ledger does not know it, or it does not wait for a handler.

        """
        ...

    def dismiss(self, decision_id: int, *, merchant_id: str | None = None) -> None:
        """Let a decision be handled no more.

        Raises:
            ValueError: the ledger does not know it, or it was handled.

        """
        ...

    def forget(self, order_id: str, *, merchant_id: str | None = None) -> None:
        """Erase the details of an order; its ID and decisions stay known.

        Raises:
            ValueError: the order is not known, or its request may still be on its way.

        """
        ...

    def purge(self, older_than: dt.timedelta, *, merchant_id: str | None = None) -> int:
        """Erase the details of loans that have not changed for so long; return how many.

        ``merchant_id``: those of one merchant only.
        """
        ...
