"""Decisions in: the endpoint that receives the vendor's postbacks, and what it is made of."""

from .app import BODY_LIMIT, BODY_SECONDS, Answers, NotYet, PostbackApp, PostbackHandler
from .deliveries import CLAIM_SECONDS, KEEP_SECONDS, Claim, DeliveryStore, MemoryDeliveryStore
from .loan_state import Advice, LoanState

__all__ = [
    "BODY_LIMIT",
    "BODY_SECONDS",
    "CLAIM_SECONDS",
    "KEEP_SECONDS",
    "Advice",
    "Answers",
    "Claim",
    "DeliveryStore",
    "LoanState",
    "MemoryDeliveryStore",
    "NotYet",
    "PostbackApp",
    "PostbackHandler",
]
