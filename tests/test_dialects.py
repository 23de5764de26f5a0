import json
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import VECTORS
from wegetfinancing import (
    Approved,
    MalformedPostbackError,
    Postback,
    PostbackVersion,
    Preapproved,
    Refunded,
    Rejected,
    SignatureError,
    UnknownPostback,
    parse_postback,
    parse_unverified_postback,
    sign_postback,
)
from wegetfinancing.testing import INV_ID, credentials, signed_postback

KINDS: dict[str, type] = {
    "approved": Approved,
    "preapproved": Preapproved,
    "rejected": Rejected,
    "refund": Refunded,
}


def body_of(case: dict[str, Any]) -> bytes:
    text = case.get("body_text")
    return (text if text is not None else json.dumps(case["body"])).encode()


def deliver(body: bytes, **unsigned: str) -> Postback:
    headers = unsigned | {
        "X-Signature": sign_postback(body, "1700000000", credentials()),
        "X-Timestamp": "1700000000",
    }
    return parse_postback(body, headers, credentials())


def updates(updates: Any, **others: Any) -> bytes:
    return json.dumps({"version": "1.9", "request_token": INV_ID, "updates": updates} | others).encode()


@pytest.mark.parametrize("case", VECTORS["postbacks"], ids=lambda case: case["id"])
def test_every_documented_postback_means_what_the_vendor_says(case: dict[str, Any]) -> None:
    postback = deliver(body_of(case))
    meaning = case["meaning"]
    assert type(postback) is KINDS[meaning["status"]]
    assert postback.status == meaning["status"]
    assert postback.inv_id == meaning["inv_id"]
    assert postback.merchant_transaction_id == meaning["merchant_transaction_id"]
    amount = postback.amount if isinstance(postback, Refunded) else None
    assert amount == (None if meaning["amount"] is None else Decimal(meaning["amount"]))


def test_a_replayed_rejection_cannot_be_read_as_an_approval_of_another_request() -> None:
    """The order id was chosen by the attacker; the body and its signature are the vendor's own."""
    order = "PO=7&function=transact&method=purchase&inv_status=Auth&inv_id=of-the-attacker&note="
    body = updates({"status": "rejected"}, merchant_transaction_id=order)
    for content_type in ("application/x-www-form-urlencoded", "text/plain", ""):
        postback = deliver(body, **{"Content-Type": content_type})
        assert isinstance(postback, Rejected)
        assert (postback.inv_id, postback.merchant_transaction_id) == (INV_ID, order)


@pytest.mark.parametrize("blank", [b"", b" \t\r\n"])
def test_a_brace_or_a_bracket_begins_json_and_anything_else_a_form(blank: bytes) -> None:
    approval = b"&function=transact&method=purchase&inv_status=Auth&inv_id=a"
    for start in (b"{", b"["):
        with pytest.raises(MalformedPostbackError, match="is not JSON"):
            parse_unverified_postback(blank + start + b"=1" + approval)
    for body in (b'"inv_id"', b"5", b"null", b'x{"inv_id": "a"}', b'\xef\xbb\xbf{"inv_id": "a"}'):
        with pytest.raises(MalformedPostbackError, match="is neither JSON nor a form"):
            parse_unverified_postback(blank + body)
    assert isinstance(parse_unverified_postback(b"x=1" + approval), Approved)


def test_an_order_id_may_be_base64_with_its_padding() -> None:
    for order in ("T1JERVI=", "T1JERVIxMg=="):
        made = deliver(updates({"status": "approved"}, merchant_transaction_id=order))
        assert made.merchant_transaction_id == order
        form = {"inv_id": INV_ID, "function": "transact", "method": "void", "cust_id_ext": order}
        assert deliver(urlencode(form).encode()).merchant_transaction_id == order


def test_a_forged_postback_is_refused_before_it_is_read() -> None:
    with pytest.raises(SignatureError):
        parse_postback(b"not even JSON", {"x-signature": "0" * 64, "x-timestamp": "1"}, credentials())


