"""No password and no customer where they do not belong. The matrix looks at every call, this at the rest."""

import base64
import inspect
import logging
import math
import pickle
import traceback
from collections import UserDict
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pytest

from support.canaries import (
    CANARIES,
    LogWatch,
    canaries_in,
    canaries_in_error,
    credentials_with_canaries,
    error_of,
    is_ours,
    request_with_canaries,
)
from wegetfinancing import (
    APIError,
    AsyncClient,
    CallError,
    ConfigurationError,
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
from wegetfinancing.http import Handler, Headers, Request, Response
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
    "wire headers": lambda: Headers({"authorization": CANARIES["password"]}),
    "fake transport": FakeTransport,
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
    if not isinstance(shown, Exception | FakeTransport):
        with pytest.raises(TypeError):
            vars(shown)


NOT_PICKLED = [
    "credentials",
    "client",
    "transport",
    "wire request",
    "wire response",
    "wire headers",
    "fake transport",
]


@pytest.mark.parametrize("name", NOT_PICKLED)
def test_what_may_hold_a_secret_is_not_pickled(name: str) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(OBJECTS[name](), protocol)


PASSWORD = CANARIES["password"]
ADDRESS = f"https://user:{quote(PASSWORD, safe='')}@api.example"
WRONG_SETTINGS: dict[str, list[Any]] = {
    "credentials": [("1234", CANARIES["username"], PASSWORD), {"password": PASSWORD}, PASSWORD],
    "environment": [PASSWORD, [PASSWORD]],
    "base_url": [
        ADDRESS,
        PASSWORD,
        PASSWORD.encode(),
        f"https://api.example/?token={quote(PASSWORD, safe='')}",
        f"https://api.example:{quote(PASSWORD, safe='')}",
        f"http://{quote(CANARIES['city'])}.example",
    ],
    "transport": [ADDRESS, {"proxy": ADDRESS}],
    "middleware": [PASSWORD, [PASSWORD], {PASSWORD: 1}],
    "hooks": [5, [PASSWORD], {PASSWORD: 1}],
    "timeout": [PASSWORD, [PASSWORD]],
}
WRONG = [(name, value) for name, values in WRONG_SETTINGS.items() for value in values]
ENVIRONMENT = {"MERCHANT_ID": "1234", "USERNAME": CANARIES["username"], "PASSWORD": PASSWORD}


@pytest.fixture
def settings_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(f"WEGETFINANCING_{name}", value)


def shows_nothing(error: BaseException, kind: type[Exception] | tuple[type[Exception], ...]) -> None:
    assert isinstance(error, kind)
    assert canaries_in_error(error) == []
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    assert [frame for frame in frames if is_ours(frame.filename)]


@pytest.mark.usefixtures("settings_in_environment")
@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}-{n}" for n, (name, _) in enumerate(WRONG)])
@pytest.mark.parametrize("beside", [{}, {"base_url": ADDRESS}])
async def test_no_setting_that_was_refused_is_in_a_traceback(name: str, value: Any, beside: Any) -> None:
    settings = {"credentials": credentials_with_canaries()} | beside | {name: value}
    shows_nothing(await error_of(lambda: AsyncClient(**settings)), ConfigurationError)
    shows_nothing(await error_of(lambda: AsyncClient.from_env(**settings)), ConfigurationError)


async def test_a_keyword_that_does_not_exist_shows_no_other() -> None:
    wrong: Any = {"base_url": ADDRESS, "timeut": PASSWORD}
    shows_nothing(await error_of(lambda: AsyncClient.from_env(**wrong)), TypeError)


@pytest.mark.usefixtures("settings_in_environment")
@pytest.mark.parametrize("name", ["MERCHANT_ID", "USERNAME", "PASSWORD", "ENVIRONMENT", "BASE_URL"])
@pytest.mark.parametrize("value", ["", " ", PASSWORD + "\n", PASSWORD + ":/", ADDRESS])
async def test_no_variable_that_was_refused_is_in_a_traceback(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"WEGETFINANCING_{name}", value)
    for make in (AsyncClient.from_env, Credentials.from_env):
        try:
            make()
        except ConfigurationError as error:
            shows_nothing(error, ConfigurationError)


