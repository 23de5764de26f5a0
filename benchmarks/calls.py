"""CPU of one ``create_request`` against the same body posted by hand, without a network."""

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import httpcore
import httpx
import httpx2

from wegetfinancing import Address, AsyncClient, CartItem, FinancingRequest, HttpxTransport
from wegetfinancing.client.operations import create_request_body
from wegetfinancing.testing import credentials

from .fake_socket import CREATED_BODY, fake_network, fake_network_transport
from .harness import Row, compared, interleaved

URL = "https://api.sandbox.wegetfinancing.com/merchant/1234/requests"
HEADERS = {"accept": "application/json"}


def new_request() -> FinancingRequest:
    """Build the model anew, as a checkout does."""
    return FinancingRequest(
        first_name="Jane",
        last_name="Doe",
        email="jane@example.com",
        phone="2125551234",
        billing_address=Address(street1="123 Main St", city="New York", state="NY", zipcode="10001"),
        cart_items=[CartItem(display_name="Super Widget", unit_price="499.00", quantity=1)],
        merchant_transaction_id="ORDER-123",
        postback_url="https://shop.example/postbacks",
    )


async def against_by_hand(
    library: ModuleType,
    stand_in: str,
    make_transport: Callable[[], Any],
    ours_on: HttpxTransport,
    *,
    bound: float | None = None,
) -> list[Row]:
    """Compare a create, its model built each time, with the library by hand: as usual, and at its best."""
    wire = json.loads(create_request_body(new_request()))
    who = credentials()
    hand = library.AsyncClient(transport=make_transport(), auth=(who.username, who.password), headers=HEADERS)
    at_best = library.AsyncClient(transport=make_transport())
    prebuilt = hand.build_request("POST", URL, json=wire, headers={"authorization": "Basic YTpi"})
    ready_headers = library.Headers({"authorization": "Basic YTpi", "content-type": "application/json"})
    ready_parts = {"headers": ready_headers, "extensions": dict(prebuilt.extensions)}
    ready_url = library.URL(URL)
    client = AsyncClient(who, transport=ours_on)

    async def ours() -> Any:
        return await client.create_request(new_request())

    async def by_hand() -> Any:
        return (await hand.post(URL, json=wire)).json()

    async def by_hand_from_ready_parts() -> Any:
        content = json.dumps(wire).encode()
        return (await at_best.send(library.Request("POST", ready_url, content=content, **ready_parts))).json()

    async with hand, at_best, client:
        assert (await ours()).inv_id == (await by_hand())["inv_id"]
        took = await interleaved({"ours": ours, "hand": by_hand, "parts": by_hand_from_ready_parts})
    name = f"{library.__name__} {library.__version__}, {stand_in}"
    create = "`create_request`, model built each time"
    usual = f"`post(json=…)` + `.json()`, {name}"
    parts = f"`json.dumps`, a `Request` of ready parts, `send`, {name}"
    return [
        compared(create, took["ours"], usual, took["hand"], bound=bound),
        compared(create, took["ours"], parts, took["parts"]),
    ]


async def measure() -> list[Row]:
    """Measure on both libraries, through httpcore and h11 and over ``MockTransport``."""
    rows = []
    # What a connection of its own, the deadline and the guard cost is paid for by what is not done of httpx's
    # client. Checking the model is on top, and httpcore2 below httpx2 takes less than httpcore.
    for library, bound in ((httpx, 1.15), (httpx2, 1.45)):

        def mock(library: Any = library) -> Any:
            headers = {"content-type": "application/json"}
            return library.MockTransport(
                lambda _: library.Response(200, headers=headers, content=CREATED_BODY)
            )

        through = fake_network_transport(library)
        # What a shop gets by default: each create on a connection of its own. By hand one is kept alive.
        own = HttpxTransport(network_backend=fake_network(httpcore)())
        rows += await against_by_hand(library, "httpcore on a fake socket", through, own, bound=bound)
        rows += await against_by_hand(library, "`MockTransport`", mock, HttpxTransport(mock()))
    return rows
