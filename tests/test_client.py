import copy
import datetime as dt
import logging
import math
import time
import traceback
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from conftest import VECTORS
from support.transports import SilentTransport
from wegetfinancing import (
    APIError,
    AsyncClient,
    AuthenticationError,
    CallError,
    ConfigurationError,
    DeadlineExceededError,
    DecodingError,
    Environment,
    HttpxTransport,
    InvalidRequestError,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    RateLimitError,
    Retry,
    ServerError,
    TransportError,
)
from wegetfinancing._json import from_json, to_json
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.testing import (
    INV_ID,
    FakeTransport,
    address,
    cart_item,
    created_response,
    credentials,
    error_response,
    financing_request,
    shipping_event,
    shipping_response,
)

pytestmark = pytest.mark.anyio

LOST = "the connection was lost"


def make_client(*script: Any, **settings: Any) -> tuple[AsyncClient, FakeTransport]:
    transport = FakeTransport(*script)
    defaults: dict[str, Any] = {
        "middleware": [Retry(base_delay=0.0)],
        "transport": transport,
    }
    return AsyncClient(credentials(), **defaults | settings), transport


async def create(client: AsyncClient) -> Any:
    return await client.create_request(financing_request())


async def ship(client: AsyncClient) -> Any:
    return await client.update_shipping(INV_ID, shipping_event())


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


@pytest.mark.parametrize("case", VECTORS["errors"], ids=lambda case: case["id"])
async def test_the_documented_error_is_read(case: dict[str, Any]) -> None:
    body = to_json(case["body"])
    client, _ = make_client(Response(case["http_status"], body=body))
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await create(client)
    error = caught.value
    assert (error.status, error.code, error.error) == (400, 400, "missing_parameters")
    assert error.message == "MissingParameters"
    assert error.subjects == ("first_name", "email")
    assert error.reasons == case["body"]["reasons"]
    assert (error.debug, error.stamp, error.body, error.retry_after) == (None, None, body, None)
    assert str(error) == (
        "create_request: HTTP 400 missing_parameters: first_name, email. The server refused it."
    )


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "HTTP 401 http; check username and password: the sandbox and live each have their own. The"),
        (
            403,
            "HTTP 403 http; check that these credentials are of this merchant_id and environment. The",
        ),
    ],
)
async def test_refused_credentials_come_with_a_hint(status: int, hint: str) -> None:
    client, _ = make_client(error_response(status, "http"))
    async with client:
        with pytest.raises(APIError, match=hint):
            await create(client)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (405, APIError),
        (499, APIError),
        (429, RateLimitError),
        (500, ServerError),
        (599, ServerError),
        (302, APIError),
        (600, APIError),
        (700, APIError),
    ],
)
async def test_each_status_has_its_class(status: int, kind: type[APIError]) -> None:
    client, _ = make_client(error_response(status))
    async with client:
        with pytest.raises(APIError) as caught:
            await create(client)
    assert type(caught.value) is kind
    assert caught.value.status == status


NOT_JSON = [b"", b"<html>Bad gateway</html>", b"[]", b"null", b"\xff", b"[" * 50_000]


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
async def test_an_error_may_come_without_json(body: bytes) -> None:
    client, _ = make_client(Response(502, {"content-type": "text/html"}, body))
    async with client:
        with pytest.raises(ServerError, match=r"create_request: HTTP 502\. It may") as caught:
            await create(client)
    assert caught.value.body == body
    assert (caught.value.error, caught.value.reasons, caught.value.subjects) == (None, {}, ())


async def test_an_error_keeps_the_headers_that_the_vendors_support_asks_for_and_no_others() -> None:
    kept = {
        "cf-ray": "8f1-IAD",
        "date": "Thu, 15 Jan 2026 10:00:00 GMT",
        "retry-after": "5",
        "server": "cloudflare",
        "x-correlation-id": "c-1",
        "x-request-id": "r-1",
    }
    others = {"set-cookie": "session=secret", "x-api-user": "api-user", "location": "https://x.example"}
    spelt = {name.title(): value for name, value in kept.items()}
    client, _ = make_client(Response(403, spelt | others), Response(403))
    async with client:
        with pytest.raises(PermissionDeniedError) as caught:
            await create(client)
        assert caught.value.headers == kept
        assert "r-1" not in str(caught.value) + repr(caught.value)
        with pytest.raises(PermissionDeniedError) as caught:
            await create(client)
        assert caught.value.headers == {}


