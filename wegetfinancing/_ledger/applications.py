"""Applications: at most one per order, whoever asks, and what is known of it."""

from decimal import Decimal
from typing import Final

import attrs

from .._loan import Application, Begun, Verdict
from ..models import CreatedRequest
from . import rows, rules
from .matching import lock_named, match_named, match_unmatched, save
from .rows import LoanRow, Transaction

# What a call that has ended at its deadline may need to write its result down.
_RECORDING_SECONDS: Final = 5.0


def look(tx: Transaction, application: Application) -> Begun | None:
    """Answer an intent from what is there, or return ``None`` where it has to be written down."""
    row = tx.loan(application.merchant_id, application.order_id)
    if row is None:
        return None
    begun = _begun(tx, row, application)
    return None if begun.verdict is Verdict.SEND else begun


def begin(tx: Transaction, application: Application) -> Begun:
    """Write an intent down, unless the order's application exists, may exist or is closed."""
    fresh = _intended(application, tx.now())
    lock_named(tx, application.merchant_id, application.order_id)
    is_new = tx.insert_loan(fresh)
    row = tx.loan(application.merchant_id, application.order_id, lock=True)
    assert row is not None  # noqa: S101 - it was inserted, or was there, and loans are never deleted
    if not is_new:
        begun = _begun(tx, row, application)
        if begun.verdict is not Verdict.SEND:
            return begun
        row = attrs.evolve(fresh, id=row.id, created_at=row.created_at)
        save(tx, row)
    # A postback may have named the order before its intent was there, after a restore for example.
    row = match_named(tx, row)
    if row.state != rows.SENDING or row.noted:
        return Begun(Verdict.EXISTS, rules.loan(row))
    return Begun(Verdict.SEND, rules.loan(row))


def _intended(application: Application, now: float) -> LoanRow:
    row = LoanRow(
        merchant_id=application.merchant_id,
        order_id=application.order_id,
        state=rows.SENDING,
        token=application.token,
        fingerprint=application.fingerprint,
        expected_amount=application.expected_amount,
        taxes=application.taxes,
        deadline=now + application.seconds,
        created_at=now,
        updated_at=now,
    )
    return rules.derived(row, now)


def _begun(tx: Transaction, row: LoanRow, application: Application) -> Begun:
    verdict = rules.verdict(row, application.fingerprint)
    if verdict is Verdict.WAIT and rules.seconds_on_its_way(row, tx.now(), _RECORDING_SECONDS) <= 0:
        # The process that was sending is gone. To wait for it would hold up every click until its deadline.
        verdict = Verdict.UNKNOWN
    return Begun(verdict, rules.loan(row), row.href if verdict is Verdict.STORED else None)


def undo(tx: Transaction, application: Application) -> bool:
    """Undo an intent whose commit was not acknowledged; ``False`` if it is not there, so roll back then.

    The commit may still be under way, where reading would not see it: inserting the row waits for it.
    """
    if tx.insert_loan(_intended(application, tx.now())):
        return False
    record_failure(tx, application, rows.NOT_SENT)
    return True


def record_answer(tx: Transaction, application: Application, created: CreatedRequest) -> LoanRow:
    """Record that the vendor has accepted an application, whatever has happened since it was sent."""
    # First of all the row that a postback about this ID locks first too: neither can miss the other.
    owner_id = tx.lock_inv_id(application.merchant_id, created.inv_id)
    row = _sent(tx, application)
    locked = {each: tx.loan_by_id(each, lock=True) for each in sorted({row.id, owner_id or row.id})}
    row = locked[row.id]
    if owner_id not in (None, row.id):
        text = f"The vendor answered {created.inv_id}, which belongs to another order."
        save(tx, rules.noting(locked[owner_id], f"foreign_inv_id:{created.inv_id}", text))
        row = rules.noting(row, f"foreign_inv_id:{created.inv_id}", text)
    if row.token != application.token:
        text = f"Another attempt was answered too, with {created.inv_id}."
        row = rules.noting(row, f"second_application:{created.inv_id}", text)
        if row.inv_id is None:
            row = attrs.evolve(rules.confirmed(row, created.inv_id), amount=created.amount)
    else:
        if row.inv_id not in (None, created.inv_id):
            text = f"The vendor answered {created.inv_id}, and a postback named {row.inv_id}."
            row = rules.noting(row, f"foreign_inv_id:{created.inv_id}", text)
        row = attrs.evolve(rules.confirmed(row, created.inv_id), amount=created.amount)
        row = attrs.evolve(row, href=created.href if row.status in (None, rules.PREAPPROVED) else None)
    if owner_id is None:
        tx.assign_inv_id(row.merchant_id, created.inv_id, row.id)
    row = match_unmatched(tx, row, created.inv_id)
    return save(tx, row)


