"""Each operation: what goes out, what is refused before, and how a good answer is read."""

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from conftest import VECTORS
from support.calls import create, make_client, ship
from wegetfinancing import (
    AsyncClient,
    ConfigurationError,
    Environment,
    InvalidRequestError,
    Outcome,
    ServerError,
)
from wegetfinancing._json import from_json, to_json
from wegetfinancing.http import Response
from wegetfinancing.testing import (
    INV_ID,
    address,
    cart_item,
    error_response,
    financing_request,
    shipping_event,
)

pytestmark = pytest.mark.anyio


async def ask_for_test_postback(client: AsyncClient) -> Any:
    return await client.create_test_postback({"inv_id": INV_ID})


CALLS: list[tuple[str, str, Callable[[AsyncClient], Any]]] = [
    ("create_request", "requests", create),
    ("update_shipping", "shipping", ship),
    ("create_test_postback", "postbacks", ask_for_test_postback),
]


@pytest.mark.parametrize(("operation", "path", "call"), CALLS)
async def test_what_goes_out(operation: str, path: str, call: Callable[[AsyncClient], Any]) -> None:
    client, transport = make_client()
    async with client:
        await call(client)
    (request,) = transport.requests
    assert request.operation == operation
    assert request.method == "POST"
    assert request.url == f"https://api.sandbox.wegetfinancing.com/merchant/1234/{path}"
    assert request.repeatable == (operation == "update_shipping")
    assert request.body.isascii()
    assert dict(request.headers) == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": "Basic YXBpLXVzZXI6YXBpLXBhc3N3b3Jk",
        "content-type": "application/json",
        "user-agent": request.headers["user-agent"],
    }
    assert request.headers["user-agent"].startswith("wegetfinancing-python/")


@pytest.mark.parametrize("case", VECTORS["create_request_answer"])
async def test_the_documented_answers_to_a_create_are_read(case: dict[str, Any]) -> None:
    body = case["body"]
    client, _ = make_client(Response(200, body=to_json(body)))
    async with client:
        created = await create(client)
    assert created.inv_id == body.get("inv_id", body.get("request_token"))
    assert created.href == body["href"]
    assert created.amount == (Decimal(body["amount"]) if "amount" in body else None)
    assert created.raw == body


@pytest.mark.parametrize("case", VECTORS["shipping"])
async def test_the_documented_shipping_update_is_sent_and_read(case: dict[str, Any]) -> None:
    wire, expect = case["wire"], case["expect"]
    client, transport = make_client(Response(expect["http_status"], body=to_json(expect["body"])))
    event = shipping_event(date=dt.date(2024, 1, 15), expected_delivery_date=dt.date(2024, 1, 18))
    async with client:
        receipt = await client.update_shipping(wire["loan_id"], event)
    assert from_json(transport.requests[0].body) == wire
    assert receipt.loan == expect["body"]["loan"]
    assert receipt.raw == expect["body"]


async def test_a_request_with_problems_is_refused_before_anything_is_sent() -> None:
    client, transport = make_client()
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.create_request(financing_request(email="jane", billing_address=address(zipcode="1")))
    error = caught.value
    assert (error.status, error.outcome, error.operation) == (None, Outcome.NOT_SENT, "create_request")
    assert list(error.reasons) == ["email", "billing_address.zipcode"]
    assert error.subjects == ("email", "billing_address.zipcode")
    assert str(error) == (
        "create_request: email must be an e-mail address such as jane@example.com; billing_address.zipcode"
        " must be a ZIP code such as 12345 or 12345-6789. Nothing was sent."
    )
    assert transport.requests == []


MISSING: dict[str, Any] = {"email": "", "cart_items": [cart_item(display_name="")]}
INVALID: dict[str, Any] = {"phone": "1"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"first_name": None}, "missing_parameters"),
        ({"cart_items": []}, "missing_parameters"),
        ({"billing_address": None}, "missing_parameters"),
        (MISSING, "missing_parameters"),
        (INVALID, "invalid_parameters"),
        ({"first_name": " "}, "invalid_parameters"),
        ({"merchant_transaction_id": ""}, "invalid_parameters"),
        (INVALID | MISSING, "missing_parameters"),
    ],
)
async def test_a_field_that_is_missing_is_named_as_the_vendor_names_it(
    changes: dict[str, Any], error: str
) -> None:
    request = financing_request(**changes)
    client, _ = make_client()
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.create_request(request)
    assert caught.value.error == error
    assert caught.value.reasons == request.problems()
    assert caught.value.subjects == tuple(request.problems())


