"""The emulator over HTTP; the demo runs it on real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from wegetfinancing import (
    AsyncClient,
    AuthenticationError,
    CallError,
    HttpxTransport,
    Outcome,
    ServerError,
    TransportError,
)
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.testing import (
    FakeTransport,
    cart_item,
    credentials,
    error_response,
    financing_request,
    shipping_event,
)

pytestmark = pytest.mark.anyio

SHOP = "http://127.0.0.1:9/postbacks"


@pytest.fixture
def emulator() -> Emulator:
    return Emulator(credentials(), page="http://emulator.test/lc/", new_inv_id=lambda: "a1")


@pytest.fixture
def shop() -> FakeTransport:
    """Where the emulator delivers its postbacks."""
    return FakeTransport(error_response(200))


@pytest.fixture
async def browser(emulator: Emulator, shop: FakeTransport) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(emulator_app(emulator, shop))) as client:
        yield client


def make_client(browser: httpx.AsyncClient, **changes: Any) -> AsyncClient:
    return AsyncClient(credentials(**changes), transport=HttpxTransport(browser))


async def test_the_api_is_served_under_the_vendors_paths(
    browser: httpx.AsyncClient, emulator: Emulator
) -> None:
    async with make_client(browser) as client:
        created = await client.create_request(financing_request())
        await client.update_shipping(created.inv_id, shipping_event())
        assert await client.create_test_postback({}) == {"type": "done", "http_code": 200}
    assert emulator.applications["a1"].shipping_events == [shipping_event()]
    async with make_client(browser, password="wrong") as client:
        with pytest.raises(AuthenticationError):
            await client.create_request(financing_request())
    assert (await browser.get("http://emulator.test/merchant/1234/requests")).status_code == 401


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


async def test_a_shop_that_cannot_be_reached_is_told(browser: httpx.AsyncClient, emulator: Emulator) -> None:
    shop = FakeTransport(TransportError("no connection was made", outcome=Outcome.NOT_SENT))
    app = emulator_app(emulator, shop)
    async with make_client(browser) as client:
        created = await client.create_request(financing_request(postback_url=SHOP))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as other:
        decided = await other.post(created.href, data={"decision": "rejected"})
    assert decided.json()["postback"] == "no connection was made. Nothing was sent."
    assert emulator.applications["a1"].status == "rejected"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "discarded: the request has no postback_url"),
        (
            "https://shop.example/postbacks",
            "discarded: shop.example is not loopback; start the emulator with --allow-host shop.example",
        ),
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


async def test_a_delivery_that_cannot_be_is_refused(browser: httpx.AsyncClient, emulator: Emulator) -> None:
    async with make_client(browser) as client:
        created = await client.create_request(financing_request(postback_url=None))
    for url, form in [
        (created.href, {"decision": "approved", "delivery": "forged"}),
        ("http://emulator.test/deliver/1", {"how": "by pigeon"}),
    ]:
        await browser.post(created.href, data={"decision": "preapproved"})
        refused = await browser.post(url, data=form)
        assert refused.status_code == 400
        assert "delivery must be one of" in refused.json()["problem"]
    assert emulator.applications["a1"].status == "preapproved"


async def test_only_a_refund_has_an_amount(browser: httpx.AsyncClient, shop: FakeTransport) -> None:
    async with make_client(browser) as client:
        created = await client.create_request(financing_request(postback_url=SHOP))
    await browser.post(created.href, data={"decision": "approved", "amount": "77"})
    assert b"amount" not in shop.requests[0].body


async def test_a_decision_that_cannot_be_is_refused(browser: httpx.AsyncClient, shop: FakeTransport) -> None:
    assert (
        await browser.post("http://emulator.test/lc/none", data={"decision": "approved"})
    ).status_code == 404
    async with make_client(browser) as client:
        created = await client.create_request(financing_request(postback_url=SHOP))
    for content in (b"", b"decision=paused", b"\xff"):
        refused = await browser.post(created.href, content=content)
        assert refused.status_code == 400
        assert "must be one of" in refused.json()["problem"]
    assert shop.requests == []


HTML = {"accept": "text/html"}


async def test_a_browser_is_sent_on_as_the_decision_says(
    browser: httpx.AsyncClient, emulator: Emulator
) -> None:
    request = financing_request(
        success_url="https://shop.example/thanks", failure_url="https://shop.example/sorry"
    )
    async with make_client(browser) as client:
        href = (await client.create_request(request)).href
    for decision, goes_to in [
        ("preapproved", "https://shop.example/thanks"),
        ("rejected", "https://shop.example/sorry"),
        ("approved", "https://shop.example/thanks"),
        ("refund", "/lc/a1"),
    ]:
        answer = await browser.post(href, data={"decision": decision}, headers=HTML)
        assert (answer.status_code, answer.headers["location"]) == (303, goes_to)
    answer = await browser.post(href, data={"decision": "rejected", "then": "dashboard"}, headers=HTML)
    assert answer.headers["location"] == "/#request-a1"
    assert emulator.applications["a1"].status == "rejected"


async def test_without_addresses_of_the_shop_a_browser_stays(browser: httpx.AsyncClient) -> None:
    async with make_client(browser) as client:
        href = (await client.create_request(financing_request())).href
    answer = await browser.post(href, data={"decision": "approved"}, headers=HTML)
    assert answer.headers["location"] == "/lc/a1"


@pytest.mark.parametrize(("decision", "outcome"), [("approved", "complete"), ("rejected", "abort")])
async def test_a_lightbox_is_told_how_it_ended(
    browser: httpx.AsyncClient, decision: str, outcome: str
) -> None:
    async with make_client(browser) as client:
        href = (await client.create_request(financing_request())).href
    page = await browser.post(href, data={"decision": decision, "then": "lightbox"}, headers=HTML)
    assert f'data-outcome="{outcome}"' in page.text


async def test_the_page_shows_what_is_asked_for_and_escapes_it(browser: httpx.AsyncClient) -> None:
    request = financing_request(
        first_name="<b>Jane", cart_items=[cart_item(display_name="<script>alert(1)</script>", quantity=3)]
    )
    async with make_client(browser) as client:
        href = (await client.create_request(request)).href
    for url in (href, "http://emulator.test/"):
        page = await browser.get(url)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    page = await browser.get(href)
    assert "$1,497.00" in page.text
    assert "Approve" in page.text
    assert "Refund" not in page.text


async def test_a_refund_is_offered_where_it_can_be(browser: httpx.AsyncClient, emulator: Emulator) -> None:
    async with make_client(browser) as client:
        href = (await client.create_request(financing_request())).href
    await browser.post(href, data={"decision": "approved"})
    assert "Refund" in (await browser.get(href)).text
    page = await browser.post(href, data={"decision": "refund", "amount": "500"}, headers=HTML)
    assert "at most the remaining 499.00" in page.text
    await browser.post(href, data={"decision": "refund", "amount": ""}, headers=HTML)
    assert emulator.applications["a1"].refunded == 499
    assert "remaining" not in (await browser.get(href)).text


async def test_what_is_not_there_says_so(browser: httpx.AsyncClient) -> None:
    for answer in (
        await browser.get("http://emulator.test/lc/none"),
        await browser.post("http://emulator.test/lc/none", headers=HTML),
    ):
        assert answer.status_code == 404
        assert "Unknown request" in answer.text
    for number in (0, 7):
        assert (await browser.post(f"http://emulator.test/deliver/{number}")).status_code == 404
    answer = await browser.post("http://emulator.test/faults", data={"fault": "none"})
    assert answer.status_code == 400
    assert "the faults are fault-" in answer.json()["problem"]


async def test_a_postback_can_be_delivered_in_every_way(emulator: Emulator) -> None:
    answered = [200, 200, 401, 200, 200, 200, 200]
    shop = FakeTransport(*(error_response(each) for each in answered))
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    app = emulator_app(emulator, shop, sleep=sleep, clock=lambda: 0.0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as browser:
        async with make_client(browser) as client:
            href = (await client.create_request(financing_request(postback_url=SHOP))).href
        held = await browser.post(href, data={"decision": "approved", "delivery": "hold"})
        assert held.json()["postback"] == "not delivered yet"
        assert shop.requests == []
        for how in ("again", "late", "forged", "twice"):
            answer = await browser.post("http://emulator.test/deliver/1", data={"how": how})
            assert answer.headers["location"] == "/#postback-1"
        dashboard = (await browser.get("http://emulator.test/")).text
        assert waited == [10.0]
        assert "wrong signature <strong>HTTP 401" in dashboard
        assert dashboard.count("twice at once <strong>HTTP 200") == 2

        await browser.post(href, data={"decision": "refund", "delivery": "hold"})
        shop_before = len(shop.requests)
        await browser.post("http://emulator.test/out-of-order/a1")
    bodies = [each.body for each in shop.requests[shop_before:]]
    assert [b"refund" in each for each in bodies] == [True, False]
    assert len({each.headers["x-signature"] for each in shop.requests[:shop_before]}) == 2


async def test_a_late_decision_is_delivered_after_the_answer(
    browser: httpx.AsyncClient, emulator: Emulator, shop: FakeTransport
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        assert shop.requests == []
        waited.append(seconds)

    app = emulator_app(emulator, shop, sleep=sleep)
    async with make_client(browser) as client:
        href = (await client.create_request(financing_request(postback_url=SHOP))).href
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as other:
        decided = await other.post(href, data={"decision": "approved", "delivery": "late"})
    assert decided.json()["postback"] == "not delivered yet"
    assert waited == [10.0]
    assert len(shop.requests) == 1


async def test_postbacks_go_to_the_hosts_that_were_allowed(emulator: Emulator, shop: FakeTransport) -> None:
    app = emulator_app(emulator, shop, hosts=["Shop.example"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as browser:
        async with make_client(browser) as client:
            href = (await client.create_request(financing_request())).href
        decided = await browser.post(href, data={"decision": "approved"})
    assert decided.json()["postback"] == "HTTP 200"


async def test_the_dashboard_asks_for_the_next_fault(browser: httpx.AsyncClient, emulator: Emulator) -> None:
    await browser.post("http://emulator.test/faults", data={"fault": "fault-502"})
    assert [each and each.name for each in emulator.next_faults] == ["fault-502"]
    assert "Queued: <code>fault-502</code> (HTTP 502)" in (await browser.get("http://emulator.test/")).text
    async with make_client(browser) as client:
        with pytest.raises(ServerError):
            await client.create_request(financing_request())
    dashboard = (await browser.get("http://emulator.test/")).text
    assert "<strong>HTTP 502</strong> <code>fault-502</code>" in dashboard


async def test_a_slow_fault_waits_and_answers(emulator: Emulator, shop: FakeTransport) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    app = emulator_app(emulator, shop, sleep=sleep)
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(app)) as browser,
        make_client(browser) as client,
    ):
        await client.create_request(financing_request(merchant_transaction_id="fault-slow"))
    assert waited == [5.0]


async def test_where_nothing_can_reset_a_connection_the_answer_breaks_off(browser: httpx.AsyncClient) -> None:
    async with make_client(browser) as client:
        with pytest.raises(CallError) as caught:
            await client.create_request(financing_request(merchant_transaction_id="fault-reset"))
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_the_lightbox_script_is_served_where_the_vendor_has_it(browser: httpx.AsyncClient) -> None:
    script = await browser.get("http://emulator.test/libs/1.0/getfinancing.js")
    assert "constructor(href, onComplete, onAbort)" in script.text
    assert "javascript" in script.headers["content-type"]
    assert (await browser.get("http://emulator.test/static/emulator.css")).status_code == 200
