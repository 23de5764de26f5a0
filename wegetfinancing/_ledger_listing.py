"""What needs review in a ledger, as text for operators and as JSON for programs."""

import datetime as dt
import json
import shlex
from collections.abc import Iterable
from typing import Any

import attrs

from ._loan import ApplicationState, Loan, PendingDecision, Review


@attrs.frozen(kw_only=True)
class Item:
    """One entry of the list: what waits, since when, and the commands that end it."""

    title: str
    since: dt.datetime
    texts: list[str]
    remedies: list[str]
    data: dict[str, Any]


def is_late(items: Iterable[Item], now: dt.datetime, too_long: dt.timedelta) -> bool:
    """Whether anything has waited for longer."""
    return any(now - each.since > too_long for each in items)


def as_json(items: list[Item], now: dt.datetime, too_long: dt.timedelta, *, has_worker: bool) -> str:
    """Show the list to programs."""
    shown = [
        {**each.data, "since": each.since.isoformat(), "too_long": is_late([each], now, too_long)}
        for each in items
    ]
    told = {"items": shown, "too_long": is_late(items, now, too_long), "worker_alive": has_worker}
    return json.dumps(told, indent=2)


def as_text(
    items: list[Item],
    now: dt.datetime,
    too_long: dt.timedelta,
    *,
    command: str,
    names_merchant: bool,
    has_worker: bool,
) -> str:
    """Show the list to operators, each entry with the commands that end it.

    ``names_merchant``: whether the commands say whose order is meant.
    """
    lines = [] if items else ["nothing needs review"]
    for item in items:
        late = "  TOO LONG" if is_late([item], now, too_long) else ""
        lines.append(f"{item.title}, for {_age(now - item.since)}{late}")
        lines += [f"    {text}" for text in item.texts]
        whose = f" --merchant {shlex.quote(item.data['merchant'])}" if names_merchant else ""
        lines += [f"    -> {command}{whose} {remedy}" for remedy in item.remedies]
    if not has_worker and any("decision" in item.data for item in items):
        lines.append("no worker is alive: run_worker, or the lifespan of PostbackApp, handles what waits")
    return "\n".join(lines)


def _age(age: dt.timedelta) -> str:
    minutes = max(int(age.total_seconds()) // 60, 0)
    hours, days = minutes // 60, minutes // 1440
    return f"{days} days" if days > 1 else f"{hours} hours" if hours > 1 else f"{minutes} minutes"


def items_of(review: Review) -> list[Item]:
    """List what waits, the oldest first."""
    undecided = {(loan.merchant_id, loan.order_id) for loan in review.undecided}
    loans = {(loan.merchant_id, loan.order_id): loan for loan in (*review.loans, *review.undecided)}
    items = [_of_loan(loan, is_undecided=key in undecided) for key, loan in loans.items()]
    items += [_of_decision(each) for each in review.decisions]
    return sorted(items, key=lambda each: each.since)


def _of_loan(loan: Loan, *, is_undecided: bool) -> Item:
    order = shlex.quote(loan.order_id)
    since, texts, remedies = loan.updated_at, [], []
    if loan.state in (ApplicationState.SENDING, ApplicationState.UNKNOWN):
        since = loan.deadline
        texts.append("nobody knows whether the vendor has it; look it up in the vendor's back-office")
        remedies += [f"adopt {order} INV_ID AMOUNT      if it is there", f"resolve {order}      if it is not"]
    elif is_undecided:
        since = loan.created_at
        texts.append("created, and no final decision has come; look it up in the vendor's back-office")
    texts += [f"{hold.id}: {hold.text}" for hold in loan.held]
    if loan.inv_id is not None and any(hold.code == "amount_not_seen" for hold in loan.held):
        # Rather than to accept it: what is adopted is compared with what the shop expects.
        inv_id = shlex.quote(loan.inv_id)
        remedies.append(f"adopt {order} {inv_id} AMOUNT      with the amount that the back-office shows")
    if loan.held:
        holds = " ".join(shlex.quote(hold.id) for hold in loan.held)
        remedies.append(f"accept {order} {holds}      once you have reviewed it")
    if any(hold.code in ("conflict", "repeated") for hold in loan.held):
        remedies.append(f"accept --apply {order} HOLD      if that decision counts")
    told = f", {loan.status}" if loan.status else ""
    return Item(
        title=f"order {order} of merchant {loan.merchant_id}: {loan.state.value}{told}",
        since=since,
        texts=texts,
        remedies=remedies,
        data={
            "order": loan.order_id,
            "merchant": loan.merchant_id,
            "state": loan.state.value,
            "status": loan.status,
            "inv_id": loan.inv_id,
            "amount": None if loan.amount is None else str(loan.amount),
            "expected_amount": None if loan.expected_amount is None else str(loan.expected_amount),
            "refunded": str(loan.refunded),
            "undecided": is_undecided,
            "holds": [{"id": hold.id, "code": hold.code, "text": hold.text} for hold in loan.held],
        },
    )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _of_decision(decision: PendingDecision) -> Item:
    texts, remedies = [], [f"dismiss {decision.id}      if it is not to be handled"]
    if decision.state == "unmatched":
        texts.append("belongs to no order that this ledger knows; is it one of another system?")
        order = shlex.quote(decision.order_id or "ORDER")
        adopt = f"adopt {order} {shlex.quote(decision.inv_id)} AMOUNT      if it is one of this shop's"
        remedies.insert(0, adopt)
    elif decision.state == "waiting" and not decision.attempts:
        # Nothing has failed, so there is nothing to retry: it waits for a worker, or for an earlier decision.
        texts.append(f"no handler has been called for it yet; due since {decision.due:%F %T} UTC")
        remedies.clear()
    elif decision.state == "waiting":
        error = f", last with {decision.error}" if decision.error else ""
        texts.append(
            f"the handler was called {_times(decision.attempts)}{error}; next at {decision.due:%F %T} UTC"
        )
        remedies.insert(0, f"retry {decision.id}      once the handler is fixed")
    else:
        texts.append("names two orders, or an ID of another one; see their holds")
    whose = f"order {decision.order_id} of " if decision.order_id else ""
    said = f"decision {decision.id} ({decision.status}, {decision.inv_id})"
    return Item(
        title=f"{said} of {whose}merchant {decision.merchant_id}: {decision.state}",
        since=decision.received_at,
        texts=texts,
        remedies=remedies,
        data={
            "decision": decision.id,
            "merchant": decision.merchant_id,
            "order": decision.order_id,
            "inv_id": decision.inv_id,
            "status": decision.status,
            "state": decision.state,
            "attempts": decision.attempts,
            "error": decision.error,
            "due": decision.due.isoformat(),
        },
    )