def _sent(tx: Transaction, application: Application) -> LoanRow:
    """Return the loan of an application that the vendor may have, whatever has become of its intent."""
    row = tx.loan(application.merchant_id, application.order_id)
    if row is None:  # the intent was committed, and a restore or a failover has lost it
        now = tx.now()
        tx.insert_loan(attrs.evolve(_intended(application, now), state=rows.UNKNOWN, deadline=now))
        row = tx.loan(application.merchant_id, application.order_id)
        assert row is not None  # noqa: S101 - it was inserted, or was there
    return row


def record_failure(tx: Transaction, application: Application, state: str) -> LoanRow | None:
    """Record that an attempt was refused, was not sent, or that nobody knows; by its token only."""
    if state == rows.UNKNOWN:
        _sent(tx, application)
    row = tx.loan(application.merchant_id, application.order_id, lock=True)
    if row is None or row.token != application.token or row.state != rows.SENDING:
        return row
    if row.noted and state != rows.UNKNOWN:
        state = rows.UNKNOWN  # a postback has named the order meanwhile
    return save(tx, attrs.evolve(row, state=state))


def resolve_as_absent(tx: Transaction, merchant_id: str, order_id: str, grace: float) -> LoanRow:
    """Close an order ID for ever, since its application was looked for and is not there.

    Raises:
        ValueError: the application exists, or may still be on its way.

    """
    row = known(tx, merchant_id, order_id)
    if row.state not in (rows.SENDING, rows.UNKNOWN):
        msg = f"the application is {row.state}: only one that is sending or unknown can be absent"
        raise ValueError(msg)
    wait = rules.seconds_on_its_way(row, tx.now(), grace)
    if wait > 0:
        msg = f"the request may still be on its way; ask again in {wait:.0f} seconds"
        raise ValueError(msg)
    return save(tx, attrs.evolve(row, state=rows.ABSENT))


def adopt(tx: Transaction, merchant_id: str, order_id: str, inv_id: str, amount: Decimal | None) -> LoanRow:
    """Take over an application that an operator has found at the vendor's.

    Raises:
        ValueError: the ID belongs to another order, or the order has another ID.

    """
    owner_id = tx.lock_inv_id(merchant_id, inv_id)
    now = tx.now()
    fresh = LoanRow(
        merchant_id=merchant_id,
        order_id=order_id,
        state=rows.UNKNOWN,
        expected_amount=amount,
        deadline=now,
        created_at=now,
        updated_at=now,
    )
    tx.insert_loan(rules.derived(fresh, now))
    row = known(tx, merchant_id, order_id)
    if owner_id not in (None, row.id) or row.inv_id not in (None, inv_id):
        msg = (
            f"{inv_id} belongs to another order"
            if owner_id not in (None, row.id)
            else f"the order has {row.inv_id}"
        )
        raise ValueError(msg)
    row = rules.confirmed(row, inv_id)
    # Saved before anything is matched, which reads the loan again.
    row = save(tx, attrs.evolve(row, amount=row.amount if amount is None else amount))
    if owner_id is None:
        tx.assign_inv_id(row.merchant_id, inv_id, row.id)
    row = match_unmatched(tx, match_named(tx, row), inv_id)
    return save(tx, row)


def known(tx: Transaction, merchant_id: str, order_id: str) -> LoanRow:
    """Lock the loan of an order that has to be there.

    Raises:
        ValueError: it is not.

    """
    row = tx.loan(merchant_id, order_id, lock=True)
    if row is None:
        msg = "the ledger does not know this order"
        raise ValueError(msg)
    return row
