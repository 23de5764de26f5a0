import json
import re
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import VECTORS
from wegetfinancing import (
    Approved,
    AsyncClient,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PostbackVersion,
    Refunded,
    ShippingState,
    parse_postback,
    parse_unverified_postback,
)
from wegetfinancing._converter import to_wire
from wegetfinancing._json import to_json
from wegetfinancing.client.authentication import basic_authorization
from wegetfinancing.emulator import Emulator
from wegetfinancing.http import Headers, Request, Response
from wegetfinancing.testing import (
    address,
    cart_item,
    credentials,
    financing_request,
    shipping_event,
)

pytestmark = pytest.mark.anyio

SANDBOX = "https://api.sandbox.wegetfinancing.com"
GOOD = to_wire(financing_request())


def post(emulator: Emulator, path: str, wire: Any, **changes: Any) -> Response:
    """Send what no client of ours would send."""
    request = Request(
        operation="",
        method="POST",
        url=f"{SANDBOX}/{path}",
        headers={"Authorization": basic_authorization(credentials())},
        body=wire if isinstance(wire, bytes) else to_json(wire),
    )
    return emulator.answer(attrs.evolve(request, **changes))


def error_of(response: Response) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(response.body)
    assert body["type"] == "error"
    assert body["code"] == response.status
    assert re.fullmatch(r"[0-9a-f]{16}", body["stamp"])
    return body


async def test_a_whole_order_from_request_to_refund() -> None:
    emulator = Emulator(credentials())
    async with AsyncClient(credentials(), transport=emulator) as client:
        created = await client.create_request(financing_request(shipping_amount="1.50"))
        assert re.fullmatch(r"[0-9a-f]{32}", created.inv_id)
        assert created.href == f"https://emulator.invalid/lc/{created.inv_id}"
        assert created.amount == Decimal("500.50")

        approval = emulator.decide(created.inv_id, "approved")
        postback = parse_postback(approval.body, approval.headers, credentials(), max_age=60)
        assert isinstance(postback, Approved)
        assert (postback.inv_id, postback.merchant_transaction_id) == (created.inv_id, "ORDER-123")

        for state in (ShippingState.ACCEPTED, ShippingState.DISPATCHED, ShippingState.DISPATCHED):
            receipt = await client.update_shipping(created.inv_id, shipping_event(state=state))
            assert receipt.loan == created.inv_id

        refund = emulator.decide(created.inv_id, "refund")
        again = parse_postback(refund.body, refund.headers, credentials())
        assert isinstance(again, Refunded)
        assert again.amount == Decimal("500.50")
    await emulator.aclose()

    application = emulator.applications[created.inv_id]
    assert application.status == "refund"
    assert [each.state.value for each in application.shipping_events] == [
        "accepted",
        "dispatched",
        "dispatched",
    ]
    assert application.request == financing_request(shipping_amount="1.50")


async def test_ids_page_and_clock_can_be_chosen() -> None:
    emulator = Emulator(
        credentials(), page="http://127.0.0.1:8200/lc/", new_inv_id=lambda: "a1", clock=lambda: 17.9
    )
    async with AsyncClient(credentials(), transport=emulator) as client:
        created = await client.create_request(financing_request(version="0.2"))
    assert created.href == "http://127.0.0.1:8200/lc/a1"
    postback = emulator.decide("a1", "rejected")
    assert postback.headers["x-timestamp"].startswith("17.")
    assert postback.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_a_decision_has_to_be_possible() -> None:
    emulator = Emulator(credentials(), new_inv_id=lambda: "a1")
    with pytest.raises(KeyError):
        emulator.decide("a1", "approved")
    async with AsyncClient(credentials(), transport=emulator) as client:
        await client.create_request(financing_request(version=PostbackVersion.V1_0))
    for status, told in [("paused", "must be one of"), ("refund", "only a request that was approved")]:
        with pytest.raises(ValueError, match=told):
            emulator.decide("a1", status)
    assert emulator.applications["a1"].status is None
    emulator.decide("a1", "approved")
    with pytest.raises(ValueError, match=r"a refund has never been seen in the dialect 1\.0"):
        emulator.decide("a1", "refund")


async def test_what_was_approved_can_be_refunded_whatever_followed() -> None:
    emulator = Emulator(credentials(), new_inv_id=lambda: "a1")
    async with AsyncClient(credentials(), transport=emulator) as client:
        await client.create_request(financing_request())
    for status in ("preapproved", "rejected"):
        emulator.decide("a1", status)
        with pytest.raises(ValueError, match="only a request that was approved can be refunded"):
            emulator.decide("a1", "refund")
    assert emulator.applications["a1"].refunded == 0
    emulator.decide("a1", "approved")
    emulator.decide("a1", "rejected")
    assert json.loads(emulator.decide("a1", "refund").body)["updates"]["amount"] == "499.00"


