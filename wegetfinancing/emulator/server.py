"""Serve the emulator with uvicorn. Needs ``wegetfinancing[emulator]``."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from weakref import WeakValueDictionary

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..credentials import Credentials
from .app import emulator_app
from .core import Emulator

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds


def emulator_server(
    credentials: Credentials | Iterable[Credentials],
    listening: socket.socket,
    *,
    hosts: Iterable[str] = (),
    report: Callable[[str], None] = lambda _: None,
    ready: Callable[[], None] = lambda: None,
) -> uvicorn.Server:
    """Make the server of a new emulator; start it with ``run(sockets=[listening])``.

    Args:
        credentials: the ones it accepts, one for each merchant.
        listening: a listening socket.
        hosts: where postbacks may go besides loopback addresses.
        report: receives one line for each call and each delivery.
        ready: called once it serves, and ends at Ctrl-C. While Python imports, a Ctrl-C may get lost.

    """
    host, port = listening.getsockname()[:2]
    transports: WeakValueDictionary[tuple[str, int], asyncio.Transport] = WeakValueDictionary()

    class Protocol(H11Protocol):
        """Remembers each connection, to be able to reset it."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
            """Remember it."""
            transports[transport.get_extra_info("peername")[:2]] = transport
            super().connection_made(transport)

    class Server(uvicorn.Server):
        """Says when it is ready."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Begin to serve."""
            await super().startup(sockets)
            ready()

    def reset(scope: Scope) -> None:
        transport = transports[tuple(scope["client"])]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    emulator = Emulator(credentials, page=f"http://{host}:{port}/lc/")
    app = emulator_app(emulator, hosts=hosts, reset=reset, report=report)
    # Otherwise a web site whose name resolves to this machine could reach the emulator.
    guarded = TrustedHostMiddleware(app, allowed_hosts=[host, "localhost"])
    config = uvicorn.Config(
        guarded,
        http=Protocol,
        lifespan="off",
        log_level="critical",  # a fault that never answers, or whose caller has left, is not an error here
        proxy_headers=False,  # a connection is found by the peer's own address
        timeout_graceful_shutdown=1,
    )
    return Server(config)
