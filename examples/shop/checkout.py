"""The customers' pages: products, cart, checkout, order."""

import contextlib
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Cookie, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from wegetfinancing import Address, CallError, FinancingRequest, InvalidRequestError, Outcome

from .catalogue import MOST, PRODUCTS, SHIPPING, Cart, cart_items, read_cart, total, write_cart
from .database import Order, new_order_id
from .state import PAGES, Shop, TheShop, own_forms_only

LOG = logging.getLogger("shop")
CartCookie = Annotated[str, Cookie()]
OrderCookie = Annotated[str, Cookie()]
ORDER_ID = re.compile(r"ORDER-[0-9a-f]{16}")
OVER = {"failed", "rejected"}
"""States after which the customer may begin again."""
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
    items = cart_items(chosen)
    values = {"items": items, "shipping": SHIPPING, "total": total(items)}
    values |= {"products": PRODUCTS.values(), "cart": chosen, "most": MOST}
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
    keep(response, "cart", changed)
    return response


@router.get("/checkout")
def checkout(request: Request, shop: TheShop, cart: CartCookie = "", order: OrderCookie = "") -> Response:
    # The order ID is generated once for each cart, so that a form that is sent twice is one order, and so is
    # one that is filled in again because the answer to the first was lost.
    order_id = order if ORDER_ID.fullmatch(order) else new_order_id()
    known = shop.database.order(order_id)
    if known is not None and not known.may_apply:
        if known.told_to_the_customer not in {*OVER, "replaced"}:
            return away(f"/orders/{order_id}")
        order_id = new_order_id()
    if not read_cart(cart):
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)
    return checkout_page(request, {"order_id": order_id}, read_cart(cart), {})


@router.post("/checkout")
async def apply(request: Request, shop: TheShop, cart: CartCookie = "") -> Response:
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    order_id = form.get("order_id", "")
    known = await run_sync(shop.database.order, order_id)
    # The cart is empty once an order was applied for; the form may still come again.
    chosen = read_cart(cart) or (known.contents["cart"] if known is not None else {})
    if not ORDER_ID.fullmatch(order_id) or not chosen:
        return RedirectResponse("/checkout", HTTPStatus.SEE_OTHER)
    contents = {"cart": chosen, "customer": {name: form.get(name, "") for name in FIELDS}}
    financing_request = to_request(order_id, contents, shop.settings.own_url)
    if problems := financing_request.problems():
        return checkout_page(request, form, chosen, problems)
    order = await run_sync(shop.database.save, order_id, financing_request.expected_amount, contents)
    if order.contents != contents or order.is_closed or order.is_paid_otherwise:
        return another(request, order, form, contents)
    try:
        created = await shop.client.create_request(financing_request)  # at most once for each order
    except CallError as error:
        LOG.warning("%s: %r, outcome %s", order_id, error, error.outcome.value)
        if error.outcome is Outcome.UNKNOWN:
            # It may have been created: never create it again. The postback will tell.
            return away(f"/orders/{order_id}")
        return checkout_page(request, form, chosen, problems_of(error))
    return await onward(request, shop, order_id, created.href, form.get("show", ""))


def problems_of(error: CallError) -> Mapping[str, str]:
    reasons = error.reasons if isinstance(error, InvalidRequestError) else {}
    return reasons or {"form": "Financing cannot be reached just now. Please try again."}


def another(request: Request, order: Order, form: Mapping[str, str], contents: Mapping[str, Any]) -> Response:
    """Answer a form whose order has other contents, is closed for ever, or is paid in another way."""
    is_same = order.is_in_doubt or order.is_paid_otherwise or order.contents["cart"] == contents["cart"]
    if is_same and not order.is_closed:
        # Another application for the same purchase would be a second loan.
        return away(f"/orders/{order.id}")
    why = "is closed" if order.is_closed else "has different contents"
    told = {"form": f"{order.id} {why}. Send this form for another order."}
    return checkout_page(request, {**form, "order_id": new_order_id()}, contents["cart"], told)


