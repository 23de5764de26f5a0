"""The examples in docs/, run as they stand there, and the scripts of examples/."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest

from wegetfinancing.sandbox import FAULTS
from wegetfinancing.testing import credentials, signed_postback

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
BLOCKS = [
    (page, number, block)
    for page, text in PAGES.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
]


@pytest.mark.parametrize(("page", "number", "block"), BLOCKS, ids=[f"{page}-{n}" for page, n, _ in BLOCKS])
async def test_an_example_of_the_docs_runs_as_it_stands(
    page: str, number: int, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("merchant_id", "username", "password"):
        monkeypatch.setenv(f"WEGETFINANCING_{name.upper()}", getattr(credentials(), name))
    names: dict[str, Any] = {}
    code = compile(block, f"{page}-{number}", "exec")
    if "anyio.run(" in block:
        await anyio.to_thread.run_sync(exec, code, names)
    else:
        exec(code, names)  # noqa: S102 - what is tested
    if "app" in names and "Redis" not in names:
        await check_the_app(names)


async def check_the_app(names: dict[str, Any]) -> None:
    made = signed_postback()
    transport = httpx.ASGITransport(names["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as vendor:
        for _ in range(2):
            response = await vendor.post("/postbacks", content=made.body, headers=made.headers)
            assert (response.status_code, response.text) == (200, "OK")
        forged = await vendor.post("/postbacks", content=made.body + b" ", headers=made.headers)
        assert forged.status_code == 401
        # As the vendor documents it, without the order id.
        made = signed_postback("rejected", merchant_transaction_id=None)
        response = await vendor.post("/postbacks", content=made.body, headers=made.headers)
        assert response.status_code == 200
    if "orders" in names:
        assert [each["state"] for each in names["orders"]] == ["rejected"]
    if "database" in names:
        assert list(names["database"].execute("SELECT state FROM orders")) == [("rejected",)]
        names["database"].close()


def test_the_faults_in_the_docs_are_those_there_are() -> None:
    rows = re.findall(r"^\| `(fault-[a-z0-9-]+)` \| (yes|no) \| (.*) \|$", PAGES["sandbox.md"], re.MULTILINE)
    assert rows == [
        (fault.name, "yes" if fault.carried_out else "no", fault.happens) for fault in FAULTS.values()
    ]


@pytest.mark.parametrize("page", PAGES)
def test_what_the_docs_link_to_is_there(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[page]):
        assert target.startswith("https://") or (ROOT / "docs" / target).exists(), target


@pytest.mark.skipif(
    shutil.which("redis-server") is None and "CI" not in os.environ, reason="starts a real redis-server"
)
def test_many_workers_handle_each_decision_once() -> None:
    command = [sys.executable, str(ROOT / "examples" / "many_workers.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert done.returncode == 0, done.stdout + done.stderr
    figures = done.stdout.splitlines()
    assert "killed 4 times; Redis restarted 1 times" in figures[0]
    assert figures[-2:] == ["took effect  500 decisions, each once", "lost         0"]
