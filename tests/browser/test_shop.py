"""The example shop and the emulator, used through their pages."""

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from .browsing import Addresses, Photograph, watch

FORM = {
    "First name": "Jane",
    "Last name": "Doe",
    "E-mail": "jane@example.com",
    "Street": "123 Main St",
    "City": "New York",
    "State": "NY",
    "ZIP code": "10001",
}


def fill_cart(page: Page, addresses: Addresses) -> None:
    page.goto(addresses.shop)
    page.get_by_role("button", name="Add to cart Three-seat sofa").click()
    page.get_by_role("link", name="Check out with financing").click()


def fill_form(page: Page, **changes: str) -> str:
    """Fill the checkout form in and return the order's id."""
    for label, value in (FORM | changes).items():
        page.get_by_label(label, exact=True).fill(value)
    return page.locator("[name=order_id]").input_value()


def apply(page: Page, addresses: Addresses) -> str:
    fill_cart(page, addresses)
    order_id = fill_form(page)
    page.get_by_role("button", name="Apply for financing").click()
    return order_id


def state_is(page: Page, state: str) -> None:
    expect(page.locator("#state")).to_have_text(state)


def on_dashboard(page: Page, addresses: Addresses, order_id: str) -> Locator:
    """Go to the dashboard and find the order's request; there has to be exactly one."""
    page.goto(addresses.emulator)
    request = page.locator("article[id^=request-]", has_text=order_id)
    expect(request).to_have_count(1)
    return request


def decide_on_dashboard(page: Page, addresses: Addresses, order_id: str, status: str) -> None:
    request = on_dashboard(page, addresses, order_id)
    request.get_by_label("Decide", exact=True).select_option(status)
    request.get_by_role("button", name="Decide").click()


def test_buy_apply_approve_ship_refund(page: Page, addresses: Addresses, photograph: Photograph) -> None:
    page.goto(addresses.shop)
    photograph(page, "shop-products")
    fill_cart(page, addresses)
    order_id = fill_form(page)
    photograph(page, "shop-checkout")
    page.get_by_role("button", name="Apply for financing").click()

    expect(page.get_by_role("heading", name="Finance your purchase")).to_be_visible()
    expect(page.locator("tfoot")).to_contain_text("$908.50")
    photograph(page, "emulator-application")
    application = page.url
    page.get_by_role("button", name="Approve", exact=True).click()

    expect(page).to_have_url(f"{addresses.shop}/orders/{order_id}")
    state_is(page, "approved")
    photograph(page, "shop-order")

    page.goto(f"{addresses.shop}/admin")
    photograph(page, "shop-admin")
    page.get_by_role("button", name=f"Ship {order_id}").click()
    expect(page.locator(f"#{order_id}")).to_contain_text("shipped")
    expect(on_dashboard(page, addresses, order_id)).to_contain_text("dispatched")

    page.goto(application)
    page.get_by_label("Refund").fill("100")
    page.get_by_role("button", name="Refund").click()
    expect(page.locator("#state")).to_have_text("refunded")
    photograph(page, "emulator-refund")
    page.goto(f"{addresses.shop}/admin")
    expect(page.locator(f"#{order_id}")).to_contain_text("refunded by the vendor $100.00")


def test_a_declined_customer_pays_in_another_way(
    page: Page, addresses: Addresses, photograph: Photograph
) -> None:
    order_id = apply(page, addresses)
    page.get_by_role("button", name="Decline").click()
    expect(page).to_have_url(f"{addresses.shop}/orders/{order_id}")
    state_is(page, "rejected")
    expect(page.locator("main")).to_contain_text("Three-seat sofa")
    photograph(page, "shop-declined")
    page.get_by_role("link", name="Choose another way to pay").click()
    expect(page.get_by_role("heading", name="Choose another way to pay")).to_be_visible()
    photograph(page, "shop-pay")
    page.get_by_role("button", name="Pay by bank transfer").click()
    state_is(page, "awaiting payment")
    photograph(page, "shop-transfer")
    page.goto(f"{addresses.shop}/admin")
    expect(page.get_by_role("button", name=f"Ship {order_id}")).to_have_count(0)


