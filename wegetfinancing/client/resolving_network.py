"""A network of httpcore's that looks host names up in threads of our own.

It imports httpcore, so it is itself imported late.
"""

import functools
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

import anyio
import httpcore

from .httpx_exchange import close_quietly

# How long one address may take before the next one is tried beside it; RFC 8305 recommends it, and anyio and
# trio do the same.
NEXT_ADDRESS_SECONDS: Final = 0.25

Find: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
_Connect: TypeAlias = Callable[[str], Awaitable[httpcore.AsyncNetworkStream]]


class ResolvingNetwork(httpcore.AsyncNetworkBackend):
    """Finds the addresses of a host itself; another network connects, to addresses only.

    Args:
        network: connects.
        find: returns the addresses of a host, in the order in which to try them.

    """

    def __init__(self, network: httpcore.AsyncNetworkBackend, find: Find) -> None:
        """Open nothing yet."""
        self._network = network
        self._find = find

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of ``host`` that accepts.

        Raises:
            httpcore.ConnectError: there is no such name, or no address accepts.
            httpcore.ConnectTimeout: the time is over.

        """
        connect = functools.partial(
            self._network.connect_tcp,
            port=port,
            local_address=local_address,
            socket_options=None if socket_options is None else list(socket_options),
        )
        if _is_address(host):
            return await connect(host, timeout=timeout)
        try:
            with anyio.fail_after(timeout):
                return await _connect_to_first(connect, await self._find(host, port))
        except TimeoutError as error:
            msg = "the time was over before there was a connection"
            raise httpcore.ConnectTimeout(msg) from error
        except OSError as error:
            raise httpcore.ConnectError(error) from error


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _connect_to_first(connect: _Connect, addresses: list[str]) -> httpcore.AsyncNetworkStream:
    """Try one address after the other, and the next one beside those that neither accept nor fail."""
    if len(addresses) == 1:
        return await connect(addresses[0])
    streams: list[httpcore.AsyncNetworkStream] = []
    errors: list[Exception] = []

    async def attempt(address: str, ended: anyio.Event) -> None:
        try:
            stream = await connect(address)
        except Exception as error:  # noqa: BLE001 - raised below, unless another address accepts
            errors.append(error)
        else:
            streams.append(stream)
            tasks.cancel_scope.cancel()
        ended.set()

    try:
        async with anyio.create_task_group() as tasks:
            for address in addresses:
                ended = anyio.Event()
                tasks.start_soon(attempt, address, ended)
                with anyio.move_on_after(NEXT_ADDRESS_SECONDS):
                    await ended.wait()
        if not streams:
            msg = "no address accepts"
            raise httpcore.ConnectError(msg) from ExceptionGroup(msg, errors)
        while len(streams) > 1:  # accepted in the same turn of the event loop
            await close_quietly(streams.pop())
        return streams.pop()
    finally:
        errors.clear()  # a traceback holds this frame: without this, a cycle for the collector
        for stream in streams:  # the caller was cancelled just then
            await close_quietly(stream)