async def test_a_part_can_be_refunded() -> None:
    emulator = Emulator(credentials(), new_inv_id=lambda: "a1")
    async with AsyncClient(credentials(), transport=emulator) as client:
        await client.create_request(financing_request())
    emulator.decide("a1", "approved")
    refund = emulator.decide("a1", "refund", amount="10.5")
    assert json.loads(refund.body)["updates"] == {"status": "refund", "amount": "10.50"}


@pytest.mark.parametrize(
    ("version", "left_out"),
    [("1.9", ["rejected", "refund"]), ("1.0", []), ("0.2", [])],
)
async def test_the_order_is_left_out_where_the_documented_postbacks_leave_it_out(
    version: str, left_out: list[str]
) -> None:
    emulator = Emulator(credentials(), new_inv_id=lambda: "a1")
    async with AsyncClient(credentials(), transport=emulator) as client:
        await client.create_request(financing_request(version=version))
    for status in ("preapproved", "rejected", "approved", *["refund"] * (version == "1.9")):
        postback = parse_unverified_postback(emulator.decide("a1", status).body)
        assert postback.inv_id == "a1"
        assert postback.merchant_transaction_id == (None if status in left_out else "ORDER-123")


async def test_a_request_that_names_no_version_has_the_vendors_default() -> None:
    emulator = Emulator(credentials(), new_inv_id=lambda: "a1")
    unversioned = {name: value for name, value in GOOD.items() if name != "version"}
    assert post(emulator, "merchant/1234/requests", unversioned).status == 200
    assert emulator.decide("a1", "approved").headers["content-type"] == "application/x-www-form-urlencoded"


async def test_it_refuses_what_the_vendor_refuses() -> None:
    emulator = Emulator(credentials())
    for changes, error in (
        ({"password": "wrong"}, AuthenticationError),
        ({"username": "wrong"}, AuthenticationError),
        ({"merchant_id": "9999"}, PermissionDeniedError),
    ):
        async with AsyncClient(credentials(**changes), transport=emulator) as client:
            with pytest.raises(error):
                await client.create_request(financing_request())
    async with AsyncClient(credentials(), transport=emulator) as client:
        with pytest.raises(NotFoundError):
            await client.update_shipping("unknown", shipping_event())
        assert await client.create_test_postback({"any": "thing"}) == {"type": "done", "http_code": 200}
    assert emulator.test_postbacks == [{"any": "thing"}]
    assert emulator.applications == {}


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        ("merchant/1234/requests", {"headers": Headers()}, 401),
        ("merchant/1234/requests", {"headers": Headers({"authorization": "Basic é"})}, 401),
        ("merchant/1234/requests", {"method": "GET"}, 405),
        ("merchant/1234/other", {}, 404),
        ("merchant/1234", {}, 404),
        ("", {}, 404),
        ("merchant/9999/requests", {}, 403),
        ("merchant/1234/requests", {"body": b"{"}, 400),
        ("merchant/1234/requests", {"body": b"[]"}, 400),
    ],
)
async def test_errors_of_http(path: str, changes: dict[str, Any], status: int) -> None:
    response = post(Emulator(credentials()), path, GOOD, **changes)
    assert response.status == status
    error_of(response)


@pytest.mark.parametrize(
    ("wire", "subjects"),
    [
        ({}, ["first_name", "last_name", "email", "billing_address", "cart_items"]),
        (GOOD | {"first_name": "", "email": None}, ["first_name", "email"]),
        (GOOD | {"billing_address": {"city": "New York"}}, [
            "billing_address.street1", "billing_address.state", "billing_address.zipcode"
        ]),
        (GOOD | {"cart_items": [{"quantity": 1}]}, ["cart_items.display_name", "cart_items.unit_price"]),
        (GOOD | {"first_name": "", "email": "not an address"}, ["first_name"]),
    ],
    ids=str,
)  # fmt: skip
async def test_missing_parameters_come_first(wire: dict[str, Any], subjects: list[str]) -> None:
    error = error_of(post(Emulator(credentials()), "merchant/1234/requests", wire))
    assert (error["error"], error["message"]) == ("missing_parameters", "MissingParameters")
    assert error["subjects"] == subjects
    assert error["reasons"] == dict.fromkeys(subjects, "Missing required parameter")


async def test_its_error_has_the_form_of_the_documented_one() -> None:
    (case,) = VECTORS["errors"]
    wire = {name: value for name, value in GOOD.items() if name not in case["body"]["subjects"]}
    response = post(Emulator(credentials()), "merchant/1234/requests", wire)
    error = error_of(response)
    del error["stamp"]
    assert (response.status, error) == (case["http_status"], case["body"])


