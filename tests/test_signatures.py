import datetime as dt
import hashlib
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import VECTORS
from wegetfinancing import ConfigurationError, Credentials, SignatureError, sign_postback, verify_postback
from wegetfinancing.http import Headers
from wegetfinancing.testing import credentials, signed_postback

NOW = 1_700_000_000.0
OLD, NEW, OTHER = (credentials(password=each) for each in ("old-password", "new-password", "other"))
BODY = b'{"updates": {"status": "approved"}}'


def headers_for(body: bytes, timestamp: str, signer: Credentials) -> dict[str, str]:
    return {"X-Signature": sign_postback(body, timestamp, signer), "X-Timestamp": timestamp}


@pytest.mark.parametrize("case", VECTORS["signatures"], ids=lambda case: case["id"])
def test_the_recipe_gives_the_vendors_signature(case: dict[str, Any]) -> None:
    signer = credentials(username=case["username"], password=case["password"])
    body = case["raw_body"].encode()
    headers = {"x-signature": case["x_signature"], "x-timestamp": case["x_timestamp"]}
    assert (sign_postback(body, case["x_timestamp"], signer) == case["x_signature"]) is case["valid"]
    if case["valid"]:
        verify_postback(body, headers, signer)
    else:
        with pytest.raises(SignatureError, match="does not match"):
            verify_postback(body, headers, signer)


def test_the_parts_are_hashed_in_order_without_separators() -> None:
    signer = credentials(username="usér", password="päss")
    expected = hashlib.sha256(b"1700000000" + "usér".encode() + BODY + "päss".encode()).hexdigest()
    assert sign_postback(BODY, "1700000000", signer) == expected


timestamps = st.text("0123456789TZ:+. -", min_size=1, max_size=40)


@given(st.binary(), timestamps)
def test_what_was_signed_verifies(body: bytes, timestamp: str) -> None:
    verify_postback(body, headers_for(body, timestamp, NEW), NEW)


@given(st.binary(min_size=1), timestamps, st.data())
def test_one_changed_byte_does_not(body: bytes, timestamp: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body) - 1))
    forged = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
    with pytest.raises(SignatureError, match="does not match"):
        verify_postback(forged, headers_for(body, timestamp, NEW), NEW)


def test_another_timestamp_does_not() -> None:
    headers = headers_for(BODY, "1700000000", NEW) | {"X-Timestamp": "1700000001"}
    with pytest.raises(SignatureError, match="does not match"):
        verify_postback(BODY, headers, NEW)


def test_several_credentials_are_accepted_while_a_password_is_rotated() -> None:
    for signer in (OLD, NEW):
        verify_postback(BODY, headers_for(BODY, "1", signer), [OLD, NEW])
        verify_postback(BODY, headers_for(BODY, "1", signer), iter((NEW, OLD)))
    with pytest.raises(SignatureError, match=r"does not match .* signed with other credentials, or changed"):
        verify_postback(BODY, headers_for(BODY, "1", OTHER), [OLD, NEW])


@pytest.mark.parametrize("wrong", [[], "password", [NEW, ("user", "password")]])
def test_what_is_no_credentials_is_a_configuration_error(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be Credentials"):
        verify_postback(BODY, headers_for(BODY, "1", NEW), wrong)


@pytest.mark.parametrize("name", ["x-signature", "X-SIGNATURE", "X-Signature"])
def test_header_names_compare_without_regard_to_case(name: str) -> None:
    verify_postback(BODY, {name: sign_postback(BODY, "1", NEW), "X-timestamp": "1"}, NEW)


def test_another_header_may_come_twice() -> None:
    verify_postback(BODY, {**headers_for(BODY, "1", NEW), "Via": "a", "via": "b", "VIA": "c"}, NEW)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"X-Signature": None}, "x-signature is missing"),
        ({"X-Timestamp": None}, "x-timestamp is missing"),
        ({"x-signature": "0" * 64}, "x-signature came more than once"),
        ({"x-timestamp": "1"}, "x-timestamp came more than once"),
        ({"X-Signature": ""}, "x-signature is malformed"),
        ({"X-Signature": "é" * 64}, "x-signature is malformed"),
        ({"X-Signature": "A" * 64}, "x-signature is malformed"),
        ({"X-Signature": "0" * 63}, "x-signature is malformed"),
        ({"X-Signature": "0" * 64 + "\n"}, "x-signature is malformed"),
        ({"X-Signature": b"0" * 64}, "x-signature is malformed"),
        ({"X-Signature": None, b"X-Signature": "0" * 64}, "x-signature is missing"),
        ({"X-Signature": None, "Accept": "*/*", "accept": "*/*"}, "x-signature is missing"),
        ({"X-Timestamp": ""}, "x-timestamp is malformed"),
        ({"X-Timestamp": "1" * 41}, "x-timestamp is malformed"),
        ({"X-Timestamp": "1\n"}, "x-timestamp is malformed"),
        ({"X-Timestamp": "²"}, "x-timestamp is malformed"),
        ({"X-Timestamp": "1api-user{"}, "x-timestamp is malformed"),
    ],
)
def test_a_hostile_header_ends_in_a_signature_error(changes: dict[Any, Any], problem: str) -> None:
    headers: dict[Any, Any] = {**headers_for(BODY, "1700000000", NEW), **changes}
    with pytest.raises(SignatureError, match=problem):
        verify_postback(BODY, {name: value for name, value in headers.items() if value is not None}, NEW)


