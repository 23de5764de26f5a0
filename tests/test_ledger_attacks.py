"""Ways to lose money with a ledger that were tried; none of them works any more."""

import pytest

from wegetfinancing._loan import Verdict
from wegetfinancing.ledger import Loan, MemoryLedger
from wegetfinancing.testing import INV_ID
from wegetfinancing.testing.contract.ledger_checking import (
    ORDER,
    LedgerBench,
    Shop,
    application,
    created,
    postback,
)


def loan_of(ledger: MemoryLedger, order_id: str = ORDER) -> Loan:
    loan = ledger.loan(order_id)
    assert loan is not None
    return loan


def codes(ledger: MemoryLedger) -> list[str]:
    return [each.code for each in loan_of(ledger).held]


def applied(ledger: MemoryLedger) -> None:
    LedgerBench(lambda: ledger).applied(ledger)


def handle(ledger: MemoryLedger) -> None:
    claim = ledger.claim()
    assert claim is not None
    assert ledger.apply(claim)


def test_nobody_is_sent_to_a_new_order_id_when_the_absent_application_turns_up() -> None:
    """``CLOSED`` says that nothing exists and that a new order ID is to be used: a second loan."""
    ledger = MemoryLedger(grace=0.001)
    ledger.begin(application(seconds=-1))
    ledger.resolve(ORDER)
    assert ledger.begin(application()).verdict is Verdict.CLOSED
    ledger.record(postback())
    assert ledger.begin(application()).verdict is Verdict.EXISTS
