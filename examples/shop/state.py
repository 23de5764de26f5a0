"""What every page of the shop uses."""

from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import attrs
from fastapi import Depends, Header, HTTPException, Request
from fastapi.templating import Jinja2Templates

from wegetfinancing import AsyncClient, Credentials, Environment

from .database import Database, Order

HERE = Path(__file__).parent
PAGES = Jinja2Templates(HERE / "templates")
PAGES.env.filters["dollars"] = "${:,.2f}".format


@attrs.frozen(kw_only=True)
class Settings:
    """What differs between the sandbox and the live shop."""

    credentials: Credentials
    own_url: str
    lightbox_url: str
    database: Path
    environment: Environment = Environment.SANDBOX
    base_url: str | None = None
    timeout: float = 20.0


@attrs.frozen(kw_only=True)
class Shop:
    """What lives as long as the application."""

    settings: Settings
    database: Database
    client: AsyncClient

    def order(self, order_id: str) -> Order:
        order = self.database.order(order_id)
        if order is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "unknown order")
        return order


def _shop(request: Request) -> Shop:
    shop: Shop = request.app.state.shop
    return shop


TheShop = Annotated[Shop, Depends(_shop)]


def own_forms_only(
    request: Request,
    shop: TheShop,
    sec_fetch_site: Annotated[str | None, Header()] = None,
    origin: Annotated[str | None, Header()] = None,
) -> None:
    """Accept a form only where the browser says that a page of this shop has sent it.

    A page cannot set either header, and every browser sends at least one of them with a form.
    """
    is_own = sec_fetch_site == "same-origin" or origin == shop.settings.own_url
    if request.method == "POST" and not is_own:
        raise HTTPException(HTTPStatus.FORBIDDEN, "this form was not sent from a page of this shop")