@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
@pytest.mark.parametrize("kind", [dict, Headers, MappingProxyType])
def test_headers_are_read_in_any_spelling_and_mapping(spell: Callable[[str], str], kind: Any) -> None:
    fine = headers_for(BODY, "1700000000", NEW) | {"Content-Type": "application/json"}
    spelled = {spell(name): value for name, value in fine.items()}
    verify_postback(BODY, kind(spelled), NEW)
    if kind is not Headers:  # which take no such name
        odd: dict[Any, str] = {b"odd": "name", None: "odder"}
        verify_postback(BODY, kind({**spelled, **odd}), NEW)
    for name in ("x-signature", "x-timestamp"):
        others = {each: value for each, value in spelled.items() if each.lower() != name}
        with pytest.raises(SignatureError, match=f"{name} is missing"):
            verify_postback(BODY, kind(others), NEW)
        with pytest.raises(SignatureError, match=f"{name} is malformed"):
            verify_postback(BODY, kind({**others, spell(name): "é"}), NEW)


def test_a_timestamp_cannot_swallow_the_username_and_part_of_the_body() -> None:
    """Nothing separates the hashed parts, so only the timestamp's alphabet keeps them apart."""
    body = b'{"x":1}'
    signature = sign_postback(body, "1", credentials(username="user"))
    moved = {"x-signature": signature, "x-timestamp": '1user{"x'}
    with pytest.raises(SignatureError, match="x-timestamp is malformed"):
        verify_postback(b'":1}', moved, credentials(username="user"))


def test_with_a_username_of_digits_a_captured_message_could_be_split_elsewhere() -> None:
    """The same bytes are hashed, so nothing but refusing the username tells these two apart."""
    body, moved = b"&inv_id=a", b"00&inv_id=a"
    assert b"1700" + b"00" + body == b"17" + b"00" + moved
    headers = {"x-signature": hashlib.sha256(b"170000" + body + b"s").hexdigest(), "x-timestamp": "17"}
    with pytest.raises(ConfigurationError, match="characters of a timestamp only"):
        verify_postback(moved, headers, credentials(username="00", password="s"))


@pytest.mark.parametrize("username", ["1", "0123456789TZ:+. -".replace(":", ""), "2023-11-14T22.13.20Z"])
def test_a_username_of_a_timestamps_characters_neither_signs_nor_verifies(username: str) -> None:
    ambiguous = credentials(username=username)
    with pytest.raises(ConfigurationError, match="characters of a timestamp only"):
        sign_postback(BODY, "1", ambiguous)
    with pytest.raises(ConfigurationError, match="characters of a timestamp only"):
        verify_postback(BODY, headers_for(BODY, "1", NEW), [NEW, ambiguous])


@given(
    st.text("0Z ", min_size=1, max_size=8),
    st.sampled_from(["a", "0a", "a0", "00a0"]),
    st.text("0Za", max_size=9),
)
def test_with_any_other_username_a_captured_message_verifies_in_one_way_only(
    timestamp: str, username: str, body: str
) -> None:
    who = credentials(username=username)
    signature = sign_postback(body.encode(), timestamp, who)
    hashed = timestamp + username + body
    splits = [at for at in range(1, len(hashed)) if hashed.startswith(username, at)]
    assert len(timestamp) in splits
    for at in splits:
        moved = hashed[at + len(username) :].encode()
        headers = {"x-signature": signature, "x-timestamp": hashed[:at]}
        if at == len(timestamp):
            verify_postback(moved, headers, who)
        else:
            with pytest.raises(SignatureError):
                verify_postback(moved, headers, who)


@pytest.mark.parametrize("timestamp", ["", "x", "1" * 41, "1\n"])
def test_signing_refuses_a_timestamp_that_would_not_verify(timestamp: str) -> None:
    with pytest.raises(SignatureError, match="timestamp must be"):
        sign_postback(BODY, timestamp, NEW)


@pytest.mark.parametrize("body", ["text", bytearray(b"x"), None])
def test_a_body_must_be_the_raw_bytes(body: Any) -> None:
    with pytest.raises(TypeError, match=r"raw bytes of the request, not .*does not verify"):
        verify_postback(body, {}, NEW)
    with pytest.raises(TypeError, match="raw bytes of the request"):
        sign_postback(body, "1", NEW)


