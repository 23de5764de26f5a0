"""The README's examples, run as they stand there against the in-memory emulator."""

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.environment import set_credentials
from wegetfinancing.emulator import Emulator
from wegetfinancing.testing import financing_request, signed_postback

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ENDPOINTS = [each for each in EXAMPLES if "PostbackApp(" in each and "SQLLedger(" not in each]
LEDGERS = [each for each in EXAMPLES if "SQLLedger(" in each]


def run(example: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - what is tested
    return names


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
@pytest.mark.usefixtures("emulator")
def test_an_example_runs_as_it_stands(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(EXAMPLES[number])
    assert ("app" in names) is ("PostbackApp(" in EXAMPLES[number])
    if "ledger" in names:
        names["ledger"].close()


@pytest.mark.anyio
async def test_the_endpoint_believes_what_is_signed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_credentials(monkeypatch)
    (endpoint,) = ENDPOINTS
    shop = httpx.ASGITransport(run(endpoint)["app"])
    async with httpx.AsyncClient(transport=shop, base_url="http://shop.test") as vendor:
        for status in ("approved", "preapproved", "rejected", "refund"):
            made = signed_postback(status, amount="5" if status == "refund" else None)
            answer = await vendor.post("/postbacks", content=made.body, headers=made.headers)
            assert (answer.status_code, answer.text) == (200, "OK")
        forged = await vendor.post("/postbacks", content=made.body + b" ", headers=made.headers)
        assert forged.status_code == 401
    assert "create ORDER-123 and ship it" in capsys.readouterr().out


@pytest.mark.anyio
@pytest.mark.usefixtures("emulator")
async def test_the_ledger_applies_once_and_handles_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = LEDGERS
    names = run(example)
    assert capsys.readouterr().out == "None\n"
    with contextlib.closing(sqlite3.connect("shop.db")) as orders:
        orders.executescript("CREATE TABLE orders (id, status); INSERT INTO orders VALUES ('ORDER-123', '')")
        async with names["client"] as client:
            created = [await client.create_request(financing_request()) for _ in range(2)]
        assert created[0].href == created[1].href
        made = signed_postback()
        shop = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=shop, base_url="http://shop.test") as vendor:
            answer = await vendor.post("/postbacks", content=made.body, headers=made.headers)
        assert (answer.status_code, answer.text) == (200, "OK")
        assert orders.execute("SELECT status FROM orders").fetchall() == [("approved",)]
    assert names["ledger"].loan("ORDER-123").may_ship
    names["ledger"].close()


@pytest.mark.anyio
@pytest.mark.usefixtures("emulator")
async def test_a_decision_of_an_order_that_the_shop_does_not_find_is_kept_and_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = LEDGERS
    names = run(example)
    with contextlib.closing(sqlite3.connect("shop.db")) as orders:
        orders.executescript("CREATE TABLE orders (id, status)")
    async with names["client"] as client:
        await client.create_request(financing_request())
    made = signed_postback()
    shop = httpx.ASGITransport(names["app"])
    async with httpx.AsyncClient(transport=shop, base_url="http://shop.test") as vendor:
        await vendor.post("/postbacks", content=made.body, headers=made.headers)
    (failing,) = names["ledger"].review().decisions
    assert (failing.state, failing.error) == ("waiting", "LookupError")
    names["ledger"].close()


def test_the_examples_do_what_the_text_says(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    run(EXAMPLES[0])
    application = next(iter(emulator.applications.values()))
    assert application.request.merchant_transaction_id == "ORDER-123"
    assert capsys.readouterr().out == f"send the customer's browser to {application.href}\n"


def test_the_first_screen_holds_the_two_commands_and_an_example() -> None:
    screen = "\n".join(README.splitlines()[:30])
    assert "pip install -q nox && .venv/bin/python -m nox -s demo" in screen
    assert "pip install -q nox && .venv/bin/python -m nox -s tests" in screen
    assert EXAMPLES[0] in README[: len(screen)]
    assert len(EXAMPLES[0].splitlines()) <= 16


def test_the_problems_shown_are_those_of_the_models() -> None:
    assert financing_request().problems() == {}


PAYING_BACK = re.compile(
    r"\b(giv\w+|gave|pay\w*|paid|hand\w*|send\w*|transfer\w*)\b (the |an? |it |this |that )?"
    r"(money|amount|refund|customer|sum)? ?back\b|money back|pay out",
    re.IGNORECASE,
)


@pytest.mark.parametrize("folder", ["README.md", "docs", "examples"])
def test_nothing_tells_a_shop_to_pay_what_the_vendor_has_refunded(folder: str) -> None:
    kinds = {".md", ".py", ".html", ".js"}
    texts = [ROOT / folder] if (ROOT / folder).is_file() else [*(ROOT / folder).rglob("*")]
    told = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in texts
        if path.suffix in kinds and "site" not in path.relative_to(ROOT).parts  # the built pages
        for line in path.read_text(encoding="utf-8").splitlines()
        if PAYING_BACK.search(line) and "claim" not in line
    ]
    assert told == []


def test_the_example_records_a_refund_and_pays_nobody() -> None:
    (endpoint,) = ENDPOINTS
    assert "record the refund of" in endpoint
    assert "pay nobody" in endpoint


def test_what_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert len(links) > 15
    for target in links:
        assert target.startswith("https://") or (ROOT / target).exists(), target
