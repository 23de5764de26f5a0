"""The processes of the ledger's proof: workers that are killed, an emulator, and the database."""

import contextlib
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import attrs
import httpx
import uvicorn
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert
from sqlalchemy.engine import Connection

from wegetfinancing import AsyncClient, CallError
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.emulator.server import emulator_server
from wegetfinancing.ledger import Decision
from wegetfinancing.postbacks import PostbackApp
from wegetfinancing.testing import credentials, financing_request

SCRIPT = Path(__file__).parents[1] / "ledger_proof.py"
CALL_SECONDS = 2.0
LEASE_SECONDS = 2.0
GRACE_SECONDS = 0.1
HANDLER_FAILS = 0.3
HANDLER_SECONDS = 0.004
_APPLICATION = re.compile(r'id="link-(\w+)" href="[^"]*">\s*([^<\s]+)')

shop = MetaData()
effects = Table(
    "effects",
    shop,
    Column("number", Integer, primary_key=True),
    Column("decision", Integer, nullable=False),
    Column("order_id", Text, nullable=False),
)


def make_ledger(url: str) -> SQLLedger:
    return SQLLedger(url, environment="sandbox", apply=apply, lease=LEASE_SECONDS, grace=GRACE_SECONDS)


def apply(connection: Connection, decision: Decision) -> None:
    """Write the effect; three in ten runs fail afterwards."""
    connection.execute(insert(effects).values(decision=decision.id, order_id=decision.order_id))
    time.sleep(random.uniform(0, HANDLER_SECONDS))  # work in which a kill can land
    if random.random() < HANDLER_FAILS:
        msg = "the handler fails"
        raise RuntimeError(msg)


def serve_worker(listener: int, url: str, emulator: str) -> None:
    """Serve ``/apply/<order>`` and the postbacks on a socket that the parent opened."""
    logging.disable()
    ledger = make_ledger(url)
    client = AsyncClient(credentials(), base_url=emulator, ledger=ledger, timeout=CALL_SECONDS)
    postbacks = PostbackApp(credentials(), ledger=ledger)

    async def create(order_id: str) -> str:
        try:
            await client.create_request(financing_request(merchant_transaction_id=order_id))
        except CallError as error:
            return error.outcome.value
        return "created"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/apply/"):
            said = await create(scope["path"].removeprefix("/apply/"))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": said.encode()})
        else:
            await postbacks(scope, receive, send)

    uvicorn.run(app, fd=listener, log_level="critical", lifespan="on", timeout_graceful_shutdown=1)


def serve_emulator(listener: int) -> None:
    """Serve the emulator, its faults included."""
    listening = socket.socket(fileno=listener)
    emulator_server(credentials(), listening).run(sockets=[listening])


def applications_at(emulator_url: str) -> list[tuple[str, str]]:
    """Ask an emulator what it has: the vendor's ID and the order of each application."""
    page = httpx.get(emulator_url, trust_env=False, timeout=30).text
    return _APPLICATION.findall(page)


@attrs.define
class Machines:
    """Worker processes and the emulator, as processes that can be killed.

    Attributes:
        url: of the database.
        restart_database: ends it as in a crash and starts it again; ``None`` where there is no server.
        kills: how many workers were killed.

    """

    url: str
    workers: int
    restart_database: Callable[[], None] | None
    kills: int = 0
    restarts: int = 0
    _listeners: list[socket.socket] = attrs.field(factory=list)
    _processes: list["subprocess.Popen[bytes]"] = attrs.field(factory=list)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def worker_url(self) -> str:
        return self._url(self._listeners[random.randrange(self.workers)])

    @property
    def emulator_url(self) -> str:
        return self._url(self._listeners[-1])

    @staticmethod
    def _url(listener: socket.socket) -> str:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._listeners = [
            socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(self.workers + 1)
        ]
        try:
            self._processes = [self._start(number) for number in range(self.workers + 1)]
            yield
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
            for listener in self._listeners:
                listener.close()

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        listener = self._listeners[number].fileno()
        role = ["worker", str(listener), self.url, self.emulator_url]
        if number == self.workers:
            role = ["emulator", str(listener)]
        return subprocess.Popen([sys.executable, str(SCRIPT), *role], pass_fds=[listener])  # noqa: S603 - our own

    def kill_a_worker(self) -> None:
        with self._lock:
            number = random.randrange(self.workers)
            os.kill(self._processes[number].pid, signal.SIGKILL)
            self._processes[number].wait()
            self._processes[number] = self._start(number)
            self.kills += 1

    def restart(self) -> None:
        if self.restart_database is not None:
            self.restart_database()
            self.restarts += 1

    def applications(self) -> list[tuple[str, str]]:
        """Ask the emulator what it has: the vendor's ID and the order of each application."""
        return applications_at(self.emulator_url)


class Killable(Protocol):
    """What has workers that can be killed, and perhaps a database that can be restarted."""

    def kill_a_worker(self) -> None: ...

    def restart(self) -> None: ...


class Chaos:
    """Kills a worker now and then as work is done, and restarts the database once, in a thread of its own."""

    def __init__(self, machines: Killable, total: int, kills: int) -> None:
        self._machines = machines
        self._kill_at = {round(total * (number + 0.5) / kills) for number in range(kills)}
        self._restart_at = total // 2
        self._done = 0
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def step(self) -> None:
        """Note that one piece of work is done."""
        with self._lock:
            self._done += 1
            if self._done in self._kill_at:
                self._run(self._machines.kill_a_worker)
            if self._done == self._restart_at:
                self._run(self._machines.restart)

    def _run(self, function: Callable[[], None]) -> None:
        thread = threading.Thread(target=function)
        thread.start()
        self._threads.append(thread)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
