import enum
import gc
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import respx
from hypothesis import settings

from support import figures
from support.commands import Endpoint, shops_endpoint
from support.environment import set_credentials
from support.interruptions import InterruptionError
from support.postgresql import Server, postgresql_server, programs
from wegetfinancing import HttpxTransport
from wegetfinancing.emulator import Emulator
from wegetfinancing.http import Request
from wegetfinancing.testing import INV_ID, credentials

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "vectors" / "docs.json").read_text(encoding="utf-8")
)

# No property here is about time, and on a busy machine any example may be late. What was set before stays.
settings.register_profile("wegetfinancing", settings(deadline=None))
settings.load_profile("wegetfinancing")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every test that awaits runs on both."""
    return str(request.param)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    """The two libraries whose ready clients HttpxTransport takes."""
    return request.param


@pytest.fixture(params=["own", "httpx", "httpx2"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[HttpxTransport]:
    """Connections of our own, and a ready client of each library."""
    if request.param == "own":
        made = HttpxTransport()
        yield made
        await made.aclose()
    else:
        library: Any = {"httpx": httpx, "httpx2": httpx2}[request.param]
        async with library.AsyncClient() as client:
            yield HttpxTransport(client)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies, certificates and credentials of the machine must not change what a test shows."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MERCHANT_ID", "USERNAME", "PASSWORD", "ENVIRONMENT", "BASE_URL"):
        monkeypatch.delenv(f"WEGETFINANCING_{name}", raising=False)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server of our own."""
    if programs() is None:
        assert "CI" not in os.environ, "on Debian: apt-get install postgresql"
        pytest.skip("there is no PostgreSQL")
    with postgresql_server() as server:
        yield server


@pytest.fixture
def no_socket_left_open() -> Iterator[None]:
    """Count with the collector switched off, which would close what leaks."""
    gc.disable()
    before = figures.open_sockets()
    yield
    after = figures.open_sockets()
    gc.enable()
    assert after <= before


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a case by what it is and never by an address, so that every process names it the same."""
    if val is None or isinstance(val, str | bytes | int | float | complex | re.Pattern | enum.Enum | type):
        return None  # pytest's own name says more
    return str(getattr(val, "__qualname__", type(val).__name__))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for line in figures.LINES:
        terminalreporter.write_line(line)


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The vendor's sandbox address answered by the one in memory, and credentials in the environment."""
    set_credentials(monkeypatch)
    emulator = Emulator(credentials(), new_inv_id=lambda: INV_ID)

    def answer(request: httpx.Request) -> httpx.Response:
        url, headers, body = str(request.url), request.headers, request.content
        answer = emulator.answer(
            Request(operation="", method=request.method, url=url, headers=headers, body=body)
        )
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)

    with respx.mock:
        respx.route(host="api.sandbox.wegetfinancing.com").mock(side_effect=answer)
        yield emulator


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A shop's endpoint beside a command, with credentials in the environment."""
    set_credentials(monkeypatch)
    with shops_endpoint() as shop:
        yield shop


@pytest.fixture(params=[KeyboardInterrupt, InterruptionError, SystemExit])
def interruption(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    kind: type[BaseException] = request.param

    def handle(*_: object) -> None:
        raise kind

    before = signal.signal(signal.SIGUSR1, handle)
    yield kind
    signal.signal(signal.SIGUSR1, before)
