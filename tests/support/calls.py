"""A client over a transport in memory, and the calls that tests make with it."""

from typing import Any

from wegetfinancing import AsyncClient, Retry
from wegetfinancing.http import Response
from wegetfinancing.testing import INV_ID, FakeTransport, credentials, financing_request, shipping_event

LOST = "the connection was lost"


def make_client(*script: Any, **settings: Any) -> tuple[AsyncClient, FakeTransport]:
    transport = FakeTransport(*script)
    defaults: dict[str, Any] = {
        "middleware": [Retry(base_delay=0.0)],
        "transport": transport,
    }
    return AsyncClient(credentials(), **defaults | settings), transport


async def create(client: AsyncClient) -> Any:
    return await client.create_request(financing_request())


async def ship(client: AsyncClient) -> Any:
    return await client.update_shipping(INV_ID, shipping_event())


def throttled(value: str, **headers: str) -> Response:
    return Response(429, {"Retry-After": value, **headers})