def test_a_preapproval_does_not_ship_and_an_approval_settles_it(page: Page, addresses: Addresses) -> None:
    order_id = apply(page, addresses)
    page.get_by_role("button", name="Pre-approve").click()
    state_is(page, "preapproved")
    decide_on_dashboard(page, addresses, order_id, "approved")
    page.goto(f"{addresses.shop}/orders/{order_id}")
    state_is(page, "approved")


def test_a_lost_answer_is_pending_until_the_postback_settles_it(
    page: Page, addresses: Addresses, photograph: Photograph
) -> None:
    page.goto(addresses.emulator)
    page.get_by_label("The next call fails with").select_option("fault-timeout-after-commit")
    page.get_by_role("button", name="Fail the next call").click()
    expect(page.locator("main")).to_contain_text("Queued: fault-timeout-after-commit")

    order_id = apply(page, addresses)
    expect(page).to_have_url(f"{addresses.shop}/orders/{order_id}")
    state_is(page, "pending")
    expect(page.locator("main")).to_contain_text("do not order again")
    photograph(page, "shop-pending")

    colleague = page.context.new_page()
    decide_on_dashboard(colleague, addresses, order_id, "approved")
    state_is(page, "in review")  # without a reload by hand: nobody has seen the financed amount

    colleague.goto(f"{addresses.shop}/admin")
    held = colleague.locator(f"#{order_id}")
    expect(held).to_contain_text("Nobody has seen which amount the vendor finances.")
    expect(held.get_by_role("button", name="Ship")).to_have_count(0)
    photograph(colleague, "shop-held")
    held.get_by_role("button", name="Reviewed: go on").click()
    state_is(page, "approved")


def test_a_form_that_is_sent_twice_is_one_application(page: Page, addresses: Addresses) -> None:
    fill_cart(page, addresses)
    order_id = fill_form(page)
    checkout = page.url
    for _ in range(2):
        with page.context.expect_page() as opened:
            page.eval_on_selector("form", "form => { form.target = '_blank' }")
            page.get_by_role("button", name="Apply for financing").click()
        expect(opened.value.get_by_role("heading", name="Finance your purchase")).to_be_visible()
    assert page.url == checkout
    on_dashboard(page, addresses, order_id)


def test_problems_stand_beside_their_fields(page: Page, addresses: Addresses, photograph: Photograph) -> None:
    fill_cart(page, addresses)
    order_id = fill_form(page, **{"ZIP code": "1000", "First name": "J", "E-mail": ""})
    page.get_by_role("button", name="Apply for financing").click()
    for label, problem in {
        "First name": "must have 2 characters or more",
        "E-mail": "is required",
        "ZIP code": "must be a ZIP code",
    }.items():
        field = page.get_by_label(label, exact=True)
        expect(field).to_have_attribute("aria-invalid", "true")
        described_by = field.get_attribute("aria-describedby")
        expect(page.locator(f"[id='{described_by}']")).to_contain_text(f"{label} {problem}")
    expect(page.get_by_label("City", exact=True)).not_to_have_attribute("aria-invalid", "true")
    photograph(page, "shop-problems")
    assert fill_form(page) == order_id
    page.get_by_role("button", name="Apply for financing").click()
    expect(page.get_by_role("heading", name="Finance your purchase")).to_be_visible()


def test_what_the_vendor_refuses_stands_beside_its_field_and_can_be_fixed(
    page: Page, addresses: Addresses
) -> None:
    page.goto(addresses.emulator)
    page.get_by_label("The next call fails with").select_option("fault-400")
    page.get_by_role("button", name="Fail the next call").click()
    order_id = apply(page, addresses)
    expect(page.locator("[id='billing_address.zipcode-problem']")).to_have_text("ZIP code is not served")
    page.get_by_role("button", name="Apply for financing").click()
    expect(page.get_by_role("heading", name="Finance your purchase")).to_be_visible()
    on_dashboard(page, addresses, order_id)


def test_the_lightbox_completes(page: Page, addresses: Addresses, photograph: Photograph) -> None:
    fill_cart(page, addresses)
    order_id = fill_form(page)
    page.get_by_role("button", name="Apply without leaving this page").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Finance your purchase")).to_be_visible()
    photograph(page, "shop-lightbox")
    frame.get_by_role("button", name="Approve", exact=True).click()
    expect(page).to_have_url(f"{addresses.shop}/orders/{order_id}")
    state_is(page, "approved")


