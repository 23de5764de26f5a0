"""The project of docs/django.md, as it stands there: migrate, check, apply, receive, ship."""

import os
import re
import subprocess
import sys
from pathlib import Path

from wegetfinancing.testing import credentials

ROOT = Path(__file__).parent.parent
FILES = dict(
    re.findall(r'```python title="([^"]+)"\n(.*?)```', (ROOT / "docs/django.md").read_text(), re.DOTALL)
)
# What every Django project has.
REST = """
ALLOWED_HOSTS = ["*"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "shop.urls"
SECRET_KEY = "invented"
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
SCRIPT = """
import django
import httpx
import respx
from django.core.management import call_command
from django.test import Client

django.setup()
call_command("check", fail_level="WARNING")
call_command("migrate", run_syncdb=True, verbosity=0)

from shop.models import Order
from wegetfinancing.contrib.django import get_client, get_ledger
from wegetfinancing.emulator import Emulator
from wegetfinancing.http import Request
from wegetfinancing.testing import credentials, signed_postback

emulator = Emulator(credentials())


def answer(request):
    url, headers, body = str(request.url), request.headers, request.content
    made = Request(operation="", method=request.method, url=url, headers=headers, body=body)
    answered = emulator.answer(made)
    return httpx.Response(answered.status, headers=dict(answered.headers), content=answered.body)


with respx.mock:
    respx.route(host="emulator.example").mock(side_effect=answer)
    shop = Client(enforce_csrf_checks=True)
    pages = {shop.get("/checkout/ORDER-123")["Location"] for _ in range(2)}
    assert len(pages) == 1, pages
inv_id = get_ledger().loan("ORDER-123").inv_id
delivery = signed_postback(inv_id=inv_id)
for _ in range(2):
    received = shop.post(
        "/postbacks", data=delivery.body, content_type="application/json", headers=dict(delivery.headers)
    )
    assert (received.status_code, received.content) == (200, b"OK"), received.content
assert Order.objects.get().status == "approved"
assert get_ledger().loan("ORDER-123").may_ship
assert shop.get("/checkout/ORDER-123").content == b"Your application is approved."
call_command("wegetfinancing_worker", until_idle=True)
assert shop.get("/admin/").status_code == 302
get_client().close()
"""


def test_the_project_of_the_page_works_as_it_stands(tmp_path: Path) -> None:
    files = {**FILES, "shop/__init__.py": "", "try_it.py": SCRIPT}
    files["settings.py"] += REST
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "WEGETFINANCING_BASE_URL": "https://emulator.example",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        **{
            f"WEGETFINANCING_{name.upper()}": getattr(credentials(), name)
            for name in ("merchant_id", "username", "password")
        },
    }
    run = subprocess.run(
        [sys.executable, "try_it.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
