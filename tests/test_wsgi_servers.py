"""The WSGI PostbackApp on real servers: gunicorn with threads in two workers, waitress, and wsgiref's."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from support.redis_server import SERVER, redis_server
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.testing import credentials, signed_postback

pytestmark = pytest.mark.long

GOOD = signed_postback()
APP = """
import os, threading
from redis import Redis
from wegetfinancing.contrib.redis import SyncRedisDeliveryStore
from wegetfinancing.postbacks.wsgi import PostbackApp
from wegetfinancing.testing import credentials

def handle(postback):
    if postback.status == "refund":
        raise ZeroDivisionError
    line = f"{postback.key} {os.getpid()} {threading.get_ident()}\\n"
    os.write(handled, line.encode())

handled = os.open("handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
port = os.environ.get("REDIS_PORT")
store = SyncRedisDeliveryStore(Redis(port=int(port), socket_timeout=5)) if port else None
app = PostbackApp(credentials(), handle, store=store, path="/postbacks")
open(f"started-{os.getpid()}", "x").close()
"""
LEDGER_APP = """
import os, threading
from sqlalchemy import text
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.postbacks.wsgi import PostbackApp
from wegetfinancing.testing import credentials

def apply(connection, decision):
    values = {"key": decision.postback.key, "process": os.getpid()}
    connection.execute(text("INSERT INTO effects VALUES (:key, :process)"), values)

ledger = SQLLedger("sqlite:///shop.db", environment="sandbox", apply=apply)
app = PostbackApp(credentials(), ledger=ledger, path="/postbacks")
open(f"started-{os.getpid()}", "x").close()
"""
WSGIREF = """
import socket, sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from shop import app

server = WSGIServer(("127.0.0.1", 0), WSGIRequestHandler, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.server_name, server.server_port = "127.0.0.1", 0
server.setup_environ()
server.set_app(app)
server.serve_forever()
"""
WAITRESS = """
import socket, sys
import waitress
from shop import app

waitress.serve(app, sockets=[socket.socket(fileno=int(sys.argv[1]))], threads=4)
"""
COMMANDS = {
    "gunicorn": ["-m", "gunicorn", "--workers=2", "--threads=4", "--bind=fd://{fd}", "shop:app"],
    "waitress": ["waitress_main.py", "{fd}"],
    "wsgiref": ["wsgiref_main.py", "{fd}"],
}


@contextlib.contextmanager
def serving(name: str, folder: Path, app: str = APP, **environment: str) -> Iterator[int]:
    """Run the server in a process of its own, on a socket that listens already; yield its port."""
    for file, text in (("shop.py", app), ("wsgiref_main.py", WSGIREF), ("waitress_main.py", WAITRESS)):
        (folder / file).write_text(text, encoding="utf-8")
    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as listener,
        (folder / "log").open("wb") as log,
    ):
        command = [each.format(fd=listener.fileno()) for each in COMMANDS[name]]
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, *command],
            cwd=folder,
            env=os.environ | environment,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield int(listener.getsockname()[1])
        finally:
            process.terminate()
            process.wait(timeout=20)


def exchange(port: int, head: str, *body: bytes) -> tuple[bytes, bytes]:
    """Send one request in pieces as they are; return the status line and the body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}\r\nHost: shop.test\r\nConnection: close\r\n\r\n".encode("latin-1"))
        with contextlib.suppress(ConnectionError):  # the server need not read all of it
            for piece in body:
                connection.sendall(piece)
        answer = b""
        with contextlib.suppress(ConnectionError):  # unread bytes make the server reset it after its answer
            while chunk := connection.recv(65536):
                answer += chunk
    start, _, text = answer.partition(b"\r\n\r\n")
    return start.partition(b"\r\n")[0][9:], text


def post(headers: dict[str, str], length: int | None = None) -> str:
    given = headers if length is None else headers | {"content-length": str(length)}
    return "POST /postbacks HTTP/1.1\r\n" + "\r\n".join(f"{name}: {value}" for name, value in given.items())


def chunked(body: bytes) -> list[bytes]:
    """Frame a body in two chunks and an end."""
    pieces = body[:20], body[20:]
    return [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces if piece] + [b"0\r\n\r\n"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_real_server_receives_postbacks_and_refuses_what_is_not_one(name: str, tmp_path: Path) -> None:
    size = len(GOOD.body)
    in_chunks = GOOD.headers | {"transfer-encoding": "chunked"}
    with serving(name, tmp_path) as port:
        assert exchange(port, post(GOOD.headers, size), GOOD.body) == (b"200 OK", b"OK")
        assert exchange(port, post(GOOD.headers, size), GOOD.body[:9], GOOD.body[9:]) == (b"200 OK", b"OK")
        status, text = exchange(port, post(GOOD.headers, size), b"x" * size)
        assert (status, text[:11]) == (b"401 Unauthorized", b"x-signature")
        twice = post(GOOD.headers, size) + f"\r\nX-Signature: {GOOD.headers['x-signature']}"
        assert exchange(port, twice, GOOD.body)[0] == b"401 Unauthorized"
        assert exchange(port, post(GOOD.headers, 200_000), b"x" * 200_000)[0][:3] == b"413"
        assert exchange(port, post(GOOD.headers, 0))[0] == b"401 Unauthorized"
        assert exchange(port, "GET /postbacks HTTP/1.1") == (b"405 Method Not Allowed", b"only POST")
        assert exchange(port, "HEAD /postbacks HTTP/1.1") == (b"405 Method Not Allowed", b"")
        assert exchange(port, "POST /other HTTP/1.1\r\ncontent-length: 0") == (b"404 Not Found", b"not found")
        refund = signed_postback("refund", amount="5")
        failed = exchange(port, post(refund.headers, len(refund.body)), refund.body)
        assert failed == (b"500 Internal Server Error", b"failed")
        large = chunked(b"x" * 100_000)
        if name == "wsgiref":  # which knows no chunks
            assert exchange(port, post(in_chunks), *chunked(GOOD.body))[0] == b"411 Length Required"
        else:
            assert exchange(port, post(in_chunks), *chunked(GOOD.body)) == (b"200 OK", b"OK")
            assert exchange(port, post(in_chunks), *large)[0][:3] == b"413"
    assert len({line.split()[0] for line in (tmp_path / "handled").read_text().splitlines()}) == 1
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


SENDERS, DECISIONS = 8, 25
MADE = [
    signed_postback(inv_id=f"inv{number}", merchant_transaction_id=f"ORDER-{number}")
    for number in range(DECISIONS)
]
KEYS = [f"{credentials().merchant_id}:inv{number}:approved" for number in range(DECISIONS)]
SECONDS = 60.0  # that a busy machine may take for an answer


def send(url: str, beat: Callable[[], None]) -> Counter[tuple[int, str]]:
    answers: Counter[tuple[int, str]] = Counter()
    # Each on a connection of its own, which either worker may accept.
    with httpx.Client(timeout=SECONDS, limits=httpx.Limits(max_keepalive_connections=0)) as vendor:
        for made in MADE:
            beat()
            answer = vendor.post(url, content=made.body, headers=made.headers)
            answers[answer.status_code, answer.text] += 1
    return answers


def send_from_many(
    port: int, folder: Path, beat: Callable[[], None] = lambda: None
) -> Counter[tuple[int, str]]:
    """Send every decision from each sender, once both workers have started."""
    url = f"http://127.0.0.1:{port}/postbacks"
    while len(list(folder.glob("started-*"))) < 2:
        assert httpx.get(url, timeout=SECONDS).status_code == 405
    with ThreadPoolExecutor(SENDERS) as threads:
        return sum(threads.map(partial(send, beat=beat), [url] * SENDERS), Counter[tuple[int, str]]())


@pytest.mark.skipif(SERVER is None and "CI" not in os.environ, reason="starts a real redis-server")
def test_two_workers_with_four_threads_each_handle_each_decision_once(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, serving("gunicorn", tmp_path, REDIS_PORT=str(redis)) as port:
        answers = send_from_many(port, tmp_path)
    assert answers == {(200, "OK"): SENDERS * DECISIONS}
    lines = [line.split() for line in (tmp_path / "handled").read_text().splitlines()]
    assert sorted(key for key, _, _ in lines) == sorted(KEYS)
    assert len({process for _, process, _ in lines}) == 2


def test_two_workers_apply_each_decision_once_through_a_ledger(tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    with (
        contextlib.closing(SQLLedger(f"sqlite:///{database}", environment="sandbox")) as ledger,
        contextlib.closing(sqlite3.connect(database)) as connection,
    ):
        ledger.create_tables()
        for number in range(DECISIONS):
            ledger.adopt(f"ORDER-{number}", f"inv{number}", merchant_id=credentials().merchant_id)
        connection.execute("CREATE TABLE effects (key TEXT PRIMARY KEY, process INTEGER)")
        with serving("gunicorn", tmp_path, LEDGER_APP) as port:
            # With a living worker, a delivery that comes while another one is applied leaves it to that.
            answers = send_from_many(port, tmp_path, beat=lambda: ledger.beat("one"))
        effects = connection.execute("SELECT key, process FROM effects").fetchall()
    assert answers == {(200, "OK"): SENDERS * DECISIONS}
    assert sorted(key for key, _ in effects) == sorted(KEYS)
    assert len({process for _, process in effects}) == 2
