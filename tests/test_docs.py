"""The examples in docs/, run as they stand there, and the scripts of examples/."""

import ast
import contextlib
import os
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import many_merchants
import pytest
import respx
from flask import Flask

from support.fault_server import Act, Peer, raw_server
from wegetfinancing import (
    AsyncClient,
    CallError,
    Client,
    InvalidRequestError,
    Outcome,
    Transport,
    TransportError,
    sign_postback,
)
from wegetfinancing.emulator import FAULTS
from wegetfinancing.postbacks import wsgi
from wegetfinancing.testing import (
    INV_ID,
    created_response,
    credentials,
    financing_request,
    signed_postback,
)

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))
}
BLOCKS = [
    (page, number, block)
    for page, text in PAGES.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
]
FILES = {
    page: dict(files)
    for page, text in PAGES.items()
    if (files := re.findall(r'```python title="([^"]+)"\n(.*?)```', text, re.DOTALL))
}


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(("page", "number", "block"), BLOCKS, ids=[f"{page}-{n}" for page, n, _ in BLOCKS])
async def test_an_example_of_the_docs_runs_as_it_stands(
    page: str, number: int, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    if "update_shipping(" in block:
        created = next(block for page, _, block in BLOCKS if page == "create-request.md")
        await anyio.to_thread.run_sync(exec, created, {})
    code = compile(block, f"{page}-{number}", "exec")
    if "anyio.run(" in block or re.search(r"\bClient\b", block):  # neither runs inside an event loop
        await anyio.to_thread.run_sync(exec, code, names)
    else:
        exec(code, names)  # noqa: S102 - what is tested
    if isinstance(names.get("client"), Client):
        names["client"].close()
    if isinstance(names.get("app"), Flask) and {"checkout", "orders"} <= set(names):
        await check_the_checkout(names["app"])
    if "financing_request_from" in names:
        await check_the_dependency(names["app"])
    elif "app" in names and "ledger" in names:
        await check_the_ledger(names)
    elif "app" in names and "Redis" not in names:
        await check_the_app(names)
    if "receive" in names and "app" not in names:
        check_the_function(names["receive"])
    if "engine" in names:
        names["ledger"].close()
        names["engine"].dispose()


async def check_the_dependency(app: Any) -> None:
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as browser:
            form = {"first_name": "Jane", "last_name": "Doe", "email": "jane@example.com"}
            place = {"street1": "123 Main St", "city": "New York", "state": "NY", "zipcode": "10001"}
            form |= {f"billing_address.{name}": value for name, value in place.items()}
            accepted = await browser.post("/checkout/ORDER-123", data=form)
            refused = await browser.post("/checkout/ORDER-123", data=form | {"amount": "1"})
            unknown = await browser.post("/checkout/ORDER-124", data=form)
            respx.route(host="api.sandbox.wegetfinancing.com").respond(502)
            lost = await browser.post("/checkout/ORDER-123", data=form)
    assert (accepted.status_code, refused.status_code, unknown.status_code) == (303, 422, 404)
    assert (lost.status_code, lost.text) == (202, "Your application is pending.")
    assert accepted.headers["location"].startswith("https://")


async def check_the_ledger(names: dict[str, Any]) -> None:
    with contextlib.closing(sqlite3.connect("shop.db")) as orders:
        orders.executescript("CREATE TABLE orders (id, status); INSERT INTO orders VALUES ('ORDER-123', '')")
        async with names["client"] as client:
            created = [await client.create_request(financing_request()) for _ in range(2)]
        assert created[0].href == created[1].href
        made = signed_postback()
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as vendor:
            for _ in range(2):
                response = await vendor.post("/postbacks", content=made.body, headers=made.headers)
                assert (response.status_code, response.text) == (200, "OK")
        assert orders.execute("SELECT status FROM orders").fetchall() == [("approved",)]
    assert names["ledger"].loan("ORDER-123").may_ship
    names["ledger"].close()


async def check_the_app(names: dict[str, Any]) -> None:
    made = signed_postback()
    path = "/postbacks/1234" if "lookup" in names else "/postbacks"
    for _ in range(2):
        response = await post(names["app"], made.body, made.headers, path=path)
        assert (response.status_code, response.text) == (200, "OK")
    forged = await post(names["app"], made.body + b" ", made.headers, path=path)
    assert forged.status_code == 401
    # As `wegetfinancing check` posts it: whoever copies the example has an endpoint that passes.
    unknown = b'{"request_token": "wegetfinancing-check", "updates": {"status": "wegetfinancing-check"}}'
    signature = sign_postback(unknown, made.headers["x-timestamp"], credentials())
    response = await post(names["app"], unknown, made.headers | {"x-signature": signature}, path=path)
    assert (response.status_code, response.text) == (200, "OK")
    # As the vendor documents it, without the order id.
    made = signed_postback("rejected", merchant_transaction_id=None)
    response = await post(names["app"], made.body, made.headers, path=path)
    assert response.status_code == 200
    if "orders" in names:
        assert [each["state"] for each in names["orders"]] == ["rejected"]
    if "database" in names:
        assert list(names["database"].execute("SELECT state FROM orders")) == [("rejected",)]
        names["database"].close()


async def post(
    app: Any, body: bytes, headers: Mapping[str, str], *, path: str = "/postbacks"
) -> httpx.Response:
    url = f"http://shop.test{path}"
    if isinstance(app, Flask | wsgi.PostbackApp):
        sync_vendor = httpx.Client(transport=httpx.WSGITransport(app))
        return await anyio.to_thread.run_sync(lambda: sync_vendor.post(url, content=body, headers=headers))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as vendor:
        return await vendor.post(url, content=body, headers=headers)


async def check_the_checkout(app: Flask) -> None:
    response = await anyio.to_thread.run_sync(lambda: app.test_client().post("/checkout"))
    assert response.status_code == 302
    assert response.headers["location"].startswith("https://")
    app.extensions["wegetfinancing"].close()


def check_the_function(receive: Callable[..., tuple[int, str]]) -> None:
    for status in ("approved", "preapproved", "rejected", "refund"):
        made = signed_postback(status, amount="5" if status == "refund" else None)
        assert receive(made.body, made.headers, credentials()) == (200, "OK")
    assert receive(made.body, {}, credentials())[0] == 401


def test_every_name_in_the_settings_table_exists() -> None:
    modules = [ROOT / "wegetfinancing" / name for name in ("credentials.py", "client/settings.py")]
    source = "".join(module.read_text(encoding="utf-8") for module in modules)
    named = set(re.findall(r"`(WEGETFINANCING_[A-Z_]+)`", PAGES["settings.md"]))
    assert named == set(re.findall(r'"(WEGETFINANCING_[A-Z_]+)"', source))


def test_the_faults_in_the_docs_are_those_there_are() -> None:
    rows = re.findall(r"^\| `(fault-[a-z0-9-]+)` \| (yes|no) \| (.*) \|$", PAGES["emulator.md"], re.MULTILINE)
    assert rows == [
        (fault.name, "yes" if fault.carried_out else "no", fault.description) for fault in FAULTS.values()
    ]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_copied_from_the_docs_goes_live_by_its_environment(page: str) -> None:
    """A client made without ``from_env()`` calls the sandbox, whatever WEGETFINANCING_ENVIRONMENT says."""
    examples = re.findall(r"```python[^\n]*\n(.*?)```", PAGES[page], re.DOTALL)
    made = [
        node
        for example in examples
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"AsyncClient", "Client"}
    ]
    invented = "credentials()"  # of wegetfinancing.testing
    assert [ast.unparse(call) for call in made if ast.unparse(call.args[0]) != invented] == []


