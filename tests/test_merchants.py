"""Several merchants at one endpoint: who signed decides, and B never decides for A."""

import functools
import logging
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse

from support.asgi import Shop, call
from wegetfinancing import (
    Approved,
    ConfigurationError,
    Credentials,
    Postback,
    SignatureError,
    parse_postback,
    verify_postback,
)
from wegetfinancing.contrib.fastapi import postback_from
from wegetfinancing.ledger import MemoryLedger
from wegetfinancing.postbacks import MemoryDeliveryStore, PostbackApp, lookups
from wegetfinancing.postbacks.receiving import (
    NOT_FOUND,
    UNAVAILABLE,
    CredentialsUnavailableError,
    Refusal,
    ResponseStatuses,
    answer_after,
    check_request,
    is_for_the_log,
    read_postback,
)
from wegetfinancing.postbacks.sources import look_up
from wegetfinancing.testing import SignedPostback, credentials, signed_postback
from wegetfinancing.testing.contract.ledger_checking import Shop as LedgerShop
from wegetfinancing.testing.contract.ledger_checking import apply_for

pytestmark = pytest.mark.anyio

A = credentials()
A_BEFORE = credentials(password="before")
B = credentials(merchant_id="shop_B-2", username="b-user", password="b-password")
MERCHANTS: dict[str, list[Credentials]] = {A.merchant_id: [A_BEFORE, A], B.merchant_id: [B]}
OF_A, OF_B = signed_postback(credentials=A), signed_postback(credentials=B)
PATH = "/postbacks/{merchant_id}"
PLACES = 8  # of threads for lookups


def lookup(merchant_id: str) -> list[Credentials] | None:
    return MERCHANTS.get(merchant_id)


async def awaited_lookup(merchant_id: str) -> list[Credentials] | None:
    await anyio.lowlevel.checkpoint()
    return MERCHANTS.get(merchant_id)


LOOKUPS = [
    lookup,
    awaited_lookup,
    functools.partial(awaited_lookup),
    lambda merchant_id: awaited_lookup(merchant_id),  # noqa: PLW0108 - a plain function
]


async def deliver(app: PostbackApp, merchant_id: str, postback: SignedPostback) -> tuple[int, bytes]:
    path = f"/postbacks/{merchant_id}"
    status, _, body = await call(app, postback.body, postback.headers, path=path)
    return status, body


# One merchant's credentials


def test_the_merchant_who_signed_is_part_of_the_postback_and_of_its_key() -> None:
    by_a = parse_postback(OF_A.body, OF_A.headers, [A_BEFORE, A])
    by_b = parse_postback(OF_B.body, OF_B.headers, B)
    assert (by_a.merchant_id, by_b.merchant_id) == (A.merchant_id, B.merchant_id)
    assert by_a.key != by_b.key
    old = signed_postback(credentials=A_BEFORE)
    assert parse_postback(old.body, old.headers, [A_BEFORE, A]).key == by_a.key


@pytest.mark.parametrize(
    "use",
    [
        lambda several: parse_postback(OF_A.body, OF_A.headers, several),
        lambda several: verify_postback(OF_A.body, OF_A.headers, several),
        lambda several: PostbackApp(several, Shop()),
        postback_from,
    ],
    ids=["parse_postback", "verify_postback", "PostbackApp", "postback_from"],
)
def test_credentials_of_several_merchants_are_refused(use: Callable[[Iterable[Credentials]], object]) -> None:
    with pytest.raises(ConfigurationError, match="all be of one merchant"):
        use([A, B])


def test_b_does_not_sign_for_a_in_parse_postback() -> None:
    with pytest.raises(SignatureError):
        parse_postback(OF_B.body, OF_B.headers, [A_BEFORE, A])


async def test_b_does_not_sign_for_a_at_an_endpoint_of_a() -> None:
    shop = Shop()
    status, _, _ = await call(PostbackApp([A_BEFORE, A], shop), OF_B.body, OF_B.headers)
    assert (status, shop.handled) == (401, [])


async def test_b_cannot_claim_a_decision_of_a_in_advance() -> None:
    shop, store = Shop(), MemoryDeliveryStore()
    app = PostbackApp(lookup, shop, store=store, path=PATH)
    assert await deliver(app, B.merchant_id, OF_B) == (200, b"OK")
    assert await deliver(app, A.merchant_id, OF_A) == (200, b"OK")
    assert [each.merchant_id for each in shop.handled] == [B.merchant_id, A.merchant_id]


