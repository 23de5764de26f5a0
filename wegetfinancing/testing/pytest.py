"""Fixtures for the test suites of shops that use pytest. Nothing else of the package imports pytest.

Switch them on in the top-most ``conftest.py``:

    pytest_plugins = ["wegetfinancing.testing.pytest"]

Their names begin with ``wegetfinancing_``, since all fixtures of a suite share one namespace, in which
``client`` and ``app`` belong to others, such as pytest-django and pytest-flask. None of them awaits, so they
work with anyio's plugin, pytest-asyncio, pytest-trio, and tests that do not await. Override one by defining a
fixture of the same name.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from .._ledger.memory import MemoryLedger
from ..client.client import AsyncClient
from ..client.sync import Client
from ..client.transport import Transport
from ..credentials import Credentials
from ..emulator.core import Emulator
from ..emulator.postbacks import SignedPostback
from ..http import Response
from .deliveries import Deliver, SyncDeliver, deliver_to_asgi, deliver_to_wsgi
from .fakes import FakeTransport, credentials

__all__ = [
    "Deliver",
    "SyncDeliver",
    "wegetfinancing_app",
    "wegetfinancing_client",
    "wegetfinancing_credentials",
    "wegetfinancing_deliver",
    "wegetfinancing_emulator",
    "wegetfinancing_ledger",
    "wegetfinancing_postback_url",
    "wegetfinancing_sync_client",
    "wegetfinancing_sync_deliver",
    "wegetfinancing_transport",
]


@pytest.fixture
def wegetfinancing_credentials() -> Credentials:
    """Return the credentials that all of them use, those of ``wegetfinancing.testing.credentials()``."""
    return credentials()


@pytest.fixture
def wegetfinancing_transport() -> FakeTransport:
    """Return a ``FakeTransport`` without a script, on which the clients below send.

    Override it to answer from a script, or return ``wegetfinancing_emulator`` to let the emulator answer.
    """
    return FakeTransport()


@pytest.fixture
def wegetfinancing_client(
    wegetfinancing_credentials: Credentials, wegetfinancing_transport: Transport
) -> Iterator[AsyncClient]:
    """Make an ``AsyncClient`` on ``wegetfinancing_transport``, without a ledger.

    It opens in the test that calls it.
    """
    client = AsyncClient(wegetfinancing_credentials, transport=wegetfinancing_transport)
    yield client
    closing = client.aclose()
    # It awaits nothing, since the transport is not its own; and here no event loop is running.
    with contextlib.suppress(StopIteration):
        closing.send(None)


@pytest.fixture
def wegetfinancing_sync_client(
    wegetfinancing_credentials: Credentials, wegetfinancing_transport: Transport
) -> Iterator[Client]:
    """Make a ``Client``, for code that does not await, on ``wegetfinancing_transport``, without a ledger."""
    with Client(wegetfinancing_credentials, transport=wegetfinancing_transport) as client:
        yield client


@pytest.fixture
def wegetfinancing_emulator(wegetfinancing_credentials: Credentials) -> Emulator:
    """Make an ``Emulator`` of the vendor in memory, without applications."""
    return Emulator(wegetfinancing_credentials)


@pytest.fixture
def wegetfinancing_ledger() -> MemoryLedger:
    """Make an empty ``MemoryLedger``. Override it with ``MemoryLedger(apply=...)`` to let it apply.

    The clients here do not use it: for a shop with a ledger, override them too.
    """
    return MemoryLedger()


@pytest.fixture
def wegetfinancing_app() -> Any:  # noqa: ANN401 - ASGI or WSGI
    """Override it: return your ASGI or WSGI app, to which ``wegetfinancing_deliver`` delivers."""
    msg = "define a fixture wegetfinancing_app that returns your ASGI or WSGI app"
    raise pytest.UsageError(msg)


@pytest.fixture
def wegetfinancing_postback_url() -> str:
    """Return the URL of the app's endpoint, ``https://shop.example/postbacks``."""
    return "https://shop.example/postbacks"


@pytest.fixture
def wegetfinancing_deliver(wegetfinancing_app: Any, wegetfinancing_postback_url: str) -> Deliver:  # noqa: ANN401 - what the shop returns
    """Return ``await deliver(postback)``, which posts it to the ASGI app and returns the answer."""

    async def deliver(
        postback: SignedPostback, *, url: str | None = None, raise_app_exceptions: bool = True
    ) -> Response:
        to = wegetfinancing_postback_url if url is None else url
        return await deliver_to_asgi(
            wegetfinancing_app, postback, to, raise_app_exceptions=raise_app_exceptions
        )

    return deliver


@pytest.fixture
def wegetfinancing_sync_deliver(wegetfinancing_app: Any, wegetfinancing_postback_url: str) -> SyncDeliver:  # noqa: ANN401 - as above
    """Return ``deliver(postback)``, which posts it to the WSGI app and returns the answer."""

    def deliver(
        postback: SignedPostback, *, url: str | None = None, raise_app_exceptions: bool = True
    ) -> Response:
        to = wegetfinancing_postback_url if url is None else url
        return deliver_to_wsgi(wegetfinancing_app, postback, to, raise_app_exceptions=raise_app_exceptions)

    return deliver