def test_a_match_statement_reads_as_a_shop_would_write_it() -> None:
    def act(postback: Postback) -> str:
        match postback:
            case Approved(merchant_transaction_id=order):
                return f"create {order}"
            case Preapproved():
                return "hold"
            case Rejected():
                return "another way to pay"
            case Refunded(amount=amount):
                return f"record the refund of {amount}"
            case UnknownPostback():
                return "look"

    statuses = ["approved", "preapproved", "rejected", "refund"]
    made = [signed_postback(each, amount="12.5" if each == "refund" else None) for each in statuses]
    read = [parse_postback(each.body, each.headers, credentials()) for each in made]
    assert [act(each) for each in [*read, deliver(updates({"status": "paused"}))]] == [
        "create ORDER-123",
        "hold",
        "another way to pay",
        "record the refund of 12.50",
        "look",
    ]


@pytest.mark.parametrize("version", PostbackVersion)
@pytest.mark.parametrize("status", ["approved", "preapproved", "rejected"])
@pytest.mark.parametrize("order", ["ORDER-123", None])
def test_every_dialect_is_read_as_it_is_written(
    version: PostbackVersion, status: str, order: str | None
) -> None:
    made = signed_postback(status, version=version, merchant_transaction_id=order)
    postback = parse_postback(made.body, made.headers, credentials())
    assert type(postback) is KINDS[status]
    assert (postback.inv_id, postback.merchant_transaction_id) == (INV_ID, order)
    assert postback.version == version.value


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ({"status": "APPROVED"}, "APPROVED"),
        ({"status": "paused"}, "paused"),
        ({"status": ""}, None),
        ({}, None),
    ],
)
def test_any_other_word_is_unknown_and_never_approved(word: dict[str, str], status: str | None) -> None:
    postback = deliver(updates(word))
    assert isinstance(postback, UnknownPostback)
    assert postback.reported_status == status


@pytest.mark.parametrize("status", [None, True, 5, [], {}, ["approved"]])
def test_a_status_that_is_no_text_is_unknown(status: Any) -> None:
    assert isinstance(deliver(updates({"status": status})), UnknownPostback)


@pytest.mark.parametrize(
    ("said", "amount"),
    [
        ({"action": "refund", "amount": "10.00"}, Decimal(10)),
        ({"action": "refund"}, None),
        ({"status": "refund"}, None),
        ({"status": "refund", "action": "refund", "amount": 12.5}, Decimal("12.5")),
    ],
)
def test_both_forms_of_a_refund_are_read(said: dict[str, Any], amount: Decimal | None) -> None:
    postback = deliver(updates(said))
    assert isinstance(postback, Refunded)
    assert postback.amount == amount


def test_two_words_that_contradict_each_other_are_unknown() -> None:
    for said in ({"status": "approved", "action": "refund"}, {"status": "refund", "action": "approved"}):
        assert isinstance(deliver(updates(said)), UnknownPostback)


@pytest.mark.parametrize("amount", ["ten", "", "-1.00", "1,200.00", "$5.00", "NaN", True, [], {}])
def test_a_refund_whose_amount_cannot_be_read_is_a_refund_all_the_same(amount: Any) -> None:
    postback = deliver(updates({"status": "refund", "amount": amount}))
    assert isinstance(postback, Refunded)
    assert postback.amount is None
    assert postback.raw["updates"]["amount"] == amount


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"function": "transact", "method": "purchase", "inv_status": "Auth"}, Approved),
        ({"function": "transact", "method": "purchase", "inv_status": "AuthOnly"}, Preapproved),
        ({"function": "transact", "method": "void", "inv_status": "Auth"}, Rejected),
        ({"function": "transact", "method": "void"}, Rejected),
        ({"function": "transact", "method": "purchase", "inv_status": "auth"}, UnknownPostback),
        ({"function": "transact", "method": "purchase", "inv_status": "Denied"}, UnknownPostback),
        ({"function": "transact", "method": "refund", "inv_status": "Auth"}, UnknownPostback),
        ({"function": "update_customer", "method": "purchase", "inv_status": "Auth"}, UnknownPostback),
        ({"function": "update_customer", "method": "void", "inv_status": "Auth"}, UnknownPostback),
    ],
)
def test_the_legacy_words_are_mapped_method_first(fields: dict[str, str], kind: type) -> None:
    form = {"inv_id": INV_ID, "version": "0.3", **fields}
    assert type(deliver(urlencode(form).encode())) is kind
    assert type(deliver(json.dumps(form).encode())) is kind


