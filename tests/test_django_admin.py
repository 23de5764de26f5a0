"""The admin pages: what needs review is found, actions go through the ledger, and nothing can be edited."""

import datetime as dt
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.test import Client, override_settings

from support import django_shop
from support.django_project import OURS, LogEntry, Permission, User, ledger_factory, sqlite_database
from wegetfinancing.contrib.django import DjangoLedger, get_ledger
from wegetfinancing.contrib.django.models import Decision, Loan, Shipment
from wegetfinancing.testing import credentials
from wegetfinancing.testing.contract.ledger_checking import EXPECTED, application, created, postback

ORDER = "ORDER-123"
LOANS, DECISIONS = "/admin/wegetfinancing/loan/", "/admin/wegetfinancing/decision/"
SHIPMENTS = "/admin/wegetfinancing/shipment/"


@pytest.fixture(autouse=True)
def ledger() -> Iterator[DjangoLedger]:
    django_shop.told.clear()
    django_shop.failures.clear()
    applying = {**OURS, "APPLY": "support.django_shop.apply"}
    with sqlite_database(), override_settings(WEGETFINANCING=applying):
        ledger_factory("default")()
        Shipment.objects.all().delete()
        LogEntry.objects.all().delete()
        User.objects.all().delete()
        yield get_ledger()


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def applied(ledger: DjangoLedger, amount: Decimal = EXPECTED, order_id: str = ORDER, **changes: Any) -> None:
    intent = application(order_id, **changes)
    ledger.begin(intent)
    ledger.record_answer(intent, created(f"inv-{order_id}", amount))


