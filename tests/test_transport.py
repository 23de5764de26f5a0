import pickle
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
    assert pickle.loads(pickle.dumps(Response(200, {"a": "b"}, b"c"))) == Response(200, {"A": "b"}, b"c")  # noqa: S301 - our own data
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request().url = "https://elsewhere"  # type: ignore[misc] # what is tested


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