@pytest.mark.parametrize(
    "timestamp",
    [
        "1700000000",
        "1700000000.5",
        "1700000000123",
        "2023-11-14T22:13:20Z",
        "2023-11-14T23:13:20+01:00",
        "2023-11-14 22:13:20",
    ],
)
def test_the_age_is_told_from_the_usual_forms_on_both_sides_of_now(timestamp: str) -> None:
    headers = headers_for(BODY, timestamp, NEW)
    for now in (NOW, NOW + 299, NOW - 299):
        verify_postback(BODY, headers, NEW, max_age=300, clock=lambda now=now: now)  # type: ignore[misc] # the default
    for now in (NOW + 302, NOW - 302):
        with pytest.raises(SignatureError, match="too far from now"):
            verify_postback(BODY, headers, NEW, max_age=300, clock=lambda now=now: now)  # type: ignore[misc] # for the same reason


@pytest.mark.parametrize(
    ("timestamp", "signed_at"),
    [
        ("123456789", 123456789),
        ("12345678901", 12345678901),
        ("123456789012", 123456789.012),
        ("12345678901234", 12345678901.234),
        ("1700000000.1", 1700000000.1),
        ("1700000000.123456789", 1700000000.123456789),
    ],
)
def test_nine_to_eleven_digits_are_seconds_and_twelve_to_fourteen_milliseconds(
    timestamp: str, signed_at: float
) -> None:
    verify_postback(BODY, headers_for(BODY, timestamp, NEW), NEW, max_age=1, clock=lambda: signed_at)


@pytest.mark.parametrize(
    "timestamp",
    [
        "12345678",
        "123456789012345",
        "1700000000.",
        "1700000000.1234567890",
        "1700000000123Z",
        "Z1700000000123",
    ],
)
def test_other_counts_of_digits_have_no_age(timestamp: str) -> None:
    with pytest.raises(SignatureError, match="age of the postback cannot be determined"):
        verify_postback(BODY, headers_for(BODY, timestamp, NEW), NEW, max_age=10**12, clock=lambda: NOW)


@pytest.mark.parametrize("now", [NOW - 300, NOW + 300])
def test_an_age_of_exactly_the_most_is_accepted(now: float) -> None:
    verify_postback(BODY, headers_for(BODY, "1700000000", NEW), NEW, max_age=300, clock=lambda: now)


@pytest.mark.parametrize("timestamp", ["-", "99", "2023-13-45", "9999-12-31T23:59:59-10:00", "1" * 40])
def test_a_timestamp_nobody_can_read_has_no_age(timestamp: str) -> None:
    headers = headers_for(BODY, timestamp, NEW)
    verify_postback(BODY, headers, NEW)
    with pytest.raises(SignatureError, match=r"age of the postback cannot be determined|too far from now"):
        verify_postback(BODY, headers, NEW, max_age=300, clock=lambda: NOW)


@pytest.mark.parametrize("max_age", [math.nan, math.inf, -1, True, "300", dt.timedelta(seconds=-1)])
def test_an_age_that_is_no_number_of_seconds_is_a_configuration_error(max_age: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_age must be a finite number of seconds"):
        verify_postback(BODY, headers_for(BODY, "1700000000", NEW), NEW, max_age=max_age)


def test_an_age_may_be_a_timedelta() -> None:
    headers = headers_for(BODY, "1700000000", NEW)
    five_minutes = dt.timedelta(minutes=5)
    verify_postback(BODY, headers, NEW, max_age=five_minutes, clock=lambda: NOW + 300)
    with pytest.raises(SignatureError, match="too far from now"):
        verify_postback(BODY, headers, NEW, max_age=five_minutes, clock=lambda: NOW + 301)


@pytest.mark.parametrize("headers", [None, [("x-signature", "0")], "x-signature: 0"])
def test_headers_must_be_a_mapping(headers: Any) -> None:
    with pytest.raises(TypeError, match="headers must be a mapping"):
        verify_postback(BODY, headers, NEW)


def test_the_wall_clock_is_the_default() -> None:
    postback = signed_postback()
    verify_postback(postback.body, postback.headers, credentials(), max_age=60)


names = st.sampled_from(["x-signature", "X-Timestamp", "x-timestamp"]) | st.none() | st.text() | st.binary()
values = st.none() | st.text() | st.binary() | st.integers() | st.lists(st.text())


@given(st.binary(), st.dictionaries(names, values), st.sampled_from([None, 0, 300]))
def test_hostile_input_ends_in_a_signature_error_and_nothing_else(
    body: bytes, headers: dict[Any, Any], max_age: float | None
) -> None:
    with pytest.raises(SignatureError):
        verify_postback(body, headers, NEW, max_age=max_age)
