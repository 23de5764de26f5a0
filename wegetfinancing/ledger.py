"""A ledger: safe beyond the wire, in the shop's own database.

An order is applied for at most once; a verified decision is never lost, and handled until the handler has
succeeded; ``loan.may_ship`` is true only if nothing speaks against it.
"""

from typing import Protocol

from ._ledger.memory import MemoryLedger
from ._loan import ApplicationState, Hold, Loan, PendingDecision, Review
from .client.applications import ApplicationLedger
from .errors import OrderConflictError
from .postbacks.decisions import Decision, DecisionHandler, DecisionLedger
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
    "run_worker",
]


class Ledger(ApplicationLedger, DecisionLedger, Protocol):
    """What ``AsyncClient``, ``PostbackApp`` and ``run_worker`` accept as ``ledger=``.

    Its methods block, and each is one transaction. ``MemoryLedger`` and ``SQLLedger`` are ledgers; so is
    whatever passes ``wegetfinancing.testing.LEDGER_CHECKS``.
    """
