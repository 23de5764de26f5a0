"""Decisions: appended as they arrive, handled in order, held where someone must look."""

import datetime as dt
import hashlib
from typing import Any, Final

import attrs

from ..errors import ConfigurationError
from ..postbacks.checking import is_of_a_check
from ..postbacks.decisions import ClaimedDecision, Decision, Recorded
from ..postbacks.events import Approved, Postback, Preapproved, Refunded, Rejected, UnknownPostback
from . import rows, rules
from .matching import match
from .rows import DecisionRow, LoanRow, Transaction

_KINDS: Final[dict[str, type[Approved | Preapproved | Rejected]]] = {
    kind.status: kind for kind in (Approved, Preapproved, Rejected)
}


def row_of(postback: Postback, received_at: float) -> DecisionRow:
    """Turn a verified postback into what is stored of it.

    Raises:
        ConfigurationError: nobody has verified it, so that its merchant is not known.

    """
    if postback.merchant_id is None:
        msg = "a ledger records postbacks of parse_postback only: this one was not verified"
        raise ConfigurationError(msg)
    signed_at = None if postback.signed_at is None else postback.signed_at.timestamp()
    digest = postback.digest or hashlib.sha256(f"{postback.key} {signed_at}".encode()).hexdigest()
    return DecisionRow(
        merchant_id=postback.merchant_id,
        inv_id=postback.inv_id,
        order_id=postback.merchant_transaction_id,
        status=postback.status,
        reported_status=postback.reported_status if isinstance(postback, UnknownPostback) else None,
        amount=postback.amount if isinstance(postback, Refunded) else None,
        version=postback.version,
        key=postback.key,
        digest=digest,
        signed_at=signed_at,
        received_at=received_at,
    )


def postback_of(row: DecisionRow) -> Postback:
    """Turn what is stored back into a postback. Its ``raw`` is empty: no body is stored."""
    common: dict[str, Any] = {
        "inv_id": row.inv_id,
        "merchant_transaction_id": row.order_id,
        "version": row.version,
        "raw": {},
        "merchant_id": row.merchant_id,
        "signed_at": None if row.signed_at is None else dt.datetime.fromtimestamp(row.signed_at, dt.UTC),
        "digest": row.digest,
    }
    if row.status == Refunded.status:
        return Refunded(amount=row.amount, **common)
    if row.status in _KINDS:
        return _KINDS[row.status](**common)
    content_hash = row.key.rpartition(":")[2]
    return UnknownPostback(reported_status=row.reported_status, content_hash=content_hash, **common)


def decision_of(decision: DecisionRow, loan: LoanRow) -> Decision:
    """Show a stored decision as a handler sees it."""
    return Decision(
        id=decision.id,
        order_id=loan.order_id,
        merchant_id=loan.merchant_id,
        postback=postback_of(decision),
        loan=rules.loan(loan),
        attempt=decision.attempts,
    )


def record(tx: Transaction, postback: Postback) -> DecisionRow:
    """Append a delivery, match it, and return it; a repeat is only matched, if it was not before."""
    row = row_of(postback, 0.0)
    owner_id = tx.lock_inv_id(row.merchant_id, row.inv_id)
    repeated = tx.delivery(row.merchant_id, row.digest)
    if repeated is not None:
        return match(tx, repeated, owner_id) if repeated.state == rows.UNMATCHED else repeated
    row = attrs.evolve(row, received_at=tx.now())
    if is_of_a_check(postback):
        return tx.insert_decision(attrs.evolve(row, state=rows.DISMISSED))  # nobody has to review it
    return match(tx, tx.insert_decision(row), owner_id)


def recorded(tx: Transaction, row: DecisionRow) -> Recorded:
    """Say what is left to do for a decision."""
    loan = None if row.loan_id is None else tx.loan_by_id(row.loan_id)
    # One that is held must not end the deliveries of one that waits: it may be the same, signed anew.
    settled = row.state not in (rows.UNMATCHED, rows.WAITING) and not _waiting(tx, row)
    return Recorded(id=row.id, settled=settled, order_id=None if loan is None else loan.order_id)


