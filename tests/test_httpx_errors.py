"""What each exception of httpx and httpx2 means; a new one fails here until somebody has thought about it."""

import errno
import inspect
import os
import socket
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from support.exchanges import close_after_reading, closed_port, make_request
from support.fault_server import raw_server
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


async def test_a_refused_connection_sent_nothing_and_says_why(transport: HttpxTransport) -> None:
    with pytest.raises(
        TransportError, match=r"to 127\.0\.0\.1:\d+ was made \(ConnectError: Connection refused\)"
    ) as caught:
        await transport.send(make_request(f"http://127.0.0.1:{await closed_port()}"))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert not caught.value.permanent


async def test_an_unknown_host_sent_nothing(transport: HttpxTransport) -> None:
    with pytest.raises(TransportError, match="ConnectError") as caught:
        await transport.send(make_request("http://host.invalid"))
    assert caught.value.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize(
    ("cause", "detail"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no such name"), "no such name"),
        (socket.gaierror(8, "a number of macOS"), "a number of macOS"),
        (PermissionError(errno.EPERM, "127.0.0.1 is not for you"), os.strerror(errno.EPERM)),
        (
            ExceptionGroup("each address", [OSError(errno.ENETUNREACH, ""), OSError(errno.EHOSTDOWN, "")]),
            os.strerror(errno.ENETUNREACH),
        ),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_the_reason_of_the_system_is_given_without_an_address(
    library: Any, cause: Exception, detail: str
) -> None:
    def handler(request: Any) -> Any:
        raise library.ConnectError("127.0.0.1") from cause

    with pytest.raises(TransportError) as caught:
        await HttpxTransport(library.MockTransport(handler)).send(make_request("https://x.example"))
    assert f" (ConnectError: {detail})" in str(caught.value)


def read_a_file_that_is_not_there() -> None:
    Path("/no/such/file").read_bytes()


async def test_the_reason_is_not_sought_in_what_the_caller_was_handling(transport: HttpxTransport) -> None:
    async with raw_server(close_after_reading) as server:
        try:
            read_a_file_that_is_not_there()
        except FileNotFoundError:
            with pytest.raises(TransportError) as caught:
                await transport.send(make_request(server.url))
    assert "No such file" not in str(caught.value)


async def test_a_name_that_another_library_took_for_its_own_failure_counts_as_sent(library: Any) -> None:
    """httpx-aiohttp calls a disconnect after sending a ConnectTimeout, for example."""

    async def handler(request: Any) -> Any:
        raise library.ConnectTimeout("disconnected") from ConnectionResetError()

    async with library.AsyncClient(transport=library.MockTransport(handler)) as client:
        with pytest.raises(TransportError, match="was lost") as caught:
            await HttpxTransport(client).send(make_request("https://x.example"))
    assert caught.value.outcome is Outcome.UNKNOWN
    assert not isinstance(caught.value, DeadlineExceededError)


async def test_any_other_exception_of_a_stand_in_counts_as_sent(library: Any) -> None:
    def handler(request: Any) -> Any:
        raise RuntimeError("anything")

    async with library.AsyncClient(transport=library.MockTransport(handler)) as client:
        with pytest.raises(
            TransportError, match=r"the connection to x\.example was lost \(RuntimeError\)"
        ) as caught:
            await HttpxTransport(client).send(make_request("https://x.example"))
    assert caught.value.outcome is Outcome.UNKNOWN
