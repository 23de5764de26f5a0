"""The FastAPI dependency that turns a customer's form or JSON body into a financing request."""

import functools
import json
import traceback
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import anyio
import attrs
import httpx
import pytest
from fastapi import Depends, FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from hypothesis import given
from hypothesis import strategies as st

from support.canaries import PACKAGE
from wegetfinancing import Address, CartItem, ConfigurationError, FinancingRequest
from wegetfinancing.contrib._checkout import as_accepted, from_form, read_checkout
from wegetfinancing.contrib.fastapi import CHECKOUT_OPENAPI, OrderFields, financing_request_from
from wegetfinancing.testing import address, cart_item, financing_request

pytestmark = pytest.mark.anyio

ADDRESS = {"street1": "123 Main St", "city": "New York", "state": "ny", "zipcode": "10001"}
JSON_BODY: dict[str, Any] = {
    "first_name": "Jane",
    "last_name": "Doe",
    "email": "jane@example.com",
    "phone": "(212) 555-1234",
    "billing_address": ADDRESS,
}
FORM = {
    **{name: value for name, value in JSON_BODY.items() if name != "billing_address"},
    **{f"billing_address.{name}": value for name, value in ADDRESS.items()},
}
NAMES = [
    *(field.name for model in (FinancingRequest, Address, CartItem) for field in attrs.fields(model)),
    "note",
]


def order_of_the_shop() -> OrderFields:
    return {
        "merchant_transaction_id": "ORDER-123",
        "cart_items": [cart_item()],
        "postback_url": "https://shop.example/postbacks",
    }


class Checkout:
    """A shop's route, and what reached it."""

    def __init__(self, order: Callable[..., Any] = order_of_the_shop, **settings: Any) -> None:
        self.requests: list[FinancingRequest] = []
        self.app = FastAPI()
        made = financing_request_from(order, **settings)

        @self.app.post("/checkout", openapi_extra=CHECKOUT_OPENAPI)
        async def check_out(request: Annotated[FinancingRequest, Depends(made)]) -> str:
            self.requests.append(request)
            return "OK"

    async def post(self, **body: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as browser:
            return await browser.post("/checkout", **body)

    async def problems(self, **body: Any) -> dict[tuple[Any, ...], tuple[str, str]]:
        """Post, and return by location what is wrong."""
        answer = await self.post(**body)
        assert answer.status_code == 422, answer.text
        assert self.requests == []
        detail = answer.json()["detail"]
        assert all(each.keys() == {"loc", "msg", "type"} for each in detail)
        return {tuple(each["loc"]): (each["msg"], each["type"]) for each in detail}


@pytest.mark.parametrize(
    "body",
    [
        {"json": JSON_BODY},
        {"data": FORM},
        {"data": FORM, "files": {"photo": b"ignored"}},
        {
            "data": {name: f" {value} " for name, value in FORM.items()}
            | {"csrf_token": "abc", "phone": FORM["phone"]}
        },
        {"json": JSON_BODY | {"shipping_address": {}, "newsletter": True, "amount": None}},
        {"data": FORM | {"shipping_address.street1": "", "billing_address.country": "", "amount": ""}},
    ],
)
async def test_the_customer_and_the_shop_make_the_request_together(body: dict[str, Any]) -> None:
    checkout = Checkout()
    answer = await checkout.post(**body)
    assert answer.status_code == 200, answer.text
    assert checkout.requests == [financing_request()]


async def test_an_address_to_ship_to_is_read_and_a_phone_may_be_left_out() -> None:
    checkout = Checkout()
    shipping = {
        "street1": "1 Elm St",
        "city": "Toronto",
        "state": "ON",
        "zipcode": "A1A 1A1",
        "country": "CA",
    }
    assert (await checkout.post(json=JSON_BODY | {"shipping_address": shipping, "phone": ""})).is_success
    flat = {f"shipping_address.{name}": value for name, value in shipping.items()}
    assert (await checkout.post(data=FORM | flat | {"phone": ""})).is_success
    expected = financing_request(shipping_address=address(**shipping), phone=None)
    assert checkout.requests == [expected, expected]


@pytest.mark.parametrize("as_form", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", "1.00"),
        ("merchant_transaction_id", "ORDER-OF-SOMEBODY-ELSE"),
        ("postback_url", "https://evil.example/"),
        ("success_url", "https://evil.example/"),
        ("shipping_amount", "0"),
        ("version", "0.2"),
    ],
)
async def test_a_customer_does_not_choose_what_the_shop_sets(name: str, value: str, as_form: bool) -> None:
    body = {"data": FORM | {name: value}} if as_form else {"json": JSON_BODY | {name: value}}
    assert await Checkout().problems(**body) == {
        ("body", name): ("is set by the shop", "extra_forbidden"),
    }


