"""Everything between the shop's orders and the lender.

What to copy: the order is saved before the vendor is called; the ledger says whether goods may leave; a
decision is written down in the ledger's transaction.
"""

import datetime as dt
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q
from django.utils import timezone

from wegetfinancing import (
    Address,
    Approved,
    CallError,
    CartItem,
    FinancingRequest,
    Refunded,
    Rejected,
    ShippingEvent,
    ShippingState,
)
from wegetfinancing.contrib.django import get_client, get_ledger
from wegetfinancing.ledger import ApplicationState, Decision, Loan

from .catalogue import PRODUCTS, SHIPPING
from .models import Event, Order

SHIPPING_TIME = dt.timedelta(minutes=2)  # longer than a call to the vendor
NOTHING_APPLIED = {ApplicationState.REFUSED, ApplicationState.NOT_SENT}
IN_DOUBT = {ApplicationState.SENDING, ApplicationState.UNKNOWN}
AMOUNTS = {"amount_not_seen", "amount_differs", "amount_not_expected"}


def financing_request(order: Order) -> FinancingRequest:
    product = PRODUCTS[order.sku]
    order_page = f"{settings.OWN_URL}{order.get_absolute_url()}"
    return FinancingRequest(
        first_name=order.first_name,
        last_name=order.last_name,
        email=order.email,
        phone=order.phone or None,
        billing_address=Address(
            street1=order.street1, city=order.city, state=order.state, zipcode=order.zipcode
        ),
        cart_items=[CartItem(display_name=product.name, unit_price=product.price, quantity=1, sku=order.sku)],
        shipping_amount=SHIPPING,
        merchant_transaction_id=order.number,
        postback_url=f"{settings.OWN_URL}/postbacks",
        success_url=order_page,
        failure_url=order_page,
        software_name="Example Furniture",
    )


def save(order: Order, *, corrections: list[str]) -> Order:
    """Save an order before the vendor is called, and return it as it stands.

    ``corrections``: the fields that may be changed as long as nothing was applied for.
    """
    with transaction.atomic():
        # A write first: on SQLite, a transaction that has read cannot begin to write once another one has.
        Order.objects.bulk_create([order], ignore_conflicts=True)
        saved = Order.objects.select_for_update().get(number=order.number)
        if may_apply(get_ledger().loan(order.number)):
            for name in corrections:
                setattr(saved, name, getattr(order, name))
            if saved.sku == order.sku:
                saved.amount = (
                    order.amount
                )  # what is applied for now, should the price have changed meanwhile
            saved.save(update_fields=[*corrections, "amount"])
    return saved


def may_apply(loan: Loan | None) -> bool:
    """Tell whether the vendor certainly has no application, and there may be one under this number."""
    return loan is None or (loan.state in NOTHING_APPLIED and not loan.held)


def is_closed(loan: Loan) -> bool:
    """Tell whether the vendor had no application under this number when it was looked for, nor has since."""
    return loan.state is ApplicationState.ABSENT and loan.inv_id is None and not loan.held


def state_of(order: Order) -> str:
    """Say what the customer is told."""
    loan = get_ledger().loan(order.number)
    if order.shipped_at is not None:
        return "shipped"
    if loan is None or may_apply(loan) or is_closed(loan):
        return "failed"
    if loan.refunded >= order.amount:
        return "refund"
    if needs_review(loan):
        return "in review"
    return "pending" if loan.state in IN_DOUBT else loan.status or "waiting"


def needs_review(loan: Loan) -> bool:
    """Tell whether a hold concerns the customer: an amount that nobody saw does not, before an approval."""
    ignored = {Approved.status: set[str](), Rejected.status: AMOUNTS}
    return any(hold.code not in ignored.get(loan.status or "", {"amount_not_seen"}) for hold in loan.held)


def apply(connection: BaseDatabaseWrapper, decision: Decision) -> None:
    """Write a decision down, in the ledger's transaction: exactly once. The vendor has paid a refund."""
    order = Order.objects.using(connection.alias).get(number=decision.order_id)
    text = decision.postback.status
    if isinstance(decision.postback, Refunded):
        text = f"refund of {decision.postback.amount or 'an unnamed amount'}"
    else:
        order.status = text
        order.save(update_fields=["status"])
    Event.objects.using(connection.alias).create(
        order=order, text=text if order.shipped_at is None else f"{text}, after the goods left"
    )


class ShippingError(Exception):
    """Nothing was shipped, or the vendor was not told; the text says why."""


def ship(order: Order) -> None:
    """Let the goods leave, and tell the vendor.

    Raises:
        ShippingError: try again where its text says so; the vendor may be told twice.

    """
    loan = _claim(order)
    today = timezone.localdate()
    try:
        get_client().update_shipping(
            str(loan.inv_id), ShippingEvent(date=today, state=ShippingState.DISPATCHED)
        )
    except CallError as error:
        Order.objects.filter(pk=order.pk).update(shipping_until=None)
        msg = f"The vendor was not told of the shipment: {error}. Try again."
        raise ShippingError(msg) from error
    with transaction.atomic():
        Order.objects.filter(pk=order.pk).update(shipped_at=timezone.now(), shipping_until=None)
        Event.objects.create(order=order, text="shipped")
        if not _may_leave(get_ledger().loan(order.number), order.amount):
            Event.objects.create(order=order, text="the loan changed while it was shipped: stop the parcel")


def _claim(order: Order) -> Loan:
    """Claim an order in the database, so that it is shipped once, however often the button is pressed."""
    now = timezone.now()
    free = Q(shipping_until=None) | Q(shipping_until__lt=now)
    with transaction.atomic():
        claimed = Order.objects.filter(free, pk=order.pk, shipped_at=None).update(
            shipping_until=now + SHIPPING_TIME
        )
        # Read after the claim, and in its transaction.
        loan = get_ledger().loan(order.number)
        if not claimed or loan is None or not _may_leave(loan, order.amount):
            msg = "It must not be shipped, or it is being shipped."
            raise ShippingError(msg)
    return loan


def _may_leave(loan: Loan | None, amount: Decimal) -> bool:
    return loan is not None and loan.may_ship and loan.refunded < amount
