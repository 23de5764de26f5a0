"""The rules of the models' fields: whatever value is given, a problem is text and not an exception."""

import copy
import pickle
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
from wegetfinancing.testing import address, cart_item, financing_request, shipping_event

MODELS = [Address, CartItem, FinancingRequest, ShippingEvent]


@pytest.mark.parametrize(
    "price",
    [
        Decimal("0.01"),
        Decimal("1E+3"),
        1,
        "7",
        "7.5",
        "999999999999.99",
        Decimal("499.0000"),
        "12.3400",
        "1." + "0" * 5000,
    ],
)
def test_money_is_decimal_int_or_str_in_and_decimal_out(price: Any) -> None:
    item = cart_item(unit_price=price)
    assert isinstance(item.unit_price, Decimal)
    assert item.unit_price == Decimal(price)
    assert item.problems() == {}


class Hostile:
    """What raises wherever it is compared, as arrays do."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment] # arrays have none


@pytest.mark.parametrize("model", MODELS)
def test_values_that_cannot_be_compared_are_problems_too(model: Any) -> None:
    fields = [field.name for field in attrs.fields(model)]
    assert set(model(**dict.fromkeys(fields, Hostile())).problems()) == set(fields)


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.lists(st.one_of(st.text(), st.integers(), st.none())),
    st.dictionaries(st.text(), st.integers()),
    st.sampled_from(
        [*Country, *Currency, *PostbackVersion, *ShippingState, object(), address(), cart_item()]
    ),
)


@given(st.sampled_from(MODELS), st.data())
def test_problems_never_raise_and_never_repeat_a_value(model: Any, data: st.DataObject) -> None:
    changes = {field.name: data.draw(anything) for field in attrs.fields(model)}
    problems = model(**changes).problems()
    assert all(isinstance(text, str) for text in problems.values())


@pytest.mark.parametrize("make", [financing_request, address, cart_item, shipping_event])
def test_asking_for_problems_does_not_change_the_model(make: Any) -> None:
    model, unasked = make(), make()
    model.problems()["x"] = "the caller's own"
    assert model.problems() == {}
    assert (model, hash(model), repr(model)) == (unasked, hash(unasked), repr(unasked))
    assert [copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))] == [model] * 3  # noqa: S301 - made here
    changed = attrs.evolve(model, **{attrs.fields(type(model))[0].name: None})
    assert changed.problems()
    assert changed.problems() == changed.problems()


class ChangingItem(CartItem):
    __setattr__ = object.__setattr__


class ChangingRequest(FinancingRequest):
    __setattr__ = object.__setattr__


@pytest.mark.parametrize("outer", [FinancingRequest, ChangingRequest])
def test_what_was_derived_and_can_change_is_checked_each_time(outer: type[FinancingRequest]) -> None:
    item = ChangingItem(display_name="Super Widget", unit_price="499.00", quantity=1)
    fields = attrs.asdict(financing_request(), recurse=False)
    request = outer(**{**fields, "cart_items": [item, cart_item()]})
    assert request.problems() == {}
    item.quantity = -5  # type: ignore[misc] # the derived class lets it
    assert request.problems() == {"cart_items[0].quantity": "must be 1 or more"}
    if outer is ChangingRequest:
        item.quantity = 1  # type: ignore[misc] # the derived class lets it
        assert request.problems() == {}
        request.email = "nope"  # type: ignore[misc] # the derived class lets it
        assert request.problems() == {"email": "must be an e-mail address such as jane@example.com"}


def test_problems_do_not_repeat_what_was_given() -> None:
    secret = "hunter2"
    request = financing_request(
        email=secret,
        phone=secret,
        postback_url=secret,
        amount=secret,
        version=secret,
        billing_address=address(state=secret, zipcode=secret, country=secret),
    )
    assert len(request.problems()) == 6
    assert secret not in "".join(request.problems().values())
