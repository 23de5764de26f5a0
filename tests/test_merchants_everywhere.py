"""Whatever a postback comes in through, shop B never signs for shop A."""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias
from urllib.parse import unquote

import anyio.lowlevel
import httpx
import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import Resolver404, path, resolve
from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse
from flask import Flask

from support import asgi as asgi_server
from support import django_project as django_project  # noqa: PLC0414 - Django's settings
from support import wsgi as wsgi_server
from support.wsgi import SyncShop, environ_of
from test_tracebacks import locals_of_our_frames
from wegetfinancing import ConfigurationError, Credentials, MalformedPostbackError, SignatureError
from wegetfinancing import parse_postback as parse
from wegetfinancing.contrib import django, flask
from wegetfinancing.contrib.fastapi import postback_from
from wegetfinancing.ledger import MemoryLedger
from wegetfinancing.postbacks import CredentialsLookup, PostbackApp, wsgi
from wegetfinancing.postbacks.receiving import CredentialsUnavailableError
from wegetfinancing.testing import SignedPostback, credentials, signed_postback
from wegetfinancing.testing.contract.ledger_checking import Shop as LedgerShop
from wegetfinancing.testing.contract.ledger_checking import apply_for, begin, created

pytestmark = pytest.mark.anyio

A = credentials()
A_BEFORE = credentials(password="before")
B = credentials(merchant_id="shop_B-2", username="b-user", password="b-password")
MERCHANTS: dict[str, list[Credentials]] = {A.merchant_id: [A_BEFORE, A], B.merchant_id: [B]}
OF_A, OF_B = signed_postback(credentials=A), signed_postback(credentials=B)
PATH = "/postbacks/{merchant_id}"

Answer: TypeAlias = tuple[int, bytes]
Deliver: TypeAlias = Callable[[str, SignedPostback], Awaitable[Answer]]
Entry: TypeAlias = Callable[[CredentialsLookup, list[str]], Deliver]
"""Makes an entry point with a lookup, and the list of the merchants whose postbacks were handled."""


def lookup(merchant_id: str) -> list[Credentials] | None:
    return MERCHANTS.get(merchant_id)


async def awaited_lookup(merchant_id: str) -> list[Credentials] | None:
    await anyio.lowlevel.checkpoint()
    return MERCHANTS.get(merchant_id)


def broken(_: str) -> None:
    raise OSError("the database is away")


def of_another(_: str) -> Credentials:
    return A


def path_of(merchant_id: str) -> str:
    return f"/postbacks/{merchant_id}"


def function(find: Any, handled: list[str]) -> Deliver:
    """``parse_postback``, with the credentials of the merchant who is asked about."""

    async def deliver(merchant_id: str, postback: SignedPostback) -> Answer:
        try:
            handled.append(str(parse(postback.body, postback.headers, find(merchant_id)).merchant_id))
        except (SignatureError, MalformedPostbackError):
            return 401, b""
        return 200, b"OK"

    return deliver


def asgi(find: CredentialsLookup, handled: list[str]) -> Deliver:
    async def handle(postback: Any) -> None:
        handled.append(postback.merchant_id)

    return over_asgi(PostbackApp(find, handle, path=PATH))


def asgi_ledger(find: CredentialsLookup, handled: list[str]) -> Deliver:
    return over_asgi(PostbackApp(find, ledger=ledger_of_both(handled), path=PATH))


def wsgi_app(find: CredentialsLookup, handled: list[str]) -> Deliver:
    return over_wsgi(wsgi.PostbackApp(find, kept_in(handled), path=PATH))


def wsgi_ledger(find: CredentialsLookup, handled: list[str]) -> Deliver:
    return over_wsgi(wsgi.PostbackApp(find, ledger=ledger_of_both(handled), path=PATH))


def flask_view(find: CredentialsLookup, handled: list[str]) -> Deliver:
    return over_flask(flask.postback_view(find, kept_in(handled)))


def flask_ledger(find: CredentialsLookup, handled: list[str]) -> Deliver:
    return over_flask(flask.postback_view(find, ledger=ledger_of_both(handled)))


def django_view(find: CredentialsLookup, handled: list[str]) -> Deliver:
    return over_django(django.postback_view(ledger=ledger_of_both(handled), credentials=find))


def django_handler(find: CredentialsLookup, handled: list[str]) -> Deliver:
    ledger = ledger_of_both(handled, lambda **_: MemoryLedger())
    return over_django(django.postback_view(kept_in(handled), ledger=ledger, credentials=find))


def django_async_view(find: CredentialsLookup, handled: list[str]) -> Deliver:
    return over_django(django.async_postback_view(ledger=ledger_of_both(handled), credentials=find))


