import datetime as dt
import decimal
from decimal import Decimal
from typing import Any

import attrs
import pytest

from wegetfinancing import (
    Address,
    CartItem,
    Country,
    Currency,
    FinancingRequest,
    ShippingEvent,
    ShippingState,
)
from wegetfinancing.testing import address, cart_item, financing_request, shipping_event

NO_AMOUNT = "must be an amount such as Decimal('1640.94'), without thousands separators"
NO_CAD = "must be USD: CAD is reserved and rejected today; loans are in USD in Canada too"
MODELS = [Address, CartItem, FinancingRequest, ShippingEvent]


@pytest.mark.parametrize("make", [address, cart_item, financing_request, shipping_event])
def test_the_builders_make_values_without_problems(make: Any) -> None:
    assert make().problems() == {}


@pytest.mark.parametrize("make", [address, cart_item, financing_request, shipping_event])
def test_models_are_frozen_slotted_and_keyword_only(make: Any) -> None:
    model = make()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(model, attrs.fields(type(model))[0].name, "x")
    assert not hasattr(model, "__dict__")
    assert all(field.kw_only for field in attrs.fields(type(model)))
    assert hash(model) == hash(make())


def test_every_fault_is_found_at_once_by_path() -> None:
    request = financing_request(
        first_name="J",
        email="jane",
        phone="+1 212 555 1234",
        billing_address=address(street1="", state="New York", zipcode="1000"),
        shipping_address=address(country="CA"),
        cart_items=[cart_item(), cart_item(display_name="", unit_price=4.99, quantity=0), {"sku": "1"}],
        currency="CAD",
        postback_url="/postbacks",
    )
    assert list(request.problems()) == [
        "first_name",
        "email",
        "phone",
        "billing_address.street1",
        "billing_address.state",
        "billing_address.zipcode",
        "shipping_address.state",
        "shipping_address.zipcode",
        "cart_items[1].display_name",
        "cart_items[1].unit_price",
        "cart_items[1].quantity",
        "cart_items[2]",
        "currency",
        "postback_url",
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"first_name": ""}, "is required"),
        ({"first_name": None}, "is required"),
        ({"first_name": "J"}, "must have 2 characters or more"),
        ({"first_name": " J "}, "must have 2 characters or more"),
        ({"first_name": "Jane\n"}, "must not hold control characters such as line ends"),
        ({"first_name": "Ja\ud800"}, "holds half of a surrogate pair, which is no character"),
        ({"first_name": 42}, "must be text, not int"),
        ({"last_name": "D"}, "must have 2 characters or more"),
        ({"email": ""}, "is required"),
        ({"email": "jane@example"}, "must be an e-mail address such as jane@example.com"),
        ({"email": "jane doe@example.com"}, "must be an e-mail address such as jane@example.com"),
        ({"phone": "212555123"}, "must be 10 digits without country code or dashes, such as 2125551234"),
        ({"phone": "٢١٢٥٥٥١٢٣٤"}, "must be 10 digits without country code or dashes, such as 2125551234"),
        ({"phone": ""}, "must not be empty; leave it out instead"),
        ({"billing_address": None}, "is required"),
        ({"billing_address": {"city": "New York"}}, "must be an Address, not dict"),
        ({"shipping_address": "Main St"}, "must be an Address, not str"),
        ({"cart_items": "widget"}, "must be a list, not str"),
        ({"cart_items": iter([])}, "must be a list, not list_iterator"),
        ({"cart_items": []}, "is required unless an amount is given"),
        ({"cart_items": None}, "is required unless an amount is given"),
        ({"shipping_amount": -1}, "must be 0 or more"),
        (
            {"amount": "1,640.94"},
            NO_AMOUNT,
        ),
        (
            {"currency": "CAD"},
            "must be USD: CAD is reserved and rejected today; loans are in USD in Canada too",
        ),
        ({"currency": "EUR"}, "must be USD"),
        ({"version": "2.0"}, "must be one of 0.2, 1.0, 1.9"),
        ({"version": None}, "is required"),
        ({"merchant_transaction_id": " "}, "must not be blank"),
        ({"merchant_transaction_id": 123}, "must be text, not int"),
        (
            {"postback_url": "ftp://shop.example"},
            "must be an absolute URL such as https://shop.example/postbacks",
        ),
        ({"postback_url": "https://"}, "must be an absolute URL such as https://shop.example/postbacks"),
        ({"success_url": "https://[::1"}, "must be an absolute URL such as https://shop.example/postbacks"),
        (
            {"failure_url": "https://a b.example"},
            "must be an absolute URL such as https://shop.example/postbacks",
        ),
        (
            {"failure_url": "https://a.example:port"},
            "must be an absolute URL such as https://shop.example/postbacks",
        ),
        ({"failure_url": 1}, "must be text, not int"),
        ({"sent_to_consumer": 1}, "must be True or False, not int"),
    ],
)
def test_a_fault_of_a_request_is_named(changes: dict[str, Any], problem: str) -> None:
    assert financing_request(**changes).problems() == {next(iter(changes)): problem}