async def test_members_of_an_error_that_are_of_another_type_are_left_out() -> None:
    body = {
        "error": 5,
        "code": "400",
        "message": [],
        "subjects": ["email", 3],
        "reasons": {"email": "bad", "phone": 5},
        "debug": {"trace": 1},
        "stamp": "deadbeef",
    }
    client, _ = make_client(
        Response(400, body=to_json(body)), Response(400, body=b'{"reasons": [], "code": true}')
    )
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await create(client)
        error = caught.value
        assert (error.error, error.code, error.message, error.subjects) == (None, None, None, ("email",))
        assert (error.reasons, error.debug, error.stamp) == ({"email": "bad"}, {"trace": 1}, "deadbeef")
        with pytest.raises(InvalidRequestError) as caught:
            await create(client)
        assert (caught.value.reasons, caught.value.code) == ({}, None)


FIELDS = [
    "first_name",
    "phone",
    "billing_address",
    "billing_address.street1",
    "shipping_address.zipcode",
    "cart_items",
    "cart_items[0]",
    "cart_items.display_name",
    "cart_items[0].display_name",
    "cart_items[999].sku",
    "merchant_transaction_id",
    "loan_id",
    "shipping_event",
    "shipping_event.date",
    "shipping_event.items",
    "shipping_event.items[12]",
]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("error", ["generic", "http", "missing_parameters", "invalid_parameters"])
async def test_the_text_of_an_error_shows_the_fields_and_errors_that_are_known(
    field: str, error: str
) -> None:
    client, _ = make_client(Response(400, body=to_json({"error": error, "subjects": [field]})))
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await create(client)
    assert str(caught.value) == f"create_request: HTTP 400 {error}: {field}. The server refused it."


CANARY = "canaryfirst"
UNKNOWN_FIELDS = [
    CANARY,
    "6195550187",
    "4111111111111111",
    f"billing_address.{CANARY}",
    f"{CANARY}.street1",
    "billing_address[0].street1",
    "cart_items[6195550187].sku",
    "cart_items[1][2].sku",
    "email[619]",
    "cart_items[].sku",
    "EMAIL",
    "email ",
    "email\n",
    "",
    "date",
]


@pytest.mark.parametrize("value", UNKNOWN_FIELDS)
async def test_the_text_of_an_error_shows_nothing_else_that_a_server_sends(value: str) -> None:
    body = {"error": value, "subjects": [value, "email"], "reasons": {value: value}, "message": value}
    client, _ = make_client(Response(400, body=to_json({**body, "debug": value, "stamp": value})))
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await create(client)
    error = caught.value
    assert str(error) == "create_request: HTTP 400: email. The server refused it."
    assert (error.error, error.subjects, error.reasons) == (value, (value, "email"), {value: value})


async def test_the_text_of_an_error_shows_few_fields() -> None:
    subjects = [f"cart_items[{index}].sku" for index in range(12)]
    client, _ = make_client(Response(400, body=to_json({"subjects": subjects})))
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await create(client)
    shown = ", ".join(subjects[:10])
    assert str(caught.value) == f"create_request: HTTP 400: {shown}. The server refused it."
    assert caught.value.subjects == tuple(subjects)