@pytest.mark.parametrize("page", PAGES)
def test_what_the_docs_link_to_is_there(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)]*)?\)", PAGES[page]):
        if target.startswith("https://"):
            httpx.URL(target)
            continue
        there = (DOCS / page).parent / target if target else DOCS / page
        assert there.is_file(), target
        assert not anchor or anchor[1:] in anchors(there.read_text(encoding="utf-8")), target + anchor


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    ours = {re.sub(r"[^a-z0-9_ -]", "", each.lower()).strip().replace(" ", "-") for each in headings}
    return ours | set(re.findall(r"^::: (.*)$", text, re.MULTILINE))  # those are checked by the build


def test_every_file_of_the_docs_is_tried_by_a_test() -> None:
    assert set(FILES) == {"celery.md", "django.md", "get-started.md", "testing.md", "transport.md"}


def test_the_recipes_of_the_docs_pass(tmp_path: Path) -> None:
    for name, text in FILES["testing.md"].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    printed = run(
        [sys.executable, "-m", "pytest", "-W", "error", "--color=no", "-p", "no:cacheprovider"], tmp_path
    )
    tests = sum(
        len(re.findall(r"^async def test_", text, re.MULTILINE)) for text in FILES["testing.md"].values()
    )
    passed = re.search(r"= (\d+) passed in", printed)
    assert passed is not None, printed
    assert int(passed[1]) >= 2 * tests  # on asyncio and trio


@pytest.fixture
def transport_of_the_docs() -> Transport:
    names: dict[str, Any] = {}
    exec(FILES["transport.md"]["stdlib_transport.py"], names)  # noqa: S102 - what is tested
    transport: Transport = names["StdlibTransport"]()
    return transport


def good(peer: Peer) -> None:
    peer.answer(created_response().body)


