"""Many workers, each decision once: ``python examples/many_workers.py`` (needs redis-server and uvicorn).

Four worker processes receive 2,000 deliveries of 500 decisions, in random order and with repeats. Workers
are killed in the middle of their work and Redis is restarted once. The handler's effect is a row with a
unique key, so a decision that is handled twice takes effect once. The figures are printed, and the script
ends with status 0 only if every decision took effect exactly once.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import uvicorn
from redis.asyncio import Redis

from wegetfinancing import Postback
from wegetfinancing.contrib.redis import RedisDeliveryStore
from wegetfinancing.postbacks import PostbackApp
from wegetfinancing.testing import SignedPostback, credentials, signed_postback

WORKERS, DECISIONS, DELIVERIES, AT_ONCE = 4, 500, 2_000, 20
KILL_AFTER = (300, 700, 1_100, 1_500)  # deliveries answered
RESTART_REDIS_AFTER = 900


@contextlib.contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        yield connection


def worker(listener: int, redis_port: int, path: Path) -> None:
    """Serve PostbackApp on a socket that the parent opened."""

    async def handle(postback: Postback) -> None:
        with database(path) as connection:
            connection.execute("INSERT INTO runs VALUES (?)", (postback.key,))
        await anyio.sleep(random.uniform(0, 0.02))  # noqa: S311 - work in which a kill can land
        with database(path) as connection:
            connection.execute("INSERT OR IGNORE INTO orders VALUES (?)", (postback.key,))

    store = RedisDeliveryStore(Redis(port=redis_port), claim_seconds=2)
    app = PostbackApp(credentials(), handle, store=store)
    uvicorn.run(app, fd=listener, log_level="critical", lifespan="off")


class Machines:
    """The Redis server and the workers, as processes that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "shop.sqlite"
        self.listeners = [socket.create_server(("127.0.0.1", 0), backlog=128) for _ in range(WORKERS)]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.redis_port = int(free.getsockname()[1])
        with database(self.path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE runs (key TEXT)")
            connection.execute("CREATE TABLE orders (key TEXT PRIMARY KEY)")
        self.redis = self.start_redis()
        self.workers = [self.start_worker(number) for number in range(WORKERS)]
        self.kills = self.restarts = 0

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{each.getsockname()[1]}/postbacks" for each in self.listeners]

    def start_redis(self) -> subprocess.Popen[str]:
        command = [shutil.which("redis-server") or "redis-server", "--port", str(self.redis_port)]
        command += ["--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always"]
        command += ["--dir", str(self.folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own command
        while "Ready to accept connections" not in (process.stdout or sys.stdin).readline():
            pass
        return process

    def start_worker(self, number: int) -> subprocess.Popen[bytes]:
        listener = self.listeners[number].fileno()
        command = [sys.executable, __file__, "worker", str(listener), str(self.redis_port), str(self.path)]
        return subprocess.Popen(command, pass_fds=[listener])  # noqa: S603 - our own command

    def kill_a_worker(self) -> None:
        number = random.randrange(WORKERS)  # noqa: S311 - no secret
        os.kill(self.workers[number].pid, signal.SIGKILL)
        self.workers[number].wait()
        self.workers[number] = self.start_worker(number)
        self.kills += 1

    def restart_redis(self) -> None:
        self.redis.terminate()
        self.redis.wait()
        self.redis = self.start_redis()
        self.restarts += 1

    def stop(self) -> None:
        processes: list[subprocess.Popen[Any]] = [*self.workers, self.redis]
        for process in processes:
            process.terminate()
            process.wait()
        for listener in self.listeners:
            listener.close()


class Vendor:
    """Delivers until it is answered 200, as a vendor that delivers again would."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.answers: Counter[str] = Counter()
        self.answered = 0

    async def deliver(self, client: httpx.AsyncClient, postback: SignedPostback) -> None:
        while True:
            url = random.choice(self.machines.urls)  # noqa: S311 - no secret
            try:
                response = await client.post(url, content=postback.body, headers=postback.headers)
            except httpx.HTTPError:
                self.answers["none"] += 1
            else:
                self.answers[str(response.status_code)] += 1
                if response.status_code == httpx.codes.OK:
                    break
            await anyio.sleep(0.1)
        self.answered += 1
        if self.answered in KILL_AFTER:
            self.machines.kill_a_worker()
        if self.answered == RESTART_REDIS_AFTER:
            self.machines.restart_redis()

    async def deliver_all(self) -> None:
        postbacks = [signed_postback(inv_id=f"inv{number % DECISIONS}") for number in range(DELIVERIES)]
        random.shuffle(postbacks)
        # No connection is kept alive: a killed worker would leave it half dead.
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=20) as client, anyio.create_task_group() as tasks:

            async def carry() -> None:
                while postbacks:
                    await self.deliver(client, postbacks.pop())

            for _ in range(AT_ONCE):
                tasks.start_soon(carry)


def report(machines: Machines, vendor: Vendor) -> bool:
    with database(machines.path) as connection:
        (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        (decisions,) = connection.execute("SELECT count(DISTINCT key) FROM runs").fetchone()
        (orders,) = connection.execute("SELECT count(*) FROM orders").fetchone()
    print(f"workers      {WORKERS}, killed {machines.kills} times; Redis restarted {machines.restarts} times")
    print(f"deliveries   {DELIVERIES} of {DECISIONS} decisions; attempts by answer: {dict(vendor.answers)}")
    print(f"handler ran  {runs} times for {decisions} decisions")
    print(f"took effect  {orders} decisions, each once")
    print(f"lost         {DECISIONS - orders}")
    return bool(orders == decisions == DECISIONS)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        machines = Machines(Path(folder))
        vendor = Vendor(machines)
        try:
            anyio.run(vendor.deliver_all)
            fine = report(machines, vendor)
        finally:
            machines.stop()
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
