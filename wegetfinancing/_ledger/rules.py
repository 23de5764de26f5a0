"""The rules on values: what speaks against a loan, what a decision means, what a create may do."""

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import attrs

from .._loan import ApplicationState, Hold, Loan, Verdict
from .._rules import EXACT
from ..postbacks.events import Preapproved, Refunded
from ..postbacks.ordering import DECISIONS, FINAL, Order, order_of
from . import rows
from .rows import DecisionRow, Fact, LoanRow

PREAPPROVED: Final = Preapproved.status
_REFUND: Final = Refunded.status

_FIRST_PAUSE: Final = 2.0
_MAX_PAUSE: Final = 3600.0


def pause_after(attempts: int) -> float:
    """Seconds until a handler that has failed so many times is tried again: 2, 4, 8 ... an hour."""
    return min(_FIRST_PAUSE * 2.0 ** min(attempts - 1, 20), _MAX_PAUSE)


# What speaks against a loan


def facts(row: LoanRow) -> tuple[Fact, ...]:
    """List everything that speaks against shipping, accepted or not."""
    return (*_facts_of_amount(row), *row.noted)


def _facts_of_amount(row: LoanRow) -> Iterable[Fact]:
    if row.inv_id is None or row.forgotten:
        return
    if row.amount is None:
        yield "amount_not_seen", "Nobody has seen which amount the vendor finances."
    elif row.expected_amount is None:
        yield (
            "amount_not_expected",
            f"The vendor finances {_dollars(row.amount)}, and no amount was expected.",
        )
    elif row.amount not in (row.expected_amount, EXACT.add(row.expected_amount, row.taxes or Decimal(0))):
        expected = _dollars(row.expected_amount)
        text = f"The vendor finances {_dollars(row.amount)}, and {expected} was expected."
        yield f"amount_differs:{row.amount}", text


def _dollars(amount: Decimal) -> str:
    return f"${amount:,.2f}"


def open_facts(row: LoanRow) -> tuple[Fact, ...]:
    """List what speaks against shipping and has not been accepted."""
    return tuple(fact for fact in facts(row) if fact[0] not in row.accepted)


def noting(row: LoanRow, fact: str, text: str) -> LoanRow:
    """Note a fact, once."""
    if any(fact == known for known, _ in row.noted):
        return row
    return attrs.evolve(row, noted=(*row.noted, (fact, text)))


