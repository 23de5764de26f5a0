"""The customers' pages: products, cart, checkout, order."""

import logging
import re
import secrets
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Cookie, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from wegetfinancing import Address, CallError, FinancingRequest, InvalidRequestError, Outcome

from .catalogue import MOST, PRODUCTS, SHIPPING, cart_items, read_cart, total, write_cart
from .database import Order
from .state import PAGES, Shop, TheShop, own_forms_only

LOG = logging.getLogger("shop")
CartCookie = Annotated[str, Cookie()]
router = APIRouter(dependencies=[Depends(own_forms_only)])
FIELDS = (
    "first_name",
    "last_name",
    "email",
    "phone",
    "billing_address.street1",
    "billing_address.city",
    "billing_address.state",
    "billing_address.zipcode",
)


@router.get("/")
def products(request: Request, cart: CartCookie = "") -> HTMLResponse:
    chosen = read_cart(cart)
    values = {"products": PRODUCTS.values(), "items": cart_items(chosen), "cart": chosen, "most": MOST}
    return PAGES.TemplateResponse(request, "products.html", values)


@router.post("/cart")
def change_cart(
    sku: Annotated[str, Form()],
    quantity: Annotated[int, Form(ge=0, le=MOST)],
    cart: CartCookie = "",
) -> RedirectResponse:
    if sku not in PRODUCTS:
        raise HTTPException(HTTPStatus.NOT_FOUND, "unknown product")
    response = RedirectResponse("/#cart", HTTPStatus.SEE_OTHER)
    changed = write_cart(read_cart(cart) | {sku: quantity})
    response.set_cookie("cart", changed, httponly=True, samesite="lax")
    return response


@router.get("/checkout")
def checkout(request: Request, cart: CartCookie = "") -> Response:
    if not read_cart(cart):
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)
    # The order ID is generated when the form is rendered, so that a form that is sent twice is one order.
    return checkout_page(request, {"order_id": new_order_id()}, cart, {})


@router.post("/checkout")
async def apply(request: Request, shop: TheShop, cart: CartCookie = "") -> Response:
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    order_id = form.get("order_id", "")
    if not re.fullmatch(r"ORDER-[0-9a-f]{16}", order_id) or not read_cart(cart):
        return RedirectResponse("/checkout", HTTPStatus.SEE_OTHER)
    financing_request = read_form(form, cart, shop.settings.own_url)
    if problems := financing_request.problems():
        return checkout_page(request, form, cart, problems)
    contents = {"cart": read_cart(cart), "customer": {name: form.get(name, "") for name in FIELDS}}
    amount = financing_request.expected_amount
    if await run_sync(shop.database.begin, order_id, amount, contents):
        refusal = await create(shop, financing_request, order_id)
        if refusal:
            return checkout_page(request, form, cart, refusal)
    order = await run_sync(shop.order, order_id)
    if order.contents != contents:
        fresh = form | {"order_id": new_order_id()}
        told = {
            "form": f"{order_id} is under way with different contents. Send this form for a second order."
        }
        return checkout_page(request, fresh, cart, told)
    return onward(request, shop, order, form.get("show", ""))


def onward(request: Request, shop: Shop, order: Order, show: str) -> Response:
    """Send the customer to the application, or to the order's page where there is none to show."""
    if order.told_to_the_customer != "waiting" or order.href is None:
        return RedirectResponse(f"/orders/{order.id}", HTTPStatus.SEE_OTHER)
    if show == "lightbox":
        values = {"order": order, "lightbox_url": shop.settings.lightbox_url}
        return PAGES.TemplateResponse(request, "lightbox.html", values)
    return RedirectResponse(order.href, HTTPStatus.SEE_OTHER)


async def create(shop: Shop, request: FinancingRequest, order_id: str) -> Mapping[str, str]:
    """Create the request once; return the problems to show beside the form, if any."""
    try:
        created = await shop.client.create_request(request)
    except CallError as error:
        LOG.warning("%s: %r, outcome %s", order_id, error, error.outcome.value)
        if error.outcome is Outcome.UNKNOWN:
            # It may have been created: never create it again. The postback will tell.
            await run_sync(partial(shop.database.failed, order_id, checkout="unknown", note=str(error)))
            return {}
        await run_sync(partial(shop.database.failed, order_id, checkout="failed", note=str(error)))
        reasons = error.reasons if isinstance(error, InvalidRequestError) else {}
        return reasons or {"form": "Financing cannot be reached just now. Please try again."}
    LOG.info("%s is %s", order_id, created.inv_id)  # logged even if the database fails now
    await run_sync(shop.database.applied, order_id, created)
    return {}


@router.get("/orders/{order_id}")
def order_page(request: Request, order_id: str, shop: TheShop) -> HTMLResponse:
    return PAGES.TemplateResponse(request, "order.html", {"order": shop.order(order_id)})


@router.get("/orders/{order_id}/state")
def order_state(order_id: str, shop: TheShop) -> JSONResponse:
    return JSONResponse({"state": shop.order(order_id).told_to_the_customer})


def new_order_id() -> str:
    """Make an id that nobody guesses: whoever knows it sees the order's page."""
    return f"ORDER-{secrets.token_hex(8)}"


def checkout_page(
    request: Request, form: Mapping[str, str], cart: str, problems: Mapping[str, str]
) -> HTMLResponse:
    items = cart_items(read_cart(cart))
    values = {
        "items": items,
        "shipping": SHIPPING,
        "total": total(items),
        "form": form,
        "problems": problems,
        "without_field": [text for name, text in problems.items() if name not in (*FIELDS, "form")],
    }
    return PAGES.TemplateResponse(request, "checkout.html", values)


def read_form(form: Mapping[str, str], cart: str, own_url: str) -> FinancingRequest:
    """Read the checkout form, whose fields are named as ``problems()`` names them."""
    order_id = form["order_id"]

    def field(name: str) -> str:
        return form.get(name, "").strip()

    return FinancingRequest(
        first_name=field("first_name"),
        last_name=field("last_name"),
        email=field("email"),
        phone=re.sub(r"[ ().-]", "", field("phone")) or None,
        billing_address=Address(
            street1=field("billing_address.street1"),
            city=field("billing_address.city"),
            state=field("billing_address.state").upper(),
            zipcode=field("billing_address.zipcode"),
        ),
        cart_items=cart_items(read_cart(cart)),
        shipping_amount=SHIPPING,
        merchant_transaction_id=order_id,
        postback_url=f"{own_url}/postbacks",
        success_url=f"{own_url}/orders/{order_id}",
        failure_url=f"{own_url}/orders/{order_id}",
        software_name="Example Furniture",
    )
