"""The staff page. Put your own login in front of it."""

import datetime as dt
from http import HTTPStatus
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from wegetfinancing import CallError, ShippingEvent, ShippingState

from .state import PAGES, TheShop, own_forms_only

router = APIRouter(prefix="/admin", dependencies=[Depends(own_forms_only)])


@router.get("")
def orders(request: Request, shop: TheShop) -> HTMLResponse:
    return PAGES.TemplateResponse(request, "admin.html", {"orders": shop.database.orders()})


@router.post("/{order_id}/ship")
async def ship(order_id: str, shop: TheShop) -> RedirectResponse:
    order = await run_sync(shop.order, order_id)
    # Claimed in the database, so that it is shipped once, however often the button is pressed.
    if order.inv_id is None or not await run_sync(shop.database.claim_shipping, order_id):
        raise HTTPException(HTTPStatus.CONFLICT, "this order must not be shipped, or is being shipped")
    event = ShippingEvent(date=dt.datetime.now(dt.UTC).date(), state=ShippingState.DISPATCHED)
    try:
        await shop.client.update_shipping(order.inv_id, event)
    except CallError as error:
        # The client has repeated it where that helps; the staff may try again.
        text = f"the vendor was not told of the shipment: {error}"
        await run_sync(shop.database.shipping_failed, order_id, text)
    else:
        await run_sync(shop.database.shipped, order_id)
    return _back()


@router.post("/{order_id}/resolve")
def resolve(
    order_id: str, status: Annotated[str, Form(pattern="^(approved|rejected|refund)$")], shop: TheShop
) -> RedirectResponse:
    if not shop.database.resolve(shop.order(order_id).id, status):
        raise HTTPException(HTTPStatus.CONFLICT, "no decisions about this order are in conflict")
    return _back()


@router.post("/{order_id}/let-go")
def let_go(order_id: str, shop: TheShop) -> RedirectResponse:
    shop.database.let_go(shop.order(order_id).id)
    return _back()


@router.post("/{order_id}/give-up")
def give_up(order_id: str, shop: TheShop) -> RedirectResponse:
    if not shop.database.give_up(shop.order(order_id).id):
        raise HTTPException(HTTPStatus.CONFLICT, "this order is not lost")
    return _back()


def _back() -> RedirectResponse:
    return RedirectResponse("/admin", HTTPStatus.SEE_OTHER)
