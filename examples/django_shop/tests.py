"""The shop's own tests, without a network: ``python -m django_shop.manage test django_shop``."""

import re
import time
from io import StringIO
from typing import Any
from unittest import mock

import attrs
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import TestCase

from wegetfinancing import Client, Credentials
from wegetfinancing.contrib.django import get_ledger
from wegetfinancing.emulator import Application, Emulator
from wegetfinancing.testing import signed_postback

from .catalogue import PRODUCTS
from .models import Order

CREDENTIALS = Credentials(
    merchant_id=settings.WEGETFINANCING["MERCHANT_ID"],
    username=settings.WEGETFINANCING["USERNAME"],
    password=settings.WEGETFINANCING["PASSWORD"],
)
FORM = {
    "first_name": "Jane",
    "last_name": "Doe",
    "email": "jane@example.com",
    "phone": "(212) 555-1234",
    "street1": "123 Main St",
    "city": "New York",
    "state": "ny",
    "zipcode": "10001",
}


class ShopTestCase(TestCase):
    """A customer at the shop, and an emulator that plays the vendor in memory."""

    def setUp(self) -> None:
        self.emulator = Emulator(CREDENTIALS)
        client = Client(CREDENTIALS, transport=self.emulator, ledger=get_ledger(), timeout=20)
        self.addCleanup(client.close)
        for module in ("views", "payments"):
            patch = mock.patch(f"django_shop.{module}.get_client", return_value=client)
            patch.start()
            self.addCleanup(patch.stop)

    def open_checkout(self, sku: str = "sofa") -> str:
        """Return the number of the order in the form."""
        page = self.client.get(f"/checkout/{sku}").content.decode()
        number: str = re.findall(r'name="number" value="([^"]+)"', page)[0]
        return number

    def apply(self, number: str, sku: str = "sofa", **changes: str) -> Any:
        return self.client.post(f"/checkout/{sku}", {**FORM, "number": number, **changes})

    def order(self) -> Order:
        return Order.objects.get()

    def state(self) -> str:
        state: str = self.client.get(f"{self.order().get_absolute_url()}/state").json()["state"]
        return state

    def application(self) -> Application:
        (application,) = self.emulator.applications.values()
        return application

    def post(self, status: str, seconds: int = 0, **changes: Any) -> None:
        """Deliver a decision that was signed so many seconds from now."""
        made = signed_postback(
            status,
            inv_id=self.application().inv_id,
            merchant_transaction_id=self.order().number,
            timestamp=str(int(time.time()) + seconds),
            credentials=CREDENTIALS,
            **changes,
        )
        headers: Any = dict(made.headers)
        answer = self.client.post("/postbacks", made.body, content_type="application/json", headers=headers)
        self.assertEqual((answer.status_code, answer.content), (200, b"OK"))

    def events(self) -> list[str]:
        return [str(event) for event in apps.get_model("django_shop.Event").objects.all()]


