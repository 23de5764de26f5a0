"""What each exception of httpx and httpx2 means; a new one fails here until somebody has thought about it."""

import inspect
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from wegetfinancing import DeadlineExceededError, HttpxTransport, Outcome, TransportError
from wegetfinancing.http import Request

pytestmark = pytest.mark.anyio

# Raised before there is a connection; all others may come when the request is on its way.
BEFORE_ANY_CONNECTION = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
TIMEOUTS = {"TimeoutException", "ConnectTimeout", "PoolTimeout", "ReadTimeout", "WriteTimeout"}
OTHERS = {
    "CloseError",
    "CookieConflict",
    "DecodingError",
    "HTTPError",
    "HTTPStatusError",
    "InvalidURL",
    "LocalProtocolError",
    "NetworkError",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "RemoteProtocolError",
    "RequestError",
    "RequestNotRead",
    "ResponseNotRead",
    "SSEError",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "TooManyRedirects",
    "TransportError",
    "WriteError",
}
MAPPED = BEFORE_ANY_CONNECTION | TIMEOUTS | OTHERS


def exceptions_of(library: Any) -> dict[str, type[Exception]]:
    classes = inspect.getmembers(library, inspect.isclass)
    return {name: cls for name, cls in classes if issubclass(cls, Exception) and not issubclass(cls, Warning)}


EACH = [(library, name) for library in (httpx, httpx2) for name in exceptions_of(library)]


def test_no_exception_appeared_that_nobody_mapped(library: Any) -> None:
    assert set(exceptions_of(library)) - MAPPED == set()


@pytest.mark.parametrize(("library", "name"), EACH, ids=[f"{lib.__name__}.{name}" for lib, name in EACH])
async def test_each_exception_has_its_meaning(library: Any, name: str) -> None:
    cls = exceptions_of(library)[name]

    def handler(request: Any) -> Any:
        raise cls.__new__(cls, "simulated")  # their constructors differ

    async with library.AsyncClient(transport=library.MockTransport(handler)) as client:
        with pytest.raises(TransportError) as caught:
            await HttpxTransport(client).send(
                Request(
                    operation="create_request",
                    method="POST",
                    url="https://x.example",
                    deadline=anyio.current_time() + 30,
                )
            )
    error = caught.value
    assert error.outcome is (Outcome.NOT_SENT if name in BEFORE_ANY_CONNECTION else Outcome.UNKNOWN)
    assert isinstance(error, DeadlineExceededError) == (name in TIMEOUTS)
    assert name in str(error) or name in TIMEOUTS
    assert (error.__cause__, error.__context__) == (None, None)