def act(client: Client, address: str, action: str, *rows: Any, **values: Any) -> str:
    data = {"action": action, "_selected_action": [each.pk for each in rows], **values}
    answer = client.post(address, data, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_loans_and_decisions_are_listed_and_shown(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger, Decimal(1))
    ledger.record(postback(inv_id=f"inv-{ORDER}"))
    loan, decision = Loan.objects.get(), Decision.objects.get()
    for address in (LOANS, f"{LOANS}{loan.pk}/change/", DECISIONS, f"{DECISIONS}{decision.pk}/change/"):
        page = admin.get(address)
        assert page.status_code == 200
        assert ORDER in page.content.decode()
        assert "emulator.invalid" not in page.content.decode()  # the customer's page
    assert "The vendor finances $1.00, and $499.00 was expected." in admin.get(LOANS).content.decode()


def test_what_needs_review_is_found(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger, Decimal(1))
    applied(ledger, order_id="FINE")
    ledger.record(postback(inv_id="unmatched", merchant_transaction_id="NOWHERE"))
    ledger.record(postback(inv_id="inv-FINE", merchant_transaction_id="FINE"))
    assert "FINE" in admin.get(LOANS).content.decode()
    review = admin.get(LOANS, {"review": "yes"}).content.decode()
    assert (ORDER in review, "FINE" in review) == (True, False)
    review = admin.get(DECISIONS, {"review": "yes"}).content.decode()
    assert ("NOWHERE" in review, "FINE" in review) == (True, False)


def test_only_a_decision_that_waits_is_shown_as_tried_again(admin: Client, ledger: DjangoLedger) -> None:
    def shown() -> list[str]:
        return re.findall(r">([^<]*)</td></tr>", admin.get(DECISIONS).content.decode())

    ledger.record(postback(inv_id="foreign", merchant_transaction_id="NOWHERE"))
    assert shown() == ["-"]
    ledger.dismiss(Decision.objects.get().pk)
    assert shown() == ["-"]
    Decision.objects.all().delete()
    applied(ledger)
    django_shop.failures.append(RuntimeError("the shop fails"))
    ledger.record(postback(inv_id=f"inv-{ORDER}"))
    act(admin, DECISIONS, "retry", Decision.objects.get())
    assert re.search(r"\d", shown()[0])
    act(admin, DECISIONS, "retry", Decision.objects.get())
    assert (Decision.objects.get().state, shown()) == ("handled", ["-"])


def test_merchants_are_shown_filtered_and_found(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger)
    assert "merchant_id=" not in admin.get(LOANS).content.decode()  # nothing to choose from
    applied(ledger, order_id="OF-ANOTHER", merchant_id="5678")
    for each in (credentials(), credentials(merchant_id="5678")):
        ledger.record(postback(inv_id=f"lost-{each.merchant_id}", credentials=each))
    for address, own, others in ((LOANS, "OF-ANOTHER", ORDER), (DECISIONS, "lost-5678", "lost-1234")):
        page = admin.get(address).content.decode()
        assert "?merchant_id=1234" in page
        assert "?merchant_id=5678" in page
        for chosen in ({"merchant_id": "5678"}, {"q": "5678"}):
            page = admin.get(address, chosen).content.decode()
            assert (own in page, others in page) == (True, False)
    assert ">5678</td>" in admin.get(LOANS, {"q": "OF-ANOTHER"}).content.decode()
    page = act(admin, LOANS, "resolve", Loan.objects.get(merchant_id="5678"))
    assert "OF-ANOTHER, merchant 5678" in page


def test_shipments_are_shown_by_the_merchant_of_their_loan(admin: Client, ledger: DjangoLedger) -> None:
    for merchant_id in ("1234", "5678"):
        applied(ledger, merchant_id=merchant_id)
        Shipment.objects.create(
            loan=Loan.objects.get(merchant_id=merchant_id),
            inv_id=f"of-{merchant_id}",
            state="dispatched",
            date=dt.date(2026, 1, 15),
            outcome="done",
            told_at=0.0,
        )
    lost = Shipment.objects.create(
        inv_id="of-nobody", state="dispatched", date=dt.date(2026, 1, 15), outcome="done", told_at=0.0
    )
    page = admin.get(SHIPMENTS).content.decode()
    for shown in ("of-nobody", "?merchant_id=1234", "?merchant_id=5678", ">5678</td>"):
        assert shown in page
    for chosen in ({"merchant_id": "5678"}, {"q": "5678"}):
        page = admin.get(SHIPMENTS, chosen).content.decode()
        assert [each for each in ("of-1234", "of-5678", "of-nobody") if each in page] == ["of-5678"]
    assert admin.get(f"{SHIPMENTS}{lost.pk}/change/").status_code == 200


def test_of_many_merchants_none_are_offered(admin: Client, ledger: DjangoLedger) -> None:
    for number in range(21):
        applied(ledger, merchant_id=f"shop-{number}")
    assert "?merchant_id=" not in admin.get(LOANS).content.decode()
    assert "shop-7" in admin.get(LOANS, {"q": "shop-7"}).content.decode()
    assert "shop-8" not in admin.get(LOANS, {"merchant_id": "shop-7"}).content.decode()


def test_nothing_can_be_edited(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger)
    loan = Loan.objects.get()
    assert admin.get(f"{LOANS}add/").status_code == 403
    assert admin.post(f"{LOANS}{loan.pk}/change/", {"state": "absent"}).status_code == 403
    assert admin.post(f"{LOANS}{loan.pk}/delete/", {"post": "yes"}).status_code == 403


def test_exactly_the_ticked_holds_are_accepted(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger, Decimal(1))
    ledger.record(postback("refund", inv_id=f"inv-{ORDER}", amount="1.00"))
    loan = Loan.objects.get()
    page = act(admin, LOANS, "accept", loan)
    assert 'value="amount_differs:1"' in page
    assert page.count(f'name="hold-{loan.pk}"') == 2
    page = act(admin, LOANS, "accept", loan, confirmed="yes", **{f"hold-{loan.pk}": ["amount_differs:1"]})
    assert "accepted amount_differs:1" in page
    found = ledger.loan(ORDER)
    assert found is not None
    assert [each.code for each in found.held] == ["refund"]
    assert LogEntry.objects.count() == 1


def test_what_is_not_ticked_stays_open(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger, Decimal(1))
    act(admin, LOANS, "accept", Loan.objects.get(), confirmed="yes")
    found = ledger.loan(ORDER)
    assert found is not None
    assert len(found.held) == 1


def test_a_hold_that_is_not_there_is_an_error_on_the_page(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger, Decimal(1))
    loan = Loan.objects.get()
    page = act(admin, LOANS, "accept", loan, confirmed="yes", **{f"hold-{loan.pk}": ["invented"]})
    assert "this order has no hold" in page
    assert LogEntry.objects.count() == 0


def test_a_held_decision_can_be_let_count(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger)
    ledger.record(postback("approved", signed=5, inv_id=f"inv-{ORDER}"))
    held = ledger.record(postback("rejected", signed=5, inv_id=f"inv-{ORDER}"))
    loan = Loan.objects.get()
    hold = f"conflict:{held.id}"
    act(admin, LOANS, "accept", loan, confirmed="yes", apply="yes", **{f"hold-{loan.pk}": [hold]})
    found = ledger.loan(ORDER)
    assert found is not None
    assert found.status == "rejected"


def test_an_application_is_resolved_as_absent_after_a_question(admin: Client, ledger: DjangoLedger) -> None:
    ledger.begin(application(seconds=-1000.0))
    loan = Loan.objects.get()
    assert "closed for ever" in act(admin, LOANS, "resolve", loan)
    assert Loan.objects.get().state == "sending"
    assert "resolved as absent" in act(admin, LOANS, "resolve", loan, confirmed="yes")
    assert Loan.objects.get().state == "absent"


def test_a_decision_is_retried_at_once(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger)
    django_shop.failures.append(RuntimeError("the shop fails"))
    ledger.record(postback(inv_id=f"inv-{ORDER}"))
    decision = Decision.objects.get()
    assert "not handled" in act(admin, DECISIONS, "retry", decision)
    page = act(admin, DECISIONS, "retry", decision)
    assert ": handled" in page
    assert django_shop.told == ["approved"]


def test_without_an_apply_a_decision_is_left_to_the_worker(admin: Client, ledger: DjangoLedger) -> None:
    applied(ledger)
    ledger.record(postback(inv_id=f"inv-{ORDER}"))
    with override_settings(WEGETFINANCING={**OURS, "HANDLER": django_shop.handle}):
        claim = get_ledger().claim()
        assert claim is not None
        get_ledger().fail(claim, "RuntimeError")
        page = act(admin, DECISIONS, "retry", Decision.objects.get())
        assert "due now; manage.py wegetfinancing_worker" in page
        call_command("wegetfinancing_worker", until_idle=True)
        assert django_shop.told == ["approved"]
        assert "is handled: only one that is waiting" in act(
            admin, DECISIONS, "retry", Decision.objects.get()
        )


def test_a_decision_is_dismissed_after_a_question(admin: Client, ledger: DjangoLedger) -> None:
    ledger.record(postback(inv_id="foreign", merchant_transaction_id="NOWHERE"))
    page = act(admin, DECISIONS, "dismiss", Decision.objects.get())
    assert "cannot be taken back" in page
    assert "approved: foreign, merchant 1234" in page
    assert Decision.objects.get().state == "unmatched"
    act(admin, DECISIONS, "dismiss", Decision.objects.get(), confirmed="yes")
    assert Decision.objects.get().state == "dismissed"


def test_who_may_only_view_has_no_actions(ledger: DjangoLedger) -> None:
    applied(ledger, Decimal(1))
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_loan"))
    client = Client()
    client.force_login(user)
    loan = Loan.objects.get()
    assert ORDER in client.get(LOANS).content.decode()
    values = {f"hold-{loan.pk}": ["amount_differs:1"]}
    act(client, LOANS, "accept", loan, confirmed="yes", **values)
    found = ledger.loan(ORDER)
    assert found is not None
    assert len(found.held) == 1


def test_actions_work_under_atomic_requests(
    admin: Client, ledger: DjangoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.begin(application(seconds=-1000.0))
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", value=True)
    act(admin, LOANS, "resolve", Loan.objects.get(), confirmed="yes")
    assert Loan.objects.get().state == "absent"
