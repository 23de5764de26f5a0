"""What a crash reporter sees when a postback is refused: neither the body nor its signature."""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import HTTPException
from starlette.requests import Request

from support.canaries import PACKAGE
from wegetfinancing import (
    Postback,
    parse_postback,
    parse_unverified_postback,
    sign_postback,
    verify_postback,
)
from wegetfinancing.contrib.fastapi import postback_from
from wegetfinancing.http import Headers
from wegetfinancing.postbacks import PostbackApp
from wegetfinancing.testing import credentials

BODY = b'{"request_token": "canary-body", "updates": 5}'
SIGNATURE = sign_postback(BODY, "1700000000", credentials())
SIGNED = {"x-signature": SIGNATURE, "x-timestamp": "1700000000"}
NOT_SIGNED = SIGNED | {"x-signature": "0" * 64}


def locals_of_our_frames(error: BaseException) -> str:
    found = []
    following: BaseException | None = error
    while following is not None:
        shown = traceback.TracebackException.from_exception(following, capture_locals=True)
        found += [each.locals for each in shown.stack if PACKAGE in Path(each.filename).parents]
        following = following.__cause__ or following.__context__
    assert found, "the error has passed through the package"
    return repr(found)


class BrokenHeaders(Mapping[str, str]):
    def __getitem__(self, name: str) -> str:
        return SIGNED[name]

    def __iter__(self) -> Any:
        raise OSError

    def __len__(self) -> int:
        return 2


def broken_clock() -> float:
    raise OSError


READERS: dict[str, Callable[[], object]] = {
    "malformed": lambda: parse_postback(BODY, SIGNED, credentials()),
    "other headers": lambda: parse_postback(BODY, Headers(SIGNED), credentials()),
    "forged": lambda: parse_postback(BODY, NOT_SIGNED, credentials()),
    "no timestamp": lambda: parse_postback(BODY, {"x-signature": SIGNATURE}, credentials()),
    "a timestamp of letters": lambda: verify_postback(BODY, SIGNED | {"x-timestamp": "x"}, credentials()),
    "too old": lambda: verify_postback(BODY, SIGNED, credentials(), max_age=1),
    "age unknown": lambda: verify_postback(BODY, sign("99"), credentials(), max_age=1),
    "twice": lambda: verify_postback(BODY, SIGNED | {"X-Signature": SIGNATURE}, credentials()),
    "no credentials": lambda: parse_postback(BODY, SIGNED, []),
    "a wrong max_age": lambda: parse_postback(BODY, SIGNED, credentials(), max_age=-1),
    "a body of text": lambda: parse_postback(BODY.decode(), SIGNED, credentials()),  # type: ignore[arg-type] # what is tested
    "headers in a list": lambda: parse_postback(BODY, list(SIGNED.items()), credentials()),  # type: ignore[arg-type] # the same
    "broken headers": lambda: parse_postback(BODY, BrokenHeaders(), credentials()),
    "a broken clock": lambda: parse_postback(BODY, SIGNED, credentials(), max_age=1, clock=broken_clock),
    "unverified": lambda: parse_unverified_postback(BODY),
    "unverified text": lambda: parse_unverified_postback(BODY.decode()),  # type: ignore[arg-type] # the same
    "signing with a timestamp of letters": lambda: sign_postback(BODY, "x", credentials()),
    "signing text": lambda: sign_postback(BODY.decode(), "1", credentials()),  # type: ignore[arg-type] # the same
}


def sign(timestamp: str) -> dict[str, str]:
    return {"x-signature": sign_postback(BODY, timestamp, credentials()), "x-timestamp": timestamp}


@pytest.mark.parametrize("name", READERS)
def test_no_frame_of_a_refusal_holds_the_body_or_the_signature(name: str) -> None:
    with pytest.raises(Exception, match=r".*") as caught:
        READERS[name]()
    seen = locals_of_our_frames(caught.value)
    assert "canary-body" not in seen
    assert SIGNATURE not in seen
    assert sign("99")["x-signature"] not in seen


@pytest.mark.parametrize("headers", [SIGNED, NOT_SIGNED])
@pytest.mark.anyio
async def test_nor_does_one_of_the_dependency_for_fastapi(headers: dict[str, str]) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY}

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": pairs}, receive)
    with pytest.raises(HTTPException) as caught:
        await postback_from(credentials())(request, headers["x-signature"], headers["x-timestamp"])
    seen = locals_of_our_frames(caught.value)
    assert "canary-body" not in seen
    assert SIGNATURE not in seen


GOOD_BODY = b'{"request_token": "a1", "updates": {"status": "approved"}, "note": "canary-body"}'
GOOD_SIGNATURE = sign_postback(GOOD_BODY, "1", credentials())
GOOD_SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/",
    "headers": [(b"x-signature", GOOD_SIGNATURE.encode()), (b"x-timestamp", b"1")],
}


async def receive_good() -> dict[str, Any]:
    return {"type": "http.request", "body": GOOD_BODY}


def breaks_off() -> Callable[[], Any]:
    messages = [{"type": "http.request", "body": GOOD_BODY, "more_body": True}]

    async def receive() -> dict[str, Any]:
        if not messages:
            raise OSError
        return messages.pop()

    return receive


async def ignore(message: object) -> None:
    pass


@pytest.mark.anyio
async def test_nor_does_one_of_the_app_when_a_handler_or_the_server_fails() -> None:
    async def fails(postback: Postback) -> None:
        raise ZeroDivisionError

    app = PostbackApp(credentials(), fails)
    for receive, failure in ((receive_good, ZeroDivisionError), (breaks_off(), OSError)):
        with pytest.raises(failure) as caught:
            await app(dict(GOOD_SCOPE), receive, ignore)
        seen = locals_of_our_frames(caught.value)
        assert "canary-body" not in seen
        assert GOOD_SIGNATURE not in seen


@pytest.mark.anyio
async def test_nor_does_one_of_the_app_when_it_is_cancelled() -> None:
    seen: list[str] = []

    async def cancelled(postback: Postback) -> None:
        await anyio.sleep_forever()

    with anyio.move_on_after(0.05):
        try:
            await PostbackApp(credentials(), cancelled)(dict(GOOD_SCOPE), receive_good, ignore)
        except BaseException as error:
            seen.append(locals_of_our_frames(error))
            raise
    assert len(seen) == 1
    assert "canary-body" not in seen[0]
    assert GOOD_SIGNATURE not in seen[0]


def test_the_line_numbers_stay() -> None:
    with pytest.raises(Exception, match="has updates that are not an object") as caught:
        parse_postback(BODY, SIGNED, credentials())
    names = [each.name for each in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["parse_postback", "_read"]
