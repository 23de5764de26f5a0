"""For the test suites of shops: a fake transport, builders of valid values, signed postbacks.

It also has the contracts of transports, delivery stores and ledgers as checks that you can run on your own.
It needs neither pytest nor httpx, and patches nothing.
"""

from ..emulator.postbacks import SignedPostback
from ..emulator.responses import INV_ID, created_response, error_response, shipping_response
from .contract.ledger_checking import LedgerCheck
from .contract.ledgers import LEDGER_CHECKS, check_ledger_contract
from .contract.store_checks import STORE_CHECKS, StoreCheck, check_store_contract
from .contract.transport_checking import TransportCheck
from .contract.transports import IN_MEMORY_TRANSPORT_CHECKS, TRANSPORT_CHECKS, check_transport_contract
from .fakes import (
    FakeTransport,
    address,
    cart_item,
    credentials,
    financing_request,
    shipping_event,
    signed_postback,
)

__all__ = [
    "INV_ID",
    "IN_MEMORY_TRANSPORT_CHECKS",
    "LEDGER_CHECKS",
    "STORE_CHECKS",
    "TRANSPORT_CHECKS",
    "FakeTransport",
    "LedgerCheck",
    "SignedPostback",
    "StoreCheck",
    "TransportCheck",
    "address",
    "cart_item",
    "check_ledger_contract",
    "check_store_contract",
    "check_transport_contract",
    "created_response",
    "credentials",
    "error_response",
    "financing_request",
    "shipping_event",
    "shipping_response",
    "signed_postback",
]
