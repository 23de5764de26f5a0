"""A network below HttpxTransport that tells a test about each write before it happens."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import httpcore

from wegetfinancing.client.direct_connection import default_network


@attrs.define
class _Stream(httpcore.AsyncNetworkStream):
    inner: httpcore.AsyncNetworkStream
    before_write: Callable[[], Awaitable[object]]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self.inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self.before_write()
        await self.inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await self.inner.start_tls(*args, **kwargs), self.before_write)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


@attrs.define
class WatchedNetwork(httpcore.AsyncNetworkBackend):
    """The network of the running event loop, with something to await before each write."""

    before_write: Callable[[], Awaitable[object]]

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        network = default_network()
        return _Stream(await network.connect_tcp(*args, **kwargs), self.before_write)
