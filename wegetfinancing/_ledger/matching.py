"""Which order a decision belongs to: by the vendor's ID or by the order ID, whichever is known first.

Whoever records a create's answer and whoever records a postback first inserts or locks the row of the
vendor's ID. So the second of the two sees what the first has written.
"""

import attrs

from . import rows, rules
from .rows import DecisionRow, LoanRow, Transaction


def save(tx: Transaction, row: LoanRow) -> LoanRow:
    """Save a loan with its derived columns brought up to date, and return it so."""
    row = rules.derived(row, tx.now())
    tx.save_loan(row)
    return row


def match(tx: Transaction, decision: DecisionRow, owner_id: int | None) -> DecisionRow:
    """Match one decision, whose ID's row is locked, and save what follows from it.

    Args:
        tx: the transaction.
        decision: as it is stored, unmatched.
        owner_id: the loan that the vendor's ID belongs to, as ``lock_inv_id`` returned it.

    """
    named = None if decision.order_id is None else tx.loan(decision.merchant_id, decision.order_id)
    ids = sorted({each for each in (owner_id, None if named is None else named.id) if each is not None})
    loans = {each: tx.loan_by_id(each, lock=True) for each in ids}
    if owner_id is not None:
        owner = loans[owner_id]
        if decision.order_id in (None, owner.order_id):
            return _receive(tx, owner, decision)
        text = f"A postback names {decision.inv_id}, which belongs to another order."
        return _hold_for_all(tx, list(loans.values()), decision, text)
    if named is None:
        return decision
    row = loans[named.id]
    if row.inv_id not in (None, decision.inv_id):
        text = f"A postback names {decision.inv_id}, and the application of this order is {row.inv_id}."
        return _hold_for_all(tx, [row], decision, text)
    row = rules.confirmed(row, decision.inv_id)
    tx.assign_inv_id(row.merchant_id, decision.inv_id, row.id)
    row = match_unmatched(tx, row, decision.inv_id)  # this one, and what came before it
    save(tx, row)
    return tx.decision(decision.id) or decision


def rematch(tx: Transaction, decision: DecisionRow) -> bool:
    """Match a decision again that could not be matched when it arrived."""
    owner_id = tx.lock_inv_id(decision.merchant_id, decision.inv_id)
    current = tx.decision(decision.id, lock=True)
    if current is None or current.state != rows.UNMATCHED:
        return False
    return match(tx, current, owner_id).state != rows.UNMATCHED


def _receive(tx: Transaction, row: LoanRow, decision: DecisionRow) -> DecisionRow:
    row, decision = rules.received(row, decision, tx.decisions(row.id))
    save(tx, row)
    tx.save_decision(decision)
    return decision


def _hold_for_all(tx: Transaction, loans: list[LoanRow], decision: DecisionRow, text: str) -> DecisionRow:
    for row in loans:
        save(tx, rules.noting(row, f"foreign_inv_id:{decision.inv_id}", text))
    decision = attrs.evolve(decision, state=rows.HELD)
    tx.save_decision(decision)
    return decision


def match_unmatched(tx: Transaction, row: LoanRow, inv_id: str) -> LoanRow:
    """Let a loan receive what arrived about its ID before anyone knew whose it was. Both are locked."""
    for decision in tx.unmatched(row.merchant_id, inv_id=inv_id):
        if decision.order_id in (None, row.order_id):
            row, received = rules.received(row, decision, tx.decisions(row.id))
            tx.save_decision(received)
        else:
            text = f"A postback names {inv_id}, which belongs to another order."
            row = rules.noting(row, f"foreign_inv_id:{inv_id}", text)
            tx.save_decision(attrs.evolve(decision, state=rows.HELD))
            other = tx.loan(row.merchant_id, decision.order_id, lock=True)
            if other is not None:
                save(tx, rules.noting(other, f"foreign_inv_id:{inv_id}", text))
    return row


def lock_named(tx: Transaction, merchant_id: str, order_id: str) -> None:
    """Lock the rows of the IDs that unmatched decisions name together with this order, before its loan."""
    inv_ids = {decision.inv_id for decision in tx.unmatched(merchant_id, order_id=order_id)}
    for inv_id in sorted(inv_ids):
        tx.lock_inv_id(merchant_id, inv_id)


def match_named(tx: Transaction, row: LoanRow) -> LoanRow:
    """Let a loan receive what named its order before the order was there. The loan is locked."""
    for decision in tx.unmatched(row.merchant_id, order_id=row.order_id):
        rematch(tx, decision)  # unless it was matched together with an earlier one
        row = tx.loan_by_id(row.id)
    return row
