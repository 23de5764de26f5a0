import copy
import pickle
import time
from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from wegetfinancing.http import Headers, Request, Response


def test_header_names_compare_without_regard_to_case() -> None:
    headers = Headers({"Retry-After": "2", "X-One": "1"})
    assert headers["retry-after"] == headers["RETRY-AFTER"] == "2"
    assert "x-ONE" in headers
    assert headers.get("missing") is None
    assert list(headers) == ["retry-after", "x-one"]
    assert len(headers) == 2
    assert headers == Headers([("x-one", "1"), ("retry-after", "2")])
    assert hash(headers) == hash(Headers([("x-one", "1"), ("retry-after", "2")]))


def test_a_repeated_header_is_joined() -> None:
    assert Headers([("Via", "a"), ("via", "b")])["Via"] == "a, b"


def test_a_header_that_is_repeated_without_end_costs_no_more_than_as_many_headers() -> None:
    def cpu_of(names: Iterable[str]) -> float:
        pairs = [(name, "b") for name in names]
        began = time.process_time()
        Headers(pairs)
        return time.process_time() - began

    many = 200_000
    # Joining them one by one costs some hundred times as much, and grows with the square.
    assert cpu_of("a" for _ in range(many)) < 10 * cpu_of(map(str, range(many)))


def test_reprs_show_neither_header_values_nor_bodies() -> None:
    headers = {"Authorization": "Basic secret"}
    request = Request(operation="o", method="POST", url="https://x", headers=headers, body=b"secret")
    response = Response(200, {"set-cookie": "secret"}, b"secret")
    assert "secret" not in repr(request) + repr(response)
    assert "authorization" in repr(request)


def test_requests_and_responses_are_values() -> None:
    def request() -> Request:
        return Request(operation="o", method="POST", url="https://x", headers={"a": "b"}, body=b"c")

    assert request() == request()
    assert hash(request()) == hash(request())
    assert Response(200, {"a": "b"}, b"c") == Response(200, {"A": "b"}, b"c")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request().url = "https://elsewhere"  # type: ignore[misc] # what is tested


VALUES = [
    Headers({"a": "b"}),
    Response(200, {"a": "b"}, b"c"),
    Request(operation="o", method="POST", url="https://x", headers={"authorization": "Basic secret"}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_they_may_hold_secrets_so_they_copy_and_are_not_pickled(value: Any) -> None:
    assert copy.copy(value) is value
    assert copy.deepcopy([value])[0] is value
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="may hold credentials and customer data, and is not pickled"):
            pickle.dumps(value, protocol)


@pytest.mark.parametrize("wrong", [5, "secret", [("a", "b", "secret")], ["secret"], [5]])
def test_headers_are_a_mapping_or_pairs(wrong: Any) -> None:
    for kind in (Headers, lambda headers: Request(operation="", method="", url="", headers=headers)):
        with pytest.raises(TypeError, match="headers must be a mapping or pairs of str") as caught:
            kind(wrong)
        assert "secret" not in str(caught.value)


def test_headers_compare_with_headers_only() -> None:
    assert Headers({"a": "b"}) != {"a": "b"}


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"status": "secret"}, "status must be int, not str"),
        ({"status": True}, "status must be int, not bool"),
        ({"status": 200, "body": "secret"}, "body must be bytes, not str"),
        ({"status": 200, "headers": {"retry-after": 3}}, "headers must be str to str, not str to int"),
        (
            {"status": 200, "headers": {b"retry-after": "secret"}},
            "headers must be str to str, not bytes to str",
        ),
    ],
)
def test_a_response_holds_a_number_texts_and_bytes(wrong: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem) as caught:
        Response(**wrong)
    assert "secret" not in str(caught.value)


def test_a_request_is_not_repeatable_unless_said_so() -> None:
    assert not Request(operation="o", method="POST", url="https://x").repeatable