class CheckoutTests(ShopTestCase):
    def test_a_form_that_is_sent_twice_is_one_application(self) -> None:
        number = self.open_checkout()
        self.assertEqual(self.open_checkout(), number)
        pages = {self.apply(number)["Location"] for _ in range(2)}
        self.assertEqual(pages, {self.application().href})
        self.assertEqual(self.state(), "waiting")
        self.assertRedirects(self.client.get("/checkout/sofa"), self.order().get_absolute_url())
        link = self.client.get(f"{self.order().get_absolute_url()}/application")
        self.assertEqual(link["Location"], self.application().href)

    def test_what_the_vendor_would_refuse_is_said_beside_its_field_and_nothing_is_saved(self) -> None:
        answer = self.apply(self.open_checkout(), zipcode="1000")
        self.assertContains(answer, "ZIP code: must be a ZIP code such as 12345 or 12345-6789.")
        self.assertContains(self.apply(self.open_checkout(), email=""), "E-mail: This field is required.")
        self.assertFalse(Order.objects.exists())

    def test_the_lightbox_shows_the_application_over_a_page_of_the_shop(self) -> None:
        answer = self.apply(self.open_checkout(), show="lightbox")
        self.assertContains(answer, f'data-href="{self.application().href}"')
        self.assertContains(answer, f'data-order-page="{self.order().get_absolute_url()}"')

    def test_what_the_vendor_refuses_can_be_corrected(self) -> None:
        self.emulator.fail_next("fault-400")
        number = self.open_checkout()
        self.assertContains(self.apply(number), "ZIP code: is not served.")
        self.assertEqual(self.state(), "failed")
        self.assertEqual(self.open_checkout(), number)
        self.assertEqual(self.apply(number, zipcode="10002")["Location"], self.application().href)
        self.assertEqual(self.order().zipcode, "10002")

    def test_an_order_has_the_price_that_is_applied_for(self) -> None:
        self.emulator.fail_next("fault-400")
        number = self.open_checkout()
        self.apply(number)
        dearer = attrs.evolve(PRODUCTS["sofa"], price=PRODUCTS["sofa"].price + 50)
        with mock.patch.dict(PRODUCTS, sofa=dearer):
            self.apply(number, sku="lamp")  # another product changes nothing
            self.assertEqual(self.order().amount, PRODUCTS["sofa"].total - 50)
            self.assertEqual(self.apply(number)["Location"], self.application().href)
        self.assertEqual(self.application().amount, self.order().amount)

    def test_what_was_applied_for_does_not_change(self) -> None:
        number = self.open_checkout()
        self.apply(number)
        self.apply(number, street1="9 Elsewhere")
        self.apply(number, sku="lamp")
        self.assertEqual(self.order().street1, "123 Main St")
        self.assertEqual(self.application().amount, self.order().amount)

    def test_an_unknown_outcome_is_pending_and_never_applied_for_again(self) -> None:
        self.emulator.fail_next("fault-502-after-commit")
        number = self.open_checkout()
        for _ in range(2):
            self.assertRedirects(self.apply(number), self.order().get_absolute_url())
        self.assertEqual(self.state(), "pending")
        self.assertRedirects(self.client.get("/checkout/sofa"), self.order().get_absolute_url())
        self.application()  # there is one
        self.post("approved")
        self.assertEqual(self.state(), "in review")  # nobody has seen the financed amount

    def test_an_application_that_an_operator_has_found_waits_where_nobody_knows_its_page(self) -> None:
        self.emulator.fail_next("fault-502-after-commit")
        number = self.open_checkout()
        self.apply(number)
        get_ledger().adopt(number, self.application().inv_id, self.order().amount)
        self.assertEqual(self.state(), "waiting")
        link = self.client.get(f"{self.order().get_absolute_url()}/application")
        self.assertRedirects(link, self.order().get_absolute_url())

    def test_an_order_that_was_resolved_as_absent_makes_way_for_a_new_one(self) -> None:
        self.emulator.fail_next("fault-502")
        number = self.open_checkout()
        self.apply(number)
        apps.get_model("wegetfinancing.Loan").objects.update(deadline=0)
        get_ledger().resolve(number)
        self.assertEqual(self.state(), "failed")
        self.assertRedirects(self.apply(number), self.order().get_absolute_url())
        self.assertNotEqual(self.open_checkout(), number)
        self.assertEqual(self.emulator.applications, {})

    def test_nobody_is_told_to_order_anew_when_the_absent_application_has_turned_up(self) -> None:
        self.emulator.fail_next("fault-502-after-commit")
        number = self.open_checkout()
        self.apply(number)
        apps.get_model("wegetfinancing.Loan").objects.update(deadline=0)
        get_ledger().resolve(number)
        self.post("preapproved")
        for told in ("in review", "preapproved"):
            self.assertEqual(self.state(), told)
            self.assertRedirects(self.client.get("/checkout/sofa"), self.order().get_absolute_url())
            get_ledger().accept(number, get_ledger().loans([number])[number].held)

    def test_a_vendor_that_cannot_be_reached_may_be_tried_again(self) -> None:
        self.emulator.fail_next("fault-429")
        number = self.open_checkout()
        self.assertContains(self.apply(number), "Please try again.")
        self.assertEqual(self.apply(number)["Location"], self.application().href)

    def test_another_amount_is_reviewed_before_the_customer_sees_it(self) -> None:
        self.emulator.fail_next("fault-wrong-amount")
        self.assertRedirects(self.apply(self.open_checkout()), self.order().get_absolute_url())
        self.assertEqual(self.state(), "in review")

    def test_an_amount_that_is_missing_is_reviewed_before_the_goods_leave(self) -> None:
        self.emulator.fail_next("fault-no-amount")
        self.assertEqual(self.apply(self.open_checkout())["Location"], self.application().href)
        self.assertEqual(self.state(), "waiting")
        self.post("approved")
        self.assertEqual(self.state(), "in review")

    def test_a_declined_customer_may_order_again(self) -> None:
        number = self.open_checkout()
        self.apply(number)
        self.post("rejected")
        self.assertEqual(self.state(), "rejected")
        self.assertRedirects(
            self.client.get(f"{self.order().get_absolute_url()}/application"),
            self.order().get_absolute_url(),
        )
        self.assertNotEqual(self.open_checkout(), number)

    def test_an_unknown_product_is_not_sold(self) -> None:
        self.assertEqual(self.client.get("/checkout/yacht").status_code, 404)


