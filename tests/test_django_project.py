"""The app in a Django project: settings and their check, migrations, the worker's command."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings

from support import django_shop
from support.django_project import OURS, add_database, ledger_factory, sqlite_database
from wegetfinancing import ConfigurationError
from wegetfinancing.contrib.django import get_client, get_ledger
from wegetfinancing.contrib.django.models import Decision, Inv, Loan, Shipment, Version, Worker
from wegetfinancing.testing.contract.ledger_checking import application, created, postback

APPLYING = {**OURS, "APPLY": "support.django_shop.apply"}
ROOT = Path(__file__).parent


@pytest.fixture(autouse=True)
def database() -> Iterator[None]:
    django_shop.told.clear()
    django_shop.opened.clear()
    with sqlite_database():
        ledger_factory("default")()
        yield


def texts() -> list[str]:
    return [each.msg for each in run_checks() if str(each.id).startswith("wegetfinancing.")]


def test_complete_settings_pass_the_check() -> None:
    with override_settings(WEGETFINANCING={**APPLYING, "BASE_URL": "http://127.0.0.1:8001", "TIMEOUT": 5}):
        assert texts() == []
        with override_settings(SECRET_KEY="another"):
            assert get_ledger() is get_ledger()
        assert get_ledger().applies
        assert repr(get_client()) == "<Client http://127.0.0.1:8001>"
    with override_settings(WEGETFINANCING={**OURS, "APPLY": django_shop.apply}):
        assert get_ledger().applies


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (None, ["settings.WEGETFINANCING is missing: a dictionary with MERCHANT_ID, USERNAME, PASSWORD"]),
        (
            {"MERCHANT_ID": "1234", "USERNAME": ""},
            ["has no 'USERNAME'", "has no 'PASSWORD'", "has no 'ENVIRONMENT'"],
        ),
        ({**OURS, "ENVIROMENT": "live"}, ["has 'ENVIROMENT', which is not one of"]),
        ({**OURS, "ENVIRONMENT": "production"}, ["['ENVIRONMENT'] is neither of sandbox, live"]),
        ({**OURS, "DATABASE": "nowhere"}, ["['DATABASE'] is not one of DATABASES"]),
        ({**OURS, "APPLY": "nowhere.apply"}, ["['APPLY'] cannot be used: No module named 'nowhere'"]),
        ({**OURS, "APPLY": 1}, ["['APPLY'] cannot be used: it is not a function"]),
        ({**OURS, "HANDLER": "nowhere.handle"}, ["['HANDLER'] cannot be used: No module named 'nowhere'"]),
        ({**OURS, "HANDLER": 1}, ["['HANDLER'] cannot be used: it is not a function 'def handle(decision)'"]),
        ({**APPLYING, "HANDLER": print}, ["has both 'APPLY' and 'HANDLER'"]),
        ({**OURS, "PASSWORD": "line\n"}, ["password contains a control character"]),
    ],
)
def test_the_check_names_what_is_missing_and_shows_no_value(ours: Any, expected: list[str]) -> None:
    with override_settings(WEGETFINANCING=ours):
        found = texts()
        with pytest.raises(ConfigurationError):
            get_client()
    assert len(found) == len(expected)
    assert all(part in text for part, text in zip(expected, found, strict=True))
    assert OURS["PASSWORD"] not in "".join(found)


def test_the_check_warns_where_nothing_handles_decisions() -> None:
    with override_settings(WEGETFINANCING=OURS):
        (text,) = texts()
    assert "has neither 'APPLY' nor 'HANDLER': wegetfinancing_worker cannot run" in text
    with override_settings(WEGETFINANCING={**OURS, "HANDLER": "support.django_shop.handle"}):
        assert texts() == []


def test_the_check_refuses_another_kind_of_database() -> None:
    add_database("other-kind", ENGINE="django.db.backends.dummy")
    with override_settings(WEGETFINANCING={**OURS, "DATABASE": "other-kind"}):
        assert texts() == [
            "DjangoLedger works on SQLite and PostgreSQL, and DATABASES['other-kind'] is unknown"
        ]


def test_the_migrations_are_complete() -> None:
    call_command("makemigrations", "wegetfinancing", check=True, dry_run=True, stdout=StringIO())


def test_each_row_has_a_name() -> None:
    names = [
        str(each)
        for each in (
            Loan(order_id="ORDER-123"),
            Inv(inv_id="inv"),
            Decision(status="approved", inv_id="inv"),
            Shipment(state="dispatched", inv_id="inv"),
            Version(environment="sandbox"),
            Worker(id="worker"),
        )
    ]
    assert names == ["ORDER-123", "inv", "approved: inv", "dispatched: inv", "sandbox", "worker"]


def one_waits() -> None:
    ledger = get_ledger()
    intent = application()
    ledger.begin(intent)
    ledger.record_answer(intent, created())
    ledger.record(postback())


@override_settings(WEGETFINANCING=APPLYING)
def test_the_worker_handles_what_waits_until_nothing_is_due() -> None:
    one_waits()
    call_command("wegetfinancing_worker", until_idle=True)
    assert django_shop.told == ["approved"]


@pytest.mark.parametrize("name", ["handle", "handle_async"])
def test_the_worker_calls_the_handler_of_the_settings(name: str) -> None:
    with override_settings(WEGETFINANCING={**OURS, "HANDLER": f"support.django_shop.{name}"}):
        one_waits()
        call_command("wegetfinancing_worker", until_idle=True)
        assert get_ledger().review().decisions == ()
    assert django_shop.told == ["approved"]
    assert [each.connection for each in django_shop.opened] == [None] * len(django_shop.opened)


def test_a_worker_without_anything_to_do_with_a_decision_says_so() -> None:
    with pytest.raises(CommandError, match=r"nothing handles decisions: .* 'APPLY' or 'HANDLER'"):
        call_command("wegetfinancing_worker", until_idle=True)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_ends_when_it_is_told_to_and_says_that_it_has(kind: signal.Signals, tmp_path: Path) -> None:
    shop = tmp_path / "manage.py"
    shop.write_text(
        textwrap.dedent(
            """
            import sys
            from django.conf import settings
            from django.core.management import execute_from_command_line

            settings.configure(
                DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv.pop()}},
                INSTALLED_APPS=["wegetfinancing.contrib.django"],
                WEGETFINANCING={
                    "MERCHANT_ID": "1234",
                    "USERNAME": "shop",
                    "PASSWORD": "invented",
                    "ENVIRONMENT": "sandbox",
                    "APPLY": lambda connection, decision: None,
                },
            )
            execute_from_command_line(sys.argv)
            """
        )
    )
    name = str(tmp_path / "worker.db")
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    run = [sys.executable, str(shop)]
    subprocess.run([*run, "migrate", "-v0", name], check=True, env=environment)  # noqa: S603 - our own command
    alias = f"worker-{kind.name}"
    add_database(alias, ENGINE="django.db.backends.sqlite3", NAME=name)
    with connections[alias].cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")  # or these reads would keep its writes out
    ledger = ledger_factory(alias)()
    with subprocess.Popen([*run, "wegetfinancing_worker", name], env=environment) as process:  # noqa: S603 - ours
        while not ledger.has_worker():
            assert process.poll() is None
        process.send_signal(kind)
        assert process.wait(30) == 0
    assert not ledger.has_worker()