@pytest.mark.parametrize(
    "changes",
    [
        {"email": "jane@bücher.example"},
        {"email": "jane\u00ad@example.com"},  # neither ASCII nor printable, and no control character
        {"phone": None},
        {"cart_items": [], "amount": "10"},
        {"cart_items": (cart_item(), cart_item())},
        {"shipping_address": address()},
        {"shipping_amount": 0, "tax_amount": "12.5"},
        {"currency": Currency.USD},
        {"currency": "USD"},
        {"version": "0.2"},
        {"postback_url": "http://127.0.0.1:8000/postbacks"},
        {"sent_to_consumer": False},
        {"first_name": "Zoë", "last_name": "李 雷"},
        {"software_name": "shop", "software_version": "1", "software_plugin_version": "2"},
    ],
)
def test_a_request_without_faults_has_no_problems(changes: dict[str, Any]) -> None:
    assert financing_request(**changes).problems() == {}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"unit_price": 4.99}, "must not be a float, which cannot hold cents exactly; use Decimal('1.23')"),
        (
            {"unit_price": "1,000.00"},
            NO_AMOUNT,
        ),
        (
            {"unit_price": "1_000"},
            NO_AMOUNT,
        ),
        ({"unit_price": " 1"}, NO_AMOUNT),
        ({"unit_price": "١"}, NO_AMOUNT),
        ({"unit_price": "1e3"}, NO_AMOUNT),
        ({"unit_price": True}, NO_AMOUNT),
        (
            {"unit_price": Decimal("NaN")},
            NO_AMOUNT,
        ),
        (
            {"unit_price": Decimal("sNaN")},
            NO_AMOUNT,
        ),
        ({"unit_price": Decimal("Infinity")}, NO_AMOUNT),
        ({"unit_price": "1.999"}, "must have at most two decimals; round it to cents first"),
        ({"unit_price": Decimal("1.001000")}, "must have at most two decimals; round it to cents first"),
        ({"unit_price": Decimal("1E-999999")}, "must have at most two decimals; round it to cents first"),
        ({"unit_price": "0.009"}, "must have at most two decimals; round it to cents first"),
        ({"unit_price": "999999999999.999"}, "must have at most two decimals; round it to cents first"),
        ({"unit_price": Decimal("1E+12")}, "must have at most 12 digits before the decimal point"),
        ({"unit_price": Decimal("1E+999999")}, "must have at most 12 digits before the decimal point"),
        ({"unit_price": 0}, "must be more than 0"),
        ({"unit_price": "-0.01"}, "must be more than 0"),
        ({"unit_price": None}, "is required"),
        ({"unit_tax": "-1"}, "must be 0 or more"),
        ({"quantity": 0}, "must be 1 or more"),
        ({"quantity": 1.0}, "must be an int, not float"),
        ({"quantity": True}, "must be an int, not bool"),
        ({"quantity": "1"}, "must be an int, not str"),
        ({"quantity": 10**5000}, "must be at most 1000000000"),
        ({"display_name": "x"}, "must have 2 characters or more"),
        ({"sku": ""}, "must not be empty; leave it out instead"),
        ({"category": 5}, "must be text, not int"),
    ],
)
def test_a_fault_of_a_cart_item_is_named(changes: dict[str, Any], problem: str) -> None:
    item = cart_item(**changes)
    field = next(iter(changes))
    assert item.problems() == {field: problem}
    assert financing_request(cart_items=[item]).problems() == {f"cart_items[0].{field}": problem}


@pytest.mark.parametrize(
    ("state", "zipcode", "country"),
    [
        ("NY", "10001", "US"),
        ("PR", "00901-1234", "US"),
        ("AE", "09012", Country.US),
        ("ON", "K1A 0B1", "CA"),
        ("QC", "h2x1y4", Country.CA),
    ],
)
def test_addresses_of_both_countries_pass(state: str, zipcode: str, country: Any) -> None:
    assert address(state=state, zipcode=zipcode, country=country).problems() == {}


US_STATE = "must be the two letters of a US state, such as NY"
PROVINCE = "must be the two letters of a Canadian province, such as ON"
ZIP_CODE = "must be a ZIP code such as 12345 or 12345-6789"
POSTAL_CODE = "must be a postal code such as A1A 1A1"


@pytest.mark.parametrize(("state", "country"), [("ny", "US"), ("Ny", "US"), ("on", "CA")])
def test_a_state_is_accepted_in_either_case_and_kept_in_capitals(state: str, country: str) -> None:
    where = address(state=state, zipcode="K1A 0B1" if country == "CA" else "10001", country=country)
    assert where.problems() == {}
    assert where.state == state.upper()


