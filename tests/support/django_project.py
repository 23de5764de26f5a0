"""A Django project for the tests. Import it before anything of Django's that needs settings."""

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from sqlalchemy.engine import make_url

from .ledgers import new_database
from .postgresql import Server

FOLDER = Path(tempfile.mkdtemp(prefix="wegetfinancing-django-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
TABLES = ("wgf_shipment", "wgf_decision", "wgf_inv", "wgf_loan", "wgf_worker", "wgf_meta")
MIDDLEWARE = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
)
OURS = {
    "MERCHANT_ID": "1234",
    "USERNAME": "shop",
    "PASSWORD": "invented",
    "ENVIRONMENT": "sandbox",
}

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "shop.db"}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "wegetfinancing.contrib.django",
    ],
    MIDDLEWARE=list(MIDDLEWARE),
    ROOT_URLCONF="support.django_urls",
    SECRET_KEY="invented",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    USE_TZ=True,
    WEGETFINANCING=dict(OURS),
)
django.setup()
# Models, which can be imported only now.
from django.contrib.admin.models import LogEntry as LogEntry  # noqa: E402, PLC0414
from django.contrib.auth.models import Permission as Permission  # noqa: E402, PLC0414
from django.contrib.auth.models import User as User  # noqa: E402, PLC0414


def migrate(alias: str = "default") -> None:
    call_command("migrate", database=alias, verbosity=0)


def empty(alias: str = "default") -> None:
    """Delete every row of the ledger's."""
    with connections[alias].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours


def add_database(alias: str, **changes: Any) -> None:
    """Add one to ``DATABASES``."""
    connections.databases[alias] = connections.configure_settings({"default": changes})["default"]


@contextlib.contextmanager
def closed_at_the_end() -> Iterator[None]:
    """Close what this thread has opened."""
    try:
        yield
    finally:
        connections.close_all()


@contextlib.contextmanager
def sqlite_database() -> Iterator[str]:
    """Yield the alias of a migrated database on SQLite."""
    with closed_at_the_end():
        migrate()
        yield "default"


@contextlib.contextmanager
def postgresql_database(server: Server) -> Iterator[str]:
    """Yield the alias of a migrated database on PostgreSQL."""
    url = make_url(new_database(server))
    query = dict(url.query)
    add_database(
        "postgresql",
        ENGINE="django.db.backends.postgresql",
        NAME=url.database,
        USER=url.username or "",
        PASSWORD=url.password or "",
        HOST=str(query.pop("host", url.host or "")),
        PORT=str(query.pop("port", url.port or "")),
    )
    with closed_at_the_end():
        migrate("postgresql")
        yield "postgresql"


def ledger_factory(alias: str) -> Callable[..., Any]:
    """Return what makes an empty ledger; only the last one is used."""
    from wegetfinancing.contrib.django import DjangoLedger  # noqa: PLC0415 - once Django is set up

    def make(**options: Any) -> DjangoLedger:
        empty(alias)
        return DjangoLedger(**{"environment": "sandbox", "using": alias, **options})

    return make
