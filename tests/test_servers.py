"""PostbackApp on real servers: uvicorn on asyncio, hypercorn on trio."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from wegetfinancing.testing import SignedPostback, signed_postback

pytestmark = [pytest.mark.anyio, pytest.mark.long]

APP = """
import os, resource, sys
from wegetfinancing.postbacks import PostbackApp
from wegetfinancing.testing import credentials

handled = 0

async def handle(postback):
    global handled
    handled += 1

receive = PostbackApp(credentials(), handle)

async def app(scope, incoming, send):
    if scope["type"] == "http" and scope["path"] == "/figures":
        pages = int(open("/proc/self/statm").read().split()[1]) if os.path.exists("/proc/self/statm") else 0
        body = f"{handled} {pages * resource.getpagesize()}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    else:
        await receive(scope, incoming, send)
"""
COMMANDS = {
    "uvicorn": ["uvicorn", "--log-level", "error", "--fd", "{fd}", "shop:app"],
    "hypercorn-trio": ["hypercorn", "--worker-class", "trio", "--bind", "fd://{fd}", "shop:app"],
}


@contextlib.contextmanager
def serving(name: str, folder: Path) -> Iterator[str]:
    """Run the server in a process of its own, on a socket that listens already."""
    (folder / "shop.py").write_text(APP, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        command = [each.format(fd=listener.fileno()) for each in COMMANDS[name]]
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", *command],
            cwd=folder,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait(timeout=20)


async def post(client: httpx.AsyncClient, url: str, postback: SignedPostback) -> int:
    return (await client.post(url, content=postback.body, headers=postback.headers)).status_code


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_real_server_receives_postbacks(name: str, tmp_path: Path) -> None:
    with serving(name, tmp_path) as url:
        async with httpx.AsyncClient(timeout=20) as client:
            response = await client.post(
                url, content=signed_postback().body, headers=signed_postback().headers
            )
            assert (response.status_code, response.text) == (200, "OK")
            assert await post(client, url, signed_postback()) == 200
            forged = await client.post(url, content=b"{}", headers=signed_postback().headers)
            assert forged.status_code == 401
            large = await client.post(url, content=b"x" * 200_000, headers=signed_postback().headers)
            assert large.status_code == 413
            assert (await client.get(f"{url}/figures")).text.split()[0] == "1"


REQUESTS, CONNECTIONS = 10_000, 50


async def post_many(port: int, numbers: range) -> set[bytes]:
    """Send postbacks one after the other on one connection; return the answers there were."""
    answers = set()
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        for number in numbers:
            made = signed_postback(inv_id=f"inv{number % 500}")
            headers = made.headers | {"host": "shop.test", "content-length": str(len(made.body))}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            await stream.send(f"POST /postbacks HTTP/1.1\r\n{head}\r\n".encode() + made.body)
            answer = b""
            while b"\r\n\r\n" not in answer or answer.endswith(b"\r\n\r\n"):
                answer += await stream.receive()
            answers.add(answer.partition(b"\r\n")[0] + answer[-2:])
    return answers


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
async def test_ten_thousand_postbacks_on_fifty_connections_leave_memory_flat(tmp_path: Path) -> None:
    answers: set[bytes] = set()

    async def send(port: int, numbers: range) -> None:
        answers.update(await post_many(port, numbers))

    async def figures(url: str) -> tuple[int, int]:
        async with httpx.AsyncClient(timeout=60) as client:
            handled, memory = (await client.get(f"{url}/figures")).text.split()
        return int(handled), int(memory)

    with serving("uvicorn", tmp_path) as url:
        port = int(url.rpartition(":")[2])
        memory = []
        for first, last in ((0, REQUESTS // 5), (REQUESTS // 5, REQUESTS)):
            async with anyio.create_task_group() as tasks:
                for worker in range(CONNECTIONS):
                    tasks.start_soon(send, port, range(first + worker, last, CONNECTIONS))
            handled, bytes_used = await figures(url)
            memory.append(bytes_used)
    assert answers == {b"HTTP/1.1 200 OKOK"}
    assert handled == 500
    assert memory[1] - memory[0] < 8 * 1024 * 1024
