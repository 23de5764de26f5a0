"""The page of the shop's own people. Put your own login in front of it."""

import datetime as dt
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from wegetfinancing import CallError, ShippingEvent, ShippingState

from .state import PAGES, TheShop

router = APIRouter(prefix="/admin")


@router.get("")
def orders(request: Request, shop: TheShop) -> HTMLResponse:
    return PAGES.TemplateResponse(request, "admin.html", {"orders": shop.database.orders()})


@router.post("/{order_id}/ship")
async def ship(order_id: str, shop: TheShop) -> RedirectResponse:
    order = shop.order(order_id)
    if not order.may_ship or order.inv_id is None:
        raise HTTPException(HTTPStatus.CONFLICT, "this order must not be shipped")
    event = ShippingEvent(date=dt.datetime.now(dt.UTC).date(), state=ShippingState.DISPATCHED)
    try:
        await shop.client.update_shipping(order.inv_id, event)
    except CallError as error:
        # It has been repeated already where that helps, and may be tried again by hand.
        shop.database.note(order_id, f"the vendor was not told of the shipment: {error}")
    else:
        shop.database.shipped(order_id)
    return RedirectResponse("/admin", HTTPStatus.SEE_OTHER)


@router.post("/{order_id}/resolve")
def resolve(
    order_id: str, status: Annotated[str, Form(pattern="^(approved|rejected)$")], shop: TheShop
) -> RedirectResponse:
    shop.database.resolve(shop.order(order_id).id, status)
    return RedirectResponse("/admin", HTTPStatus.SEE_OTHER)
