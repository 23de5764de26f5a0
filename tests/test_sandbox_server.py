"""The sandbox over HTTP; the demo runs it on real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from wegetfinancing import (
    AsyncClient,
    AuthenticationError,
    HttpxTransport,
    Outcome,
    TransportError,
)
from wegetfinancing.sandbox import Sandbox
from wegetfinancing.sandbox.server import sandbox_app
from wegetfinancing.testing import (
    FakeTransport,
    credentials,
    error_response,
    financing_request,
    shipping_event,
)

pytestmark = pytest.mark.anyio

SHOP = "http://127.0.0.1:9/postbacks"


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(credentials(), page="http://sandbox.test/lc/", new_inv_id=lambda: "a1")


@pytest.fixture
def shop() -> FakeTransport:
    """Where the sandbox delivers its postbacks."""
    return FakeTransport(error_response(200))


@pytest.fixture
async def browser(sandbox: Sandbox, shop: FakeTransport) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sandbox_app(sandbox, shop))) as client:
        yield client


def make_client(browser: httpx.AsyncClient, **changes: Any) -> AsyncClient:
    return AsyncClient(credentials(**changes), transport=HttpxTransport(browser))


async def test_the_api_is_served_under_the_vendors_paths(
    browser: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    async with make_client(browser) as client:
        created = await client.create_request(financing_request())
        await client.update_shipping(created.inv_id, shipping_event())
        assert await client.create_test_postback({}) == {"type": "done", "http_code": 200}
    assert sandbox.applications["a1"].shipping_events == [shipping_event()]
    async with make_client(browser, password="wrong") as client:
        with pytest.raises(AuthenticationError):
            await client.create_request(financing_request())
    assert (await browser.get("http://sandbox.test/merchant/1234/requests")).status_code == 401


async def test_a_decision_delivers_the_signed_postback(
    browser: httpx.AsyncClient, shop: FakeTransport
) -> None:
    async with make_client(browser) as client:
        created = await client.create_request(financing_request(postback_url=SHOP))
    decided = await browser.post(created.href, data={"decision": "approved"})
    assert decided.json() == {"decision": "approved", "postback": "HTTP 200"}
    (delivered,) = shop.requests
    assert (delivered.method, delivered.url, delivered.repeatable) == ("POST", SHOP, False)
    assert set(delivered.headers) == {"content-type", "x-signature", "x-timestamp"}


async def test_a_shop_that_cannot_be_reached_is_told(browser: httpx.AsyncClient, sandbox: Sandbox) -> None:
    shop = FakeTransport(TransportError("no connection was made", outcome=Outcome.NOT_SENT))
    app = sandbox_app(sandbox, shop)
    async with make_client(browser) as client:
        created = await client.create_request(financing_request(postback_url=SHOP))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as other:
        decided = await other.post(created.href, data={"decision": "rejected"})
    assert decided.json()["postback"] == "no connection was made. Nothing was sent."
    assert sandbox.applications["a1"].status == "rejected"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "discarded: the request named no postback_url"),
        ("https://shop.example/postbacks", "discarded: this sandbox delivers to loopback addresses only"),
    ],
)
async def test_postbacks_go_to_loopback_addresses_only(
    browser: httpx.AsyncClient, shop: FakeTransport, url: str | None, told: str
) -> None:
    async with make_client(browser) as client:
        created = await client.create_request(financing_request(postback_url=url))
    decided = await browser.post(created.href, data={"decision": "approved"})
    assert decided.json()["postback"] == told
    assert shop.requests == []


async def test_a_decision_that_cannot_be_is_refused(browser: httpx.AsyncClient, shop: FakeTransport) -> None:
    assert (
        await browser.post("http://sandbox.test/lc/none", data={"decision": "approved"})
    ).status_code == 404
    async with make_client(browser) as client:
        created = await client.create_request(financing_request(postback_url=SHOP))
    for content in (b"", b"decision=paused", b"\xff"):
        refused = await browser.post(created.href, content=content)
        assert refused.status_code == 400
        assert "must be one of" in refused.json()["problem"]
    assert shop.requests == []