async def test_a_customer_does_not_choose_the_items_either() -> None:
    cheap = [{"display_name": "Super Widget", "unit_price": "0.01", "quantity": 1}]
    problems = await Checkout().problems(json=JSON_BODY | {"cart_items": cheap})
    assert list(problems) == [("body", "cart_items")]
    # As a form names it, it is no field of a request.
    checkout = Checkout()
    assert (await checkout.post(data=FORM | {"cart_items[0].unit_price": "0.01"})).is_success
    assert checkout.requests == [financing_request()]


async def test_every_problem_is_told_at_once_where_it_is() -> None:
    wrong = {
        "first_name": "J",
        "email": "jane",
        "billing_address": ADDRESS | {"zipcode": "1000", "city": " "},
    }
    assert await Checkout().problems(json=wrong) == {
        ("body", "first_name"): ("must have 2 characters or more", "value_error"),
        ("body", "last_name"): ("is required", "missing"),
        ("body", "email"): ("must be an e-mail address such as jane@example.com", "value_error"),
        ("body", "billing_address", "city"): ("is required", "missing"),
        ("body", "billing_address", "zipcode"): (
            "must be a ZIP code such as 12345 or 12345-6789",
            "value_error",
        ),
    }
    assert list(await Checkout().problems(data={"first_name": "J", "billing_address": "here"})) == [
        ("body", "first_name"),
        ("body", "last_name"),
        ("body", "email"),
        ("body", "billing_address"),
    ]
    # A form's fields are found again by the names that they have there.
    assert ("body", "billing_address.zipcode") in await Checkout().problems(data={"first_name": "Jane"})


@pytest.mark.parametrize(
    ("changes", "location", "text"),
    [
        ({"first_name": 5}, ("first_name",), "must be text, not int"),
        ({"phone": 2125551234}, ("phone",), "must be text, not int"),
        ({"billing_address": "123 Main St"}, ("billing_address",), "must be an object"),
        ({"shipping_address": [ADDRESS]}, ("shipping_address",), "must be an object"),
        (
            {"billing_address": ADDRESS | {"state": 5}},
            ("billing_address", "state"),
            "must be text",
        ),
    ],
)
async def test_a_value_of_another_type_is_told(
    changes: dict[str, Any], location: tuple[str, ...], text: str
) -> None:
    problems = await Checkout().problems(json=JSON_BODY | changes)
    assert list(problems) == [("body", *location)]
    assert problems["body", *location][0].startswith(text)


async def test_no_answer_repeats_a_value() -> None:
    canary = "canary\x00canary"
    values = dict.fromkeys(FORM, canary)
    assert "canary" not in (await Checkout().post(data=values)).text
    assert "canary" not in (await Checkout().post(json=dict.fromkeys(JSON_BODY, canary))).text


async def test_a_field_that_comes_twice_is_told() -> None:
    body = httpx.QueryParams([*FORM.items(), ("email", "other@example.com")])
    problems = await Checkout().problems(
        content=str(body), headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert problems == {("body", "email"): ("came more than once", "value_error")}


async def test_a_file_is_no_text() -> None:
    without = {name: value for name, value in FORM.items() if name != "email"}
    problems = await Checkout().problems(data=without, files={"email": b"jane@example.com"})
    assert problems == {("body", "email"): ("is required", "missing")}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"email": NaN}', b'{"email": "a", "email": "b"}', b"\xff"]
)
async def test_json_that_cannot_be_read_is_told(content: bytes) -> None:
    checkout = Checkout()
    headers = {"content-type": "application/json; charset=utf-8"}
    problems = await checkout.problems(content=content, headers=headers)
    assert problems == {
        ("body",): (
            "must be one JSON object in UTF-8, no name in it twice, without NaN or Infinity",
            "json_invalid",
        ),
    }