def claimable(tx: Transaction, decision_id: int | None, after: str) -> list[int]:
    """Name what may be handled now, without locking anything; of what is due, another merchant's first."""
    if decision_id is None:
        return [each.id for each in tx.due(tx.now(), _CANDIDATES, after)]
    decision = tx.decision(decision_id)
    return [] if decision is None else _waiting(tx, decision)[:1]


def _waiting(tx: Transaction, row: DecisionRow) -> list[int]:
    """Name what waits of the decisions of its loan up to this one, the oldest first."""
    of_loan = [] if row.loan_id is None else tx.decisions(row.loan_id)
    return [each.id for each in of_loan if each.state == rows.WAITING and each.id <= row.id]


_CANDIDATES: Final = 10  # others may be at the first ones


def claim(tx: Transaction, decision_id: int, token: str, lease: float) -> ClaimedDecision | None:
    """Claim one decision and count the attempt, before a handler that may kill its process runs."""
    row = tx.lock_waiting(decision_id)
    now = tx.now()
    loan_id = None if row is None else row.loan_id
    if row is None or loan_id is None or _is_leased(row, now):
        return None
    if any(each.state == rows.WAITING and each.id < row.id for each in tx.decisions(loan_id)):
        return None
    attempts = row.attempts + 1
    # Due again even if nobody ever reports: the process may be gone.
    due = now + max(lease, rules.pause_after(attempts))
    row = attrs.evolve(row, attempts=attempts, due=due, lease=token, lease_until=now + lease)
    tx.save_decision(row)
    loan = tx.loan_by_id(loan_id)
    return ClaimedDecision(decision=decision_of(row, loan), lease=token, seconds=lease)


def _is_leased(row: DecisionRow, now: float) -> bool:
    return now < row.lease_until <= now + rows.MAX_AHEAD


def mine(tx: Transaction, claim: ClaimedDecision) -> DecisionRow | None:
    """Lock a claimed decision that is still waiting under this lease."""
    row = tx.decision(claim.decision.id, lock=True)
    is_mine = row is not None and row.state == rows.WAITING and row.lease == claim.lease
    return row if is_mine else None


def is_handled(tx: Transaction, claim: ClaimedDecision) -> bool:
    """Tell whether the decision of a claim has been handled."""
    row = tx.decision(claim.decision.id)
    return row is not None and row.state == rows.HANDLED


def handled(tx: Transaction, row: DecisionRow) -> DecisionRow:
    """Note that a handler has succeeded."""
    row = attrs.evolve(row, state=rows.HANDLED, lease=None, lease_until=0.0, error=None, handled_at=tx.now())
    tx.save_decision(row)
    return row


def failed(tx: Transaction, row: DecisionRow, error: str) -> None:
    """Note that a handler has failed: it is tried again after a pause."""
    due = tx.now() + rules.pause_after(row.attempts)
    tx.save_decision(attrs.evolve(row, lease=None, lease_until=0.0, due=due, error=error))


def renewed(tx: Transaction, row: DecisionRow, lease: float) -> None:
    """Make a lease last again."""
    until = tx.now() + lease
    tx.save_decision(attrs.evolve(row, lease_until=until, due=max(row.due, until)))


def once(tx: Transaction, postback: Postback) -> Decision | None:
    """Record a postback and return what to apply in this transaction, which then counts as handled."""
    row = record(tx, postback)
    if row.state != rows.WAITING or row.loan_id is None or _is_leased(row, tx.now()):
        return None
    loan = tx.loan_by_id(row.loan_id, lock=True)
    locked = tx.decision(row.id, lock=True)
    # Once more now that it is locked: a worker may have claimed it meanwhile.
    if locked is None or locked.state != rows.WAITING or _is_leased(locked, tx.now()):
        return None
    if any(each.state == rows.WAITING and each.id < row.id for each in tx.decisions(loan.id)):
        return None
    return decision_of(handled(tx, attrs.evolve(locked, attempts=locked.attempts + 1)), loan)