# A lookup


@pytest.mark.parametrize("find", LOOKUPS, ids=["plain", "async", "partial", "returns an awaitable"])
async def test_each_merchant_signs_for_itself(find: Any) -> None:
    shop = Shop()
    app = PostbackApp(find, shop, path=PATH)
    for who in (A, A_BEFORE, B):
        assert await deliver(app, who.merchant_id, signed_postback(credentials=who)) == (200, b"OK")
    assert [each.merchant_id for each in shop.handled] == [A.merchant_id, B.merchant_id]


@pytest.mark.parametrize("find", LOOKUPS, ids=["plain", "async", "partial", "returns an awaitable"])
async def test_b_does_not_sign_for_a_at_an_endpoint_with_a_lookup(find: Any) -> None:
    shop = Shop()
    app = PostbackApp(find, shop, path=PATH)
    for merchant_id, postback in ((A.merchant_id, OF_B), (B.merchant_id, OF_A)):
        assert (await deliver(app, merchant_id, postback))[0] == 401
    assert shop.handled == []


HOSTILE = [
    (OF_B.body, OF_B.headers),
    (OF_A.body, {}),
    (OF_A.body, OF_A.headers | {"x-signature": "0"}),
    (OF_A.body, OF_A.headers | {"x-timestamp": "now"}),
    (b"x" * 100_000, OF_A.headers),
    (b"{", OF_A.headers),
]


@pytest.mark.parametrize(("body", "headers"), HOSTILE)
async def test_no_answer_tells_which_merchants_there_are(body: bytes, headers: dict[str, str]) -> None:
    app = PostbackApp(lookup, Shop(), path=PATH, max_age=300)
    answers = [
        await call(app, body, headers, path=f"/postbacks/{merchant_id}")
        for merchant_id in (A.merchant_id, "nobody")
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] in (401, 413)


async def test_a_postback_for_nobody_is_answered_401() -> None:
    assert (await deliver(PostbackApp(lookup, Shop(), path=PATH), "nobody", OF_A))[0] == 401


@pytest.mark.parametrize(
    "path",
    [
        "/postbacks/",
        "/postbacks",
        "/postbacks/1234/",
        "/postbacks/12/34",
        "/postbacks/1234\n",
        "/postbacks/1234%32",
        "/postbacks/１２３４",
        "/postbacks/../1234",
        f"/postbacks/{'a' * 65}",
        "/other/1234",
        "/postbacks/{merchant_id}",
    ],
)
async def test_another_path_is_not_found_and_nobody_is_looked_up(path: str) -> None:
    asked: list[str] = []
    app = PostbackApp(asked.append, Shop(), path=PATH)
    status, _, body = await call(app, OF_A.body, OF_A.headers, path=path)
    assert (status, body, asked) == (404, b"not found", [])


def test_the_merchant_may_stand_anywhere_in_the_path() -> None:
    assert check_request("POST", "/1234/postbacks", only_path="/{merchant_id}/postbacks") == "1234"
    assert check_request("POST", "/m-1234", only_path="/m-{merchant_id}") == "1234"
    assert check_request("POST", "/postbacks", only_path="/postbacks") is None
    with pytest.raises(Refusal) as caught:
        check_request("POST", "/a/", only_path="/a/{merchant_id}/a/")
    assert caught.value.answer == NOT_FOUND


@pytest.mark.parametrize(
    ("source", "path"),
    [(lookup, None), (lookup, "/postbacks"), (lookup, PATH * 2), (A, PATH)],
    ids=["no path", "no place", "two places", "no lookup"],
)
def test_the_path_names_the_merchant_if_and_only_if_there_is_a_lookup(source: Any, path: Any) -> None:
    with pytest.raises(ConfigurationError, match="path must name the merchant"):
        PostbackApp(source, Shop(), path=path)


# A lookup that fails


def broken(_: str) -> None:
    msg = "the database is away"
    raise OSError(msg)


async def broken_too(_: str) -> None:
    await anyio.lowlevel.checkpoint()
    broken("")


def of_several(_: str) -> list[Credentials]:
    return [A, B]


def of_nothing(_: str) -> list[Credentials]:
    return []


def of_a_tuple(_: str) -> Any:
    return ("1234", "api-user", "api-password")


