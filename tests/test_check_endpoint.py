"""``wegetfinancing check --postback-url``: against endpoints that are broken in each way."""

import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, Router

from support.environment import set_credentials
from support.ledgers import memory_ledgers, sqlite_ledgers
from support.serving import Served, serving
from wegetfinancing import (
    MalformedPostbackError,
    Postback,
    SignatureError,
    UnknownPostback,
    parse_postback,
    parse_unverified_postback,
)
from wegetfinancing.__main__ import main
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.ledger import MemoryLedger
from wegetfinancing.postbacks import NotYet, PostbackApp
from wegetfinancing.testing import credentials, signed_postback

Checks: TypeAlias = dict[str, dict[str, str]]
Check: TypeAlias = Callable[..., tuple[int, Checks]]

VENDOR = ["settings", "dns", "tls", "credentials"]
ENDPOINT = ["genuine", "forged", "unsigned", "old", "oversized", "get"]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    served = Served()
    with serving(served) as served.url:
        yield served


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch)


@pytest.fixture
def emulator(server: Served, settings: None, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """An emulator that the settings name, beside whatever endpoint a test adds."""
    emulator = Emulator(credentials(), page=f"{server.url}/lc/")
    server.app = emulator_app(emulator)
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", server.url)
    return emulator


class Shop:
    """Keeps what reached the handler."""

    def __init__(self, *, is_waiting: bool = False) -> None:
        self.handled: list[Postback] = []
        self.is_waiting = is_waiting

    async def __call__(self, postback: Postback) -> None:
        if self.is_waiting:
            raise NotYet
        self.handled.append(postback)


@pytest.fixture
def check(server: Served, emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the command with ``--json`` against the emulator and an endpoint."""
    vendor = server.app

    def run(
        endpoint: Any, *arguments: str, path: str = "/postbacks"
    ) -> tuple[int, dict[str, dict[str, str]]]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            is_ours = scope["path"].startswith(path)
            await (endpoint if is_ours else vendor)(scope, receive, send)

        server.app = app
        status = main(["check", "--json", "--postback-url", f"{server.url}{path}", *arguments])
        told = json.loads(capsys.readouterr().out)
        assert told["ok"] is (status == 0)
        assert all(bool(each["remedy"]) is (each["status"] == "failed") for each in told["checks"])
        return status, {each["name"]: each for each in told["checks"]}

    return run


def statuses(checks: Checks) -> dict[str, str]:
    return {name: each["status"] for name, each in checks.items() if name in ENDPOINT}


def failures(checks: Checks) -> list[str]:
    return [name for name, each in checks.items() if each["status"] == "failed"]


def test_the_endpoint_of_the_package_is_right(check: Check) -> None:
    shop = Shop()
    status, checks = check(PostbackApp(credentials(), shop, max_age=300), "--max-age", "300")
    assert status == 0
    assert set(checks) == {*VENDOR, *ENDPOINT}
    (postback,) = shop.handled  # the old one was refused
    assert isinstance(postback, UnknownPostback)
    assert postback.inv_id == "wegetfinancing-check"
    assert str(postback.merchant_transaction_id).startswith("wegetfinancing-check-")


def test_an_endpoint_without_a_max_age_accepts_an_old_one(check: Check) -> None:
    shop = Shop()
    status, checks = check(PostbackApp(credentials(), shop))
    assert status == 0
    assert "as a ledger does" in checks["old"]["text"]
    assert {type(each) for each in shop.handled} == {UnknownPostback}
    assert len({each.key for each in shop.handled}) == 2  # none is taken for a repeat of another


def test_a_max_age_that_is_not_there_is_told(check: Check) -> None:
    status, checks = check(PostbackApp(credentials(), Shop()), "--max-age", "300")
    assert status == 1
    assert failures(checks) == ["old"]
    assert "--max-age" in checks["old"]["remedy"]


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_a_ledger_has_nothing_to_review_afterwards(check: Check, storage: str, tmp_path: Path) -> None:
    handled = []
    with memory_ledgers() if storage == "memory" else sqlite_ledgers(tmp_path) as new_ledger:
        ledger = new_ledger(apply=lambda _, decision: handled.append(decision))
        status, checks = check(PostbackApp(credentials(), ledger=ledger))
        assert status == 0
        assert "accepted" in checks["old"]["text"]
        assert ledger.review().decisions == ()
    assert handled == []


def test_an_approval_with_the_id_of_the_check_is_reviewed_as_any_other() -> None:
    ledger = MemoryLedger(apply=lambda *_: None)
    made = signed_postback(inv_id="wegetfinancing-check")
    ledger.record(parse_postback(made.body, made.headers, credentials()))
    assert [each.status for each in ledger.review().decisions] == ["approved"]


Endpoint = Callable[[Request], Awaitable[Response]]


def route(endpoint: Endpoint, *methods: str) -> Router:
    return Router([Route("/postbacks", endpoint, methods=list(methods or ["POST"]))])


async def believes(request: Request) -> Response:
    await request.body()
    return PlainTextResponse("OK")


async def verifies_if_signed(request: Request) -> Response:
    if "x-signature" not in request.headers:
        return PlainTextResponse("OK")
    return await verifies(request)


async def verifies(request: Request) -> Response:
    return answer(await request.body(), request)


async def verifies_what_it_has_written_again(request: Request) -> Response:
    return answer(json.dumps(await request.json()).encode(), request)


def answer(body: bytes, request: Request) -> Response:
    try:
        parse_postback(body, request.headers, credentials())
    except SignatureError as error:
        return PlainTextResponse(str(error), 401)
    except MalformedPostbackError:
        return PlainTextResponse("malformed", 400)
    return PlainTextResponse("OK")


async def refuses_forms_of_other_sites(request: Request) -> Response:
    del request
    return Response("<p>CSRF token missing\n</p>", 403, media_type="text/html")


async def redirects(request: Request) -> Response:
    return RedirectResponse(f"{request.url}/")


async def fails(request: Request) -> Response:
    await request.body()
    return PlainTextResponse("Internal\nServer Error", 500)


async def accepts(request: Request) -> Response:
    return Response(status_code=204 if (await verifies(request)).status_code == 200 else 401)


@pytest.mark.parametrize(
    ("endpoint", "failing", "name", "told"),
    [
        (route(believes), ["forged", "unsigned", "oversized"], "forged", "it acts on what anybody can send"),
        (
            route(verifies_if_signed),
            ["unsigned", "oversized"],
            "unsigned",
            "it acts on what anybody can send",
        ),
        (route(verifies), ["oversized"], "oversized", "HTTP 200 (OK), not 413; refuse bodies over 64 KiB"),
        (
            route(verifies_what_it_has_written_again),
            ["genuine", "oversized"],
            "genuine",
            "parsed and rewritten JSON does not verify",
        ),
        (route(verifies, "GET", "POST"), ["oversized", "get"], "get", "accept nothing but POST"),
        (route(refuses_forms_of_other_sites), ENDPOINT[:-1], "genuine", "HTTP 403, not 200; a CSRF check"),
        (route(redirects), ENDPOINT[:-1], "genuine", "and use a route, not a mount"),
        (route(fails), ENDPOINT[:-1], "genuine", "HTTP 500, not 200; the handler failed"),
        (route(accepts), ["genuine", "old", "oversized"], "genuine", "answer 200"),
        (Router([]), ENDPOINT, "genuine", "nothing is served at this path"),
    ],
)
def test_what_is_wrong_with_an_endpoint_is_told(
    check: Check, endpoint: Any, failing: list[str], name: str, told: str
) -> None:
    status, checks = check(endpoint)
    assert status == 1
    assert failures(checks) == failing
    assert told in f"{checks[name]['text']}; {checks[name]['remedy']}"


@pytest.mark.parametrize(("arguments", "age"), [([], 365 * 86_400), (["--max-age", "300"], 720)])
def test_what_is_posted_is_as_old_and_as_large_as_it_is_said_to_be(
    check: Check, arguments: list[str], age: float
) -> None:
    received: list[tuple[bytes, dict[str, str]]] = []

    async def keep(request: Request) -> Response:
        received.append((await request.body(), dict(request.headers)))
        return await verifies(request)

    began = int(time.time())
    check(route(keep), *arguments)
    genuine, forged, unsigned, old, oversized = received
    assert began <= int(genuine[1]["x-timestamp"]) <= time.time()
    assert int(genuine[1]["x-timestamp"]) - int(old[1]["x-timestamp"]) == age
    assert forged[1]["x-signature"] == genuine[1]["x-signature"]
    assert forged[0] != genuine[0] == unsigned[0]
    assert len(oversized[0]) == 65_537
    for body, _ in received:
        assert isinstance(parse_unverified_postback(body), UnknownPostback)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (299, "answer 200"),
        (300, "use a route, not a mount"),
        (399, "use a route, not a mount"),
        (400, "the endpoint cannot read the body"),
        (405, "does not accept POST"),
        (418, "answer 200"),
    ],
)
def test_every_status_has_its_remedy(check: Check, status: int, told: str) -> None:
    async def answers(request: Request) -> Response:
        await request.body()
        return Response(status_code=status)

    _, checks = check(route(answers))
    assert checks["genuine"]["text"] == f"HTTP {status}, not 200"
    assert told in checks["genuine"]["remedy"]


def test_an_endpoint_with_other_credentials_is_told(check: Check) -> None:
    status, checks = check(PostbackApp(credentials(password="other"), Shop()))
    assert status == 1
    assert failures(checks) == ["genuine"]
    assert checks["genuine"]["text"].startswith("HTTP 401 (x-signature does not match the body")
    assert "it verifies with other credentials" in checks["genuine"]["remedy"]


def test_a_handler_that_waits_for_an_order_that_does_not_exist_is_told(check: Check) -> None:
    status, checks = check(PostbackApp(credentials(), Shop(is_waiting=True), patience=0))
    assert status == 1
    assert failures(checks) == ["genuine", "old"]
    assert "return for UnknownPostback before" in checks["genuine"]["remedy"]


def test_an_endpoint_that_is_not_there_is_told_once(check: Check, server: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/postbacks"
    status, checks = check(None, "--postback-url", nobody)
    assert status == 1
    assert statuses(checks) == {"genuine": "failed"} | dict.fromkeys(ENDPOINT[1:], "skipped")
    assert f"is {nobody} running" in checks["genuine"]["remedy"]


def test_an_endpoint_that_does_not_answer_is_told(check: Check) -> None:
    async def hangs_up(scope: Any, receive: Any, send: Any) -> None:
        await receive()  # uvicorn closes a connection without an answer as 500
        raise RuntimeError

    status, checks = check(hangs_up)
    assert status == 1
    assert failures(checks) == ENDPOINT


@pytest.mark.usefixtures("settings")
def test_every_probe_is_tried_where_an_answer_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEGETFINANCING_BASE_URL", "https://vendor.invalid")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/postbacks"
        assert main(["check", "--postback-url", url, "--timeout", "0.1"]) == 1
    lines = capsys.readouterr().out.splitlines()[4:]
    assert [line.split()[:2] for line in lines] == [["failed", name] for name in ENDPOINT]
