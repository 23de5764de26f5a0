"""The example shop, without a browser: what happens to money when something fails."""

import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx
import pytest
from shop.app import make_app
from shop.catalogue import read_cart, write_cart
from shop.database import Database, Order
from shop.state import Settings

from wegetfinancing import Outcome, TransportError
from wegetfinancing.emulator import FAULTS, Emulator
from wegetfinancing.ledger import Loan
from wegetfinancing.testing import FakeTransport, credentials, error_response, signed_postback

pytestmark = pytest.mark.anyio

OWN_URL = "http://127.0.0.1:8000"
ORDER = "ORDER-00112233aabbccdd"
FORM = {
    "order_id": ORDER,
    "first_name": "Jane",
    "last_name": "Doe",
    "email": "jane@example.com",
    "phone": "(212) 555-1234",
    "billing_address.street1": "123 Main St",
    "billing_address.city": "New York",
    "billing_address.state": "ny",
    "billing_address.zipcode": "10001",
}


@attrs.frozen(kw_only=True)
class Visit:
    """A customer at the shop, and what stands behind the shop."""

    browser: httpx.AsyncClient
    emulator: Emulator
    database: Database
    path: Path

    async def apply(self, **changes: str) -> httpx.Response:
        return await self.browser.post("/checkout", data=FORM | changes)

    async def fill_cart(self) -> None:
        """Put the sofa into the cart as a browser does, with the shop's own cookie."""
        self.browser.cookies.clear()
        await self.browser.post("/cart", data={"sku": "sofa", "quantity": "1"})

    async def act(self, action: str, **form: str) -> httpx.Response:
        """Press a button of the staff page."""
        return await self.browser.post(f"/admin/{ORDER}/{action}", data=form)

    async def accept(self, *codes: str, **form: str) -> None:
        """Press the button of each hold, or of those with these codes."""
        for hold in self.loan.held:
            if not codes or hold.code in codes:
                assert (await self.act("accept", hold=hold.id, **form)).status_code == 303

    def end_deadline(self) -> None:
        """Let the deadline of every call be long gone."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE wgf_loan SET deadline = 0")

    async def post(self, status: str, **changes: Any) -> httpx.Response:
        postback = signed_postback(status, **({"merchant_transaction_id": ORDER} | changes))
        return await self.browser.post("/postbacks", content=postback.body, headers=postback.headers)

    @property
    def order(self) -> Order:
        order = self.database.order(ORDER)
        assert order is not None
        return order

    @property
    def loan(self) -> Loan:
        assert self.order.loan is not None
        return self.order.loan

    @property
    def holds(self) -> list[str]:
        return [hold.code for hold in self.loan.held]


async def no_sleep(_: float) -> None:
    pass


@contextlib.asynccontextmanager
async def visit(folder: Path, transport: Any = None, *, timeout: float = 20.0) -> AsyncIterator[Visit]:
    emulator = Emulator(credentials(), new_inv_id=lambda: f"inv-{len(emulator.applications)}", sleep=no_sleep)
    path = folder / "shop.sqlite"
    settings = Settings(
        credentials=credentials(),
        own_url=OWN_URL,
        lightbox_url="http://127.0.0.1:8200/libs/1.0/getfinancing.js",
        database=path,
        timeout=timeout,
    )
    app = make_app(settings, emulator if transport is None else transport)
    with contextlib.closing(Database(path)) as database:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url=OWN_URL,
                cookies={"cart": "sofa.1"},
                headers={"sec-fetch-site": "same-origin"},
            ) as browser,
        ):
            yield Visit(browser=browser, emulator=emulator, database=database, path=path)


@pytest.mark.parametrize("name", FAULTS)
async def test_whatever_fails_one_form_is_at_most_one_application(name: str, tmp_path: Path) -> None:
    async with visit(tmp_path, timeout=1.0) as shop:  # only what is silent takes so long
        shop.emulator.fail_next(name)
        for _ in range(3):
            await shop.apply()
        assert len(shop.emulator.applications) <= 1
        if FAULTS[name].carried_out:
            assert not shop.order.may_apply


async def test_an_unknown_outcome_is_pending_and_the_postback_settles_it(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        shop.emulator.fail_next("fault-reset-after-commit")
        answer = await shop.apply()
        assert answer.headers["location"] == f"/orders/{ORDER}"
        assert shop.order.told_to_the_customer == "pending"
        assert not shop.order.may_ship
        assert (await shop.post("approved", inv_id="inv-0")).status_code == 200
        assert shop.loan.inv_id == "inv-0"
        assert shop.order.told_to_the_customer == "in review"


async def test_what_was_certainly_not_created_can_be_sent_again(tmp_path: Path) -> None:
    lost = TransportError("no connection was made", outcome=Outcome.NOT_SENT)
    async with visit(tmp_path, FakeTransport(lost, lost)) as shop:
        for _ in range(2):
            answer = await shop.apply()
            assert "Please try again" in answer.text
            assert f'value="{ORDER}"' in answer.text
        assert shop.order.told_to_the_customer == "failed"


async def test_the_order_stands_before_the_vendor_is_called(tmp_path: Path) -> None:
    seen: list[str] = []

    class Dying:
        async def send(self, _: Any) -> Any:
            with contextlib.closing(Database(tmp_path / "shop.sqlite")) as database:
                order = database.order(ORDER)
            assert order is not None
            seen.append(order.told_to_the_customer)
            msg = "the machine loses power"
            raise SystemError(msg)

        async def aclose(self) -> None:
            pass

    async with visit(tmp_path, Dying()) as shop:
        await shop.apply()
        assert seen == ["pending"]


async def test_another_amount_is_not_shown_to_the_customer_and_ships_only_after_a_look(
    tmp_path: Path,
) -> None:
    async with visit(tmp_path) as shop:
        shop.emulator.fail_next("fault-wrong-amount")
        answer = await shop.apply()
        assert answer.headers["location"] == f"/orders/{ORDER}"
        assert shop.holds == ["amount_differs"]
        await shop.post("approved", inv_id="inv-0")
        assert shop.order.told_to_the_customer == "in review"
        assert (await shop.act("ship")).status_code == 409
        await shop.accept()
        assert shop.order.may_ship


async def test_the_prices_are_the_shops_and_not_the_cookies(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply(amount="0.01", unit_price="0.01")
        assert shop.emulator.applications["inv-0"].amount == Decimal("908.50")
    assert read_cart("sofa.2-free.1-lamp.0-table.999") == {"sofa": 2, "table": 99}
    assert write_cart({"sofa": 0, "lamp": 2}) == "lamp.2"


@pytest.mark.parametrize(("named", "may_ship"), [("inv-0", True), ("inv-8", False)])
async def test_a_postback_before_the_answer_is_not_lost(tmp_path: Path, named: str, may_ship: bool) -> None:
    class Early:
        async def send(self, request: Any) -> Any:
            answer = await shop.emulator.send(request)
            assert (await shop.post("approved", inv_id=named)).status_code == 200
            return answer

        async def aclose(self) -> None:
            pass

    async with visit(tmp_path, Early()) as shop:
        await shop.apply()
        assert shop.order.may_ship is may_ship
        assert shop.order.told_to_the_customer == ("approved" if may_ship else "in review")


async def test_a_postback_without_our_id_finds_its_order(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("rejected", inv_id="inv-0", merchant_transaction_id=None)
        assert shop.order.told_to_the_customer == "rejected"


async def test_a_forged_or_foreign_postback_ships_nothing(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        forger = credentials(password="guessed")
        assert (await shop.post("approved", inv_id="inv-0", credentials=forger)).status_code == 401
        assert not shop.order.may_ship
        await shop.post("approved", inv_id="inv-other")
        assert not shop.order.may_ship
        assert shop.holds == ["foreign_inv_id"]
        await shop.post("approved", inv_id="inv-0")
        assert not shop.order.may_ship


async def test_a_refund_that_comes_again_waits_for_review(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("approved", inv_id="inv-0")
        for timestamp in ("2000000000", "2000000000", "2000000001"):
            await shop.post("refund", inv_id="inv-0", amount="100.00", timestamp=timestamp)
        assert shop.loan.refunded == Decimal("100.00")
        assert shop.holds == ["refund", "repeated"]
        assert shop.order.history == ["approved", "refund of 100.00"]
        page = (await shop.browser.get("/admin")).text
        assert "came again, signed at another time" in page
        await shop.accept("repeated", apply="true")
        assert shop.loan.refunded == Decimal("200.00")
        assert not shop.order.may_ship


async def test_what_was_refunded_in_part_goes_on_when_that_was_accepted(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("approved", inv_id="inv-0")
        await shop.post("refund", inv_id="inv-0", amount="12.50")
        assert shop.order.told_to_the_customer == "in review"
        page = await shop.browser.get("/admin")
        assert "The vendor reports a refund of $12.50." in page.text
        assert "/ship" not in page.text
        await shop.accept("refund")
        assert shop.order.told_to_the_customer == "approved"
        assert "/ship" in (await shop.browser.get("/admin")).text
        assert (await shop.act("ship")).status_code == 303


async def test_what_was_refunded_as_a_whole_is_not_shipped(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("approved", inv_id="inv-0")
        await shop.post("refund", inv_id="inv-0", amount="908.50")
        await shop.accept("refund")
        assert shop.order.told_to_the_customer == "refund"
        assert "has refunded $908.50 of $908.50" in (await shop.browser.get(f"/orders/{ORDER}")).text
        assert (await shop.act("ship")).status_code == 409


async def test_a_refund_of_an_unnamed_amount_is_reviewed(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("approved", inv_id="inv-0")
        await shop.post("refund", inv_id="inv-0", amount=None)
        assert shop.loan.refunded == 0
        assert shop.order.told_to_the_customer == "in review"
        assert shop.order.history == ["approved", "refund of an unnamed amount"]


@pytest.mark.parametrize("counts", [True, False])
async def test_approved_then_rejected_and_delivered_in_reverse_is_not_shipped(
    tmp_path: Path, counts: bool
) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("rejected", inv_id="inv-0", timestamp="1700000001")
        await shop.post("approved", inv_id="inv-0", timestamp="1700000000")
        assert shop.order.told_to_the_customer == "in review"
        page = (await shop.browser.get("/admin")).text
        assert "which is newer cannot be determined" in page
        assert "/ship" not in page
        assert (await shop.act("ship")).status_code == 409
        # Only a person who has looked it up may say which one counts.
        await shop.accept("conflict", **({"apply": "true"} if counts else {}))
        assert shop.order.told_to_the_customer == ("approved" if counts else "rejected")


async def test_an_approval_whose_amount_nobody_has_seen_has_no_ship_button(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        shop.emulator.fail_next("fault-reset-after-commit")
        await shop.apply()
        await shop.post("approved", inv_id="inv-0")
        page = (await shop.browser.get("/admin")).text
        assert "Nobody has seen which amount the vendor finances." in page
        assert "/ship" not in page
        assert (await shop.act("ship")).status_code == 409
        await shop.accept("amount_not_seen")
        assert (await shop.act("ship")).status_code == 303


async def test_a_hold_that_is_not_there_now_is_not_accepted(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        answer = await shop.act("accept", hold="conflict:1")
        assert answer.status_code == 409
        assert "look again" in answer.text


async def test_goods_leave_only_after_an_approval_and_once(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        assert (await shop.act("ship")).status_code == 409
        await shop.post("approved", inv_id="inv-0")
        shop.emulator.fail_next("fault-400")
        await shop.act("ship")
        assert "the vendor was not told" in shop.order.history[-1]
        answers: list[int] = []

        async def ship() -> None:
            answers.append((await shop.act("ship")).status_code)

        async with anyio.create_task_group() as clerks:
            for _ in range(5):
                clerks.start_soon(ship)
        assert sorted(answers) == [303, 409, 409, 409, 409]
        assert shop.order.told_to_the_customer == "shipped"
        assert len(shop.emulator.applications["inv-0"].shipping_events) == 1


async def test_a_loan_that_changes_while_it_is_shipped_is_noted(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("approved", inv_id="inv-0")
        assert shop.database.claim_shipping(ORDER)
        await shop.post("refund", inv_id="inv-0", amount="908.50")
        shop.database.shipped(ORDER)
        assert shop.order.history[-1] == "the loan changed while it was shipped: stop the parcel"
        await shop.post("rejected", inv_id="inv-0", timestamp="2000000000")
        assert shop.order.history[-1] == "rejected, after the goods left"


async def test_nobody_is_sent_to_another_order_when_the_absent_application_has_turned_up(
    tmp_path: Path,
) -> None:
    async with visit(tmp_path) as shop:
        shop.emulator.fail_next("fault-502")
        await shop.apply()
        shop.end_deadline()
        await shop.act("absent")
        await shop.post("preapproved", inv_id="inv-0")
        for told in ("in review", "preapproved"):
            assert shop.order.told_to_the_customer == told
            assert (await shop.apply()).headers["location"] == f"/orders/{ORDER}"
            await shop.accept()


async def test_an_order_that_the_vendor_never_had_can_be_closed(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        shop.emulator.fail_next("fault-502")
        await shop.apply()
        assert shop.order.told_to_the_customer == "pending"
        answer = await shop.act("absent")
        assert answer.status_code == 409
        assert "may still be on its way" in answer.text
        shop.end_deadline()
        assert (await shop.act("absent")).status_code == 303
        assert shop.order.told_to_the_customer == "failed"
        assert (await shop.act("absent")).status_code == 409
        # Its ID is closed for ever: the same cart is another order.
        answer = await shop.browser.post(f"/orders/{ORDER}/again")
        assert answer.headers["location"] == "/checkout"
        answer = await shop.apply()
        assert f"{ORDER} is closed" in answer.text
        fresh = answer.text.partition('name="order_id" value="')[2].partition('"')[0]
        answer = await shop.apply(order_id=fresh)
        assert answer.headers["location"] == "https://emulator.invalid/lc/inv-0"


async def test_a_failed_order_that_the_vendor_has_does_not_begin_again(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        shop.emulator.fail_next("fault-429")
        await shop.apply()
        await shop.post("approved", inv_id="inv-x")
        await shop.apply()
        assert shop.emulator.applications == {}


async def test_a_cart_that_changed_is_another_order(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        shop.browser.cookies.set("cart", "sofa.2")
        answer = await shop.apply()
        assert f"{ORDER} has different contents" in answer.text
        assert f'value="{ORDER}"' not in answer.text
        assert len(shop.emulator.applications) == 1


@pytest.mark.parametrize(
    ("fault", "cart"),
    [(None, "sofa.1"), ("fault-reset-after-commit", "sofa.1"), ("fault-reset-after-commit", "sofa.2")],
)
async def test_a_form_that_was_changed_is_not_a_second_application_for_one_purchase(
    tmp_path: Path, fault: str | None, cart: str
) -> None:
    async with visit(tmp_path) as shop:
        if fault:
            shop.emulator.fail_next(fault)
        await shop.apply()
        shop.browser.cookies.set("cart", cart)
        answer = await shop.apply(phone="2125550000")
        assert answer.headers["location"] == f"/orders/{ORDER}"
        assert len(shop.emulator.applications) == 1
        assert shop.order.contents["customer"]["phone"] == FORM["phone"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
    ids=str,
)
async def test_a_form_that_is_not_the_shops_own_is_refused(headers: dict[str, str], tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("approved", inv_id="inv-0")
        del shop.browser.headers["sec-fetch-site"]
        answer = await shop.browser.post(f"/admin/{ORDER}/ship", headers=headers)
        assert answer.status_code == 403
        assert shop.order.may_ship


async def test_a_browser_without_fetch_metadata_names_the_origin(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        del shop.browser.headers["sec-fetch-site"]
        shop.browser.headers["origin"] = OWN_URL
        await shop.apply()
        assert shop.order.told_to_the_customer == "waiting"


async def test_a_name_of_the_internet_that_resolves_here_is_refused(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        for path in ("/", "/admin", "/static/shop.css"):
            assert (await shop.browser.get(path, headers={"host": "evil.example"})).status_code == 400


async def test_a_locked_database_is_tried_again(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        with contextlib.closing(sqlite3.connect(tmp_path / "shop.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answers: list[int] = []

            async def post() -> None:
                answers.append((await shop.post("approved", inv_id="inv-0")).status_code)

            async with anyio.create_task_group() as vendor:
                vendor.start_soon(post)
                # Neither the pages nor the event loop wait for the database.
                assert (await shop.browser.get("/static/shop.css")).status_code == 200
                other.execute("ROLLBACK")
        assert answers == [200]
        assert shop.order.may_ship


async def test_a_product_that_is_not_sold_is_not_put_into_the_cart(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        answer = await shop.browser.post("/cart", data={"sku": "日本", "quantity": "1"})
        assert answer.status_code == 404


async def test_a_problem_without_a_field_is_told(tmp_path: Path) -> None:
    refusal = error_response(400, "invalid_parameters", reasons={"cart_items.display_name": "is not allowed"})
    async with visit(tmp_path, FakeTransport(refusal)) as shop:
        assert "is not allowed" in (await shop.apply()).text


async def test_an_order_that_is_not_there(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        for answer in (
            await shop.browser.get("/orders/none"),
            await shop.browser.get("/orders/none/state"),
            await shop.browser.get("/orders/none/application"),
            await shop.browser.post("/orders/none/again"),
            *[await shop.browser.post(f"/admin/none/{action}") for action in ("ship", "absent")],
            await shop.browser.post("/admin/none/accept", data={"hold": "refund:1"}),
        ):
            assert answer.status_code == 404
        answer = await shop.apply(order_id="ORDER-1")
        assert answer.headers["location"] == "/checkout"
        assert shop.emulator.applications == {}


async def test_after_a_lost_answer_the_cart_is_empty_and_no_second_application_is_made(
    tmp_path: Path,
) -> None:
    async with visit(tmp_path) as shop:
        await shop.fill_cart()
        assert "Check out with financing" in (await shop.browser.get("/")).text
        shop.emulator.fail_next("fault-reset-after-commit")
        answer = await shop.apply()
        assert answer.headers["location"] == f"/orders/{ORDER}"
        assert "Check out with financing" not in (await shop.browser.get("/")).text
        assert (await shop.browser.get("/checkout")).headers["location"] == "/"
        await shop.apply()  # the form, again
        assert len(shop.emulator.applications) == 1


async def test_an_answer_that_never_reached_the_browser_is_not_a_second_application(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.fill_cart()
        form = (await shop.browser.get("/checkout")).text
        order_id = form.partition('name="order_id" value="')[2].partition('"')[0]
        before = httpx.Cookies(shop.browser.cookies)
        await shop.apply(order_id=order_id)
        shop.browser.cookies = before  # the shop's answer was lost, and so is what it changed
        answer = await shop.browser.get("/checkout")
        assert answer.headers["location"] == f"/orders/{order_id}"
        assert (await shop.browser.get("/checkout")).headers["location"] == "/"
        assert len(shop.emulator.applications) == 1


async def test_a_cart_whose_order_was_declined_is_a_new_order(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        answer = await shop.browser.post(f"/orders/{ORDER}/again")
        assert answer.headers["location"] == f"/orders/{ORDER}"  # it is not over
        await shop.post("rejected", inv_id="inv-0")
        shop.browser.cookies.set("order", ORDER)
        await shop.browser.post(f"/orders/{ORDER}/again")
        answer = await shop.browser.get("/checkout")
        assert "Three-seat sofa" in answer.text
        assert ORDER not in answer.text


async def test_a_declined_order_is_paid_by_bank_transfer_once(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        for way in ("pay", "transfer"):  # it is not declined
            method = "GET" if way == "pay" else "POST"
            answer = await shop.browser.request(method, f"/orders/{ORDER}/{way}")
            assert answer.headers["location"] == f"/orders/{ORDER}"
        await shop.post("rejected", inv_id="inv-0")
        assert f"/orders/{ORDER}/pay" in (await shop.browser.get(f"/orders/{ORDER}")).text
        assert "$908.50" in (await shop.browser.get(f"/orders/{ORDER}/pay")).text
        places = [
            (await shop.browser.post(f"/orders/{ORDER}/transfer")).headers["location"] for _ in range(2)
        ]
        assert places[0] == places[1] != f"/orders/{ORDER}"
        assert "awaiting payment" in (await shop.browser.get(places[0])).text
        assert shop.order.told_to_the_customer == "replaced"
        assert places[0] in (await shop.browser.get(f"/orders/{ORDER}")).text
        assert (await shop.browser.post(f"/orders/{ORDER}/again")).headers["location"] == f"/orders/{ORDER}"
        new_id = places[0].rpartition("/")[2]
        for status in (303, 409):
            assert (await shop.browser.post(f"/admin/{new_id}/transferred")).status_code == status
        assert "shipped" in (await shop.browser.get(places[0])).text
        assert (await shop.act("transferred")).status_code == 409


async def test_an_approval_after_the_customer_chose_another_way_ships_nothing(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("rejected", inv_id="inv-0")
        await shop.browser.post(f"/orders/{ORDER}/transfer")
        await shop.post("approved", inv_id="inv-0", timestamp="2000000000")
        assert shop.loan.status == "approved"
        assert not shop.order.may_ship
        assert (await shop.act("ship")).status_code == 409
        assert "have the vendor cancel it" in (await shop.browser.get("/admin")).text


@pytest.mark.parametrize("which", ["declined", "new"])
async def test_an_order_that_is_paid_by_transfer_is_not_applied_for(which: str, tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        await shop.post("rejected", inv_id="inv-0")
        place = (await shop.browser.post(f"/orders/{ORDER}/transfer")).headers["location"]
        order_id = ORDER if which == "declined" else place.rpartition("/")[2]
        await shop.fill_cart()
        assert (await shop.apply(order_id=order_id)).headers["location"] == f"/orders/{order_id}"
        assert len(shop.emulator.applications) == 1
        await shop.fill_cart()
        shop.browser.cookies.set("order", order_id)
        page = await shop.browser.get("/checkout")
        assert order_id not in page.text or page.status_code == 303


async def test_every_amount_is_written_in_the_same_way(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        shop.browser.cookies.set("cart", "sofa.1-table.1")
        pages = [await shop.browser.get(path) for path in ("/", "/checkout")]
        await shop.apply()
        pages += [await shop.browser.get(path) for path in (f"/orders/{ORDER}", "/admin")]
        for page in pages:
            assert "$1,558.00" in page.text
            assert re.findall(r"\$\d{4,}|\$\d+(?!\d|,|\.\d\d\b)", page.text) == []


async def test_the_order_page_leads_to_the_application_until_it_is_decided(tmp_path: Path) -> None:
    async with visit(tmp_path) as shop:
        await shop.apply()
        assert f"/orders/{ORDER}/application" in (await shop.browser.get(f"/orders/{ORDER}")).text
        answer = await shop.browser.get(f"/orders/{ORDER}/application")
        assert answer.headers["location"] == "https://emulator.invalid/lc/inv-0"
        await shop.post("approved", inv_id="inv-0")
        answer = await shop.browser.get(f"/orders/{ORDER}/application")
        assert answer.headers["location"] == f"/orders/{ORDER}"
        assert len(shop.emulator.applications) == 1
