"""The shop as an ASGI app.

What to copy: one ``AsyncClient`` in the lifespan; the order saved *before* the vendor is called; an
unknown outcome shown as pending and never created again; each postback recorded once, in one transaction
with what it changes.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.routing import Route

from wegetfinancing import AsyncClient, Postback, Transport
from wegetfinancing.postbacks import NotYet, PostbackApp

from . import admin, checkout
from .database import Database
from .state import HERE, Settings, Shop


def make_app(settings: Settings, transport: Transport | None = None) -> FastAPI:
    database = Database(settings.database)

    async def handle(postback: Postback) -> None:
        try:
            is_recorded = await run_sync(database.record, postback)
        except sqlite3.OperationalError as error:  # locked
            raise NotYet from error
        if not is_recorded:
            raise NotYet  # the order may not be saved yet: try again

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncClient(
            settings.credentials,
            environment=settings.environment,
            base_url=settings.base_url,
            timeout=settings.timeout,
            transport=transport,
        ) as client:
            app.state.shop = Shop(settings=settings, database=database, client=client)
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None)
    # Otherwise a site whose name resolves to this machine could read these pages and send their forms.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[urlsplit(settings.own_url).hostname or ""])
    # Repeats go the same way: LoanState tells those that change nothing from those that need review.
    app.router.routes.append(
        Route("/postbacks", PostbackApp(settings.credentials, handle, repeat_handler=handle))
    )
    app.include_router(checkout.router)
    app.include_router(admin.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    return app
