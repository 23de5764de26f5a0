"""The customers' pages."""

import logging
import secrets

from django.conf import settings
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from wegetfinancing import CallError, CreatedRequest, InvalidRequestError, Outcome
from wegetfinancing.contrib.django import get_client, get_ledger
from wegetfinancing.ledger import ApplicationState

from . import payments
from .catalogue import PRODUCTS, SHIPPING, Product
from .forms import FIELDS, CheckoutForm
from .models import Order

LOG = logging.getLogger(__name__)
OPEN = {"waiting", "pending", "preapproved", "in review"}


@require_safe
def products(request: HttpRequest) -> HttpResponse:
    return render(request, "django_shop/products.html", {"products": PRODUCTS.values()})


@never_cache
@transaction.non_atomic_requests  # the ledger commits before a byte leaves
def checkout(request: HttpRequest, sku: str) -> HttpResponse:
    if sku not in PRODUCTS:
        msg = "unknown product"
        raise Http404(msg)
    product = PRODUCTS[sku]
    if request.method == "POST":
        return apply(request, product)
    # The number is generated once for each purchase, so that a form that is sent twice is one order, and so
    # is one that is filled in again because the answer to the first was lost.
    number = request.session.get(f"order:{sku}")
    known = Order.objects.filter(number=number).first()
    if known is not None and payments.state_of(known) in OPEN:
        return redirect(known)
    if number is None or (known is not None and not payments.may_apply(get_ledger().loan(number))):
        number = request.session[f"order:{sku}"] = f"ORDER-{secrets.token_hex(8)}"  # nobody guesses it
    return show(request, CheckoutForm(product, initial={"number": number}))


def apply(request: HttpRequest, product: Product) -> HttpResponse:
    form = CheckoutForm(product, request.POST)
    if not form.is_valid():
        return show(request, form)
    order = payments.save(form.order(), corrections=FIELDS)
    if order.sku != product.sku:
        return redirect(order)
    try:
        created = get_client().create_request(
            payments.financing_request(order)
        )  # at most once for each order
    except CallError as error:
        LOG.warning("%s: %r, outcome %s", order, error, error.outcome.value)
        is_closed = error.loan is not None and error.loan.state is ApplicationState.ABSENT
        if error.outcome is Outcome.UNKNOWN or is_closed:
            return redirect(order)  # it may exist: never create it again. The postback will tell.
        if isinstance(error, InvalidRequestError) and error.reasons:
            form.add_problems(dict(error.reasons))
        else:
            form.add_error(None, "Financing cannot be reached just now. Please try again.")
        return show(request, form)
    return onward(request, order, created)


def onward(request: HttpRequest, order: Order, created: CreatedRequest) -> HttpResponse:
    """Send the customer to the application, or to the order's page if the amount is another one."""
    # Where the answer lacks the amount, the ledger holds the goods back until someone has looked it up.
    if created.amount not in (None, order.amount):
        return redirect(order)
    if request.POST.get("show") == "lightbox":
        shown = {"order": order, "href": created.href, "lightbox_url": settings.LIGHTBOX_URL}
        return render(request, "django_shop/lightbox.html", shown)
    return redirect(created.href)


def show(request: HttpRequest, form: CheckoutForm) -> HttpResponse:
    shown = {"form": form, "product": form.product, "shipping": SHIPPING}
    return render(request, "django_shop/checkout.html", shown)


@require_safe
@never_cache
def order(request: HttpRequest, number: str) -> HttpResponse:
    found = get_object_or_404(Order, number=number)
    return render(request, "django_shop/order.html", {"order": found, "state": payments.state_of(found)})


@require_safe
@never_cache
def order_state(_: HttpRequest, number: str) -> HttpResponse:
    return JsonResponse({"state": payments.state_of(get_object_or_404(Order, number=number))})


@require_safe
@never_cache
@transaction.non_atomic_requests
def application(_: HttpRequest, number: str) -> HttpResponse:
    """Send the customer to the application. Its address is in the ledger until it is decided."""
    found = get_object_or_404(Order, number=number)
    if payments.state_of(found) != "waiting":
        return redirect(found)
    try:
        created = get_client().create_request(payments.financing_request(found))  # it exists: nothing is sent
    except CallError:
        return redirect(found)
    return redirect(created.href)
