"""The recipes for RQ, AWS Lambda and notebooks in docs/celery.md, as they stand there."""

import ast
import base64
import contextlib
import inspect
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.fault_server import FaultServer, Peer, http_answer
from support.redis_server import redis_server
from wegetfinancing import Client, ConfigurationError, sign_postback
from wegetfinancing.emulator import Emulator
from wegetfinancing.testing import INV_ID, credentials, shipping_event, shipping_response, signed_postback

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "celery.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))
(WORKER,) = re.findall(r"^rq (.*)$", PAGE, re.MULTILINE)


def test_every_block_of_the_page_is_run() -> None:
    of_celery = {"tasks.py", "ship.py"}  # in test_celery_docs.py
    assert set(FILES) - of_celery == {"jobs.py", "enqueue.py", "lambda_function.py", "cell 1", "cell 2"}
    assert len(FILES) == PAGE.count("```python")


# RQ


@pytest.mark.skipif(
    shutil.which("redis-server") is None and "CI" not in os.environ, reason="starts a real redis-server"
)
@pytest.mark.parametrize("worker", ["", " --worker-class rq.SimpleWorker"])
def test_rq_sends_an_update_and_exits(tmp_path: Path, worker: str) -> None:
    for name in ("jobs.py", "enqueue.py"):
        (tmp_path / name).write_text(FILES[name], encoding="utf-8")

    def answer(peer: Peer) -> None:
        while True:
            peer.read_request()
            peer.send(http_answer(shipping_response(INV_ID).body))

    made = credentials()
    with redis_server(tmp_path) as port, FaultServer(answer) as vendor:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": f"redis://127.0.0.1:{port}",
            "WEGETFINANCING_BASE_URL": vendor.url,
            "WEGETFINANCING_MERCHANT_ID": made.merchant_id,
            "WEGETFINANCING_USERNAME": made.username,
            "WEGETFINANCING_PASSWORD": made.password,
        }
        command = WORKER.replace('"$REDIS_URL"', environment["REDIS_URL"])
        for arguments in ("enqueue.py", f"-m rq.cli {command} --burst{worker}"):
            done = subprocess.run(  # noqa: S603 - the page's own files
                [sys.executable, *shlex.split(arguments)],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
        (request,) = vendor.requests
    assert request.startswith(b"POST /merchant/1234/shipping ")
    assert b'"dispatched"' in request


# AWS Lambda


Event = dict[str, Any]


def version_1(method: str, headers: Mapping[str, str], body: bytes) -> Event:
    """What API Gateway's REST APIs send: header names as they came."""
    return {
        "httpMethod": method,
        "headers": {name.title(): value for name, value in headers.items()},
        "body": body.decode() or None,
        "isBase64Encoded": False,
    }


def version_2(method: str, headers: Mapping[str, str], body: bytes) -> Event:
    """What API Gateway's HTTP APIs and function URLs send: header names in lower case."""
    return {
        "version": "2.0",
        "requestContext": {"http": {"method": method}},
        "headers": {name.lower(): value for name, value in headers.items()},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


@pytest.fixture
def function(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'shop.db'}")
    names: dict[str, Any] = {}
    exec(FILES["lambda_function.py"], names)  # noqa: S102 - what is tested
    names["ledger"].create_tables()
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as orders:
        orders.execute("CREATE TABLE orders (id, status)")
        orders.execute("INSERT INTO orders VALUES ('ORDER-123', 'new')")
        orders.commit()
        names["orders"] = orders
        yield names
    names["client"].close()
    names["ledger"].close()


def status(function: dict[str, Any]) -> str:
    found: str = function["orders"].execute("SELECT status FROM orders").fetchone()[0]
    return found


@pytest.mark.parametrize("event", [version_1, version_2])
def test_invocations_of_a_lambda_share_one_client(
    function: dict[str, Any], event: Callable[..., Event]
) -> None:
    made = signed_postback("approved")
    answers = [function["checkout"](event("POST", {}, b""), None) for _ in range(2)]
    assert [each["statusCode"] for each in answers] == [303, 303]
    assert answers[0]["headers"] == answers[1]["headers"]
    for _ in range(2):
        answer = function["receive"](event("POST", made.headers, made.body), None)
        assert answer == {"statusCode": 200, "body": "OK"}
    assert status(function) == "approved"
    forged = function["receive"](event("POST", made.headers, made.body + b" "), None)
    assert forged["statusCode"] == 401
    assert function["receive"](event("POST", {}, b""), None)["statusCode"] == 401
    json.dumps([*answers, answer, forged])  # as the Lambda runtime does
    assert function["ledger"].loan("ORDER-123").may_ship


def test_a_lambda_refuses_what_it_cannot_read(function: dict[str, Any]) -> None:
    body = b"approved"
    signed = {"x-timestamp": "1700000000", "x-signature": sign_postback(body, "1700000000", credentials())}
    answer = function["receive"](version_1("POST", signed, body), None)
    assert answer["statusCode"] == 400


def test_a_decision_that_waits_is_handled_by_the_lambda_on_the_schedule(function: dict[str, Any]) -> None:
    made = signed_postback("approved")  # before its order is known
    assert function["receive"](version_2("POST", made.headers, made.body), None)["statusCode"] == 200
    assert status(function) == "new"
    function["checkout"](version_2("POST", {}, b""), None)
    function["work"]({"source": "aws.events"}, None)
    assert status(function) == "approved"


# Notebooks


@pytest.mark.usefixtures("emulator")
async def test_the_cells_of_a_notebook_share_one_client() -> None:
    names: dict[str, Any] = {}
    for title in ("cell 1", "cell 2"):
        code = compile(FILES[title], title, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, names)  # noqa: S307 - what is tested
        assert inspect.iscoroutine(running)
        await running
    assert names["receipt"].loan == names["created"].inv_id


@pytest.mark.usefixtures("emulator")
async def test_a_client_that_blocks_is_refused_in_a_notebook() -> None:
    with Client.from_env() as client, pytest.raises(ConfigurationError, match="use AsyncClient there"):
        client.update_shipping(INV_ID, shipping_event())
