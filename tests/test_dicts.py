"""to_dict() and from_dict(): what goes into a queue comes out equal, or is refused without its values."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.canaries import CANARIES, canaries_in_error, request_with_canaries
from test_converter import events, requests
from wegetfinancing import (
    Address,
    Approved,
    CartItem,
    CreatedRequest,
    FinancingRequest,
    MalformedDictError,
    Postback,
    Preapproved,
    Refunded,
    Rejected,
    ShippingEvent,
    ShippingReceipt,
    UnknownPostback,
    postback_from_dict,
)
from wegetfinancing.testing import address, cart_item, financing_request, shipping_event

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(), json_values, max_size=3)
amounts = st.decimals(allow_nan=False, allow_infinity=False)
created = st.builds(CreatedRequest, inv_id=st.text(), href=st.text(), amount=st.none() | amounts, raw=objects)
receipts = st.builds(ShippingReceipt, loan=st.text(), raw=objects)
what_all_have = {
    "inv_id": st.text(),
    "merchant_transaction_id": st.none() | st.text(),
    "version": st.text(),
    "raw": objects,
    "merchant_id": st.none() | st.text(),
    "signed_at": st.none() | st.datetimes(timezones=st.just(dt.UTC)),
    "digest": st.text(),
}
postbacks = st.one_of(
    *(st.builds(kind, **what_all_have) for kind in (Approved, Preapproved, Rejected)),
    st.builds(Refunded, **what_all_have, amount=st.none() | amounts),
    st.builds(
        UnknownPostback,
        **what_all_have,
        reported_status=st.none() | st.text(),
        content_hash=st.text(),
    ),
)


def through_json(data: dict[str, Any]) -> Any:
    return json.loads(json.dumps(data, allow_nan=False))


@given(requests | events | created | receipts)
def test_a_model_comes_back_equal(model: FinancingRequest | CreatedRequest) -> None:
    back = type(model).from_dict(through_json(model.to_dict()))
    assert back == model
    assert attrs.astuple(back) == attrs.astuple(model)  # what does not compare, too


@given(postbacks)
def test_a_postback_comes_back_equal(postback: Postback) -> None:
    back = postback_from_dict(through_json(postback.to_dict()))
    assert back == postback
    assert attrs.astuple(back) == attrs.astuple(postback)
    assert back.key == postback.key


def test_parts_of_a_request_come_back_too() -> None:
    assert Address.from_dict(address().to_dict()) == address()
    assert CartItem.from_dict(cart_item().to_dict()) == cart_item()


def test_a_dict_in_full() -> None:
    event = shipping_event(items=["a"], expected_delivery_date=dt.date(2026, 2, 1))
    assert event.to_dict() == {
        "date": "2026-01-15",
        "state": "dispatched",
        "items": ["a"],
        "expected_delivery_date": "2026-02-01",
        "shipment_company": "UPS",
        "tracking_number": "1Z999AA10123456784",
    }


@pytest.mark.parametrize(
    ("amount", "text"), [("499.000", "499.000"), ("1E+2", "100"), (5, "5"), (Decimal("0.1"), "0.1")]
)
def test_an_amount_keeps_its_digits(amount: Any, text: str) -> None:
    amount = Decimal(amount) if isinstance(amount, str) else amount
    assert financing_request(amount=amount).to_dict()["amount"] == text


def test_a_model_with_problems_has_no_dict() -> None:
    with pytest.raises(ValueError, match=r"^the ShippingEvent has problems: date, items\[0\]$"):
        shipping_event(date="tomorrow", items=[5]).to_dict()


def test_values_that_are_wrong_are_left_to_problems() -> None:
    data = financing_request().to_dict()
    wrong: Any = {"amount": 4.5, "billing_address": "here", "cart_items": [5], "version": "7"}
    assert set(FinancingRequest.from_dict({**data, **wrong}).problems()) == {
        "amount",
        "billing_address",
        "cart_items[0]",
        "version",
    }
    event = shipping_event().to_dict() | {"date": "tomorrow"}
    assert set(ShippingEvent.from_dict(event).problems()) == {"date"}


REQUEST = financing_request(merchant_transaction_id="ORDER-1").to_dict()
CREATED: dict[str, Any] = {"inv_id": "a", "href": "https://x.example", "amount": "5", "raw": {}}
APPROVED: dict[str, Any] = {
    "inv_id": "a",
    "merchant_transaction_id": None,
    "version": "1.9",
    "raw": {},
    "status": "approved",
}


def without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


@pytest.mark.parametrize(
    ("read", "data", "problem"),
    [
        (FinancingRequest.from_dict, REQUEST | {"street2": "x"}, "no field street2"),
        (FinancingRequest.from_dict, without(REQUEST, "email"), "missing: email"),
        (
            FinancingRequest.from_dict,
            REQUEST | {"billing_address": without(address().to_dict(), "city")},
            "missing: billing_address.city",
        ),
        (
            FinancingRequest.from_dict,
            REQUEST | {"cart_items": [cart_item().to_dict() | {"colour": "red"}]},
            "no field colour: cart_items",
        ),
        (FinancingRequest.from_dict, [REQUEST], "it is of type list"),
        (CreatedRequest.from_dict, CREATED | {"inv_id": 5}, "cannot be read: inv_id"),
        (CreatedRequest.from_dict, CREATED | {"amount": 5.5}, "cannot be read: amount"),
        (CreatedRequest.from_dict, CREATED | {"amount": "five"}, "cannot be read: amount"),
        (CreatedRequest.from_dict, CREATED | {"raw": "{}"}, "cannot be read: raw"),
        (CreatedRequest.from_dict, without(CREATED, "href"), "missing: href"),
        (postback_from_dict, APPROVED | {"reason": "none"}, "no field reason"),
        (postback_from_dict, APPROVED | {"signed_at": "now"}, "cannot be read: signed_at"),
        (postback_from_dict, APPROVED | {"status": "apprvd"}, "it has no known status"),
        (postback_from_dict, APPROVED | {"status": []}, "it has no known status"),
        (postback_from_dict, "approved", "it has no known status"),
    ],
)
def test_what_to_dict_has_not_written_is_refused_by_the_name_of_the_field(
    read: Any, data: Any, problem: str
) -> None:
    with pytest.raises(MalformedDictError) as raised:
        read(data)
    assert f"({problem}). Pass what to_dict() returned." in str(raised.value)


def test_a_dict_with_everything_wrong_has_a_short_error() -> None:
    with pytest.raises(MalformedDictError) as raised:
        FinancingRequest.from_dict({"cart_items": [{str(n): n} for n in range(1000)]})
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data | {CANARIES["email"]: 1, CANARIES["phone"]: CANARIES["last_name"]},
        lambda data: without(data, "version") | {"billing_address": {"street2": CANARIES["street"]}},
        lambda data: [data],
        lambda data: data | {"cart_items": [data]},
    ],
)
def test_no_customer_is_in_the_error(change: Any) -> None:
    data = change(request_with_canaries().to_dict())
    with pytest.raises(MalformedDictError) as raised:
        FinancingRequest.from_dict(data)
    del data
    assert canaries_in_error(raised.value) == []
    assert raised.value.__context__ is raised.value.__cause__ is None


def test_no_customer_is_in_the_error_of_a_model_with_problems() -> None:
    with pytest.raises(ValueError, match=r"has problems: city$") as raised:
        attrs.evolve(request_with_canaries().billing_address, city="x").to_dict()
    assert canaries_in_error(raised.value) == []


def test_no_decision_is_in_the_error_of_a_postback() -> None:
    with pytest.raises(MalformedDictError) as raised:
        postback_from_dict(APPROVED | {"raw": {"email": CANARIES["email"]}, "more": CANARIES["email"]})
    assert canaries_in_error(raised.value) == []


def test_a_shipping_event_of_an_older_version_is_read_by_a_newer_one() -> None:
    """A field that is not set is not in the dict, so neither has to know the other's fields."""
    assert set(ShippingEvent(date=dt.date(2026, 1, 15), state="delivered").to_dict()) == {"date", "state"}