@pytest.mark.parametrize(
    ("wire", "subjects"),
    [
        (GOOD | {"email": "jane", "phone": "1"}, ["email", "phone"]),
        (GOOD | {"billing_address": GOOD["billing_address"] | {"zipcode": "1"}}, ["billing_address.zipcode"]),
        (GOOD | {"billing_address": "Main St"}, ["billing_address"]),
        (GOOD | {"cart_items": [GOOD["cart_items"][0] | {"quantity": "1"}]}, ["cart_items.quantity"]),
        (GOOD | {"cart_items": [GOOD["cart_items"][0] | {"unit_price": 4.99}]}, ["cart_items.unit_price"]),
        (GOOD | {"cart_items": "widget"}, ["cart_items"]),
        (GOOD | {"currency": "CAD"}, ["currency"]),
        (GOOD | {"billing_address1": "x", "cart_items": [GOOD["cart_items"][0] | {"colour": 1}]}, [
            "cart_items.colour", "billing_address1"
        ]),
    ],
    ids=str,
)  # fmt: skip
async def test_invalid_parameters_are_named_without_an_index(
    wire: dict[str, Any], subjects: list[str]
) -> None:
    error = error_of(post(Emulator(credentials()), "merchant/1234/requests", wire))
    assert (error["error"], error["message"]) == ("invalid_parameters", "InvalidParameters")
    assert error["subjects"] == subjects
    assert set(error["reasons"]) == set(subjects)


@pytest.mark.parametrize(
    ("wire", "error", "subjects"),
    [
        ({}, "missing_parameters", ["loan_id", "shipping_event"]),
        ({"loan_id": "a1", "shipping_event": {"message": "x"}}, "missing_parameters", [
            "shipping_event.date", "shipping_event.state"
        ]),
        ({"loan_id": "a1", "shipping_event": "shipped"}, "invalid_parameters", ["shipping_event"]),
        ({"loan_id": "a1", "shipping_event": {"date": "soon", "state": "lost"}}, "invalid_parameters", [
            "shipping_event.date", "shipping_event.state"
        ]),
        ({"loan_id": "a1", "shipping_event": {"date": "2026-01-15", "state": "other", "by": "UPS"}},
            "invalid_parameters", ["shipping_event.by"]),
    ],
    ids=str,
)  # fmt: skip
async def test_a_shipping_update_is_checked_too(
    wire: dict[str, Any], error: str, subjects: list[str]
) -> None:
    body = error_of(post(Emulator(credentials()), "merchant/1234/shipping", wire))
    assert (body["error"], body["subjects"]) == (error, subjects)


async def test_a_loan_id_that_is_no_text_is_unknown() -> None:
    wire = {"loan_id": ["a1"], "shipping_event": {"date": "2026-01-15", "state": "other"}}
    assert post(Emulator(credentials()), "merchant/1234/shipping", wire).status == 404


async def test_what_the_client_lets_through_the_emulator_accepts_and_the_other_way_round() -> None:
    emulator = Emulator(credentials())
    bad = financing_request(billing_address=address(zipcode="1"), cart_items=[cart_item(quantity=0)])
    async with AsyncClient(credentials(), transport=emulator) as client:
        with pytest.raises(InvalidRequestError) as before:
            await client.create_request(bad)
    after = error_of(post(emulator, "merchant/1234/requests", to_wire(bad)))
    assert [re.sub(r"\[\d+\]", "", each) for each in before.value.subjects] == after["subjects"]


async def test_the_emulator_shows_no_secret() -> None:
    emulator = Emulator(credentials(password="password-secret"), new_inv_id=lambda: "a1")
    async with AsyncClient(credentials(password="password-secret"), transport=emulator) as client:
        await client.create_request(financing_request(last_name="Secretname"))
    assert "ecret" not in repr(emulator) + repr(emulator.applications["a1"])
    with pytest.raises(TypeError):
        vars(emulator)


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(list(GOOD)), inner),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(
    st.dictionaries(st.sampled_from([*GOOD, "loan_id", "shipping_event", "shipping_address"]), json_values),
    st.booleans(),
    st.sampled_from(["requests", "shipping", "postbacks"]),
)
def test_whatever_json_comes_is_answered(wire: dict[str, Any], complete: bool, path: str) -> None:
    shipping = {"loan_id": "a", "shipping_event": {"date": "2026-01-15", "state": "other"}}
    base = {"requests": GOOD, "shipping": shipping, "postbacks": {}}[path] if complete else {}
    response = post(Emulator(credentials()), f"merchant/1234/{path}", base | wire)
    assert response.status in {200, 400, 404}


async def test_refunds_cannot_exceed_the_loan() -> None:
    emulator = Emulator(credentials(), new_inv_id=lambda: "a1")
    async with AsyncClient(credentials(), transport=emulator) as client:
        await client.create_request(financing_request())
    emulator.decide("a1", "approved")
    emulator.decide("a1", "refund", amount="99.00")
    for amount in ("400.01", "0"):
        with pytest.raises(ValueError, match=r"at most the remaining 400\.00"):
            emulator.decide("a1", "refund", amount=amount)
    rest = emulator.decide("a1", "refund")
    postback = parse_postback(rest.body, rest.headers, credentials())
    assert isinstance(postback, Refunded)
    assert postback.amount == Decimal(400)
    assert emulator.applications["a1"].refunded == Decimal(499)
    with pytest.raises(ValueError, match="at most the remaining"):
        emulator.decide("a1", "refund")