def test_only_in_dialect_1_0_the_function_and_method_may_be_missing() -> None:
    """Documented of 1.0 are inv_id and inv_status alone."""
    least = {"inv_id": INV_ID, "inv_status": "Auth"}
    assert isinstance(deliver(json.dumps(least).encode()), Approved)
    assert isinstance(deliver(json.dumps(least | {"inv_status": "AuthOnly"}).encode()), Preapproved)
    assert isinstance(deliver(urlencode(least).encode()), UnknownPostback)


def test_numbers_stand_for_ids_too() -> None:
    postback = deliver(updates({"status": "approved"}, request_token=77, merchant_transaction_id=1))
    assert (postback.inv_id, postback.merchant_transaction_id) == ("77", "1")


def test_the_version_is_as_the_postback_names_it_or_that_of_its_form() -> None:
    assert deliver(updates({"status": "approved"}, version="2.1")).version == "2.1"
    assert deliver(updates({"status": "approved"}, version=None)).version == "1.9"
    assert deliver(b'{"inv_id": "a", "inv_status": "Auth"}').version == "1.0"
    assert deliver(b"inv_id=a&function=transact&method=void").version == "0.2"


def test_unknown_members_stay_in_raw() -> None:
    assert deliver(updates({"status": "approved"}, lender="First Bank")).raw["lender"] == "First Bank"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"{\xff", "is not UTF-8"),
        (b'{"updates": 1e999}', "NaN or Infinity"),
        (b'{"updates":{},"updates":{}}', "names a member twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{}", "names no request"),
        (b'{"updates": {"status": "approved"}}', "names no request"),
        (b'{"request_token": "a", "updates": "approved"}', "updates that are not an object"),
        (b'{"request_token": "\\ud800", "updates": {}}', "half of a surrogate pair"),
        (b'{"request_token": "a\\u0000", "updates": {}}', "control characters"),
        (b"inv_id=a%00&method=void", "control characters"),
        (b"", "is neither JSON nor a form"),
        (b"approved", "is neither JSON nor a form"),
        (b"a=%ff", "is neither JSON nor a form"),
        (b"\xff=1", "is neither JSON nor a form"),
        (b"inv_id=a&inv_id=b", "names a field twice"),
        (b"&".join(b"f%d=1" % n for n in range(101)), "is neither JSON nor a form"),
        (b"inv_status=Auth", "names no request"),
        (b"inv_id=&inv_status=Auth", "names no request"),
    ],
)
def test_what_cannot_be_read_is_malformed(body: bytes, problem: str) -> None:
    with pytest.raises(MalformedPostbackError, match=problem) as caught:
        parse_unverified_postback(body)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("body", ["text", None, {}])
def test_a_body_must_be_bytes(body: Any) -> None:
    with pytest.raises(TypeError, match="raw bytes of the request"):
        parse_unverified_postback(body)


def test_a_repeated_delivery_has_the_same_key_and_another_decision_another() -> None:
    decisions = [
        updates({"status": "approved"}),
        updates({"status": "approved"}, request_token="other"),
        updates({"status": "preapproved"}),
        updates({"status": "rejected"}),
        updates({"status": "refund"}),
        updates({"status": "refund", "amount": "10.00"}),
        updates({"status": "refund", "amount": "20.00"}),
        updates({"status": "paused"}),
        updates({"status": "resumed"}),
    ]
    keys = [deliver(each).key for each in decisions]
    assert len(set(keys)) == len(keys)
    assert [deliver(each).key for each in decisions] == keys
    assert keys[0] == f"1234:{INV_ID}:approved"


