"""What a ledger does for creates, for postbacks, for the shop and for operators."""

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal, Protocol

from .._loan import Hold, Loan, Review
from ..client.intents import ApplicationLedger
from ..postbacks.decisions import Decision, DecisionLedger
from ..postbacks.events import Postback


class Ledger(ApplicationLedger, DecisionLedger, Protocol):
    """What ``AsyncClient``, ``PostbackApp`` and ``run_worker`` accept as ``ledger=``.

    Its methods block, and each is one transaction. ``merchant_id`` says whose order is meant; it is required
    where a ledger knows several merchants. Where it is missing, a method raises ``ConfigurationError``, and
    where the database fails, ``LedgerError``.
    """

    def loan(self, order_id: str, *, merchant_id: str | None = None) -> Loan | None:
        """Return what is known of an order's loan, or ``None``.

        Args:
            order_id: ``merchant_transaction_id``.
            merchant_id: whose order; required where the ledger knows several merchants.

        Raises:
            ConfigurationError: the ledger knows several merchants, and none is named.
            LedgerError: the database failed.

        """
        ...

    def loans(self, order_ids: Iterable[str], *, merchant_id: str | None = None) -> Mapping[str, Loan]:
        """Return the loans of several orders by order ID; unknown ones are left out. See ``loan``."""
        ...

    def once(self, connection: Any, postback: Postback) -> Decision | None:  # noqa: ANN401 - the shop's own
        """Record a postback in the shop's own transaction, and return what to apply in it, once.

        What is returned counts as handled when that transaction is committed. ``None``: it was handled
        before, changes nothing, is held for review, or waits for its order or for an earlier decision;
        ``run_worker`` hands over what waits.

        Args:
            connection: in a transaction of the shop's, which the shop commits.
            postback: from ``parse_postback``.

        Raises:
            LedgerError: the database failed: roll the transaction back.
            ConfigurationError: the postback was not verified, or the connection has no transaction.

        """
        ...

    def review(self, *, undecided_for: dt.timedelta | None = None, merchant_id: str | None = None) -> Review:
        """List what someone should look at, up to a thousand each; first what a customer may be waiting for.

        Args:
            undecided_for: list also applications that were created at least so long ago and have no final
                decision.
            merchant_id: list what is of this merchant only.

        """
        ...

    def resolve(
        self, order_id: str, state: Literal["absent"] = "absent", *, merchant_id: str | None = None
    ) -> Loan:
        """Say that the vendor has no application of this order. Its ID is closed for ever.

        Possible only ``grace`` seconds after the call's deadline, and even then a process that was
        stopped meanwhile may wake and send: therefore the shop uses a new order ID. ``adopt`` is for an
        application that the vendor does have.

        Raises:
            ValueError: the ledger does not know the order, or its application is not in doubt yet.

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
        """Take over an application that was found at the vendor's, also one the ledger has never seen.

        Args:
            order_id: ``merchant_transaction_id``.
            inv_id: the vendor's ID of it.
            amount: what the vendor finances, in USD, where that was seen.
            merchant_id: whose order; required where the ledger knows several merchants, or none.

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
        """Accept exactly these holds of an order; others, and later ones, stay open.

        Args:
            order_id: ``merchant_transaction_id``.
            holds: from ``Loan.held``, or their ``id``.
            apply: let the decisions behind them count, and have them handled: a second refund, or the
                rejection that stands. By default they are reviewed and change nothing.
            merchant_id: whose order; required where the ledger knows several merchants.

        Raises:
            ValueError: the order is not known, has no such hold, or with ``apply`` a later decision waits or
                one of them was dismissed.

        """
        ...

    def retry(self, decision_id: int, *, merchant_id: str | None = None) -> None:
        """Let a decision that waits be handled now, whatever its pause: its handler was fixed.

        Args:
            decision_id: as listed by ``review``.
            merchant_id: refuse a decision of any other merchant.

        Raises:
            ValueError: the ledger does not know it, or it does not wait for a handler.

        """
        ...

    def dismiss(self, decision_id: int, *, merchant_id: str | None = None) -> None:
        """Stop the handling of a decision, such as one of another system's order.

        Args:
            decision_id: as listed by ``review``.
            merchant_id: refuse a decision of any other merchant.

        Raises:
            ValueError: the ledger does not know it, or it was handled.

        """
        ...

    def forget(self, order_id: str, *, merchant_id: str | None = None) -> None:
        """Erase the details of an order now. Its ID and its decisions stay known, as tombstones.

        Raises:
            ValueError: the order is not known, its request may still be on its way, or a decision waits.

        """
        ...

    def purge(self, older_than: dt.timedelta, *, merchant_id: str | None = None) -> int:
        """Erase the details of loans that have not changed for so long and have nothing open.

        Args:
            older_than: how long they must have been unchanged.
            merchant_id: erase those of one merchant only.

        Returns:
            how many were erased.

        """
        ...
