"""What decides the answer to a postback, without a server."""

from typing import Any

import pytest

from wegetfinancing import Approved, ConfigurationError, sign_postback
from wegetfinancing.postbacks import BODY_LIMIT, NotYet, ResponseStatuses
from wegetfinancing.postbacks.receiving import (
    HANDLED,
    NOT_FOUND,
    TOO_LARGE,
    WRONG_METHOD,
    Answer,
    BoundedBody,
    Refusal,
    SettlingError,
    answer_after,
    check_request,
    is_for_the_log,
    read_postback,
)
from wegetfinancing.testing import credentials, signed_postback

GOOD = signed_postback()


@pytest.mark.parametrize(
    ("method", "path", "only_path", "answer"),
    [
        ("GET", "/other", "/postbacks", NOT_FOUND),
        ("POST", "/other", "/postbacks", NOT_FOUND),
        ("GET", "/postbacks", "/postbacks", WRONG_METHOD),
        ("post", "/postbacks", None, WRONG_METHOD),
    ],
)
def test_the_path_is_checked_before_the_method(
    method: str, path: str, only_path: str | None, answer: Answer
) -> None:
    with pytest.raises(Refusal) as caught:
        check_request(method, path, only_path=only_path)
    assert caught.value.answer == answer


def test_a_post_to_the_right_path_or_to_any_is_received() -> None:
    check_request("POST", "/postbacks", only_path="/postbacks")
    check_request("POST", "/any", only_path=None)


def test_a_body_is_collected_up_to_the_limit() -> None:
    body = BoundedBody()
    body.add(b"x" * (BODY_LIMIT - 1))
    body.add(b"y")
    assert len(bytes(body)) == BODY_LIMIT
    with pytest.raises(Refusal) as caught:
        body.add(b"z")
    assert caught.value.answer == TOO_LARGE


@pytest.mark.parametrize(
    ("body", "headers", "level", "told"),
    [
        (b"{}", GOOD.headers, "WARNING", "does not match"),
        (GOOD.body, {}, "WARNING", "x-signature is missing"),
        (b"other", {}, "ERROR", "is neither JSON nor a form"),
    ],
    ids=["another body", "unsigned", "authentic, and not to be read"],
)
def test_a_postback_that_is_refused_is_heard_of(
    caplog: pytest.LogCaptureFixture, body: bytes, headers: dict[str, str], level: str, told: str
) -> None:
    """Otherwise a changed password, or a new form of the vendor's, would lose every approval in silence."""
    if level == "ERROR":
        headers = {
            "x-signature": sign_postback(body, "1700000001", credentials()),
            "x-timestamp": "1700000001",
        }
    with pytest.raises(Refusal):
        read_postback(body, headers, (credentials(),), None)
    (record,) = caplog.records
    assert record.levelname == level
    assert "merchant 1234" in record.getMessage()
    assert told in record.getMessage()


def test_an_authentic_postback_is_read() -> None:
    assert isinstance(read_postback(GOOD.body, GOOD.headers, (credentials(),), None), Approved)


@pytest.mark.parametrize(
    ("body", "max_age", "status"), [(GOOD.body + b" ", None, 401), (GOOD.body, 0, 401), (b"{}", None, 400)]
)
def test_another_is_refused_with_the_reason(body: bytes, max_age: float | None, status: int) -> None:
    signed = {"x-signature": sign_postback(b"{}", "1", credentials()), "x-timestamp": "1"}
    old = signed_postback(timestamp="1700000000").headers
    with pytest.raises(Refusal) as caught:
        read_postback(body, signed if body == b"{}" else old, (credentials(),), max_age)
    assert caught.value.answer.status == status
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("failure", "answer", "is_logged"),
    [
        (None, HANDLED, False),
        (SettlingError(), HANDLED, True),
        (Refusal(TOO_LARGE), TOO_LARGE, False),
        (NotYet(), Answer(425, "not yet"), False),
        (ZeroDivisionError(), Answer(502, "failed"), True),
    ],
)
def test_the_answer_and_the_log_follow_from_the_failure(
    failure: Exception | None, answer: Answer, *, is_logged: bool
) -> None:
    assert answer_after(failure, ResponseStatuses(failed=502, not_yet=425)) == answer
    assert is_for_the_log(failure) is is_logged


def test_an_answer_describes_its_body() -> None:
    assert HANDLED.body == b"OK"
    assert HANDLED.headers == {"content-type": "text/plain; charset=utf-8", "content-length": "2"}


@pytest.mark.parametrize("name", ["failed", "not_yet"])
def test_a_status_that_cannot_be_right_is_refused(name: str) -> None:
    for right in (200, 400, 599):
        assert getattr(ResponseStatuses(**{name: right}), name) == right
    wrong_ones: list[Any] = [199, 204, 304, 399, 600, "500", None]
    for wrong in wrong_ones:
        with pytest.raises(ConfigurationError, match=f"{name} must be an HTTP status"):
            ResponseStatuses(**{name: wrong})