class StaffTests(ShopTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client.force_login(User.objects.create_superuser("staff"))
        self.apply(self.open_checkout())

    def ship(self) -> str:
        """Run the action of the admin page, and return what it says."""
        chosen = {"action": "ship", "_selected_action": [str(self.order().pk)]}
        page: Any = self.client.post("/admin/django_shop/order/", chosen, follow=True)
        return " ".join(str(each) for each in page.context["messages"])

    def test_goods_leave_once_and_only_after_an_approval(self) -> None:
        self.assertIn("must not be shipped", self.ship())
        self.post("preapproved")
        self.assertIn("must not be shipped", self.ship())
        self.post("approved", seconds=1)
        self.assertEqual(self.state(), "approved")
        self.assertIn("shipped", self.ship())
        self.assertIn("must not be shipped", self.ship())
        self.assertEqual(len(self.application().shipping_events), 1)
        self.assertEqual(self.state(), "shipped")
        self.assertEqual(self.events(), ["preapproved", "approved", "shipped"])

    def test_a_shipment_that_the_vendor_was_not_told_of_is_tried_again(self) -> None:
        self.post("approved")
        self.emulator.fail_next("fault-400")
        self.assertIn("Try again", self.ship())
        self.assertIsNone(self.order().shipped_at)
        self.ship()
        self.assertIsNotNone(self.order().shipped_at)

    def test_a_loan_that_changes_while_it_is_shipped_stops_the_parcel(self) -> None:
        self.post("approved")
        with mock.patch("django_shop.payments.get_client") as get_client:
            get_client().update_shipping.side_effect = lambda *_: self.post("rejected", seconds=1)
            self.ship()
        stopped = "the loan changed while it was shipped: stop the parcel"
        self.assertEqual(self.events(), ["approved", "rejected", "shipped", stopped])

    def test_what_is_decided_after_the_goods_left_says_so(self) -> None:
        self.post("approved")
        self.ship()
        self.post("refund", seconds=1, amount="100")
        self.assertEqual(self.events()[-1], "refund of 100.00, after the goods left")
        self.assertEqual(self.order().status, "approved")

    def test_what_was_refunded_does_not_ship(self) -> None:
        self.post("approved")
        self.post("refund", seconds=1, amount=self.order().amount)
        self.assertEqual(self.state(), "refund")
        loan = get_ledger().loan(self.order().number)
        assert loan is not None  # noqa: S101 - for the type checker
        get_ledger().accept(self.order().number, loan.held)
        self.assertIn("must not be shipped", self.ship())

    def test_the_pages_show_orders_and_change_none(self) -> None:
        self.post("approved")
        self.assertContains(self.client.get("/admin/django_shop/order/"), "approved")
        page = f"/admin/django_shop/order/{self.order().pk}/change/"
        self.assertContains(self.client.get(page), "approved")
        self.assertEqual(self.client.post(page, {}).status_code, 403)
        self.assertEqual(self.client.get("/admin/django_shop/order/add/").status_code, 403)


class ProjectTests(TestCase):
    def test_the_migrations_are_complete(self) -> None:
        call_command("makemigrations", "django_shop", check=True, dry_run=True, stdout=StringIO())

    def test_nothing_is_missing_in_the_settings(self) -> None:
        call_command("check", fail_level="WARNING", stdout=StringIO())

    def test_the_products_are_shown(self) -> None:
        self.assertContains(self.client.get("/"), "Three-seat sofa")
