"""How an answer is read: an error with what the vendor says of it, and a success that cannot be read."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import VECTORS
from support.calls import create, make_client, ship, throttled
from wegetfinancing import (
    APIError,
    AsyncClient,
    AuthenticationError,
    DecodingError,
    InvalidRequestError,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from wegetfinancing._json import to_json
from wegetfinancing.client.answers import retry_after
from wegetfinancing.http import Response
from wegetfinancing.testing import (
    error_response,
)

pytestmark = pytest.mark.anyio


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
        (
            404,
            "HTTP 404 http; check base_url and, in an update, that the inv_id is of this merchant_id and",
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
    "cart_items[1000].sku",
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
    "an id that no database can store": Response(
        200, body=rb'{"inv_id": "x\ud800", "href": "https://x", "loan": "\u0000x"}'
    ),
    "an href that no header can carry": Response(
        200, body=rb'{"inv_id": "x", "href": "https://x\r\nSet-Cookie: a", "loan": "x\n"}'
    ),
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


async def test_the_retry_after_of_an_error_that_is_a_date_counts_from_now() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    client, _ = make_client(error_response(429, retry_after=date))
    async with client:
        with pytest.raises(RateLimitError) as caught:
            await create(client)
    assert caught.value.retry_after == pytest.approx(100, abs=5)


NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("999999999", 999999999),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30),
        ("Tue Nov 14 22:13:50 2023", 30),
        ("Tue, 14 Nov 2023 22:13:50 -0000", 30),
        ("Tue, 14 Nov 2023 23:13:50 +0100", 30),
        ("Tue, 14 Nov 2023 22:12:00 GMT", 0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("1_0", None),
        ("9999999999", None),
        ("Tue, 99 Nov 2023 22:13:50 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_garbage_is_ignored(value: str, seconds: float | None) -> None:
    assert retry_after(throttled(value), NOW) == seconds


def test_a_date_is_counted_from_the_servers_own_clock() -> None:
    answer = throttled("Tue, 14 Nov 2023 22:13:50 GMT", Date="Tue, 14 Nov 2023 22:13:45 GMT")
    assert retry_after(answer, NOW + 10**6) == 5


@given(st.text(), st.text())
def test_retry_after_never_raises(value: str, date: str) -> None:
    seconds = retry_after(throttled(value, Date=date), NOW)
    assert seconds is None or seconds >= 0