def test_a_client_whose_settings_were_refused_has_a_repr() -> None:
    client = AsyncClient.__new__(AsyncClient)
    with pytest.raises(ConfigurationError):
        client.__init__(credentials_with_canaries(), base_url=ADDRESS)  # type: ignore[misc] # as a call of the class does
    assert repr(client) == "<AsyncClient whose settings were refused>"


@pytest.mark.parametrize("field", ["merchant_id", "username", "password"])
@pytest.mark.parametrize("value", [PASSWORD + "\n", PASSWORD + ":\0", PASSWORD + "\ud800", [PASSWORD]])
async def test_no_credentials_that_were_refused_are_in_a_traceback(field: str, value: Any) -> None:
    good = {"merchant_id": "1234", "username": CANARIES["username"], "password": PASSWORD}
    shows_nothing(await error_of(lambda: Credentials(**good | {field: value})), ConfigurationError)


class Unreadable(UserDict[str, Any]):
    """A mapping that fails when it is read, and shows what it holds."""

    def __iter__(self) -> Any:
        raise OSError


CUSTOMER = {name: CANARIES[name] for name in ("first_name", "last_name", "email", "phone")}
# By method: values that cannot be sent, and values that can.
BAD_CALLS: dict[str, list[tuple[Any, ...]]] = {
    "create_request": [
        (CUSTOMER,),
        ([CUSTOMER],),
        (CANARIES["email"],),
        (lambda: request_with_canaries(first_name=[CANARIES["last_name"]]),),
    ],
    "update_shipping": [
        (CANARIES["email"] + " ", shipping_event(message=CANARIES["street"])),
        ([CANARIES["email"]], shipping_event(message=CANARIES["street"])),
        ("inv", CUSTOMER),
        ("inv", shipping_event(message=CANARIES["street"], state=CANARIES["city"])),
    ],
    "create_test_postback": [
        (CUSTOMER | {"amount": math.nan},),
        (CUSTOMER | {"amount": Decimal(5)},),
        (CUSTOMER | {"more": CUSTOMER.items()},),
        ([CUSTOMER],),
        (CANARIES["email"],),
    ],
}
GOOD_CALLS: dict[str, tuple[Any, ...]] = {
    "create_request": (request_with_canaries(),),
    "update_shipping": ("inv", shipping_event(message=CANARIES["street"])),
    "create_test_postback": (CUSTOMER,),
}
CASES = [(name, values) for name, several in BAD_CALLS.items() for values in several]


def test_every_call_of_a_client_is_tried() -> None:
    coroutines = {
        name
        for name, value in vars(AsyncClient).items()
        if inspect.iscoroutinefunction(value) and name[0] != "_"
    }
    assert coroutines - {"aclose", "preconnect"} == set(BAD_CALLS) == set(GOOD_CALLS)


@pytest.mark.parametrize(("name", "values"), CASES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CASES)])
async def test_no_value_that_cannot_be_sent_is_in_a_traceback(name: str, values: tuple[Any, ...]) -> None:
    values = tuple(each() if callable(each) else each for each in values)
    async with AsyncClient(credentials_with_canaries(), transport=FakeTransport()) as client:
        error = await error_of(lambda: getattr(client, name)(*values))
    shows_nothing(error, (TypeError, InvalidRequestError))


async def test_not_even_when_reading_a_value_fails() -> None:
    async with AsyncClient(credentials_with_canaries(), transport=FakeTransport()) as client:
        error = await error_of(lambda: client.create_test_postback(Unreadable(CUSTOMER)))
    shows_nothing(error, OSError)