def test_the_key_does_not_depend_on_dialect_or_spelling() -> None:
    def key(body: bytes) -> str:
        return deliver(body).key

    form = f"function=transact&method=purchase&inv_status=Auth&inv_id={INV_ID}".encode()
    assert key(form) == key(updates({"status": "approved"}))
    assert key(updates({"status": "refund", "amount": "1200"})) == key(
        updates({"action": "refund", "amount": "1200.00"}, merchant_transaction_id="ORDER-123")
    )


def test_the_key_of_an_unknown_postback_does_not_depend_on_the_order_of_its_members() -> None:
    one = b'{"request_token": "a", "updates": {"status": "paused", "by": "x"}}'
    two = b'{"updates": {"by": "x", "status": "paused"}, "request_token": "a"}'
    assert deliver(one).key == deliver(two).key


def test_amounts_that_differ_have_different_keys() -> None:
    digits = ["999999999999999.999999999999999", "999999999999999.999999999999998", "1200", "120"]
    keys = {deliver(updates({"status": "refund", "amount": each})).key for each in digits}
    assert len(keys) == len(digits)


@pytest.mark.parametrize("depth", [1, 90, 99, 100, 900, 985, 1000, 5000])
def test_nesting_is_read_up_to_a_depth_at_which_every_interpreter_can_write_it_again(depth: int) -> None:
    body = b'{"request_token": "a", "updates": {}, "x": ' + b"[" * depth + b"]" * depth + b"}"
    if depth < 100:
        assert deliver(body).key
    else:
        with pytest.raises(MalformedPostbackError, match="nested too deeply"):
            deliver(body)


def test_an_id_cannot_imitate_the_key_of_another() -> None:
    assert deliver(updates({"status": "paused"}, request_token="a:approved")).key != "a:approved:unknown"
    assert deliver(updates({"status": "approved"}, request_token="a:b")).key == "1234:a%3Ab:approved"


def test_the_repr_does_not_show_what_else_the_vendor_sent() -> None:
    assert "secret" not in repr(deliver(updates({"status": "approved"}, customer="secret")))


def test_postbacks_are_values() -> None:
    one, two = (deliver(updates({"status": "approved"})) for _ in range(2))
    assert one == two
    assert len({one, two}) == 1
    assert one != deliver(updates({"status": "rejected"}))


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
near_misses = st.dictionaries(
    st.sampled_from(
        ["version", "request_token", "inv_id", "inv_status", "method", "function", "updates", "cust_id_ext"]
    ),
    json_values | st.dictionaries(st.sampled_from(["status", "action", "amount"]), json_values),
).map(lambda value: json.dumps(value).encode())


forms = st.dictionaries(
    st.sampled_from(["function", "method", "inv_status", "inv_id", "cust_id_ext"]),
    st.text() | st.sampled_from(["transact", "purchase", "void", "Auth", "AuthOnly", INV_ID]),
).map(lambda fields: urlencode(fields).encode())
names_of_unsigned_headers = st.sampled_from(
    ["Content-Type", "content-type", "Content-Encoding", "Content-Length", "Transfer-Encoding", "Accept"]
) | st.text().filter(lambda name: name.lower() not in {"x-signature", "x-timestamp"})
unsigned_values = st.text() | st.sampled_from(
    ["application/json", "application/x-www-form-urlencoded", "text/plain", "gzip", "0"]
)


def result_of(body: bytes, unsigned: dict[str, str]) -> Postback | str:
    try:
        return deliver(body, **unsigned)
    except MalformedPostbackError as error:
        return str(error)


@given(
    st.binary() | near_misses | forms | st.just(signed_postback("rejected").body),
    st.dictionaries(names_of_unsigned_headers, unsigned_values),
)
def test_no_unsigned_header_changes_the_reading_of_a_signed_body(
    body: bytes, unsigned: dict[str, str]
) -> None:
    assert result_of(body, unsigned) == result_of(body, {})


@given(st.binary() | near_misses | forms)
def test_hostile_bodies_end_in_a_malformed_postback_error_and_nothing_else(body: bytes) -> None:
    try:
        postback = parse_unverified_postback(body)
    except MalformedPostbackError:
        return
    assert isinstance(postback.key, str)
    assert postback.inv_id