def test_a_state_that_is_refused_is_kept_as_it_was_typed() -> None:
    assert address(state="New York").state == "New York"


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"street1": "1"}, {"street1": "must have 2 characters or more"}),
        ({"state": "xx"}, {"state": US_STATE}),
        ({"state": "n"}, {"state": US_STATE}),
        ({"state": " ny"}, {"state": US_STATE}),
        ({"state": "\u0131a"}, {"state": US_STATE}),  # a dotless i, whose capital is that of i
        ({"state": "on"}, {"state": US_STATE}),
        ({"state": "New York"}, {"state": US_STATE}),
        ({"state": "ON"}, {"state": US_STATE}),
        ({"state": ["NY"]}, {"state": "must be text, not list"}),
        ({"zipcode": "1000"}, {"zipcode": ZIP_CODE}),
        ({"zipcode": "10001\n"}, {"zipcode": "must not hold control characters such as line ends"}),
        ({"zipcode": 10001}, {"zipcode": "must be text, not int"}),
        ({"zipcode": "K1A 0B1"}, {"zipcode": ZIP_CODE}),
        ({"country": "CA"}, {"state": PROVINCE, "zipcode": POSTAL_CODE}),
        ({"country": "CA", "state": "BC", "zipcode": "K1A-0B1"}, {"zipcode": POSTAL_CODE}),
        ({"country": "MX"}, {"country": "must be one of US, CA"}),
        ({"country": []}, {"country": "must be one of US, CA"}),
        ({"city": "X"}, {"city": "must have 2 characters or more"}),
    ],
)
def test_a_fault_of_an_address_is_named(changes: dict[str, Any], problems: dict[str, str]) -> None:
    assert address(**changes).problems() == problems


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"date": None}, "is required"),
        ({"date": "2026-01-15"}, "must be a date, not str"),
        (
            {"date": dt.datetime(2026, 1, 15, tzinfo=dt.UTC)},
            "must be a date, not a datetime; use .date() in your shop's time zone",
        ),
        ({"state": "lost"}, "must be one of accepted, partial, dispatched, delivered, recalled, other"),
        ({"expected_delivery_date": 5}, "must be a date, not int"),
        ({"items": "Super Widget"}, "must be a list, not str"),
        ({"message": ""}, "must not be empty; leave it out instead"),
        ({"message": "a\x00b"}, "must not hold control characters"),
    ],
)
def test_a_fault_of_a_shipping_event_is_named(changes: dict[str, Any], problem: str) -> None:
    assert shipping_event(**changes).problems() == {next(iter(changes)): problem}


def test_a_message_may_have_several_lines() -> None:
    assert shipping_event(message="Left at the door.\r\n\tSigned.").problems() == {}


def test_each_item_of_a_shipping_event_is_checked() -> None:
    assert shipping_event(items=["Widget", "", 3]).problems() == {
        "items[1]": "is required",
        "items[2]": "must be text, not int",
    }


@pytest.mark.parametrize("state", list(ShippingState))
def test_states_are_taken_as_text_too(state: ShippingState) -> None:
    assert shipping_event(state=state.value).state is state


def test_the_repr_shows_no_personal_data() -> None:
    request = financing_request(
        first_name="Secretfirst",
        last_name="Secretlast",
        email="secret@example.com",
        phone="2125550000",
        billing_address=address(street1="Secret street", city="Secretcity", zipcode="99999"),
        shipping_address=address(street1="Secret street"),
    )
    shown = repr(request) + repr(request.billing_address) + repr(shipping_event(message="Secret note"))
    assert "ecret" not in shown
    assert "2125550000" not in shown
    assert "99999" not in shown
    assert "ORDER-123" in shown


def test_the_expected_amount_is_computed_as_the_recorded_answer_was() -> None:
    items = [
        cart_item(unit_price="499.00", quantity=3, unit_tax="10"),
        cart_item(unit_price="100.99", quantity=1),
    ]
    request = financing_request(cart_items=items, shipping_amount="42.95", tax_amount="99")
    assert request.expected_amount == Decimal("1640.94")
    assert financing_request(cart_items=items).expected_amount == Decimal("1597.99")
    assert financing_request(cart_items=items, amount="5").expected_amount == Decimal(5)


def test_the_expected_amount_is_exact_whatever_the_applications_decimal_context() -> None:
    request = financing_request(cart_items=[cart_item(unit_price="12345.67", quantity=3)])
    with decimal.localcontext(prec=4) as context:
        context.traps[decimal.Inexact] = True
        assert request.expected_amount == Decimal("37037.01")


def test_nothing_is_expected_of_a_request_with_problems() -> None:
    request = financing_request(email="jane", cart_items=[cart_item(unit_price=4.99)])
    with pytest.raises(ValueError, match=r"problems: email, cart_items\[0\]\.unit_price"):
        _ = request.expected_amount