@pytest.mark.parametrize("content_type", ["text/plain", None])
async def test_what_another_site_can_send_as_text_is_no_json(content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    checkout = Checkout()
    answer = await checkout.post(content=json.dumps(JSON_BODY), headers=headers)
    assert answer.status_code == 415
    assert checkout.requests == []


@pytest.mark.parametrize(("size", "status"), [(65_536, 200), (65_537, 413)])
async def test_a_body_is_bounded(size: int, status: int) -> None:
    checkout = Checkout()
    body = json.dumps(JSON_BODY).ljust(size)
    answer = await checkout.post(content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert len(checkout.requests) == (1 if status == 200 else 0)


# What the shop supplies


async def test_the_order_is_a_dependency_with_fields_and_dependencies_of_its_own() -> None:
    async def order_id(request: Request) -> str:
        return request.headers["x-order"]

    async def order(
        named: Annotated[str, Form(alias="order_id")], known: Annotated[str, Depends(order_id)]
    ) -> OrderFields:
        assert named == known
        return {**order_of_the_shop(), "merchant_transaction_id": known}

    checkout = Checkout(order)
    answer = await checkout.post(data=FORM | {"order_id": "ORDER-7"}, headers={"x-order": "ORDER-7"})
    assert answer.status_code == 200, answer.text
    assert checkout.requests == [financing_request(merchant_transaction_id="ORDER-7")]


async def test_what_the_shop_knows_of_the_customer_comes_from_the_shop() -> None:
    checkout = Checkout(lambda: {**order_of_the_shop(), "email": "account@example.com"})
    problems = await checkout.problems(json=JSON_BODY)
    assert problems == {("body", "email"): ("is set by the shop", "extra_forbidden")}
    without = {name: value for name, value in JSON_BODY.items() if name != "email"}
    assert (await checkout.post(json=without)).is_success
    assert checkout.requests == [financing_request(email="account@example.com")]


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ({"cart_items": [cart_item()]}, "must set merchant_transaction_id"),
        ({"merchant_transaction_id": "", "amount": 5}, "must set merchant_transaction_id"),
        ({"merchant_transaction_id": "ORDER-1"}, "cart_items is required unless an amount is given"),
        ({"merchant_transaction_id": "ORDER-1", "amount": 4.99}, "amount must not be a float"),
        (
            {"merchant_transaction_id": "ORDER-1", "amount": 5, "email": "no"},
            "email must be an e-mail address",
        ),
    ],
)
async def test_a_mistake_of_the_shop_is_not_answered_to_the_customer(
    order: dict[str, Any], told: str
) -> None:
    checkout = Checkout(lambda: order)
    without = {name: value for name, value in JSON_BODY.items() if name not in order}
    with pytest.raises(ConfigurationError, match=told) as caught:
        await checkout.post(json=without | {"first_name": "canary"})
    assert caught.value.__cause__ is None
    ours = [
        frame.locals
        for frame in traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
        if PACKAGE in Path(frame.filename).parents
    ]
    assert ours
    assert "canary" not in repr(ours)


async def test_amounts_of_a_body_are_text_or_whole_numbers() -> None:
    def order() -> OrderFields:
        return {"merchant_transaction_id": "ORDER-1"}

    for amount, expected in (("499.5", "499.50"), (499, "499"), (" 499.00 ", "499")):
        checkout = Checkout(order, also_from_body=["amount"])
        assert (await checkout.post(json=JSON_BODY | {"amount": amount})).is_success
        assert (await checkout.post(data=FORM | {"amount": str(amount)})).is_success
        assert {each.amount for each in checkout.requests} == {Decimal(expected)}
    fraction = 'must be text such as "1640.94": a fraction in JSON cannot hold cents exactly'
    for wrong, told in (
        (499.5, fraction),
        (499.0, fraction),
        ("1,558.00", "must be an amount such as 1640.94, without thousands separators"),
        (True, "must be an amount such as 1640.94, without thousands separators"),
        ("499.005", "must have at most two decimals; round it to cents first"),
    ):
        checkout = Checkout(order, also_from_body=["amount"])
        assert await checkout.problems(json=JSON_BODY | {"amount": wrong}) == {
            ("body", "amount"): (told, "value_error")
        }
    problems = await Checkout(order, also_from_body=["amount"]).problems(json=JSON_BODY)
    assert problems == {("body", "cart_items"): ("is required unless an amount is given", "missing")}


