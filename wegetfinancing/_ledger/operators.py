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
from .interface import Ledger
from .matching import save
from .rows import Transaction

REVIEW_LIMIT: Final = 1000
"""How many of a kind ``review`` lists."""
_BATCH: Final = 200


class OperatedLedger(Ledger):
    """The methods for operators, one transaction each, over the storage that ``transaction`` opens."""

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
        """Open a transaction: committed at the end, rolled back when the block raises.

        Args:
            write: whether anything will be written.
            timeout: seconds for every statement and lock.
            connection: of the shop's, whose transaction to use and leave open.
            handler: whether the shop's code runs in it, which then has a time limit.

        Raises:
            LedgerError: the database failed. After a failed commit nobody knows whether it happened.

        """

    def review(self, *, undecided_for: dt.timedelta | None = None, merchant_id: str | None = None) -> Review:
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
        value = None if amount is None else to_decimal(amount)
        if value is not None and (problem := money()(value)):
            msg = f"amount {problem}"
            raise ValueError(msg)
        with self.transaction(write=True) as tx:
            merchant = _known_merchant(tx, merchant_id)
            # Another merchant may have no order here yet, and a decision only.
            if merchant_id is None and (others := tx.merchants_of(inv_id) - {merchant}):
                raise _several({merchant, min(others)})
            return rules.loan(applications.adopt(tx, merchant, order_id, inv_id, value))

    def accept(
        self,
        order_id: str,
        holds: Iterable[Hold | str],
        *,
        apply: bool = False,
        merchant_id: str | None = None,
    ) -> Loan:
        ids = [hold.id if isinstance(hold, Hold) else hold for hold in holds]
        with self.transaction(write=True) as tx:
            row = applications.known(tx, _known_merchant(tx, merchant_id), order_id)
            return rules.loan(save(tx, decisions.accept(tx, row, ids, apply=apply)))

    def retry(self, decision_id: int, *, merchant_id: str | None = None) -> None:
        with self.transaction(write=True) as tx:
            decisions.retry(tx, decision_id, merchant_id)

    def dismiss(self, decision_id: int, *, merchant_id: str | None = None) -> None:
        with self.transaction(write=True) as tx:
            decisions.dismiss(tx, decision_id, merchant_id)

    def forget(self, order_id: str, *, merchant_id: str | None = None) -> None:
        with self.transaction(write=True) as tx:
            row = applications.known(tx, _known_merchant(tx, merchant_id), order_id)
            if row.state == rows.SENDING and rules.seconds_on_its_way(row, tx.now(), self._grace) > 0:
                msg = "the request may still be on its way"
                raise ValueError(msg)
            if any(each.state == rows.WAITING for each in tx.decisions(row.id)):
                msg = "a decision of this order still waits for its handler"
                raise ValueError(msg)
            _erase(tx, row)

    def purge(self, older_than: dt.timedelta, *, merchant_id: str | None = None) -> int:
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
    save(tx, rules.erased(row))


def one_merchant(tx: Transaction, merchant_id: str | None) -> str | None:
    if merchant_id is not None:
        return merchant_id
    merchants = tx.merchants()
    if len(merchants) > 1:
        raise _several(merchants)
    return next(iter(merchants), None)


def _several(merchants: Iterable[str]) -> ConfigurationError:
    # Named, since one of them may be a mistake: an ID that was mistyped once, or that of an emulator.
    names = " and ".join(sorted(merchants)[:2])
    msg = f"this ledger knows several merchants, such as {names}; say whose order it is: merchant_id=..."
    return ConfigurationError(msg)


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