@pytest.mark.parametrize(
    ("find", "cause"),
    [
        (broken, OSError),
        (broken_too, OSError),
        (of_several, ConfigurationError),
        (of_nothing, ConfigurationError),
        (of_a_tuple, ConfigurationError),
    ],
)
async def test_a_lookup_that_fails_is_answered_503_and_logged_by_the_server(
    find: Any, cause: type[Exception]
) -> None:
    shop, store = Shop(), MemoryDeliveryStore()
    sent: list[Any] = []
    with pytest.raises(CredentialsUnavailableError) as caught:
        await raising(PostbackApp(find, shop, store=store, path=PATH), sent)
    assert sent[0]["status"] == 503
    assert isinstance(caught.value.__cause__, cause)
    # What comes again is the first delivery.
    assert await deliver(PostbackApp(lookup, shop, store=store, path=PATH), A.merchant_id, OF_A) == (
        200,
        b"OK",
    )
    assert len(shop.handled) == 1


async def raising(app: PostbackApp, sent: list[Any], merchant_id: str = "1234") -> None:
    headers = [(name.encode(), value.encode()) for name, value in OF_A.headers.items()]
    scope = {"type": "http", "method": "POST", "path": f"/postbacks/{merchant_id}", "headers": headers}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": OF_A.body}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)


async def of_another(_: str) -> Credentials:
    return A


@pytest.mark.parametrize("find", [broken, broken_too, of_another])
async def test_what_a_lookup_raises_shows_neither_the_body_nor_the_signature(find: Any) -> None:
    with pytest.raises(CredentialsUnavailableError) as caught:
        await raising(PostbackApp(find, Shop(), path=PATH), [], "1235")
    ours = [frame for frame in frames(caught.value) if "wegetfinancing" in frame[0]]
    assert len(ours) > 2
    for _, shown in ours:
        assert "ORDER-123" not in shown
        assert OF_A.headers["x-signature"] not in shown


def frames(error: BaseException) -> list[tuple[str, str]]:
    found = []
    for each in (error, error.__cause__):
        for frame, _ in traceback.walk_tb(None if each is None else each.__traceback__):
            found.append((frame.f_code.co_filename, repr(list(frame.f_locals.values()))))
    return found


async def test_a_lookup_that_does_not_end_is_answered_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "LOOKUP_SECONDS", 0.0)

    async def endless(_: str) -> None:
        await anyio.sleep_forever()

    sent: list[Any] = []
    with pytest.raises(CredentialsUnavailableError) as caught:
        await raising(PostbackApp(endless, Shop(), path=PATH), sent)
    assert sent[0]["status"] == 503
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_lookup_that_ignores_case_does_not_let_one_merchant_be_two() -> None:
    shop = Shop()

    def ignoring_case(_: str) -> Credentials:
        return A

    app = PostbackApp(ignoring_case, shop, path=PATH)
    with pytest.raises(CredentialsUnavailableError) as caught:
        await deliver(app, "another", OF_A)
    assert isinstance(caught.value.__cause__, ConfigurationError)
    assert shop.handled == []
    # A stranger hears nothing of it.
    assert (await deliver(app, "another", OF_B))[0] == 401


async def test_what_was_given_up_while_lookups_hung_is_not_looked_up_once_they_end() -> None:
    asked: list[str] = []
    may_answer = threading.Event()

    def waits(merchant_id: str) -> Credentials:
        asked.append(merchant_id)
        assert may_answer.wait(10)
        return A

    shop = Shop()
    app = PostbackApp(waits, shop, path=PATH)
    async with anyio.create_task_group() as tasks:
        for _ in range(PLACES):
            tasks.start_soon(deliver, app, A.merchant_id, OF_A)
        while len(asked) < PLACES:
            await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(0):
            await deliver(app, "late", OF_A)
        may_answer.set()
    assert (await deliver(app, A.merchant_id, OF_A))[0] == 200
    assert set(asked) == {A.merchant_id}


async def test_a_plain_lookup_does_not_block_the_event_loop() -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def waits(_: str) -> Credentials:
        asked.set()
        assert may_answer.wait(10)
        return A

    shop = Shop()
    app = PostbackApp(waits, shop, path=PATH)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver, app, A.merchant_id, OF_A)
        while not asked.is_set():
            await anyio.lowlevel.checkpoint()
        assert shop.handled == []  # this task runs although the lookup waits
        may_answer.set()
    assert len(shop.handled) == 1


# The same for endpoints that do not await


