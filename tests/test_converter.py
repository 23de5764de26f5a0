import datetime as dt
import decimal
import json
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wegetfinancing import (
    Address,
    CartItem,
    Country,
    Currency,
    FinancingRequest,
    PostbackVersion,
    ShippingEvent,
    ShippingState,
)
from wegetfinancing._converter import from_wire, to_wire
from wegetfinancing._json import from_json, to_json
from wegetfinancing.testing import address, cart_item, financing_request, shipping_event


def test_the_whole_request_in_the_words_of_the_wire() -> None:
    request = financing_request(
        shipping_address=address(state="ON", zipcode="K1A 0B1", country=Country.CA),
        cart_items=[cart_item(unit_price=499, quantity=3, sku="W1", unit_tax="1.5", category="widgets")],
        shipping_amount="42.95",
        tax_amount=0,
        amount=Decimal("1640.94"),
        currency="USD",
        version=PostbackVersion.V1_0,
        success_url="https://shop.example/ok",
        failure_url="https://shop.example/no",
        sent_to_consumer=False,
        software_name="shop",
        software_version="1.2",
        software_plugin_version="3",
    )
    assert to_wire(request) == {
        "first_name": "Jane",
        "last_name": "Doe",
        "email": "jane@example.com",
        "phone": "2125551234",
        "billing_address": {
            "street1": "123 Main St",
            "city": "New York",
            "state": "NY",
            "zipcode": "10001",
            "country": "US",
        },
        "shipping_address": {
            "street1": "123 Main St",
            "city": "New York",
            "state": "ON",
            "zipcode": "K1A 0B1",
            "country": "CA",
        },
        "cart_items": [
            {
                "display_name": "Super Widget",
                "unit_price": "499.00",
                "quantity": 3,
                "sku": "W1",
                "unit_tax": "1.50",
                "category": "widgets",
            }
        ],
        "shipping_amount": "42.95",
        "tax_amount": "0.00",
        "amount": "1640.94",
        "currency": "USD",
        "version": "1.0",
        "merchant_transaction_id": "ORDER-123",
        "postback_url": "https://shop.example/postbacks",
        "success_url": "https://shop.example/ok",
        "failure_url": "https://shop.example/no",
        "sent_to_consumer": False,
        "software_name": "shop",
        "software_version": "1.2",
        "software_plugin_version": "3",
    }


def test_what_is_not_set_is_left_out_and_the_version_always_sent() -> None:
    least = FinancingRequest(
        first_name="Jane", last_name="Doe", email="jane@example.com", billing_address=address(), amount=1
    )
    assert set(to_wire(least)) == {"first_name", "last_name", "email", "billing_address", "amount", "version"}
    assert to_wire(least)["version"] == "1.9"
    with_empty_lists: Any = attrs.evolve(least, cart_items=None)
    assert to_wire(with_empty_lists) == to_wire(least)


def test_a_shipping_event_carries_dates_without_a_time() -> None:
    event = shipping_event(expected_delivery_date=dt.date(2024, 1, 18), items=["a", "b"], message="soon")
    assert to_wire(event) == {
        "date": "2026-01-15",
        "state": "dispatched",
        "items": ["a", "b"],
        "message": "soon",
        "expected_delivery_date": "2024-01-18",
        "shipment_company": "UPS",
        "tracking_number": "1Z999AA10123456784",
    }


names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=2)
cents = st.integers(1, 10**14 - 1).map(lambda value: Decimal(value).scaleb(-2))
optional_names = st.none() | names
addresses = st.builds(
    Address,
    street1=names,
    city=names,
    state=st.sampled_from(["NY", "CA", "TX"]),
    zipcode=st.from_regex(r"[0-9]{5}(-[0-9]{4})?", fullmatch=True),
) | st.builds(
    Address,
    street1=names,
    city=names,
    state=st.sampled_from(["ON", "QC"]),
    zipcode=st.from_regex(r"[A-Z][0-9][A-Z] [0-9][A-Z][0-9]", fullmatch=True),
    country=st.just(Country.CA),
)
cart_items = st.builds(
    CartItem,
    display_name=names,
    unit_price=cents,
    quantity=st.integers(1, 10**6),
    sku=optional_names,
    unit_tax=st.none() | cents,
    category=optional_names,
)
requests = st.builds(
    FinancingRequest,
    first_name=names,
    last_name=names,
    email=st.just("jane@example.com"),
    phone=st.none() | st.from_regex(r"[0-9]{10}", fullmatch=True),
    billing_address=addresses,
    shipping_address=st.none() | addresses,
    cart_items=st.lists(cart_items, min_size=1, max_size=4),
    shipping_amount=st.none() | cents,
    tax_amount=st.none() | cents,
    amount=st.none() | cents,
    currency=st.sampled_from([None, Currency.USD]),
    version=st.sampled_from(PostbackVersion),
    merchant_transaction_id=optional_names,
    sent_to_consumer=st.none() | st.booleans(),
    software_name=optional_names,
)
events = st.builds(
    ShippingEvent,
    date=st.dates(),
    state=st.sampled_from(ShippingState),
    items=st.lists(names, max_size=3),
    message=optional_names,
    expected_delivery_date=st.none() | st.dates(),
    tracking_number=optional_names,
)


@given(requests | events)
def test_what_goes_out_comes_back_equal(model: FinancingRequest | ShippingEvent) -> None:
    assert model.problems() == {}
    wire = from_json(to_json(to_wire(model)))
    assert from_wire(type(model), wire) == model


def values_in(wire: Any) -> list[Any]:
    if isinstance(wire, dict):
        return [value for each in wire.values() for value in values_in(each)]
    if isinstance(wire, list):
        return [value for each in wire for value in values_in(each)]
    return [wire]


@given(requests)
def test_null_never_reaches_the_wire(request: FinancingRequest) -> None:
    assert None not in values_in(json.loads(to_json(to_wire(request))))


@given(cents, st.integers(1, 5))
def test_money_is_exact_whatever_the_callers_decimal_context(amount: Decimal, precision: int) -> None:
    expected = f"{amount:.2f}"
    with decimal.localcontext(prec=precision, rounding=decimal.ROUND_UP):
        assert to_wire(cart_item(unit_price=amount))["unit_price"] == expected


@pytest.mark.parametrize(
    ("amount", "sent"), [("499.0000", "499.00"), ("12.3400", "12.34"), ("1E+2", "100.00")]
)
@pytest.mark.parametrize("precision", [1, 28])
def test_more_decimals_than_two_are_sent_as_two_if_that_is_exact(
    amount: str, sent: str, precision: int
) -> None:
    with decimal.localcontext(prec=precision, rounding=decimal.ROUND_UP):
        request = financing_request(amount=Decimal(amount))
        assert request.problems() == {}
        assert request.expected_amount == Decimal(sent)
        assert to_wire(request)["amount"] == sent


def test_a_state_goes_out_in_capitals() -> None:
    assert to_wire(address(state="ny"))["state"] == "NY"


def test_a_negative_zero_has_no_sign_on_the_wire() -> None:
    assert to_wire(financing_request(amount=Decimal("-0")))["amount"] == "0.00"