def fastapi(find: CredentialsLookup, handled: list[str]) -> Deliver:
    app = FastAPI()
    verified = Depends(postback_from(find))

    @app.post(PATH)
    async def receive(postback: Annotated[Any, verified]) -> PlainTextResponse:
        handled.append(postback.merchant_id)
        return PlainTextResponse("OK")

    async def deliver(merchant_id: str, postback: SignedPostback) -> Answer:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as vendor:
            url = path_of(merchant_id)
            answer = await vendor.post(url, content=postback.body, headers=postback.headers)
            return answer.status_code, answer.content

    return deliver


def kept_in(handled: list[str]) -> Callable[[Any], None]:
    def handle(postback: Any) -> None:
        handled.append(postback.merchant_id)

    return handle


class Told(LedgerShop):
    """An ``apply`` that keeps whose orders it was told about."""

    def __init__(self, handled: list[str]) -> None:
        super().__init__()
        self.handled = handled

    def __call__(self, connection: object, decision: Any) -> None:
        super().__call__(connection, decision)
        self.handled.append(decision.merchant_id)


def ledger_of_both(handled: list[str], make: Callable[..., Any] = MemoryLedger) -> Any:
    """Make a ledger in which either merchant has applied, under the same order ID and ``inv_id``."""
    ledger = make(apply=Told(handled))
    for each in (A, B):
        apply_for(ledger, merchant_id=each.merchant_id)
    return ledger


def over_asgi(app: PostbackApp) -> Deliver:
    async def deliver(merchant_id: str, postback: SignedPostback) -> Answer:
        path = path_of(merchant_id)
        status, _, body = await asgi_server.call(app, postback.body, postback.headers, path=path)
        return status, body

    return deliver


def over_wsgi(app: wsgi.PostbackApp) -> Deliver:
    async def deliver(merchant_id: str, postback: SignedPostback) -> Answer:
        path = path_of(merchant_id)
        return wsgi_server.call(app, postback.body, headers=postback.headers, PATH_INFO=path)

    return deliver


def over_flask(view: Callable[..., Any], rule: str = "/postbacks/<merchant_id>") -> Deliver:
    app = Flask(__name__)
    app.add_url_rule(rule, view_func=view)

    async def deliver(merchant_id: str, postback: SignedPostback) -> Answer:
        path = rule.replace("<merchant_id>", merchant_id)
        answer = app.test_client().post(path, data=postback.body, headers=postback.headers)
        return answer.status_code, answer.data

    return deliver


def over_django(view: Callable[..., Any], rule: str = "postbacks/<str:merchant_id>") -> Deliver:
    urls: Any = (path(rule, view),)

    async def deliver(merchant_id: str, postback: SignedPostback) -> Answer:
        address = "/" + unquote(rule.replace("<str:merchant_id>", merchant_id))
        try:
            match = resolve(address, urls)
        except Resolver404:
            return 404, b""
        changes: dict[str, Any] = {"headers": postback.headers}
        request = RequestFactory().post(address, postback.body, "application/json", **changes)
        answer = match.func(request, *match.args, **match.kwargs)
        found: HttpResponse = await answer if inspect.isawaitable(answer) else answer
        return found.status_code, found.content

    return deliver


AWAITING: dict[str, Entry] = {
    "asgi": asgi,
    "asgi, ledger": asgi_ledger,
    "fastapi": fastapi,
    "django, async": django_async_view,
}
BLOCKING: dict[str, Entry] = {
    "wsgi": wsgi_app,
    "wsgi, ledger": wsgi_ledger,
    "flask": flask_view,
    "flask, ledger": flask_ledger,
    "django": django_view,
    "django, handler": django_handler,
}
ENDPOINTS = AWAITING | BLOCKING
ENTRIES = ENDPOINTS | {"function": function}
EVERY_ENTRY = pytest.mark.parametrize("name", ENTRIES)
EVERY_ENDPOINT = pytest.mark.parametrize("name", ENDPOINTS)
EVERY_BLOCKING_ENDPOINT = pytest.mark.parametrize("name", BLOCKING)


@EVERY_ENTRY
async def test_each_merchant_signs_for_itself(name: str) -> None:
    handled: list[str] = []
    deliver = ENTRIES[name](lookup, handled)
    assert await deliver(A.merchant_id, OF_A) == (200, b"OK")
    assert await deliver(B.merchant_id, OF_B) == (200, b"OK")
    assert handled == [A.merchant_id, B.merchant_id]


