"""No password and no customer where they do not belong. The matrix looks at every call, this at the rest."""

import base64
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from canaries import (
    CANARIES,
    PACKAGE,
    LogWatch,
    canaries_in,
    canaries_in_error,
    credentials_with_canaries,
    request_with_canaries,
)
from wegetfinancing import (
    APIError,
    AsyncClient,
    CallError,
    Credentials,
    HttpxTransport,
    InvalidRequestError,
    Retry,
    SignatureError,
    TransportError,
    default_middleware,
    parse_postback,
    sign_postback,
    verify_postback,
)
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.testing import FakeTransport, error_response, shipping_event, signed_postback

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", CANARIES)
@pytest.mark.parametrize(
    "disguise",
    [
        str,
        lambda value: quote(value, safe=""),
        lambda value: value.encode().hex().upper(),
        lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
        lambda value: base64.b64encode(f"some:{value}:more".encode()).decode(),
        lambda value: base64.urlsafe_b64encode(f"users:{value}".encode()).decode(),
    ],
    ids=["plain", "percent", "hex", "base64", "base64 inside", "base64 for URLs"],
)
def test_the_search_finds_a_canary_in_each_disguise(name: str, disguise: Callable[[str], str]) -> None:
    assert canaries_in(f"before {disguise(CANARIES[name])} after")


def test_the_search_finds_nothing_where_nothing_is() -> None:
    assert canaries_in("POST /merchant/1234/requests Jane Doe jane@example.com") == []


def test_the_watch_sees_what_any_logger_says() -> None:
    with LogWatch() as watch:
        logging.getLogger("some.library").debug("password %s", CANARIES["password"])
        logging.getLogger("some.library").debug("more", extra={"body": CANARIES["email"].encode()})
    assert watch.records == 2
    assert len(watch.found) == 2


def test_the_search_looks_into_errors() -> None:
    assert canaries_in_error(TransportError(CANARIES["password"]))
    leaking = TransportError("lost")
    leaking.permanent = CANARIES["email"]  # type: ignore[assignment] # what is tested
    assert canaries_in_error(leaking)


OBJECTS: dict[str, Callable[[], Any]] = {
    "credentials": credentials_with_canaries,
    "request": request_with_canaries,
    "address": lambda: request_with_canaries().billing_address,
    "client": lambda: AsyncClient(credentials_with_canaries(), transport=FakeTransport()),
    "transport": lambda: HttpxTransport(proxy=f"http://user:{quote(CANARIES['password'])}@127.0.0.1:1"),
    "retry": Retry,
    "wire request": lambda: Request(
        operation="create_request",
        method="POST",
        url="https://x.example",
        headers={"authorization": CANARIES["password"]},
        body=CANARIES["email"].encode(),
    ),
    "wire response": lambda: Response(400, {"x": CANARIES["email"]}, CANARIES["reasons"].encode()),
    "error": lambda: APIError(
        "HTTP 400",
        reasons={"email": CANARIES["reasons"]},
        body=CANARIES["email"].encode(),
        debug=CANARIES["email"],
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_no_object_shows_a_secret(name: str) -> None:
    shown = OBJECTS[name]()
    assert canaries_in(repr(shown) + str(shown) + f"{shown}" + repr([shown])) == []
    if not isinstance(shown, Exception):
        with pytest.raises(TypeError):
            vars(shown)


@pytest.mark.parametrize("name", ["credentials", "client", "transport"])
def test_what_holds_a_password_is_not_pickled(name: str) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(OBJECTS[name](), protocol)


def test_a_refused_password_is_in_no_traceback() -> None:
    for wrong in ({"password": CANARIES["password"] + "\n"}, {"username": CANARIES["username"] + ":"}):
        values = {"merchant_id": "1234", "username": CANARIES["username"], "password": CANARIES["password"]}
        with pytest.raises(Exception, match=r"password|username") as caught:
            Credentials(**(values | wrong))
        assert canaries_in_error(caught.value) == []


async def test_a_cancelled_call_shows_nothing_in_its_traceback() -> None:
    async def silent(request: Request, call_next: Handler) -> Response:
        await anyio.sleep_forever()
        return await call_next(request)

    seen: list[list[str]] = []
    client = AsyncClient(credentials_with_canaries(), transport=FakeTransport(), middleware=[silent])
    async with client:
        with anyio.move_on_after(0.05):
            try:
                await client.create_request(request_with_canaries())
            except BaseException as cancelled:
                seen.append(canaries_in_error(cancelled))
                raise
    assert seen == [[]]


async def test_what_a_middleware_raises_shows_nothing_of_ours() -> None:
    async def broken(request: Request, call_next: Handler) -> Response:
        await call_next(request)
        raise KeyError

    client = AsyncClient(
        credentials_with_canaries(), transport=FakeTransport(), middleware=[*default_middleware(), broken]
    )
    async with client:
        with pytest.raises(KeyError) as caught:
            await client.create_request(request_with_canaries())
    assert canaries_in_error(caught.value) == []


async def test_the_faults_of_a_request_do_not_repeat_its_values() -> None:
    wrong = {"phone": CANARIES["email"], "last_name": CANARIES["last_name"] + "\n"}
    request = request_with_canaries(**wrong)
    client = AsyncClient(credentials_with_canaries(), transport=FakeTransport())
    async with client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.create_request(request)
    assert set(caught.value.reasons) == {"phone", "last_name"}
    assert canaries_in(repr(caught.value.reasons) + repr(vars(caught.value))) == []
    assert canaries_in(pickle.dumps(caught.value)) == []
    assert canaries_in_error(caught.value) == []


async def test_a_second_attempt_shows_nothing_either() -> None:
    said = error_response(503, message=CANARIES["email"], reasons={"email": CANARIES["reasons"]})
    transport = FakeTransport(said, TransportError("lost"), said)
    client = AsyncClient(credentials_with_canaries(), transport=transport)
    with LogWatch() as watch:
        async with client:
            with pytest.raises(CallError) as caught:
                await client.update_shipping("inv", shipping_event(message=CANARIES["street"]))
    assert canaries_in_error(caught.value) == []
    assert watch.found == []
    assert watch.records >= 1


@pytest.mark.parametrize("check", [parse_postback, verify_postback])
def test_a_forged_postback_shows_neither_the_password_nor_the_right_signature(check: Any) -> None:
    good = signed_postback(credentials=credentials_with_canaries())
    with LogWatch() as watch, pytest.raises(SignatureError) as caught:
        check(good.body + b" ", good.headers, credentials_with_canaries())
    assert canaries_in_error(caught.value) == []
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    ours = repr([each.locals for each in frames if PACKAGE in Path(each.filename).parents])
    right = sign_postback(good.body + b" ", good.headers["x-timestamp"], credentials_with_canaries())
    assert right not in ours
    assert watch.found == []