UNREADABLE = {
    "missing": Response(200),
    "not JSON": Response(200, body=b"OK"),
    "not an object": Response(200, body=b'["inv_id"]'),
    "no id": Response(200, body=b'{"href": "https://x"}'),
    "wrong type of id": Response(200, body=b'{"inv_id": 5, "href": "https://x", "loan": 5}'),
    "blank id": Response(200, body=b'{"inv_id": " ", "href": "https://x", "loan": " "}'),
    "wrong type of href": Response(200, body=b'{"inv_id": "x", "href": null}'),
    "wrong type of amount": Response(200, body=b'{"inv_id": "x", "href": "https://x", "amount": "1,640.94"}'),
    "cut short": Response(200, body_error="was cut short"),
    "no content": Response(204),
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("call", [create, ship])
async def test_a_success_that_cannot_be_read_most_likely_happened_and_is_not_repeated(
    answer: Response, call: Callable[[AsyncClient], Any]
) -> None:
    client, transport = make_client(answer)
    async with client:
        with pytest.raises(DecodingError, match=r"HTTP 20\d, but the answer [a-z]+ ") as caught:
            await call(client)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.status == answer.status
    assert caught.value.body == answer.body
    assert len(transport.requests) == 1


@pytest.mark.parametrize("member", [b"{}", b"[]", b"999", b'""'])
async def test_an_answer_of_very_many_values_is_not_unfolded_in_memory(member: bytes) -> None:
    body = b'{"inv_id": "x", "href": "https://x", "more": [' + b",".join([member] * 30_000) + b"]}"
    client, _ = make_client(Response(200, body=body), Response(400, body=body))
    async with client:
        with pytest.raises(DecodingError, match="holds too many values") as caught:
            await create(client)
        assert caught.value.body == body
        with pytest.raises(InvalidRequestError):
            await create(client)


@pytest.mark.parametrize(("values", "is_read"), [(20_000, True), (20_001, False)])
async def test_an_answer_may_hold_twenty_thousand_values(values: int, is_read: bool) -> None:
    answer = b'{"inv_id": "x", "href": "https://x", "more": []}'
    before_more = answer.count(b",") + answer.count(b"[") + answer.count(b"{")
    more = b",".join([b"1"] * (values - before_more + 1))
    client, _ = make_client(Response(200, body=answer.replace(b"[]", b"[" + more + b"]")))
    async with client:
        if is_read:
            assert (await create(client)).inv_id == "x"
        else:
            with pytest.raises(DecodingError, match="holds too many values"):
                await create(client)


async def test_a_long_answer_of_few_values_is_read() -> None:
    long = f'{{"inv_id": "x", "href": "https://x", "debug": "{"x" * 30_000}"}}'.encode()
    client, _ = make_client(Response(200, body=long))
    async with client:
        assert (await create(client)).inv_id == "x"


# Each row of the table: what the answer is, what it means for a create, and whether an update is repeated.
ROWS: list[tuple[Any, Outcome, bool]] = [
    *[(status, Outcome.UNKNOWN, False) for status in (101, 103, 300, 301, 302, 303, 304, 305)],
    *[(status, Outcome.REFUSED, False) for status in (307, 308)],
    (408, Outcome.UNKNOWN, True),
    *[(status, Outcome.REFUSED, True) for status in (421, 425, 429)],
    *[(status, Outcome.REFUSED, False) for status in (400, 401, 403, 404, 405, 406, 409, 410, 422, 451, 499)],
    *[(status, Outcome.UNKNOWN, True) for status in (500, 502, 503, 504, 520, 523, 527, 530)],
    *[(status, Outcome.UNKNOWN, False) for status in (501, 505, 519, 528, 529, 531, 599, 600, 999)],
    (TransportError(LOST, outcome=Outcome.UNKNOWN), Outcome.UNKNOWN, True),
    (TransportError("refused", outcome=Outcome.NOT_SENT), Outcome.NOT_SENT, True),
    (TransportError("certificate", outcome=Outcome.NOT_SENT, permanent=True), Outcome.NOT_SENT, False),
    (RuntimeError("anything a transport may raise"), Outcome.UNKNOWN, True),
]


def reply(row: Any) -> Any:
    return copy.copy(row) if isinstance(row, Exception) else error_response(row)


@pytest.mark.parametrize(("row", "outcome", "_"), ROWS, ids=str)
async def test_what_each_row_of_the_table_means_for_a_create(row: Any, outcome: Outcome, _: bool) -> None:
    client, transport = make_client(reply(row), created_response())
    async with client:
        with pytest.raises(CallError) as caught:
            await create(client)
    assert caught.value.outcome is outcome
    assert caught.value.operation == "create_request"
    assert len(transport.requests) == 1


@pytest.mark.parametrize(("row", "_", "repeated"), ROWS, ids=str)
async def test_what_each_row_of_the_table_means_for_a_shipping_update(
    row: Any, _: Outcome, repeated: bool
) -> None:
    client, transport = make_client(reply(row), shipping_response())
    async with client:
        if repeated:
            assert (await ship(client)).loan == INV_ID
        else:
            with pytest.raises(CallError):
                await ship(client)
    assert len(transport.requests) == 1 + repeated
    assert len({each.body for each in transport.requests}) == 1


async def test_an_earlier_attempt_that_may_have_happened_is_not_forgotten() -> None:
    not_sent = TransportError("refused", outcome=Outcome.NOT_SENT)
    client, _ = make_client(error_response(503), error_response(404))
    async with client:
        with pytest.raises(NotFoundError) as caught:
            await ship(client)
    assert caught.value.outcome is Outcome.UNKNOWN
    client, _ = make_client(not_sent, error_response(429), copy.copy(not_sent))
    async with client:
        with pytest.raises(TransportError) as lost:
            await ship(client)
    assert lost.value.outcome is Outcome.REFUSED


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_beyond_the_deadline_is_raised_at_once(status: int) -> None:
    client, transport = make_client(error_response(status, retry_after="60"))
    async with client:
        with pytest.raises(APIError) as caught:
            await ship(client)
    assert caught.value.retry_after == 60
    assert len(transport.requests) == 1


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


@pytest.mark.parametrize("call", [create, ship])
async def test_the_deadline_ends_a_call_and_a_transport_that_cannot_tell_counts_as_sent(
    call: Callable[[AsyncClient], Any],
) -> None:
    client, _ = make_client(transport=SilentTransport(), timeout=0.02)
    async with client:
        with pytest.raises(DeadlineExceededError, match="did not end before its deadline") as caught:
            await call(client)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_deadline_before_anything_was_sent_says_so() -> None:
    async def waiting(request: Request, call_next: Handler) -> Response:
        await anyio.sleep_forever()
        raise AssertionError

    client, transport = make_client(middleware=[waiting], timeout=0.02)
    async with client:
        with pytest.raises(DeadlineExceededError) as caught:
            await create(client)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert transport.requests == []


async def never(*_: object) -> Any:
    await anyio.sleep_forever()


class NeverAnswers(HttpxTransport):
    async def send(self, request: Request) -> Response:
        await super().send(request)
        await never()
        raise AssertionError


class NeverRepeats(Retry):
    async def __call__(self, request: Request, call_next: Handler) -> Response:
        await call_next(request)
        await never()
        raise AssertionError


def busy() -> HttpxTransport:
    return HttpxTransport(httpx.MockTransport(lambda _: httpx.Response(503)))


@pytest.mark.parametrize(
    ("transport", "middleware"),
    [
        (lambda: HttpxTransport(httpx.MockTransport(never)), Retry),
        (lambda: NeverAnswers(httpx.MockTransport(lambda _: httpx.Response(200))), Retry),
        (busy, NeverRepeats),
        (busy, lambda: Retry(base_delay=0.0, sleep=never)),
        (busy, lambda: Retry(base_delay=1e6, max_delay=1e6, clock=lambda: -1e9)),
    ],
    ids=["ours", "derived transport", "derived retry", "other sleep", "other clock"],
)
async def test_the_deadline_ends_what_is_ours_and_what_is_made_of_it(
    transport: Callable[[], HttpxTransport], middleware: Callable[[], Retry]
) -> None:
    client, _ = make_client(transport=transport(), middleware=[middleware()], timeout=0.02)
    async with client:
        with anyio.fail_after(5), pytest.raises(DeadlineExceededError) as caught:
            await ship(client)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_call_may_have_a_timeout_of_its_own() -> None:
    client, transport = make_client(timeout=1000)
    async with client:
        await client.create_request(financing_request(), timeout=7)
        await create(client)
        left = [each.deadline - anyio.current_time() for each in transport.requests]
    assert left == [pytest.approx(7, abs=1), pytest.approx(1000, abs=1)]


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, True, "1"])
async def test_a_call_with_a_timeout_that_cannot_be_right_sends_nothing(timeout: Any) -> None:
    client, transport = make_client()
    async with client:
        with pytest.raises(ConfigurationError, match="timeout must be a finite number"):
            await client.create_request(financing_request(), timeout=timeout)
    assert transport.requests == []


