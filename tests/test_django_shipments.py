"""What get_client() tells the vendor about shipments is in the admin pages, and nothing depends on it."""

import datetime as dt
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import connections, transaction
from django.test import Client, override_settings

from support.canaries import CANARIES, canaries_in_error
from support.django_project import (
    FOLDER,
    OURS,
    Permission,
    User,
    add_database,
    ledger_factory,
    migrate,
    sqlite_database,
)
from wegetfinancing import InvalidRequestError, NotFoundError
from wegetfinancing.contrib.django import get_client
from wegetfinancing.contrib.django.models import Loan, Shipment
from wegetfinancing.testing import credentials, financing_request, shipping_event

SHIPMENTS, LOANS = "/admin/wegetfinancing/shipment/", "/admin/wegetfinancing/loan/"
EVENT = shipping_event(message="left at the door")


@pytest.fixture(autouse=True)
def shop(emulator: Any) -> Iterator[None]:
    made = credentials()
    ours = {**OURS, "MERCHANT_ID": made.merchant_id, "USERNAME": made.username, "PASSWORD": made.password}
    with sqlite_database(), override_settings(WEGETFINANCING=ours):
        ledger_factory("default")()
        User.objects.all().delete()
        yield
        get_client().close()


@pytest.fixture
def inv_id() -> str:
    return get_client().create_request(financing_request()).inv_id


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def page(client: Client, address: str, **query: str) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def shown(shipment: Shipment) -> tuple[Any, ...]:
    return shipment.loan and shipment.loan.order_id, shipment.state, shipment.outcome, shipment.error


def test_an_update_is_listed_with_its_order_and_on_the_page_of_the_loan(inv_id: str, admin: Client) -> None:
    receipt = get_client().update_shipping(inv_id, EVENT)
    assert receipt.loan == inv_id
    shipment = Shipment.objects.get()
    assert shown(shipment) == ("ORDER-123", "dispatched", "done", None)
    assert shipment.date == dt.date(2026, 1, 15)
    loan = Loan.objects.get()
    for address in (SHIPMENTS, f"{SHIPMENTS}{shipment.pk}/change/", f"{LOANS}{loan.pk}/change/"):
        found = page(admin, address)
        assert "ORDER-123" in found
        assert "dispatched" in found
    assert "dispatched" in page(admin, SHIPMENTS, q="ORDER-123")
    assert "dispatched: " not in page(admin, SHIPMENTS, outcome="refused")


def test_an_update_that_failed_is_listed_with_what_it_failed_with(admin: Client) -> None:
    with pytest.raises(NotFoundError):
        get_client().update_shipping("unknown", EVENT)
    assert shown(Shipment.objects.get()) == (None, "dispatched", "refused", "NotFoundError")
    assert "NotFoundError" in page(admin, SHIPMENTS)


def test_nothing_of_the_customer_is_kept(inv_id: str) -> None:
    get_client().update_shipping(inv_id, EVENT)
    values = str(Shipment.objects.values().get())
    assert "door" not in values
    assert "1Z999AA10123456784" not in values


def test_what_was_never_sent_is_not_listed(inv_id: str) -> None:
    wrong: list[Any] = [shipping_event(state="lost"), {"state": "dispatched"}]
    for event in wrong:
        with pytest.raises((InvalidRequestError, TypeError)):
            get_client().update_shipping(inv_id, event)
    assert not Shipment.objects.exists()


def test_a_record_that_cannot_be_written_changes_nothing(
    inv_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("ALTER TABLE wgf_shipment RENAME TO elsewhere")
    try:
        with caplog.at_level(logging.WARNING, "wegetfinancing"), transaction.atomic():
            assert get_client().update_shipping(inv_id, EVENT).loan == inv_id
            assert Loan.objects.exists()  # the shop's transaction goes on
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO wgf_shipment")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"the shipping update dispatched of {inv_id} (done) could not be")


def test_no_connection_is_left_open_in_a_thread(inv_id: str) -> None:
    def update() -> bool:
        get_client().update_shipping(inv_id, EVENT)
        return connections["default"].connection is None

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(update).result()
    assert Shipment.objects.count() == 1


def test_the_record_is_where_the_ledger_is_for_other_merchants_too() -> None:
    add_database("second", ENGINE="django.db.backends.sqlite3", NAME=FOLDER / "second.db")
    migrate("second")
    with override_settings(WEGETFINANCING={**settings.WEGETFINANCING, "DATABASE": "second"}):
        with pytest.raises(NotFoundError):
            get_client().for_merchant(credentials()).update_shipping("unknown", EVENT)
        get_client().close()
    assert Shipment.objects.using("second").count() == 1
    assert not Shipment.objects.exists()


WRONG: list[Any] = [{"first_name": CANARIES["first_name"]}, shipping_event(state=CANARIES["city"])]


@pytest.mark.parametrize("event", WRONG)
def test_no_value_that_cannot_be_sent_is_in_a_traceback(event: Any) -> None:
    with pytest.raises((InvalidRequestError, TypeError)) as raised:
        get_client().update_shipping("inv", event)
    assert canaries_in_error(raised.value) == []


@pytest.mark.parametrize(("codename", "status"), [("view_shipment", 200), ("view_loan", 403)])
def test_shipments_are_for_who_may_view_them(inv_id: str, codename: str, status: int) -> None:
    get_client().update_shipping(inv_id, EVENT)
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename=codename))
    client = Client()
    client.force_login(user)
    assert client.get(SHIPMENTS).status_code == status
    if codename == "view_loan":
        assert "dispatched" not in page(client, f"{LOANS}{Loan.objects.get().pk}/change/")


def test_no_shipment_can_be_edited(inv_id: str, admin: Client) -> None:
    get_client().update_shipping(inv_id, EVENT)
    address = f"{SHIPMENTS}{Shipment.objects.get().pk}/"
    assert admin.get(f"{SHIPMENTS}add/").status_code == 403
    assert admin.post(f"{address}change/", {"state": "delivered"}).status_code == 403
    assert admin.post(f"{address}delete/", {"post": "yes"}).status_code == 403