@EVERY_ENTRY
async def test_b_does_not_sign_for_a(name: str) -> None:
    handled: list[str] = []
    deliver = ENTRIES[name](lookup, handled)
    assert (await deliver(A.merchant_id, OF_B))[0] == 401
    assert (await deliver(B.merchant_id, OF_A))[0] == 401
    assert handled == []


@EVERY_ENDPOINT
async def test_a_password_can_be_rotated(name: str) -> None:
    deliver = ENDPOINTS[name](lookup, [])
    assert await deliver(A.merchant_id, signed_postback(credentials=A_BEFORE)) == (200, b"OK")


@EVERY_ENDPOINT
async def test_no_answer_tells_which_merchants_there_are(name: str) -> None:
    handled: list[str] = []
    deliver = ENDPOINTS[name](lookup, handled)
    assert await deliver("nobody", OF_B) == await deliver(A.merchant_id, OF_B)
    assert handled == []


@EVERY_ENDPOINT
@pytest.mark.parametrize("merchant_id", ["a.b", "1234%0A", "a" * 65])
async def test_nobody_is_looked_up_whose_id_is_odd(name: str, merchant_id: str) -> None:
    asked: list[str] = []
    deliver = ENDPOINTS[name](asked.append, [])
    assert ((await deliver(merchant_id, OF_A))[0], asked) == (404, [])


async def is_unavailable(deliver: Deliver, merchant_id: str = A.merchant_id) -> bool:
    """Deliver; the server hears of the failure by its exception or by the log."""
    try:
        return (await deliver(merchant_id, OF_A))[0] == 503
    except CredentialsUnavailableError:
        return True