def derived(row: LoanRow, now: float) -> LoanRow:
    """Bring the derived columns up to date; every row passes here before it is saved."""
    opened = open_facts(row)
    row = attrs.evolve(row, updated_at=now, holds=tuple(fact for fact, _ in opened))
    return attrs.evolve(row, may_ship=loan(row).may_ship)


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _when(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else _moment(seconds)


def loan(row: LoanRow) -> Loan:
    """Show a row as the shop sees it."""
    return Loan(
        order_id=row.order_id,
        merchant_id=row.merchant_id,
        state=ApplicationState(row.state),
        inv_id=row.inv_id,
        amount=row.amount,
        expected_amount=row.expected_amount,
        status=row.status,
        refunded=row.refunded,
        held=tuple(Hold(fact.partition(":")[0], text, fact) for fact, text in open_facts(row)),
        deadline=_moment(row.deadline),
        created_at=_moment(row.created_at),
        updated_at=_moment(row.updated_at),
        forgotten=row.forgotten,
    )


# What a create may do


def verdict(row: LoanRow, fingerprint: str) -> Verdict:
    """Say what a create of an order that is known may do. ``SEND`` stands for a new attempt."""
    if row.state == rows.ABSENT:
        # Once it has turned up, nobody may be sent to a new order ID: that would be a second loan.
        return Verdict.EXISTS if row.inv_id is not None or row.noted else Verdict.CLOSED
    if row.state in (rows.REFUSED, rows.NOT_SENT):
        # What was noted then came from a postback that named the order.
        return Verdict.EXISTS if row.noted or row.forgotten else Verdict.SEND
    if row.fingerprint not in (None, fingerprint):
        return Verdict.CONFLICT
    if row.state == rows.SENDING:
        return Verdict.WAIT
    if row.state == rows.UNKNOWN:
        return Verdict.UNKNOWN
    return Verdict.EXISTS if row.href is None else Verdict.STORED


def seconds_on_its_way(row: LoanRow, now: float, grace: float) -> float:
    """Say for how long the request may still arrive; 0 or less if it cannot any more.

    A deadline far ahead was written by a clock that was wrong, and would block the order for as long.
    """
    return 0.0 if row.deadline > now + rows.MAX_AHEAD else row.deadline + grace - now


# What a decision means


def received(
    row: LoanRow, decision: DecisionRow, earlier: Iterable[DecisionRow]
) -> tuple[LoanRow, DecisionRow]:
    """Say what a decision that belongs to this loan does to it, and what becomes of the decision."""
    decision = attrs.evolve(decision, loan_id=row.id, state=rows.WAITING, due=decision.received_at)
    order = order_of(row.status, _when(row.signed_at), decision.status, _when(decision.signed_at))
    held: Fact | None = None
    if row.forgotten:
        text = f"A postback ({decision.status}) came after the details of this order were erased."
        held = f"forgotten:{decision.id}", text
    elif row.inv_id not in (None, decision.inv_id):
        text = f"{decision.inv_id} was {decision.status}, and the application of this order is {row.inv_id}."
        held = f"other_application:{decision.id}", text
    elif any(each.key == decision.key for each in earlier):
        text = f"The same decision ({_words(decision)}) came again, signed at another time."
        held = f"repeated:{decision.id}", text
    elif decision.status == _REFUND:
        row = noting(row, f"refund:{decision.id}", f"The vendor reports a {_words(decision)}.")
    elif decision.status not in DECISIONS:
        text = "A postback says something that this version does not know."
        row = noting(row, f"unknown_status:{decision.id}", text)
    elif order is Order.CHANGES_NOTHING:
        return row, attrs.evolve(decision, state=rows.RECORDED)
    elif order is Order.CANNOT_BE_TOLD:
        text = f"{decision.status} arrived after {row.status}, and which is newer cannot be determined."
        held = f"conflict:{decision.id}", text
    if held is not None:
        return noting(row, *held), attrs.evolve(decision, state=rows.HELD)
    return counting(row, decision), decision


def counting(row: LoanRow, decision: DecisionRow) -> LoanRow:
    """Let a decision count: it becomes the status, or adds to what was refunded."""
    if decision.status == _REFUND:
        return attrs.evolve(row, refunded=EXACT.add(row.refunded, decision.amount or Decimal(0)))
    if decision.status not in DECISIONS:
        return row
    href = None if decision.status in FINAL else row.href  # it may hold personal data, and has served
    return attrs.evolve(row, status=decision.status, signed_at=decision.signed_at, href=href)


def _words(decision: DecisionRow) -> str:
    if decision.status != _REFUND:
        return decision.status
    amount = "an amount that it does not name" if decision.amount is None else _dollars(decision.amount)
    return f"refund of {amount}"


def confirmed(row: LoanRow, inv_id: str) -> LoanRow:
    """Note that a postback or an operator has named the vendor's ID of this order."""
    if row.state == rows.ABSENT:
        text = "The order was resolved as absent, and its application exists."
        return noting(attrs.evolve(row, inv_id=inv_id), f"not_absent:{inv_id}", text)
    return attrs.evolve(row, inv_id=inv_id, state=rows.CREATED)


def erased(row: LoanRow) -> LoanRow:
    """Erase the details; the keys stay, so that neither the order nor its decisions become new."""
    return attrs.evolve(
        row,
        forgotten=True,
        token=None,
        fingerprint=None,
        expected_amount=None,
        taxes=None,
        href=None,
        amount=None,
        refunded=Decimal(0),
        status=None,
        signed_at=None,
        noted=(),
        accepted=(),
    )


def erased_decision(decision: DecisionRow) -> DecisionRow:
    """Erase the details of a decision; what tells a repeat from a new one stays."""
    return attrs.evolve(decision, amount=None, reported_status=None, error=None, order_id=None)
