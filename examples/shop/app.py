"""The shop as an ASGI app.

What to copy: one ``AsyncClient`` and one ledger; the order saved *before* the vendor is called; an unknown
outcome shown as pending and never created again; a worker that tries again what has failed.
"""

import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import anyio
from fastapi import FastAPI
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.routing import Route

from wegetfinancing import AsyncClient, Transport
from wegetfinancing.ledger import run_worker
from wegetfinancing.postbacks import PostbackApp

from . import admin, checkout, payment
from .database import Database
from .state import HERE, Settings, Shop


def make_app(settings: Settings, transport: Transport | None = None) -> FastAPI:
    database = Database(settings.database, settings.environment)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            AsyncClient(
                settings.credentials,
                environment=settings.environment,
                base_url=settings.base_url,
                timeout=settings.timeout,
                transport=transport,
                ledger=database.ledger,
            ) as client,
            anyio.create_task_group() as tasks,
        ):
            app.state.shop = Shop(settings=settings, database=database, client=client)
            tasks.start_soon(run_worker, database.ledger)  # a mounted PostbackApp sees no lifespan
            yield
            tasks.cancel_scope.cancel()
        database.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None)
    # Otherwise a site whose name resolves to this machine could read these pages and send their forms.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[urlsplit(settings.own_url).hostname or ""])
    app.router.routes.append(Route("/postbacks", PostbackApp(settings.credentials, ledger=database.ledger)))
    app.include_router(checkout.router)
    app.include_router(payment.router)
    app.include_router(admin.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    return app