@EVERY_ENDPOINT
@pytest.mark.parametrize("find", [broken, lambda _: [A, B], lambda _: ("1234", "user", "password")])
async def test_a_lookup_that_fails_loses_nothing(
    name: str, find: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[Any] = [find]

    def fails_first(merchant_id: str) -> Any:
        return found.pop()(merchant_id) if found else MERCHANTS[merchant_id]

    handled: list[str] = []
    deliver = ENDPOINTS[name](fails_first, handled)
    with caplog.at_level(logging.ERROR):
        assert await is_unavailable(deliver)
    assert handled == []
    # What comes again is the first delivery.
    assert await deliver(A.merchant_id, OF_A) == (200, b"OK")
    assert handled == [A.merchant_id]


@EVERY_ENDPOINT
async def test_a_lookup_that_ignores_case_does_not_let_one_merchant_be_two(name: str) -> None:
    handled: list[str] = []
    deliver = ENDPOINTS[name](of_another, handled)
    assert await is_unavailable(deliver, "another")
    assert (await deliver("another", OF_B))[0] == 401  # a stranger hears nothing of it
    assert handled == []


@pytest.mark.parametrize("name", AWAITING)
async def test_an_async_lookup_is_awaited_where_that_can_be(name: str) -> None:
    handled: list[str] = []
    deliver = AWAITING[name](awaited_lookup, handled)
    assert await deliver(A.merchant_id, OF_A) == (200, b"OK")
    assert (await deliver(A.merchant_id, OF_B))[0] == 401
    assert handled == [A.merchant_id]


@EVERY_BLOCKING_ENDPOINT
@pytest.mark.parametrize("find", [awaited_lookup, functools.partial(awaited_lookup)])
def test_an_async_lookup_is_refused_where_nothing_awaits_it(name: str, find: Any) -> None:
    with pytest.raises(ConfigurationError, match="the lookup is async"):
        BLOCKING[name](find, [])


@EVERY_BLOCKING_ENDPOINT
async def test_a_lookup_that_turns_out_to_be_async_is_answered_503(name: str) -> None:
    handled: list[str] = []
    deliver = BLOCKING[name](lambda merchant_id: awaited_lookup(merchant_id), handled)  # noqa: PLW0108 - a plain function
    assert await is_unavailable(deliver)
    assert handled == []


# What one endpoint does in its own way


@pytest.mark.parametrize(
    ("source", "path"),
    [(lookup, None), (lookup, "/postbacks"), (lookup, PATH * 2), (A, PATH)],
    ids=["no path", "no place", "two places", "no lookup"],
)
def test_over_wsgi_the_path_names_the_merchant_if_and_only_if_there_is_a_lookup(
    source: Any, path: str | None
) -> None:
    with pytest.raises(ConfigurationError, match="path must name the merchant"):
        wsgi.PostbackApp(source, SyncShop(), path=path)


@pytest.mark.parametrize(
    ("source", "rule"), [(lookup, "/postbacks"), (A, "/postbacks/<merchant_id>")], ids=["lookup", "none"]
)
async def test_in_flask_the_rule_names_the_merchant_if_and_only_if_there_is_a_lookup(
    source: Any, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = SyncShop()
    deliver = over_flask(flask.postback_view(source, shop), rule)
    assert await deliver(A.merchant_id, OF_A) == (500, b"failed")
    assert "path must name the merchant" in caplog.text
    assert shop.handled == []


@pytest.mark.parametrize("make", [django.postback_view, django.async_postback_view])
@pytest.mark.parametrize(
    ("source", "rule"), [(lookup, "postbacks"), (A, "postbacks/<str:merchant_id>")], ids=["lookup", "none"]
)
async def test_in_django_the_path_names_the_merchant_if_and_only_if_there_is_a_lookup(
    make: Callable[..., Any], source: Any, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[str] = []
    deliver = over_django(make(ledger=ledger_of_both(handled), credentials=source), rule)
    assert await deliver(A.merchant_id, OF_A) == (500, b"failed")
    assert "path must name the merchant" in caplog.text
    assert handled == []


@pytest.mark.parametrize(
    "use",
    [
        lambda several: wsgi.PostbackApp(several, SyncShop()),
        lambda several: flask.postback_view(several, SyncShop()),
        lambda several: django.postback_view(credentials=several),
        lambda several: django.async_postback_view(credentials=several),
    ],
    ids=["wsgi", "flask", "django", "django, async"],
)
def test_credentials_of_several_merchants_are_refused(use: Callable[..., object]) -> None:
    with pytest.raises(ConfigurationError, match="all be of one merchant"):
        use([A, B])


@pytest.mark.parametrize("find", [broken, of_another])
def test_what_a_lookup_raises_over_wsgi_shows_neither_the_body_nor_the_signature(find: Any) -> None:
    app = wsgi.PostbackApp(find, SyncShop(), path=PATH)
    environ = environ_of(OF_A.body, OF_A.headers, PATH_INFO=path_of("1235"))
    answered: list[str] = []
    with pytest.raises(CredentialsUnavailableError) as caught:
        list(app(environ, lambda status, _: answered.append(status)))
    assert answered == ["503 Service Unavailable"]
    seen = locals_of_our_frames(caught.value)
    assert "ORDER-123" not in seen
    assert OF_A.headers["x-signature"] not in seen


# Two merchants with one API user: the signature cannot tell them apart, and the path is not signed

C = credentials(merchant_id="shop_C")


def lookup_of_a_shared_user(merchant_id: str) -> list[Credentials]:
    return [A] if merchant_id == A.merchant_id else [C]


async def replay_to_c(ledger: MemoryLedger) -> None:
    """Deliver A's postback to C's path."""
    deliver = over_wsgi(wsgi.PostbackApp(lookup_of_a_shared_user, ledger=ledger, path=PATH))
    ledger.beat("worker")
    assert (await deliver(C.merchant_id, OF_A))[0] == 200
    loan = ledger.loan("ORDER-123", merchant_id=A.merchant_id)
    assert loan is not None
    assert (loan.status, loan.held) == (None, ())


async def test_a_replay_to_another_path_of_a_shared_user_finds_no_order_there() -> None:
    handled: list[str] = []
    ledger = MemoryLedger(apply=Told(handled))
    apply_for(ledger)
    await replay_to_c(ledger)
    assert handled == []
    assert [(each.merchant_id, each.state) for each in ledger.review().decisions] == [("shop_C", "unmatched")]


async def test_a_replay_to_another_path_of_a_shared_user_does_not_decide_an_order_of_the_same_id() -> None:
    handled: list[str] = []
    ledger = MemoryLedger(apply=Told(handled))
    apply_for(ledger)
    apply_for(ledger, inv_id="of-c", merchant_id=C.merchant_id)
    await replay_to_c(ledger)
    loan = ledger.loan("ORDER-123", merchant_id=C.merchant_id)
    assert loan is not None
    assert (handled, loan.status, [each.code for each in loan.held]) == ([], None, ["foreign_inv_id"])


async def test_a_replay_to_another_path_of_a_shared_user_ships_nothing_while_the_id_is_not_known() -> None:
    ledger = MemoryLedger(apply=Told([]))
    apply_for(ledger)
    intent = begin(ledger, merchant_id=C.merchant_id)
    await replay_to_c(ledger)  # the order ID is all there is to go by
    for hold in ("amount_not_seen", "foreign_inv_id"):
        loan = ledger.loan("ORDER-123", merchant_id=C.merchant_id)
        assert loan is not None
        assert (loan.may_ship, [each.code for each in loan.held]) == (False, [hold])
        ledger.record_answer(intent, created("of-c"))