@pytest.mark.parametrize("name", GOOD_CALLS)
@pytest.mark.parametrize("reason", ["timeout", "closed", "live", "500", "lost", "not JSON", "middleware"])
async def test_no_call_that_failed_shows_its_values_in_a_traceback(name: str, reason: str) -> None:
    async def broken(request: Request, call_next: Handler) -> Response:
        await call_next(request)
        raise KeyError

    replies: dict[str, Any] = {
        "500": error_response(500),
        "lost": TransportError("lost"),
        "not JSON": Response(200),
    }
    client = AsyncClient(
        credentials_with_canaries(),
        transport=FakeTransport(*[replies[reason]] if reason in replies else []),
        environment="live" if reason == "live" else "sandbox",
        middleware=[broken] if reason == "middleware" else [],
    )
    if reason == "closed":
        await client.aclose()
    options = {"timeout": PASSWORD} if reason == "timeout" else {}
    try:
        await getattr(client, name)(*GOOD_CALLS[name], **options)
    except (CallError, ConfigurationError, KeyError) as error:
        shows_nothing(error, (CallError, ConfigurationError, KeyError))
    else:
        assert reason == "live"
        assert name != "create_test_postback"
    await client.aclose()


HEADERS: list[Any] = [
    {"authorization": PASSWORD, "x": 5},
    {PASSWORD: PASSWORD.encode()},
    [("authorization", PASSWORD), ("x", PASSWORD, 5)],
    [PASSWORD],
    PASSWORD,
    5,
]


@pytest.mark.parametrize("headers", HEADERS, ids=range(len(HEADERS)))
async def test_no_header_that_was_refused_is_in_a_traceback(headers: Any) -> None:
    body = CANARIES["email"].encode()
    shows_nothing(await error_of(lambda: Headers(headers)), TypeError)
    shows_nothing(await error_of(lambda: Response(200, headers, body)), TypeError)
    shows_nothing(
        await error_of(lambda: Request(operation="", method="", url=ADDRESS, headers=headers, body=body)),
        TypeError,
    )


@pytest.mark.parametrize("wrong", [{"status": PASSWORD}, {"body": CANARIES["email"]}, {"body": [PASSWORD]}])
async def test_no_part_of_a_response_that_was_refused_is_in_a_traceback(wrong: Any) -> None:
    given = {"status": 200, "headers": {"authorization": PASSWORD}, "body": b""} | wrong
    shows_nothing(await error_of(lambda: Response(**given)), TypeError)


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
    ours = repr([each.locals for each in frames if is_ours(each.filename)])
    right = sign_postback(good.body + b" ", good.headers["x-timestamp"], credentials_with_canaries())
    assert right not in ours
    assert watch.found == []


REFUSED_TRANSPORTS: dict[str, dict[str, Any]] = {
    "limits": {"limits": httpx.Limits(max_connections=0)},
    "client and proxy": {"client": httpx.MockTransport(lambda _: httpx.Response(200))},
    "wrong client": {"client": object(), "proxy": None},
}


@pytest.mark.parametrize("name", REFUSED_TRANSPORTS)
def test_a_transport_that_is_refused_shows_no_password_of_a_proxy(name: str) -> None:
    proxy = f"http://user:{quote(CANARIES['password'])}@127.0.0.1:1"
    with pytest.raises(ConfigurationError) as caught:
        HttpxTransport(**{"proxy": proxy} | REFUSED_TRANSPORTS[name])
    assert canaries_in_error(caught.value) == []


@pytest.mark.parametrize("wrong", ["client", "ssl_context"])
def test_what_is_passed_to_a_transport_by_mistake_is_in_no_traceback(wrong: str) -> None:
    settings: dict[str, Any] = {"client": object(), wrong: f"http://user:{quote(CANARIES['password'])}@x"}
    with pytest.raises(ConfigurationError) as caught:
        HttpxTransport(**settings)
    assert canaries_in_error(caught.value) == []


async def test_a_proxy_that_cannot_be_used_shows_no_password() -> None:
    transport = HttpxTransport(proxy=f"gopher://user:{quote(CANARIES['password'])}@127.0.0.1:1")
    client = AsyncClient(credentials_with_canaries(), transport=transport)
    with LogWatch() as watch:
        async with client:
            with pytest.raises(TransportError) as caught:
                await client.create_request(request_with_canaries())
    assert canaries_in_error(caught.value) == []
    assert watch.found == []