async def test_items_of_a_body_are_read_and_checked() -> None:
    def order() -> OrderFields:
        return {"merchant_transaction_id": "ORDER-1"}

    item = {"display_name": " Super Widget ", "unit_price": "499.00", "quantity": 1, "sku": ""}
    checkout = Checkout(order, also_from_body=["cart_items"])
    assert (await checkout.post(json=JSON_BODY | {"cart_items": [item]})).is_success
    assert checkout.requests[0].cart_items == (cart_item(),)
    checkout = Checkout(order, also_from_body=["cart_items"])
    wrong = [item | {"unit_price": 4.99, "quantity": "2"}, "an item", {}]
    problems = await checkout.problems(json=JSON_BODY | {"cart_items": wrong})
    assert list(problems) == [
        ("body", "cart_items", 0, "unit_price"),
        ("body", "cart_items", 0, "quantity"),
        ("body", "cart_items", 1),
        ("body", "cart_items", 2, "display_name"),
        ("body", "cart_items", 2, "unit_price"),
        ("body", "cart_items", 2, "quantity"),
    ]
    assert problems["body", "cart_items", 1] == ("must be an object", "value_error")
    assert list(await checkout.problems(json=JSON_BODY | {"cart_items": "all"})) == [("body", "cart_items")]


async def test_what_also_comes_from_the_body_gives_way_to_the_shop() -> None:
    checkout = Checkout(also_from_body=["cart_items"])
    problems = await checkout.problems(json=JSON_BODY | {"cart_items": []})
    assert problems == {("body", "cart_items"): ("is set by the shop", "extra_forbidden")}


@pytest.mark.parametrize("name", ["merchant_transaction_id", "postback_url", "first_name", "amounts"])
async def test_the_id_and_the_addresses_of_the_shop_never_come_from_the_body(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="also_from_body may name amount, cart_items"):
        financing_request_from(order_of_the_shop, also_from_body=[name])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=10,
)


@given(body=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), VALUES), also=st.booleans())
def test_whatever_a_body_holds_the_shop_sets_what_is_its_own(body: dict[str, Any], also: bool) -> None:
    accepted = as_accepted(["shipping_amount", "tax_amount"] if also else [])
    request, problems = read_checkout(body, order_of_the_shop(), accepted)
    assert problems  # nothing that is made at random is a customer
    for name in ("merchant_transaction_id", "cart_items", "postback_url", "amount", "version", "success_url"):
        assert getattr(request, name) == getattr(financing_request(), name)
    if not also:
        assert (request.shipping_amount, request.tax_amount) == (None, None)


@given(pairs=st.lists(st.tuples(st.sampled_from([*NAMES, *FORM]) | st.text(), st.text() | st.binary())))
def test_whatever_a_form_holds_the_shop_sets_what_is_its_own(pairs: list[tuple[str, Any]]) -> None:
    body, _ = from_form(pairs)
    request, _ = read_checkout(body, order_of_the_shop(), as_accepted([]))
    assert request.cart_items == (cart_item(),)
    assert (request.amount, request.merchant_transaction_id) == (None, "ORDER-123")


# Around it


async def test_a_shop_may_show_the_form_again() -> None:
    checkout = Checkout()

    @checkout.app.exception_handler(RequestValidationError)
    async def show_again(request: Request, error: RequestValidationError) -> HTMLResponse:
        shown = {each["loc"][-1]: each["msg"] for each in error.errors()}
        return HTMLResponse(json.dumps(shown), 422)

    answer = await checkout.post(data=FORM | {"email": "jane"})
    assert answer.json() == {"email": "must be an e-mail address such as jane@example.com"}


async def test_the_schema_shows_what_a_customer_fills_in() -> None:
    def resolved(schema: Mapping[str, Any]) -> tuple[set[str], set[str]]:
        return set(schema["properties"]), set(schema["required"])

    operation = Checkout().app.openapi()["paths"]["/checkout"]["post"]
    content = operation["requestBody"]["content"]
    nested, form = (
        content["application/json"]["schema"],
        content["application/x-www-form-urlencoded"]["schema"],
    )
    required = {"first_name", "last_name", "email"}
    assert resolved(nested) == (
        required | {"phone", "billing_address", "shipping_address"},
        required | {"billing_address"},
    )
    inner = {"street1", "city", "state", "zipcode"}
    assert resolved(nested["properties"]["billing_address"]) == (inner | {"country"}, inner)
    named, needed = resolved(form)
    assert needed == required | {f"billing_address.{name}" for name in inner}
    assert named == needed | {"phone", "billing_address.country", "shipping_address.country"} | {
        f"shipping_address.{name}" for name in inner
    }
    assert "amount" not in json.dumps(content)
    assert "422" in operation["responses"]


async def test_many_at_once_do_not_see_each_other() -> None:
    checkout = Checkout()
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            body = JSON_BODY | {"email": f"jane{number}@example.com"}
            tasks.start_soon(functools.partial(checkout.post, json=body))
    assert {each.email for each in checkout.requests} == {f"jane{n}@example.com" for n in range(20)}