@pytest.mark.parametrize(
    ("inv_id", "changes", "error"),
    [
        ("", {}, "missing_parameters"),
        (None, {"state": "lost"}, "missing_parameters"),
        (INV_ID, {"date": None, "state": "lost"}, "missing_parameters"),
        (INV_ID, {"items": [""]}, "missing_parameters"),
        (INV_ID, {"state": "lost"}, "invalid_parameters"),
        ("a b", {}, "invalid_parameters"),
    ],
)
async def test_what_is_missing_in_a_shipping_update_is_named_as_the_vendor_names_it(
    inv_id: Any, changes: dict[str, Any], error: str
) -> None:
    client, _ = make_client()
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.update_shipping(inv_id, shipping_event(**changes))
    assert caught.value.error == error


@pytest.mark.parametrize("inv_id", ["", " ", "a b", "a\n", "é", "x" * 257, None, 5])
async def test_a_shipping_update_with_problems_is_refused_before_anything_is_sent(inv_id: Any) -> None:
    client, transport = make_client()
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.update_shipping(inv_id, shipping_event(state="lost"))
    assert list(caught.value.reasons) == ["loan_id", "shipping_event.state"]
    assert caught.value.outcome is Outcome.NOT_SENT
    assert transport.requests == []


@pytest.mark.parametrize("inv_id", ["!", "~", "x" * 256])
async def test_an_inv_id_is_any_printable_text_of_ascii(inv_id: str) -> None:
    client, transport = make_client()
    async with client:
        await client.update_shipping(inv_id, shipping_event())
    assert [loan_id for loan_id, _ in transport.shipping_updates] == [inv_id]


async def test_values_of_the_wrong_type_are_type_errors() -> None:
    client, transport = make_client()
    wrong: Any = {"first_name": "Jane"}
    async with client:
        with pytest.raises(TypeError, match="requires a FinancingRequest, not dict"):
            await client.create_request(wrong)
        with pytest.raises(TypeError, match="requires a ShippingEvent, not dict"):
            await client.update_shipping(INV_ID, wrong)
        with pytest.raises(TypeError, match="requires a mapping, not list"):
            await client.create_test_postback([wrong])  # type: ignore[arg-type] # what is tested
    assert transport.requests == []


@pytest.mark.parametrize("answer", [b'{"any": ["thing"]}', b"[1]", b'"OK"', b"null"])
async def test_a_test_postback_passes_through_as_it_is(answer: bytes) -> None:
    client, transport = make_client(Response(200, body=answer))
    payload = {"whatever": [1, None, {"é": 2.5}]}
    async with client:
        assert to_json(await client.create_test_postback(payload)) == answer.replace(b": ", b":")
    assert transport.test_postbacks == [payload]


@pytest.mark.parametrize("payload", [{"x": math.nan}, {"x": Decimal(1)}, {"x": b""}, {(1, 2): 3}])
async def test_a_test_postback_without_json_form_is_refused_before_it_is_sent(payload: Any) -> None:
    client, transport = make_client()
    async with client:
        with pytest.raises(
            InvalidRequestError, match="payload holds values that JSON cannot express"
        ) as caught:
            await client.create_test_postback(payload)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert transport.requests == []


async def test_a_test_postback_is_refused_on_live_before_anything_is_sent() -> None:
    client, transport = make_client(environment=Environment.LIVE)
    async with client:
        with pytest.raises(ConfigurationError, match="exists in the sandbox only"):
            await ask_for_test_postback(client)
        await create(client)
        await ship(client)
    assert [each.url for each in transport.requests] == [
        "https://api.wegetfinancing.com/merchant/1234/requests",
        "https://api.wegetfinancing.com/merchant/1234/shipping",
    ]


async def test_a_test_postback_is_not_repeated() -> None:
    client, transport = make_client(error_response(503))
    async with client:
        with pytest.raises(ServerError):
            await ask_for_test_postback(client)
    assert len(transport.requests) == 1
