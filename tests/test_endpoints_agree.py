"""The endpoints over ASGI and WSGI answer the same requests alike, byte for byte."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from support.wsgi import Input
from wegetfinancing import Postback, sign_postback
from wegetfinancing.postbacks import BODY_LIMIT, NotYet, PostbackApp, ResponseStatuses, wsgi
from wegetfinancing.postbacks.receiving import CredentialsUnavailableError
from wegetfinancing.testing import credentials, signed_postback

pytestmark = pytest.mark.anyio

SHOP = credentials()
NOW = signed_postback()
OLD = signed_postback("rejected", timestamp="1700000000")
NOT_YET = signed_postback("preapproved")
FAILS = signed_postback("refund", amount="5")
SIGNED_GARBAGE = {"x-signature": sign_postback(b"{", "1", credentials()), "x-timestamp": "1"}
SIGNED_NOTHING = {"x-signature": sign_postback(b"", "1", credentials()), "x-timestamp": "1"}


@attrs.frozen(kw_only=True)
class Sent:
    """One request, as either protocol can say it."""

    body: bytes = NOW.body
    headers: dict[str, str] = NOW.headers
    method: str = "POST"
    path: str = "/postbacks"
    twice: str | None = None  # a header that comes once more
    is_chunked: bool = False
    max_age: float | None = None


REQUESTS = {
    "good": Sent(),
    "chunked": Sent(is_chunked=True),
    "old": Sent(body=OLD.body, headers=OLD.headers),
    "too old": Sent(body=OLD.body, headers=OLD.headers, max_age=300),
    "forged": Sent(body=NOW.body + b" "),
    "a signature of something else": Sent(headers=NOW.headers | {"x-signature": "0" * 64}),
    "a signature that is not one": Sent(headers=NOW.headers | {"x-signature": "\xff" * 64}),
    "a signature of two lines": Sent(twice="x-signature"),
    "a timestamp of two lines": Sent(twice="x-timestamp"),
    "a timestamp of letters": Sent(headers=NOW.headers | {"x-timestamp": "today"}),
    "no headers": Sent(headers={}),
    "no timestamp": Sent(headers={"x-signature": NOW.headers["x-signature"]}),
    "malformed": Sent(body=b"{", headers=SIGNED_GARBAGE),
    "empty": Sent(body=b""),
    "signed and empty": Sent(body=b"", headers=SIGNED_NOTHING),
    "chunked and empty": Sent(body=b"", headers=SIGNED_NOTHING, is_chunked=True),
    "as large as may be": Sent(body=b"x" * BODY_LIMIT),
    "too large": Sent(body=b"x" * (BODY_LIMIT + 1)),
    "chunked and too large": Sent(body=b"x" * (BODY_LIMIT + 1), is_chunked=True),
    "another content type": Sent(headers=NOW.headers | {"content-type": "text/plain"}),
    "GET": Sent(method="GET"),
    "PUT": Sent(method="PUT"),
    "another path": Sent(path="/postbacks/"),
    "a path of umlauts": Sent(path="/r\u00fcckruf"),
    "the order is not there yet": Sent(body=NOT_YET.body, headers=NOT_YET.headers),
    "the handler fails": Sent(body=FAILS.body, headers=FAILS.headers),
}


def answer_to(postback: Postback) -> None:
    if postback.status == "preapproved":
        raise NotYet
    if postback.status == "refund":
        raise ZeroDivisionError


async def answer_to_async(postback: Postback) -> None:
    answer_to(postback)


SETTINGS: dict[str, Any] = {
    "patience": 0,
    "path": "/postbacks",
    "statuses": ResponseStatuses(failed=502, not_yet=425),
}


async def over_asgi(sent: Sent, source: Any = SHOP, **changes: Any) -> tuple[int, dict[str, str], bytes, str]:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in sent.headers.items()]
    if sent.twice is not None:
        headers.append((sent.twice.encode(), sent.headers[sent.twice].encode()))
    scope = {"type": "http", "method": sent.method, "path": sent.path, "headers": headers}
    answered: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": sent.body}

    async def send(message: Any) -> None:
        answered.append(message)

    failure = ""
    try:
        settings = SETTINGS | changes
        await PostbackApp(source, answer_to_async, max_age=sent.max_age, **settings)(scope, receive, send)
    except (ZeroDivisionError, CredentialsUnavailableError) as error:
        failure = repr(error)
    start, end = answered
    named = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], named, end["body"], failure


def over_wsgi(sent: Sent, source: Any = SHOP, **changes: Any) -> tuple[int, dict[str, str], bytes, str]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": sent.method,
        "PATH_INFO": sent.path.encode().decode("latin-1"),
        "wsgi.input": Input(sent.body),
    }
    for name, value in sent.headers.items():
        both = value if sent.twice != name else f"{value},{value}"
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = both
    framing = (
        {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        if sent.is_chunked
        else {"CONTENT_LENGTH": str(len(sent.body))}
    )
    started: list[Any] = []
    body, failure = b"", ""
    app = wsgi.PostbackApp(source, answer_to, max_age=sent.max_age, **SETTINGS | changes)
    try:
        for chunk in app(environ | framing, lambda *start: started.append(start)):
            body += chunk
    except (ZeroDivisionError, CredentialsUnavailableError) as error:
        failure = repr(error)
    ((line, headers),) = started
    return int(line[:3]), dict(headers), body, failure


@pytest.mark.parametrize("name", REQUESTS)
async def test_both_endpoints_give_the_same_answer(name: str) -> None:
    assert over_wsgi(REQUESTS[name]) == await over_asgi(REQUESTS[name])


def broken(_: str) -> None:
    raise OSError


LOOKUPS: dict[str, Callable[[str], Any]] = {
    "known": lambda _: credentials(),
    "rotating": lambda _: [credentials(password="next"), credentials()],
    "unknown": lambda _: None,
    "another merchant's": lambda _: credentials(merchant_id="another"),
    "broken": broken,
}


@pytest.mark.parametrize("lookup", LOOKUPS)
@pytest.mark.parametrize("name", REQUESTS)
async def test_both_endpoints_give_the_same_answer_with_a_lookup(name: str, lookup: str) -> None:
    settings: dict[str, Any] = {"source": LOOKUPS[lookup], "path": "/postbacks/{merchant_id}"}
    sent = REQUESTS[name]
    for path in (f"{sent.path}/1234", f"{sent.path}/a.b", sent.path):
        asked = attrs.evolve(sent, path=path)
        assert over_wsgi(asked, **settings) == await over_asgi(asked, **settings)


async def test_the_requests_cover_every_answer() -> None:
    statuses = {over_wsgi(sent)[0] for sent in REQUESTS.values()}
    assert statuses == {200, 400, 401, 404, 405, 413, 425, 502}
