"""What a create needs of a ledger, and the intent that it hands over."""

import decimal
import hashlib
import json
import secrets
from decimal import Decimal
from typing import Protocol

from .._checks import has_methods
from .._loan import Application, Begun, Loan
from .._rules import EXACT, REQUIRED, money, to_decimal
from ..credentials import Environment
from ..errors import ConfigurationError, Outcome
from ..models import CreatedRequest, FinancingRequest
from .operations import CREATE_REQUEST, invalid_request


class ApplicationLedger(Protocol):
    """The part of a ledger that creates need. Each method blocks, and is one transaction."""

    @property
    def environment(self) -> Environment:
        """The environment whose orders are kept."""
        ...

    def begin(self, application: Application, *, timeout: float | None = None) -> Begun:
        """Commit the intent to apply, or say why nothing may be sent.

        Raises:
            LedgerError: the database failed, and no intent is there unless the error is ``uncertain``.
            ConfigurationError: called where it would wait for itself.

        """
        ...

    def record_answer(
        self, application: Application, created: CreatedRequest, *, timeout: float | None = None
    ) -> Loan:
        """Record that the vendor has accepted an application. Recording it twice is harmless."""
        ...

    def record_failure(
        self, application: Application, outcome: Outcome, *, timeout: float | None = None
    ) -> Loan | None:
        """Record how an attempt failed, if it is still the one that is sending."""
        ...


def check_ledger(ledger: ApplicationLedger, environment: Environment) -> ApplicationLedger:
    """Return the ledger, or say why it cannot be that of this client.

    Raises:
        ConfigurationError: not a ledger, or one of the other environment.

    """
    if not has_methods(ledger, "begin", "record_answer", "record_failure"):
        msg = "ledger must be a ledger, such as SQLLedger(...) of wegetfinancing.contrib.sqlalchemy"
        raise ConfigurationError(msg)
    if ledger.environment is not environment:
        msg = (
            f"the ledger is of the environment {ledger.environment.value}, the client of {environment.value}"
        )
        raise ConfigurationError(msg)
    return ledger


def fingerprint(request: FinancingRequest) -> str:
    """Return a hash of amount and items, and of nothing else: no personal data, no software version."""
    items = [
        [item.display_name, f"{item.unit_price:.2f}", item.quantity, item.sku] for item in request.cart_items
    ]
    contents = [f"{request.expected_amount:.2f}", f"{_taxes(request):.2f}", items]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def _taxes(request: FinancingRequest) -> Decimal:
    """Return what ``expected_amount`` leaves out, in USD."""
    if request.amount is not None:
        return Decimal(0)
    if request.tax_amount is not None:
        return request.tax_amount
    with decimal.localcontext(EXACT):
        taxes = (item.quantity * item.unit_tax for item in request.cart_items if item.unit_tax is not None)
        return sum(taxes, Decimal(0))


def application_of(
    request: FinancingRequest, merchant_id: str, expected_amount: Decimal | int | str | None, seconds: float
) -> Application:
    """Make the intent to apply.

    Raises:
        InvalidRequestError: the request names no order, or the amount cannot be one.

    """
    problems: dict[str, str] = {}
    if request.merchant_transaction_id is None:
        problems["merchant_transaction_id"] = f"{REQUIRED} with a ledger: it names your order"
    expected = None if expected_amount is None else to_decimal(expected_amount)
    if expected is not None and (problem := money()(expected)):
        problems["expected_amount"] = problem
    if problems or request.merchant_transaction_id is None:
        raise invalid_request(CREATE_REQUEST, problems)
    return Application(
        merchant_id=merchant_id,
        order_id=request.merchant_transaction_id,
        token=secrets.token_hex(16),
        fingerprint=fingerprint(request),
        expected_amount=request.expected_amount if expected is None else expected,
        taxes=_taxes(request) if expected is None else Decimal(0),
        seconds=seconds,
    )
