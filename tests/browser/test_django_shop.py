"""The example shop in Django, its admin pages and the emulator, used through their pages."""

import pytest
from playwright.sync_api import Locator, Page, expect

from .browsing import Addresses, Photograph
from .test_shop import FORM, decide_on_dashboard, on_dashboard, state_is


@pytest.fixture
def addresses(django_shop: Addresses) -> Addresses:
    return django_shop


def fill_form(page: Page) -> None:
    for label, value in FORM.items():
        page.get_by_label(label, exact=True).fill(value)


def open_checkout(page: Page, addresses: Addresses) -> str:
    """Go to the checkout, fill the form in, and return the order's number."""
    page.goto(addresses.shop)
    page.get_by_role("link", name="Buy Three-seat sofa").click()
    fill_form(page)
    return page.locator("[name=number]").input_value()


def on_admin_page(page: Page, addresses: Addresses, model: str, number: str) -> Locator:
    """Log in if need be, and find the order's row."""
    page.goto(f"{addresses.shop}/admin/{model}/")
    if page.get_by_label("Username").count():
        page.get_by_label("Username").fill(addresses.staff[0])
        page.get_by_label("Password").fill(addresses.staff[1])
        page.get_by_role("button", name="Log in").click()
    row = page.locator("#result_list tbody tr", has_text=number)
    expect(row).to_have_count(1)
    return row


def run_action(page: Page, row: Locator, action: str) -> None:
    row.get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option(label=action)
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()


def test_an_approval_in_the_lightbox_ships_from_the_admin_pages(
    page: Page, addresses: Addresses, photograph: Photograph
) -> None:
    page.goto(addresses.shop)
    photograph(page, "django-products")
    number = open_checkout(page, addresses)
    photograph(page, "django-checkout")
    page.get_by_role("button", name="Apply without leaving this page").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Finance your purchase")).to_be_visible()
    frame.get_by_role("button", name="Approve", exact=True).click()
    expect(page).to_have_url(f"{addresses.shop}/orders/{number}")
    state_is(page, "approved")
    photograph(page, "django-order")

    row = on_admin_page(page, addresses, "django_shop/order", number)
    expect(row.locator(".field-status")).to_have_text("approved")
    expect(row.locator(".field-may_ship img")).to_have_attribute("alt", "True")
    run_action(page, row, "Ship, and tell the vendor")
    expect(page.locator(".messagelist")).to_have_text(f"{number}: shipped")
    run_action(page, row, "Ship, and tell the vendor")
    expect(page.locator(".messagelist")).to_contain_text("It must not be shipped, or it is being shipped.")

    shipped = on_dashboard(page, addresses, number)
    expect(shipped.locator("strong", has_text="dispatched")).to_have_count(1)
    page.goto(f"{addresses.shop}/orders/{number}")
    state_is(page, "shipped")


def test_a_declined_customer_is_told_and_nothing_ships(page: Page, addresses: Addresses) -> None:
    number = open_checkout(page, addresses)
    page.get_by_role("button", name="Apply for financing").click()
    page.get_by_role("button", name="Decline").click()
    expect(page).to_have_url(f"{addresses.shop}/orders/{number}")
    state_is(page, "rejected")

    row = on_admin_page(page, addresses, "django_shop/order", number)
    expect(row.locator(".field-status")).to_have_text("rejected")
    run_action(page, row, "Ship, and tell the vendor")
    expect(page.locator(".messagelist")).to_contain_text("It must not be shipped, or it is being shipped.")
    expect(on_dashboard(page, addresses, number)).not_to_contain_text("dispatched")
    assert open_checkout(page, addresses) != number


def test_a_lost_answer_is_pending_and_is_not_applied_for_again(
    page: Page, addresses: Addresses, photograph: Photograph
) -> None:
    page.goto(addresses.emulator)
    page.get_by_label("The next call fails with").select_option("fault-timeout-after-commit")
    page.get_by_role("button", name="Fail the next call").click()
    number = open_checkout(page, addresses)
    tab = page.context.new_page()
    assert open_checkout(tab, addresses) == number
    page.get_by_role("button", name="Apply for financing").click()
    expect(page).to_have_url(f"{addresses.shop}/orders/{number}")
    state_is(page, "pending")
    expect(page.locator("main")).to_contain_text("do not order again")
    photograph(page, "django-pending")

    tab.get_by_role("button", name="Apply for financing").click()
    expect(tab).to_have_url(f"{addresses.shop}/orders/{number}")
    tab.goto(f"{addresses.shop}/checkout/sofa")
    expect(tab).to_have_url(f"{addresses.shop}/orders/{number}")
    tab.close()

    colleague = page.context.new_page()
    decide_on_dashboard(colleague, addresses, number, "approved")  # there is one application
    state_is(page, "in review")  # without a reload by hand: nobody has seen the financed amount
    row = on_admin_page(colleague, addresses, "wegetfinancing/loan", number)
    expect(row).to_contain_text("Nobody has seen which amount the vendor finances.")
    run_action(colleague, row, "Accept holds ...")
    colleague.get_by_label("Nobody has seen").check()
    colleague.get_by_role("button", name="Accept").click()
    state_is(page, "approved")
