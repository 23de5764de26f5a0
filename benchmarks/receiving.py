"""Deliveries of postbacks that one uvicorn handles: ``PostbackApp`` next to a route by hand, in CPU.

With a ledger each delivery is on disk before it is answered. PostgreSQL is measured if ``POSTGRESQL_URL``
names an empty database, such as ``postgresql+psycopg://localhost/bench``.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.postbacks import PostbackApp
from wegetfinancing.testing import credentials, signed_postback

from .harness import Row, compared
from .processes import with_compiled_files

ROUNDS: Final = 12
DELIVERIES: Final = 300  # of each round
CONNECTIONS: Final = 8
PATH: Final = "/postbacks"


def by_hand() -> Any:
    """Verify, parse, deduplicate: what a shop writes after reading the vendor's documentation."""
    who = credentials()
    seen: set[tuple[str, str]] = set()

    async def receive(request: Request) -> PlainTextResponse:
        body = await request.body()
        before = f"{request.headers['x-timestamp']}{who.username}".encode()
        digest = hashlib.sha256(before + body + who.password.encode()).hexdigest()
        if not hmac.compare_digest(digest, request.headers["x-signature"]):
            return PlainTextResponse("wrong signature", 401)
        postback = json.loads(body)
        key = postback["request_token"], postback["updates"]["status"]
        if key not in seen:
            await handle(postback)
            seen.add(key)
        return PlainTextResponse("OK")

    return Starlette(routes=[Route(PATH, receive, methods=["POST"])])


async def handle(postback: Any) -> None:
    """What a shop does with a decision is not measured."""


def ours() -> Any:
    return Starlette(routes=[Route(PATH, PostbackApp(credentials(), handle))])


def with_ledger(url: str) -> Any:
    ledger = SQLLedger(url, environment="sandbox", apply=lambda connection, decision: None)  # noqa: ARG005 - as above
    ledger.create_tables()
    return PostbackApp(
        credentials(), ledger=ledger, path=PATH
    )  # alone, since Starlette passes no lifespan on


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[int, int]]:
    """Serve an app in a process of its own, and give its port and its process ID."""
    command = [sys.executable, "-m", "benchmarks.receiving", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=with_compiled_files()) as process:  # noqa: S603 - our own module
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()


class Server(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)


def serve(app: Any) -> None:
    Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False)).run()


def requests_of_round(number: int) -> list[bytes]:
    """Sign the deliveries of one round, each of another order."""
    made = []
    for index in range(DELIVERIES):
        order = f"{number}-{index}"
        postback = signed_postback(inv_id=f"inv-{order}", merchant_transaction_id=f"ORDER-{order}")
        lines = [f"POST {PATH} HTTP/1.1", "host: shop.example", f"content-length: {len(postback.body)}"]
        lines += [f"{name}: {value}" for name, value in postback.headers.items()]
        made.append("\r\n".join([*lines, "", ""]).encode() + postback.body)
    return made


async def deliver(port: int, requests: list[bytes]) -> None:
    """Deliver each, over a few connections that are kept alive."""
    waiting = iter(requests)

    async def vendor() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        writer.close()

    await asyncio.gather(*(vendor() for _ in range(CONNECTIONS)))


def cpu_of(pid: int) -> float:
    """Seconds that all threads of a process have run."""
    runs = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in runs) / 1e9


async def microseconds_each(ports: dict[str, tuple[int, int]]) -> dict[str, list[float]]:
    """Measure each app once a round."""
    took: dict[str, list[float]] = {name: [] for name in ports}
    for number in range(ROUNDS + 1):
        requests = requests_of_round(number)
        for name, (port, pid) in ports.items():
            before = cpu_of(pid)
            await deliver(port, requests)
            if number:  # the first warms up
                took[name].append((cpu_of(pid) - before) / DELIVERIES * 1e6)
    return took


async def measure() -> list[Row]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        apps = {"hand": ["hand"], "ours": ["ours"], "SQLite": ["ledger", f"sqlite:///{folder}/shop.db"]}
        if url := os.environ.get("POSTGRESQL_URL"):
            apps["PostgreSQL"] = ["ledger", url]
        ports = {name: stack.enter_context(served(*arguments)) for name, arguments in apps.items()}
        took = await microseconds_each(ports)
    against = "a Starlette route by hand that verifies, parses and deduplicates"
    rows = [
        # Beyond the route by hand: limits of size and time, a claim that a crash releases, strict reading.
        compared(
            "CPU of a delivery behind uvicorn, `PostbackApp`",
            took["ours"],
            against,
            took["hand"],
            bound=1.8,
        )
    ]
    rows += [
        compared(
            f"CPU of a delivery behind uvicorn, with a ledger in {name}", took[name], against, took["hand"]
        )
        for name in apps
        if name not in {"hand", "ours"}
    ]
    rows += [
        Row(
            what=f"deliveries per second of CPU, {name}",
            against="",
            detail=f"{1e6 / statistics.median(each):,.0f}",
        )
        for name, each in took.items()
    ]
    return rows


if __name__ == "__main__":
    apps: dict[str, Callable[..., Any]] = {"hand": by_hand, "ours": ours, "ledger": with_ledger}
    serve(apps[sys.argv[1]](*sys.argv[2:]))