async def test_a_shorter_cancellation_of_the_caller_stays_a_cancellation() -> None:
    client, _ = make_client(transport=SilentTransport())
    async with client:
        with anyio.move_on_after(0.02) as scope:
            await create(client)
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("wrong", "way_out"),
    [
        (httpx.AsyncClient(), r"wrap it: transport=HttpxTransport\(client\)"),
        (httpx2.AsyncClient(), r"wrap it: transport=HttpxTransport\(client\)"),
        (httpx.MockTransport(lambda _: httpx.Response(200)), "must be an instance with 'async def send"),
        (FakeTransport, "must be an instance with 'async def send"),
        ("https://x", "must be an instance with 'async def send"),
    ],
)
async def test_what_is_no_transport_is_refused_at_construction(wrong: Any, way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        AsyncClient(credentials(), transport=wrong)


async def test_a_transport_that_returns_no_response_is_named() -> None:
    client, _ = make_client(lambda _: None)
    async with client:
        with pytest.raises(TransportError, match="the transport returned NoneType") as caught:
            await create(client)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_what_a_transport_raised_does_not_stay_reachable() -> None:
    client, _ = make_client(RuntimeError("secret"))
    async with client:
        with pytest.raises(TransportError, match=r"raised RuntimeError at fakes\.py:\d+\.") as caught:
            await create(client)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_what_a_transport_raised_is_named_by_its_innermost_line() -> None:
    def outer(request: Request) -> Response:
        return inner(request)

    def inner(request: Request) -> Response:
        raise RuntimeError

    client, _ = make_client(outer)
    async with client:
        with pytest.raises(TransportError) as caught:
            await create(client)
    line = inner.__code__.co_firstlineno + 1
    assert f"raised RuntimeError at test_client.py:{line}." in str(caught.value)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
async def test_the_log_has_the_allowed_fields_and_no_others(
    caplog: pytest.LogCaptureFixture, level: int
) -> None:
    caplog.set_level(level)
    client, _ = make_client(
        error_response(503, reasons={"email": "jane@example.com"}),
        TransportError(LOST, outcome=Outcome.UNKNOWN),
        shipping_response(),
    )
    async with client:
        await ship(client)
    records = [each for each in caplog.records if each.name == "wegetfinancing"]
    assert {each.levelno for each in records} == {logging.INFO}
    plain = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    assert {name for each in records for name in vars(each)} - plain == {
        "operation",
        "attempt",
        "status",
        "outcome",
        "duration",
    }
    assert [(each.attempt, each.status, each.outcome) for each in records] == [  # type: ignore[attr-defined] # extra
        (1, 503, "unknown"),
        (2, None, "unknown"),
        (3, 200, "done"),
    ]
    texts = [each.getMessage() for each in records]
    assert texts[0].startswith("update_shipping attempt 1: HTTP 503 in 0.0")
    assert texts[1].startswith("update_shipping attempt 2: TransportError in 0.0")
    assert "jane@example.com" not in caplog.text


async def test_a_log_filter_that_raises_does_not_lose_the_answer() -> None:
    def broken(record: logging.LogRecord) -> bool:
        raise KeyError

    logger = logging.getLogger("wegetfinancing")
    logger.addFilter(broken)
    logger.setLevel(logging.INFO)
    try:
        client, _ = make_client()
        async with client:
            assert (await create(client)).inv_id == INV_ID
    finally:
        logger.removeFilter(broken)
        logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("script", [error_response(500), Response(200), TransportError(LOST)], ids=str)
async def test_a_traceback_with_locals_shows_nothing_of_the_customer(script: Any) -> None:
    client, _ = make_client(script)
    async with client:
        with pytest.raises(CallError) as caught:
            await create(client)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    locals_of_ours = str([each.locals for each in shown.stack if "test_client" not in each.filename])
    assert "AsyncClient" in locals_of_ours
    for secret in ("jane@example.com", "Doe", "2125551234", "123 Main St", "api-password", "YXBp"):
        assert secret not in locals_of_ours


async def test_nothing_is_logged_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "wegetfinancing")
    client, _ = make_client()
    async with client:
        await create(client)
    assert caplog.records == []