@pytest.mark.parametrize("way", ["button", "escape", "decline"])
def test_the_lightbox_is_left(page: Page, addresses: Addresses, way: str) -> None:
    fill_cart(page, addresses)
    order_id = fill_form(page)
    page.get_by_role("button", name="Apply without leaving this page").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Finance your purchase")).to_be_visible()
    if way == "button":
        page.get_by_role("button", name="Close").click()
    elif way == "escape":
        page.keyboard.press("Escape")
    else:
        frame.get_by_role("button", name="Decline").click()
    expect(page).to_have_url(f"{addresses.shop}/orders/{order_id}")
    state_is(page, "rejected" if way == "decline" else "waiting")
    if way != "decline":
        page.get_by_role("link", name="Go to your application").click()
        expect(page.get_by_role("heading", name="Finance your purchase")).to_be_visible()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this name has focus."""
    wanted = page.get_by_role("button", name=name).or_(page.get_by_role("link", name=name))
    wanted = wanted.or_(page.get_by_label(name, exact=True)).first
    for _ in range(40):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"the keyboard does not reach {name}")


def test_a_whole_purchase_by_keyboard_alone(page: Page, addresses: Addresses) -> None:
    page.goto(addresses.shop)
    tab_to(page, "Add to cart Three-seat sofa")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Check out with financing")).to_be_visible()
    tab_to(page, "Check out with financing")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Checkout")).to_be_visible()
    for label, value in FORM.items():
        tab_to(page, label)
        page.keyboard.type(value)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Finance your purchase")).to_be_visible()
    tab_to(page, "Approve")
    page.keyboard.press("Enter")
    state_is(page, "approved")
    order_id = page.url.rpartition("/")[2]
    page.goto(f"{addresses.shop}/admin")
    tab_to(page, f"Ship {order_id}")
    page.keyboard.press("Enter")
    expect(page.locator(f"#{order_id}")).to_contain_text("shipped")


def test_a_purchase_without_javascript(browser: Browser, addresses: Addresses, complaints: list[str]) -> None:
    context = browser.new_context(java_script_enabled=False)
    watch(context, complaints)
    page = context.new_page()
    order_id = apply(page, addresses)
    page.get_by_role("button", name="Approve", exact=True).click()
    expect(page).to_have_url(f"{addresses.shop}/orders/{order_id}")
    state_is(page, "approved")
    context.close()


def test_the_dashboard_delivers_in_every_way_and_shows_the_answers_live(
    page: Page, addresses: Addresses, photograph: Photograph
) -> None:
    order_id = apply(page, addresses)
    application = page.url
    inv_id = application.rpartition("/")[2]
    watching = page.context.new_page()
    watching.goto(addresses.emulator)
    page.get_by_role("button", name="Approve", exact=True).click()

    posted = watching.locator("article", has=watching.locator(f"a[href='#request-{inv_id}']"))
    answers = posted.locator("li")
    expect(answers).to_have_text([re.compile("HTTP 200")])  # without a reload by hand
    summary = posted.get_by_text("What is sent")
    summary.click()

    for button, told in [
        ("Deliver again", "again HTTP 200"),
        ("Deliver with a wrong signature", "wrong signature HTTP 401"),
        ("Deliver twice at once", "twice at once HTTP 200"),
    ]:
        posted.get_by_role("button", name=button).click()
        expect(answers.last).to_contain_text(told)
    expect(answers).to_have_count(5)

    page.goto(application)
    page.get_by_role("button", name="Refund").click()
    watching.locator(f"#reverse-{inv_id}").click()
    refund = posted.first
    expect(refund.locator("li").last).to_contain_text("out of order HTTP 200")
    photograph(watching, "emulator-dashboard")
    page.goto(f"{addresses.shop}/admin")
    expect(page.locator(f"#{order_id}")).to_contain_text("refunded by the vendor $908.50")


def test_the_dashboard_keeps_focus_and_choices_when_it_changes(page: Page, addresses: Addresses) -> None:
    page.goto(addresses.emulator)
    page.get_by_label("The next call fails with").select_option("fault-502")
    page.get_by_role("button", name="Fail the next call").focus()
    shopper = page.context.new_page()
    order_id = apply(shopper, addresses)
    expect(page.locator("main")).to_contain_text(order_id)
    expect(page.get_by_role("button", name="Fail the next call")).to_be_focused()
    expect(page.get_by_label("The next call fails with")).to_have_value("fault-502")
