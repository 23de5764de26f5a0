"""Another way to pay, for an order whose loan was declined."""

from http import HTTPStatus

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from .catalogue import SHIPPING, cart_items
from .state import PAGES, TheShop, own_forms_only

router = APIRouter(prefix="/orders", dependencies=[Depends(own_forms_only)])


@router.get("/{order_id}/pay")
def ways_to_pay(request: Request, order_id: str, shop: TheShop) -> Response:
    order = shop.order(order_id)
    if order.told_to_the_customer != "rejected":
        return RedirectResponse(f"/orders/{order_id}", HTTPStatus.SEE_OTHER)
    values = {
        "order": order,
        "items": cart_items(order.contents["cart"]),
        "shipping": SHIPPING,
        "total": order.amount,
    }
    page: HTMLResponse = PAGES.TemplateResponse(request, "pay.html", values)
    return page


@router.post("/{order_id}/transfer")
def pay_by_transfer(order_id: str, shop: TheShop) -> RedirectResponse:
    """Replace the declined order by one of its own ID: a late approval then ships nothing a second time."""
    new_id = shop.database.replace(shop.order(order_id).id)
    return RedirectResponse(f"/orders/{new_id or order_id}", HTTPStatus.SEE_OTHER)
