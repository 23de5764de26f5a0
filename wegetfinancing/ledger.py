"""A ledger: safe beyond the wire, in the shop's own database.

An order is applied for at most once; a verified decision is never lost, and is handled until the handler has
succeeded; ``loan.may_ship`` is true only if nothing speaks against it.
"""

from ._ledger.interface import Ledger
from ._ledger.memory import MemoryLedger
from ._loan import ApplicationState, Hold, Loan, PendingDecision, Review
from .errors import OrderConflictError
from .postbacks.decisions import Decision, DecisionHandler, SyncDecisionHandler
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
    "SyncDecisionHandler",
    "run_worker",
]
