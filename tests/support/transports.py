"""Transports that do what no server has to do."""

import anyio

from wegetfinancing.http import Request, Response
from wegetfinancing.testing import FakeTransport


class SilentTransport(FakeTransport):
    """Never answers, and cannot tell what it sent."""

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        await anyio.sleep_forever()
        raise AssertionError