async def test_a_transport_that_was_given_is_not_closed() -> None:
    client, transport = make_client()
    async with client:
        await create(client)
    assert not transport.closed


async def test_a_client_shows_no_secret() -> None:
    client = AsyncClient(credentials(username="user-secret", password="password-secret"))
    assert "secret" not in repr(client)
    with pytest.raises(TypeError):
        vars(client)
    await client.aclose()


async def test_the_retry_after_of_an_error_that_is_a_date_counts_from_now() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    client, _ = make_client(error_response(429, retry_after=date))
    async with client:
        with pytest.raises(RateLimitError) as caught:
            await create(client)
    assert caught.value.retry_after == pytest.approx(100, abs=5)


@pytest.mark.parametrize(
    ("is_sent", "outcome"), [(False, "Nothing was sent."), (True, "It may have been carried out.")]
)
async def test_a_cancelled_call_says_whether_it_may_have_been_carried_out(
    is_sent: bool, outcome: str
) -> None:
    class SilentTransport(FakeTransport):
        async def send(self, request: Request) -> Response:
            await anyio.sleep_forever()
            return await super().send(request)

    async def wait(request: Request, call_next: Handler) -> Response:
        scope.cancel()
        if not is_sent:
            await anyio.sleep_forever()
        return await call_next(request)

    notes: list[str] = []
    async with AsyncClient(credentials(), transport=SilentTransport(), middleware=[wait]) as client:
        with anyio.CancelScope() as scope:
            try:
                await client.create_request(financing_request())
            except BaseException as cancelled:
                notes += cancelled.__notes__
                raise
    assert notes == [f"create_request was interrupted. {outcome}"]