def accept(tx: Transaction, loan: LoanRow, hold_ids: list[str], *, apply: bool) -> LoanRow:
    """Accept open facts by name; with ``apply`` the held decisions behind them count and are handled.

    Raises:
        ValueError: a name is not that of a fact of this loan, a later decision waits for its handler, or a
            decision behind one was dismissed.

    """
    there = {fact for fact, _ in rules.facts(loan)}
    for hold in hold_ids:
        if hold not in there and hold not in loan.accepted:
            msg = f"this order has no hold {hold!r} now; look again"
            raise ValueError(msg)
    new = [hold for hold in hold_ids if hold not in loan.accepted]
    # Also behind those that were accepted before: whoever did has looked once more.
    held = _held_behind(tx, loan, hold_ids) if apply else []
    if any(each.state == rows.WAITING and each.id > held[0].id for each in tx.decisions(loan.id) if held):
        # The handler would see this one first, and the shop end with what the later one says.
        msg = "a later decision of this order waits for its handler; let it be handled, or dismiss it, first"
        raise ValueError(msg)
    for decision in held:
        due = attrs.evolve(decision, state=rows.WAITING, due=tx.now())
        tx.save_decision(due)
        loan = rules.counting(loan, due)
    return attrs.evolve(loan, accepted=(*loan.accepted, *new))


_HOLDING: Final = frozenset(
    {"conflict", "forgotten", "other_application", "repeated"}
)  # their detail is the decision's ID


def _held_behind(tx: Transaction, loan: LoanRow, hold_ids: list[str]) -> list[DecisionRow]:
    parts = [hold.split(":") for hold in hold_ids]
    ids = {int(tail) for code, *rest in parts if code in _HOLDING for tail in rest}
    behind = [each for each in tx.decisions(loan.id) if each.id in ids]
    for each in behind:
        if each.state == rows.DISMISSED:
            msg = f"decision {each.id} was dismissed, and cannot count any more"
            raise ValueError(msg)
    return [each for each in behind if each.state == rows.HELD]


def retry(tx: Transaction, decision_id: int, merchant_id: str | None = None) -> None:
    """Let a waiting decision be due now. A lease that someone holds stays theirs.

    Raises:
        ValueError: there is none of this merchant, or it does not wait.

    """
    row = _of(merchant_id, tx.decision(decision_id, lock=True))
    if row is None or row.state != rows.WAITING:
        msg = (
            "the ledger does not know this decision"
            if row is None
            else f"the decision is {row.state}: only one that is waiting can be tried again"
        )
        raise ValueError(msg)
    tx.save_decision(attrs.evolve(row, due=min(row.due, tx.now())))


def _of(merchant_id: str | None, row: DecisionRow | None) -> DecisionRow | None:
    return row if row is not None and merchant_id in (None, row.merchant_id) else None


def dismiss(tx: Transaction, decision_id: int, merchant_id: str | None = None) -> None:
    """Let nobody handle a decision any more.

    Raises:
        ValueError: there is none of this merchant, or it was handled.

    """
    row = _of(merchant_id, tx.decision(decision_id))
    if row is not None:
        # Whoever matches it or lets it count holds one of these, and would save what it has read before.
        owner_id = tx.lock_inv_id(row.merchant_id, row.inv_id)
        loan_id = owner_id if row.loan_id is None else row.loan_id
        if loan_id is not None:
            tx.loan_by_id(loan_id, lock=True)
        row = tx.decision(decision_id, lock=True)
    if row is None or row.state == rows.HANDLED:
        msg = "the ledger does not know this decision" if row is None else "the decision was handled"
        raise ValueError(msg)
    tx.save_decision(attrs.evolve(row, state=rows.DISMISSED, lease=None, lease_until=0.0))