def test_a_lookup_without_await() -> None:
    assert check_request("POST", f"/postbacks/{B.merchant_id}", only_path=PATH) == B.merchant_id
    merchant_id = B.merchant_id
    found = look_up(lookup, merchant_id)
    postback = read_postback(OF_B.body, OF_B.headers, found, None, merchant_id)
    assert isinstance(postback, Approved)
    with pytest.raises(Refusal) as caught:
        read_postback(OF_A.body, OF_A.headers, found, None, merchant_id)
    assert caught.value.answer.status == 401
    with pytest.raises(Refusal):
        read_postback(OF_A.body, OF_A.headers, look_up(lookup, "nobody"), None, "nobody")


class Later:
    """An awaitable that is not a coroutine."""

    def __await__(self) -> Any:
        yield


@pytest.mark.parametrize("find", [broken, awaited_lookup, lambda _: Later(), of_several])
def test_a_lookup_without_await_that_fails(find: Any) -> None:
    with pytest.raises(CredentialsUnavailableError) as caught:
        look_up(find, A.merchant_id)
    assert answer_after(caught.value, ResponseStatuses()) == UNAVAILABLE
    assert is_for_the_log(caught.value)


# FastAPI


async def ask_fastapi(
    find: Any, postback: SignedPostback, merchant_id: str = A.merchant_id
) -> tuple[httpx.Response, list[Postback]]:
    handled: list[Postback] = []
    app = FastAPI()
    verified: Callable[..., Awaitable[Postback]] = postback_from(find)

    @app.post("/postbacks/{merchant_id}")
    async def receive(postback: Annotated[Postback, Depends(verified)]) -> PlainTextResponse:
        handled.append(postback)
        return PlainTextResponse("OK")

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as vendor:
        url = f"/postbacks/{merchant_id}"
        return await vendor.post(url, content=postback.body, headers=postback.headers), handled


@pytest.mark.parametrize("find", LOOKUPS, ids=["plain", "async", "partial", "returns an awaitable"])
async def test_fastapi_accepts_the_merchant_of_the_path_alone(find: Any) -> None:
    response, handled = await ask_fastapi(find, OF_A)
    assert (response.text, len(handled)) == ("OK", 1)
    forged, handled = await ask_fastapi(find, OF_B)
    assert (forged.status_code, handled) == (401, [])
    unknown, handled = await ask_fastapi(find, OF_B, "nobody")
    assert (unknown.status_code, unknown.content, handled) == (401, forged.content, [])


@pytest.mark.parametrize("merchant_id", ["a.b", "1234%0A", "a" * 65])
async def test_fastapi_looks_nobody_up_whose_id_is_odd(merchant_id: str) -> None:
    response, handled = await ask_fastapi(broken, OF_A, merchant_id)
    assert (response.status_code, handled) == (404, [])


@pytest.mark.parametrize("find", [broken, broken_too])
async def test_fastapi_logs_a_lookup_that_fails(find: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "wegetfinancing"):
        response, handled = await ask_fastapi(find, OF_A)
    assert (response.status_code, handled) == (503, [])
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], OSError)


def test_fastapi_documents_the_merchant() -> None:
    app = FastAPI()
    verified: Callable[..., Awaitable[Postback]] = postback_from(lookup)

    @app.post("/postbacks/{merchant_id}")
    async def receive(postback: Annotated[Postback, Depends(verified)]) -> None: ...

    parameters = app.openapi()["paths"]["/postbacks/{merchant_id}"]["post"]["parameters"]
    assert [each["name"] for each in parameters if each["in"] == "path"] == ["merchant_id"]


# The ledger


async def test_b_decides_nothing_about_a_loan_of_a_in_a_ledger() -> None:
    shop = LedgerShop()
    ledger = MemoryLedger(apply=shop)
    apply_for(ledger)
    app = PostbackApp(lookup, ledger=ledger, path=PATH)
    # Signed by B, for B, and about A's order and A's application.
    await deliver(app, B.merchant_id, OF_B)
    loan = ledger.loan("ORDER-123", merchant_id=A.merchant_id)
    assert loan is not None
    assert (loan.status, loan.may_ship, shop.told) == (None, False, [])
    review = ledger.review()
    assert [each.merchant_id for each in review.decisions] == [B.merchant_id]
    # The merchant's own decision still counts.
    assert await deliver(app, A.merchant_id, OF_A) == (200, b"OK")
    assert [each.merchant_id for each in shop.told] == [A.merchant_id]
