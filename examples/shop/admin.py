"""The staff page. Put your own login in front of it."""

import contextlib
import datetime as dt
from collections.abc import Iterator
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
    loan = (await run_sync(shop.order, order_id)).loan
    # Claimed in the database, so that it is shipped once, however often the button is pressed.
    if loan is None or loan.inv_id is None or not await run_sync(shop.database.claim_shipping, order_id):
        raise HTTPException(HTTPStatus.CONFLICT, "this order must not be shipped, or is being shipped")
    event = ShippingEvent(date=dt.datetime.now(dt.UTC).date(), state=ShippingState.DISPATCHED)
    try:
        await shop.client.update_shipping(loan.inv_id, event)
    except CallError as error:
        # The client has repeated it where that helps; the staff may try again.
        text = f"the vendor was not told of the shipment: {error}"
        await run_sync(shop.database.shipping_failed, order_id, text)
    else:
        await run_sync(shop.database.shipped, order_id)
    return _back()


@router.post("/{order_id}/transferred")
def transferred(order_id: str, shop: TheShop) -> RedirectResponse:
    """Record that a bank transfer has arrived and that the goods have left."""
    if not shop.database.transferred(shop.order(order_id).id):
        raise HTTPException(HTTPStatus.CONFLICT, "this order is not paid by bank transfer, or was shipped")
    return _back()


@router.post("/{order_id}/accept")
def accept(
    order_id: str, shop: TheShop, *, hold: Annotated[str, Form()], apply: Annotated[bool, Form()] = False
) -> RedirectResponse:
    """Accept the hold that was seen: one that arrives meanwhile stays open."""
    with _conflicts():
        shop.database.ledger.accept(shop.order(order_id).id, [hold], apply=apply)
    return _back()


@router.post("/{order_id}/absent")
def absent(order_id: str, shop: TheShop) -> RedirectResponse:
    """Close an order whose application the vendor does not have."""
    with _conflicts():
        shop.database.ledger.resolve(shop.order(order_id).id)
    return _back()


@contextlib.contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error


def _back() -> RedirectResponse:
    return RedirectResponse("/admin", HTTPStatus.SEE_OTHER)
