"""Decisions in: the endpoint that receives the vendor's postbacks, and what it is made of."""

from .app import PostbackApp
from .deliveries import (
    CLAIM_SECONDS,
    Claim,
    DeliveryStore,
    MemoryDeliveryStore,
    SyncDeliveryStore,
    SyncMemoryDeliveryStore,
)
from .handling import PostbackHandler
from .loan_state import Advice, LoanState
from .receiving import BODY_LIMIT, BODY_SECONDS, NotYet, ResponseStatuses
from .sources import CredentialsLookup

__all__ = [
    "BODY_LIMIT",
    "BODY_SECONDS",
    "CLAIM_SECONDS",
    "Advice",
    "Claim",
    "CredentialsLookup",
    "DeliveryStore",
    "LoanState",
    "MemoryDeliveryStore",
    "NotYet",
    "PostbackApp",
    "PostbackHandler",
    "ResponseStatuses",
    "SyncDeliveryStore",
    "SyncMemoryDeliveryStore",
]