async def onward(request: Request, shop: Shop, order_id: str, href: str, show: str) -> Response:
    """Send the customer to the application, or to the order's page if it must not be shown."""
    if (await run_sync(shop.order, order_id)).told_to_the_customer != "waiting":
        return away(f"/orders/{order_id}")
    if show == "lightbox":
        values = {"order_id": order_id, "href": href, "lightbox_url": shop.settings.lightbox_url}
        return emptied(PAGES.TemplateResponse(request, "lightbox.html", values))
    return away(href)


def away(url: str) -> Response:
    """Leave the checkout: what is in the cart was applied for, or may have been."""
    return emptied(RedirectResponse(url, HTTPStatus.SEE_OTHER))


def emptied(response: Response) -> Response:
    for name in ("cart", "order"):
        response.delete_cookie(name)
    return response


@router.get("/orders/{order_id}")
def order_page(request: Request, order_id: str, shop: TheShop) -> HTMLResponse:
    order = shop.order(order_id)
    values = {"items": cart_items(order.contents["cart"]), "shipping": SHIPPING, "total": order.amount}
    return PAGES.TemplateResponse(request, "order.html", {"order": order, **values})


@router.get("/orders/{order_id}/state")
def order_state(order_id: str, shop: TheShop) -> JSONResponse:
    return JSONResponse({"state": shop.order(order_id).told_to_the_customer})


@router.get("/orders/{order_id}/application")
async def application(order_id: str, shop: TheShop) -> Response:
    """Send the customer to the application. Its address is in the ledger until it is decided."""
    order = await run_sync(shop.order, order_id)
    if order.told_to_the_customer == "waiting":
        again = to_request(order_id, order.contents, shop.settings.own_url)
        with contextlib.suppress(CallError):
            created = await shop.client.create_request(again)  # it was created: nothing is sent
            return RedirectResponse(created.href, HTTPStatus.SEE_OTHER)
    return RedirectResponse(f"/orders/{order_id}", HTTPStatus.SEE_OTHER)


@router.post("/orders/{order_id}/again")
def again(order_id: str, shop: TheShop) -> Response:
    """Put what was ordered into the cart again, where that order is over."""
    order = shop.order(order_id)
    if order.told_to_the_customer not in OVER:
        return RedirectResponse(f"/orders/{order_id}", HTTPStatus.SEE_OTHER)
    target = "/checkout" if order.told_to_the_customer == "failed" else "/#cart"
    response = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    keep(response, "cart", write_cart(order.contents["cart"]))
    return response


def keep(response: Response, name: str, value: str) -> None:
    response.set_cookie(name, value, httponly=True, samesite="lax")


def checkout_page(
    request: Request, form: Mapping[str, str], cart: Cart, problems: Mapping[str, str]
) -> HTMLResponse:
    items = cart_items(cart)
    values = {
        "items": items,
        "shipping": SHIPPING,
        "total": total(items),
        "form": form,
        "problems": problems,
        "without_field": [text for name, text in problems.items() if name not in (*FIELDS, "form")],
    }
    response = PAGES.TemplateResponse(request, "checkout.html", values)
    keep(response, "order", form["order_id"])
    return response


def to_request(order_id: str, contents: Mapping[str, Any], own_url: str) -> FinancingRequest:
    """Turn the checkout form, whose fields are named as ``problems()`` names them, into a request."""

    def field(name: str) -> str:
        return str(contents["customer"][name]).strip()

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
        cart_items=cart_items(contents["cart"]),
        shipping_amount=SHIPPING,
        merchant_transaction_id=order_id,
        postback_url=f"{own_url}/postbacks",
        success_url=f"{own_url}/orders/{order_id}",
        failure_url=f"{own_url}/orders/{order_id}",
        software_name="Example Furniture",
    )
