"""The recipe for Celery in docs/celery.md, as it stands there: a real worker with a real broker."""

import contextlib
import json
import os
import queue
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.fault_server import FaultServer, Peer, http_answer
from support.redis_server import redis_server
from wegetfinancing import parse_postback
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.testing import (
    INV_ID,
    created_response,
    credentials,
    financing_request,
    shipping_event,
    shipping_response,
    signed_postback,
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        shutil.which("redis-server") is None and "CI" not in os.environ, reason="starts a real redis-server"
    ),
]

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "celery.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))
WORKER, BEAT = re.findall(r"^celery (.*)$", PAGE, re.MULTILINE)
PATIENCE = 60  # seconds; far above what is needed


class Vendor:
    """Answers calls, and says which came.

    Attributes:
        calls: the JSON of each call, in the order in which they came.
        is_down: how many calls are still answered with 503, and the wish not to be called for an hour.
        hangs: whether the next call is never answered.

    """

    def __init__(self) -> None:
        self.calls: queue.Queue[Any] = queue.Queue()
        self.is_down = 0
        self.hangs = False

    def __call__(self, peer: Peer) -> None:
        while True:
            head, _, body = peer.read_request().partition(b"\r\n\r\n")
            self.calls.put(json.loads(body))
            if self.hangs:
                self.hangs = False
                peer.silence()
            elif self.is_down:
                self.is_down -= 1
                peer.send(http_answer(b"", "503 Service Unavailable", "Retry-After: 3600\r\n"))
            elif b"/shipping " in head:
                peer.send(http_answer(shipping_response(INV_ID).body))
            else:
                peer.send(http_answer(created_response().body))

    def next_state(self) -> str:
        state: str = self.calls.get(timeout=PATIENCE)["shipping_event"]["state"]
        return state


class Shop:
    """The files of the page in a folder, and their processes."""

    worker: "subprocess.Popen[str]"

    def __init__(self, folder: Path, environment: Mapping[str, str], vendor: Vendor) -> None:
        self.vendor = vendor
        self._folder = folder
        self._environment = {**os.environ, **environment}
        for name, text in FILES.items():
            # Neither the pause before a retry nor the beat's is what is tested.
            faster = text.replace("retry_backoff=60", "retry_backoff=1").replace("60.0", "1.0")
            (folder / name).write_text(faster, encoding="utf-8")
        with contextlib.closing(sqlite3.connect(folder / "shop.db")) as orders:
            orders.execute("CREATE TABLE orders (id, status)")
            orders.execute("INSERT INTO orders VALUES ('ORDER-7', 'new')")
            orders.commit()

    @contextlib.contextmanager
    def celery(self, arguments: str) -> Iterator["subprocess.Popen[str]"]:
        with subprocess.Popen(  # noqa: S603 - the page's own command
            [sys.executable, "-m", "celery", *shlex.split(arguments)],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.communicate(timeout=PATIENCE)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - the page's own files
            [sys.executable, *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self, task: str, *arguments: object, times: int = 1) -> None:
        self.run("-c", f"import tasks\nfor _ in range({times}): tasks.{task}.delay(*{arguments!r})")

    def ledger(self) -> SQLLedger:
        return SQLLedger(f"sqlite:///{self._folder / 'shop.db'}", environment="sandbox", apply=print)

    def status_of(self, order_id: str) -> str:
        with contextlib.closing(sqlite3.connect(self._folder / "shop.db")) as orders:
            found = orders.execute("SELECT status FROM orders WHERE id = ?", (order_id,))
            status: str = found.fetchone()[0]
        return status

    def next_success(self, task: str) -> None:
        assert self.worker.stdout is not None
        giving_up = threading.Timer(PATIENCE, self.worker.kill)
        giving_up.start()
        try:
            succeeded = re.compile(rf"Task tasks\.{task}\[.*\] succeeded")
            assert any(succeeded.search(line) for line in self.worker.stdout)
        finally:
            giving_up.cancel()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The worker and the beat of the page, which take seconds to start."""
    folder = tmp_path_factory.mktemp("celery")
    made = credentials()
    vendor = Vendor()
    with redis_server(folder) as port, FaultServer(vendor) as server:
        environment = {
            "BROKER_URL": f"redis://127.0.0.1:{port}",
            "PYTHONPATH": str(ROOT),
            "WEGETFINANCING_BASE_URL": server.url,
            "WEGETFINANCING_MERCHANT_ID": made.merchant_id,
            "WEGETFINANCING_USERNAME": made.username,
            "WEGETFINANCING_PASSWORD": made.password,
        }
        shop = Shop(folder, environment, vendor)
        with contextlib.closing(shop.ledger()) as ledger:
            ledger.create_tables()
        with shop.celery(f"{WORKER} --loglevel INFO") as shop.worker, shop.celery(BEAT):
            yield shop


@pytest.fixture
def shop(running: Shop) -> Shop:
    """A shop that nothing has been sent from."""
    assert running.vendor.calls.empty()
    return running


def test_updates_arrive_in_order_although_the_vendor_was_down(shop: Shop) -> None:
    shop.vendor.is_down = 2
    shop.run("ship.py")
    assert [shop.vendor.next_state() for _ in range(4)] == ["accepted"] * 3 + ["dispatched"]


def test_an_update_whose_process_is_killed_is_sent_again(shop: Shop) -> None:
    shop.vendor.hangs = True
    shop.send("update_shipping", INV_ID, shipping_event().to_dict())
    assert shop.vendor.next_state() == "dispatched"
    inspected = shop.run("-m", "celery", "-A", "tasks", "inspect", "active", "--json")
    (tasks,) = json.loads(inspected).values()
    (pid,) = [each["worker_pid"] for each in tasks if each["name"] == "tasks.update_shipping"]
    os.kill(pid, signal.SIGKILL)
    assert shop.vendor.next_state() == "dispatched"


def test_an_order_is_applied_for_once_although_its_task_is_delivered_twice(shop: Shop) -> None:
    shop.send("create_request", financing_request().to_dict(), times=2)
    shop.next_success("create_request")
    shop.next_success("create_request")
    assert shop.vendor.calls.get(timeout=PATIENCE)["merchant_transaction_id"] == "ORDER-123"
    assert shop.vendor.calls.empty()


def test_a_decision_that_waits_is_handled_by_the_beat(shop: Shop) -> None:
    made = signed_postback(inv_id="another", merchant_transaction_id="ORDER-7")
    with contextlib.closing(shop.ledger()) as ledger:
        ledger.record(parse_postback(made.body, made.headers, credentials()))
        ledger.adopt("ORDER-7", "another", 499)
    while shop.status_of("ORDER-7") == "new":
        shop.next_success("handle_decisions")
    assert shop.status_of("ORDER-7") == "approved"