def cut_short(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 50\r\n\r\n{")


def closed(peer: Peer) -> None:
    peer.read_request()


def reset(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


async def test_the_transport_of_the_docs_creates(transport_of_the_docs: Transport) -> None:
    async with (
        raw_server(good) as server,
        AsyncClient(credentials(), base_url=server.url, transport=transport_of_the_docs) as client,
    ):
        created = await client.create_request(financing_request())
    assert created.inv_id == INV_ID
    (request,) = server.requests
    assert request.startswith(b"POST /merchant/1234/requests HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("behaviour", "error", "outcome"),
    [
        (cut_short, InvalidRequestError, Outcome.REFUSED),
        (closed, TransportError, Outcome.UNKNOWN),
        (reset, TransportError, Outcome.UNKNOWN),
    ],
)
async def test_the_transport_of_the_docs_knows_that_it_sent(
    transport_of_the_docs: Transport, behaviour: Act, error: type[CallError], outcome: Outcome
) -> None:
    async with (
        raw_server(behaviour) as server,
        AsyncClient(credentials(), base_url=server.url, transport=transport_of_the_docs) as client,
    ):
        with pytest.raises(error) as raised:
            await client.create_request(financing_request())
    assert raised.value.outcome is outcome
    assert len(server.requests) == 1


async def test_the_transport_of_the_docs_knows_that_it_sent_nothing(transport_of_the_docs: Transport) -> None:
    async with raw_server(good) as server:
        pass
    async with AsyncClient(credentials(), base_url=server.url, transport=transport_of_the_docs) as client:
        with pytest.raises(TransportError) as raised:
            await client.create_request(financing_request())
    assert raised.value.outcome is Outcome.NOT_SENT


def test_get_started_works_pasted_block_by_block(tmp_path: Path) -> None:
    page = PAGES["get-started.md"]
    for port in ("8200", "8000"):  # the page's own may be taken
        page = page.replace(port, str(free_port()))
    for name, text in re.findall(r'```python title="([^"]+)"\n(.*?)```', page, re.DOTALL):
        (tmp_path / name).write_text(text, encoding="utf-8")
    in_path(tmp_path / ".venv" / "bin")
    (tmp_path / ".venv" / "bin" / "activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n', encoding="utf-8")
    first, *others = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert [line for line in first.splitlines() if not line.startswith("python -m wegetfinancing ")] == [
        "python3 -m venv .venv && . .venv/bin/activate",
        "python -m pip install '.[emulator]'",
    ]
    (emulator,) = (line for line in first.splitlines() if line.startswith("python -m wegetfinancing "))
    address = re.findall(r"<(http://127\.0\.0\.1:\d+)>", page)[0]
    typed = "\n".join(
        block + f"until curl -so /dev/null {waited}; do sleep 0.1; done\n" * ("&\n" in block)
        for block in others
        for waited in re.findall(r'postback_url="([^"]+)"', page)
    )
    with started(
        ["bash", "-ec", f"{ACTIVATE}exec {emulator} --port={address.rpartition(':')[2]}"], tmp_path
    ) as selling:
        assert selling.stdout is not None
        assert address in selling.stdout.readline()
        while "Everything is forgotten" not in selling.stdout.readline():
            pass
        printed = run(["bash", "-ec", f"{typed}\nkill %1; wait"], tmp_path)
        wrong = ["bash", "-c", ". .venv/bin/activate; set -a; . ./.env; python ship.py df0c3186b69be8aad35f"]
        with started(wrong, tmp_path) as mistyped:
            assert "HTTP 404 generic; check base_url and, in an update, that the inv_id is" in str(
                mistyped.communicate(timeout=60)
            )
    inv_id = (tmp_path / "inv_id.txt").read_text(encoding="utf-8")
    assert "create the order ORDER-123\n" in printed
    assert "create the order ORDER-123" in page
    assert f"open {address}/lc/{inv_id}\n" in printed
    assert f"recorded against {inv_id}\n" in printed


ACTIVATE = ". .venv/bin/activate; "


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def in_path(folder: Path) -> None:
    """Let python be this interpreter in the folder."""
    folder.mkdir(parents=True)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    python.chmod(0o755)


@contextlib.contextmanager
def started(
    command: list[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603 - our own page
        command,
        cwd=folder,
        env=os.environ | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def run(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    with started(command, folder, environment) as process:
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    return printed


@pytest.mark.skipif(
    shutil.which("redis-server") is None and "CI" not in os.environ, reason="starts a real redis-server"
)
@pytest.mark.long
def test_many_workers_handle_each_decision_once() -> None:
    command = [sys.executable, str(ROOT / "examples" / "many_workers.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert done.returncode == 0, done.stdout + done.stderr
    figures = done.stdout.splitlines()
    assert "killed 4 times; Redis restarted 1 times" in figures[0]
    assert figures[-2:] == ["took effect  500 decisions, each once", "lost         0"]


async def test_many_merchants_are_all_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"MERCHANTS": 20, "UPDATES": 60, "CREATES": 10, "MIXED": 30, "CREATES_PER_SECOND": 100}
    for name, value in small.items():
        monkeypatch.setattr(many_merchants, name, value)
    with many_merchants.vendor() as address:
        assert await many_merchants.main(address)
    assert capsys.readouterr().out.splitlines()[-1] == "calls                    140"
