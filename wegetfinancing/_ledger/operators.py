"""What operators ask of a ledger, and what they decide."""

import abc
import datetime as dt
from collections.abc import Iterable
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, Final, Literal

from .._loan import Hold, Loan, PendingDecision, Review
from .._rules import money, to_decimal
from ..errors import ConfigurationError
from . import applications, decisions, rows, rules
from .rows import Transaction

REVIEW_LIMIT: Final = 1000
"""How many of a kind ``review`` lists."""
_BATCH: Final = 200
_SEVERAL_MERCHANTS: Final = "this ledger knows several merchants; say whose order it is: merchant_id=..."


class OperatedLedger(abc.ABC):
    """The methods for operators, one transaction each; a storage adds ``transaction``."""

    _grace: float

    @abc.abstractmethod
    def transaction(
        self,
        *,
        write: bool,
        timeout: float | None = None,
        connection: Any = None,  # noqa: ANN401 - the shop's own
        handler: bool = False,
    ) -> AbstractContextManager[Transaction]:
        """Open a transaction; see ``Storage``. ``handler``: the shop's code runs in it, with a time limit."""

    def review(self, *, undecided_for: dt.timedelta | None = None, merchant_id: str | None = None) -> Review:
        """List what someone should look at, up to a thousand each; first what a customer may be waiting for.

        Args:
            undecided_for: list also what was created so long ago and has had no final decision.
            merchant_id: list that of one merchant only.

        """
        with self.transaction(write=False) as tx:
            loans = tx.loans_to_review(tx.now(), REVIEW_LIMIT, merchant_id)
            undecided = (
                []
                if undecided_for is None
                else tx.undecided(tx.now() - undecided_for.total_seconds(), REVIEW_LIMIT, merchant_id)
            )
            pending = tx.decisions_to_review(tx.now(), REVIEW_LIMIT, merchant_id)
            named = {
                each.loan_id: tx.loan_by_id(each.loan_id) for each in pending if each.loan_id is not None
            }
        return Review(
            loans=tuple(rules.loan(row) for row in sorted(loans, key=lambda row: row.id)),
            undecided=tuple(rules.loan(row) for row in undecided),
            decisions=tuple(
                _pending(row, row.order_id if row.loan_id is None else named[row.loan_id].order_id)
                for row in pending
            ),
        )

    def resolve(
        self, order_id: str, state: Literal["absent"] = "absent", *, merchant_id: str | None = None
    ) -> Loan:
        """Say that the vendor has no application of this order. Its ID is closed for ever.

        Possible only some time after the call's deadline (``grace``), and even then a process that was
        stopped meanwhile may wake and send: therefore the shop uses a new order ID. ``adopt`` is for an
        application that the vendor does have.

        Raises:
            ValueError: the ledger does not know the order, or its application is not in doubt yet.

        """
        if state != "absent":
            msg = "an application is resolved as 'absent'; adopt() takes over one that exists"
            raise ValueError(msg)
        with self.transaction(write=True) as tx:
            merchant = _known_merchant(tx, merchant_id)
            return rules.loan(applications.resolve_as_absent(tx, merchant, order_id, self._grace))

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
        value = None if amount is None else to_decimal(amount)
        if value is not None and (problem := money()(value)):
            msg = f"amount {problem}"
            raise ValueError(msg)
        with self.transaction(write=True) as tx:
            merchant = _known_merchant(tx, merchant_id)
            if merchant_id is None:
                # Another merchant may have no order here yet, and this decision only.
                pending = tx.decisions_to_review(tx.now(), REVIEW_LIMIT)
                if any(each.inv_id == inv_id and each.merchant_id != merchant for each in pending):
                    raise ConfigurationError(_SEVERAL_MERCHANTS)
            return rules.loan(applications.adopt(tx, merchant, order_id, inv_id, value))

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
        ids = [hold.id if isinstance(hold, Hold) else hold for hold in holds]
        with self.transaction(write=True) as tx:
            row = applications.known(tx, _known_merchant(tx, merchant_id), order_id)
            row = rules.derived(decisions.accept(tx, row, ids, apply=apply), tx.now())
            tx.save_loan(row)
            return rules.loan(row)

    def retry(self, decision_id: int, *, merchant_id: str | None = None) -> None:
        """Let a decision that waits be handled now, whatever its pause: its handler was fixed.

        Args:
            decision_id: as listed by ``review``.
            merchant_id: know only decisions of this merchant.

        Raises:
            ValueError: the ledger does not know it, or it does not wait for a handler.

        """
        with self.transaction(write=True) as tx:
            decisions.retry(tx, decision_id, merchant_id)

    def dismiss(self, decision_id: int, *, merchant_id: str | None = None) -> None:
        """Let a decision be handled no more, such as one of another system's order.

        Args:
            decision_id: as listed by ``review``.
            merchant_id: know only decisions of this merchant.

        Raises:
            ValueError: the ledger does not know it, or it was handled.

        """
        with self.transaction(write=True) as tx:
            decisions.dismiss(tx, decision_id, merchant_id)

    def forget(self, order_id: str, *, merchant_id: str | None = None) -> None:
        """Erase the details of an order now. Its ID and its decisions stay known, as tombstones.

        Raises:
            ValueError: the order is not known, its request may still be on its way, or a decision waits.

        """
        with self.transaction(write=True) as tx:
            row = applications.known(tx, _known_merchant(tx, merchant_id), order_id)
            if row.state == rows.SENDING and tx.now() < row.deadline + self._grace:
                msg = "the request may still be on its way"
                raise ValueError(msg)
            if any(each.state == rows.WAITING for each in tx.decisions(row.id)):
                msg = "a decision of this order still waits for its handler"
                raise ValueError(msg)
            _erase(tx, row)

    def purge(self, older_than: dt.timedelta, *, merchant_id: str | None = None) -> int:
        """Erase the details of loans that have not changed for so long and have nothing open.

        Args:
            older_than: how long ago they have changed last.
            merchant_id: erase those of one merchant only.

        Returns:
            how many were erased.

        """
        erased = 0
        while True:
            with self.transaction(write=True) as tx:
                batch = tx.purgeable(tx.now() - older_than.total_seconds(), _BATCH, merchant_id)
                for row in batch:
                    _erase(tx, row)
            erased += len(batch)
            if len(batch) < _BATCH:
                return erased


def _erase(tx: Transaction, row: rows.LoanRow) -> None:
    for decision in tx.decisions(row.id):
        tx.save_decision(rules.erased_decision(decision))
    tx.save_loan(rules.derived(rules.erased(row), tx.now()))


def one_merchant(tx: Transaction, merchant_id: str | None) -> str | None:
    if merchant_id is not None:
        return merchant_id
    merchants = tx.merchants()
    if len(merchants) > 1:
        raise ConfigurationError(_SEVERAL_MERCHANTS)
    return next(iter(merchants), None)


def _known_merchant(tx: Transaction, merchant_id: str | None) -> str:
    merchant = one_merchant(tx, merchant_id)
    if merchant is None:
        msg = "the ledger is empty; say whose order it is: merchant_id=..."
        raise ValueError(msg)
    return merchant


def _pending(row: rows.DecisionRow, order_id: str | None) -> PendingDecision:
    return PendingDecision(
        id=row.id,
        merchant_id=row.merchant_id,
        inv_id=row.inv_id,
        order_id=order_id,
        status=row.status,
        state=row.state,
        attempts=row.attempts,
        error=row.error,
        received_at=dt.datetime.fromtimestamp(row.received_at, dt.UTC),
        due=dt.datetime.fromtimestamp(row.due, dt.UTC),
    )
