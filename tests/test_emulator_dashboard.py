"""The dashboard of a served emulator: calls, deliveries, filter, clear, and what it never shows."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import attrs
import httpx
import pytest

from wegetfinancing import AsyncClient, CallError, HttpxTransport, PostbackVersion
from wegetfinancing.client.authentication import basic_authorization
from wegetfinancing.emulator import FAULTS, Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.http import Response
from wegetfinancing.testing import FakeTransport, credentials, financing_request, shipping_event

pytestmark = pytest.mark.anyio

ADDRESS = "http://emulator.test"
SHOP = "http://127.0.0.1:9/postbacks"
HTML = {"accept": "text/html"}


@attrs.frozen
class Visit:
    browser: httpx.AsyncClient
    emulator: Emulator
    shop: FakeTransport

    async def create(self, *orders: str, **changes: Any) -> None:
        async with AsyncClient(credentials(), transport=HttpxTransport(self.browser)) as client:
            for order in orders:
                changes = {"postback_url": SHOP} | changes
                await client.create_request(financing_request(merchant_transaction_id=order, **changes))

    async def decide(self, inv_id: str, decision: str, **fields: str) -> httpx.Response:
        form = {"decision": decision, "then": "dashboard"} | fields
        return await self.browser.post(f"{ADDRESS}/lc/{inv_id}", data=form, headers=HTML)

    async def page(self, order: str | None = None) -> str:
        answer = await self.browser.get(f"{ADDRESS}/", params={} if order is None else {"order": order})
        assert answer.status_code == 200
        return answer.text


def one_after_another() -> Callable[[], str]:
    numbers = iter("abcdef")
    return lambda: f"inv-{next(numbers)}"


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    emulator = Emulator(credentials(), page=f"{ADDRESS}/lc/", new_inv_id=one_after_another())
    shop = FakeTransport(*[Response(200, body=b"OK <thanks>")] * 9)
    app = emulator_app(emulator, shop, sleep=lambda _: anyio.lowlevel.checkpoint(), clock=lambda: 0.0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as browser:
        yield Visit(browser, emulator, shop)


def calls_of(page: str) -> list[str]:
    return [" ".join(each.split()) for each in re.findall(r"<summary id=\"call-.*?</li>", page, re.DOTALL)]


async def test_a_call_is_shown_with_request_answer_and_timing(visit: Visit) -> None:
    await visit.create("ORDER-7")
    (call,) = calls_of(await visit.page())
    assert re.search(r"POST /merchant/1234/requests <strong>HTTP 200</strong> \d+ ms ORDER-7</summary>", call)
    assert "content-type: application/json" in call
    assert "&#34;merchant_transaction_id&#34;:&#34;ORDER-7&#34;" in call.replace(": &#34;", ":&#34;")
    assert "&#34;inv_id&#34;" in call.partition("<h3>Answer</h3>")[2]


async def test_no_secret_is_shown_whatever_a_call_brings(visit: Visit) -> None:
    await visit.create("ORDER-7")
    await visit.decide("inv-a", "approved")
    wrong = {"authorization": "Basic d3Jvbmc6c2VjcmV0", "cookie": "session=secret", "x-api-key": "secret"}
    await visit.browser.post(f"{ADDRESS}/merchant/1234/requests?key=secret", json={}, headers=wrong)
    page = await visit.page()
    assert len(calls_of(page)) == 2
    right = basic_authorization(credentials())
    for secret in (credentials().password, right, right.partition(" ")[2], *wrong.values(), "secret"):
        assert secret not in page
    assert "authorization" not in page.lower()


async def test_a_call_without_an_answer_shows_its_fault_and_no_time(visit: Visit) -> None:
    visit.emulator.fail_next("fault-reset", "fault-503")
    for _ in range(2):
        with pytest.raises(CallError):
            await visit.create("ORDER-7")
    newest, oldest = calls_of(await visit.page())
    assert "<strong>HTTP 503</strong> <code>fault-503</code>" in newest
    assert "<strong>no answer</strong> <code>fault-reset</code> ORDER-7</summary>" in oldest
    assert oldest.endswith("<h3>Answer</h3><pre>none</pre></details></li>")


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"{}"])
async def test_a_call_that_cannot_be_read_is_shown_too(visit: Visit, body: bytes) -> None:
    authorization = {"authorization": basic_authorization(credentials())}
    await visit.browser.post(f"{ADDRESS}/merchant/1234/shipping", content=body, headers=authorization)
    (call,) = calls_of(await visit.page())
    assert "<strong>HTTP 400</strong>" in call


async def test_a_large_body_is_cut(visit: Visit) -> None:
    await visit.browser.post(f"{ADDRESS}/merchant/1234/requests", content=b"x" * 100_000)
    assert len(await visit.page()) < 30_000


async def test_a_delivery_is_shown_with_the_answer_of_the_endpoint(visit: Visit) -> None:
    await visit.create("ORDER-7")
    await visit.decide("inv-a", "approved")
    page = await visit.page()
    assert re.search(r"<strong>HTTP 200</strong> \d+ ms", page.partition('id="postbacks"')[2])
    assert "<pre>OK &lt;thanks&gt;</pre>" in page


async def test_a_refund_of_a_part_is_shown_as_a_part(visit: Visit) -> None:
    await visit.create("ORDER-7")
    await visit.decide("inv-a", "approved")
    await visit.decide("inv-a", "refund", amount="10")
    page = " ".join(re.sub(r"<[^>]*>", " ", await visit.page()).split())
    assert "ORDER-7 refunded $499.00, of which $10.00 is refunded · inv_id" in page


async def test_what_was_not_sent_has_no_time(visit: Visit) -> None:
    await visit.create("ORDER-7", postback_url="https://shop.example/postbacks")
    await visit.decide("inv-a", "approved")
    assert re.search(r"--allow-host [a-z.]+</strong>\s*</li>", await visit.page())


async def test_the_filter_shows_one_order_and_stays_after_a_button(visit: Visit) -> None:
    await visit.create("ORDER-7", "ORDER-8")
    async with AsyncClient(credentials(), transport=HttpxTransport(visit.browser)) as client:
        await client.update_shipping("inv-a", shipping_event())
    for inv_id in ("inv-a", "inv-b"):
        await visit.decide(inv_id, "approved")
    for text in ("order-7", "INV-A"):
        page = await visit.page(text)
        assert "ORDER-7" in page
        assert "ORDER-8" not in page
        assert len(calls_of(page)) == 2
    assert len(calls_of(await visit.page())) == 3
    assert page.count('<input type="hidden" name="order" value="INV-A">') == 3
    answer = await visit.decide("inv-a", "rejected", order="INV A&")
    assert answer.headers["location"] == "/?order=INV+A%26#request-inv-a"
    for path, form in [
        ("deliver/1", {"how": "again"}),
        ("out-of-order/inv-a", {}),
        ("faults", {"fault": "fault-502"}),
    ]:
        answer = await visit.browser.post(f"{ADDRESS}/{path}", data=form | {"order": "7"})
        assert answer.headers["location"].startswith("/?order=7#")
    assert "None of this order" in await visit.page("<script>")
    assert "<script>alert" not in await visit.page("<script>alert")


async def test_clear_forgets_requests_postbacks_and_calls(visit: Visit) -> None:
    await visit.create("ORDER-7")
    await visit.decide("inv-a", "approved")
    refused = await visit.browser.post(f"{ADDRESS}/clear", headers={"sec-fetch-site": "cross-site"})
    assert refused.status_code == 403
    assert "ORDER-7" in await visit.page()
    assert (await visit.browser.post(f"{ADDRESS}/clear")).headers["location"] == "/"
    assert "ORDER-7" not in await visit.page()
    assert visit.emulator.applications == {}
    assert (await visit.browser.post(f"{ADDRESS}/deliver/1", data={"how": "again"})).status_code == 404
    await visit.create("ORDER-8")
    await visit.decide("inv-b", "approved")
    assert 'id="postback-2"' in await visit.page()  # an old address does not deliver something else


async def test_a_refund_is_offered_only_after_an_approval(visit: Visit) -> None:
    await visit.create("ORDER-7", "ORDER-8", "ORDER-9")
    offered = '<option value="refund">'
    await visit.decide("inv-a", "rejected")
    assert offered not in await visit.page()
    answer = await visit.decide("inv-a", "refund")
    assert answer.status_code == 200
    assert "only a request that was approved can be refunded" in answer.text
    assert len(visit.shop.requests) == 1
    await visit.decide("inv-a", "approved")
    assert (await visit.page()).count(offered) == 1
    await visit.decide("inv-a", "refund")
    assert offered not in await visit.page()


async def test_a_refund_is_not_offered_in_a_dialect_without_it(visit: Visit) -> None:
    await visit.create("ORDER-7", version=PostbackVersion.V0_2)
    await visit.decide("inv-a", "approved")
    assert '<option value="refund">' not in await visit.page()


async def test_each_fault_stands_next_to_its_status(visit: Visit) -> None:
    page = await visit.page()
    statuses = {name: fault.status for name, fault in FAULTS.items()}
    for name, status in statuses.items():
        assert f'<option value="{name}">{name} ({status})</option>' in page
    assert statuses["fault-timeout-after-commit"] == "no answer"
    assert statuses["fault-reset"] == "reset"
    assert statuses["fault-html"] == statuses["fault-no-amount"] == "HTTP 200"
    assert statuses["fault-502-after-commit"] == "HTTP 502"


async def test_a_call_that_will_succeed_is_queued_as_none(visit: Visit) -> None:
    visit.emulator.fail_next(None, "fault-502")
    assert "Queued: <code>none</code> <code>fault-502</code> (HTTP 502)" in await visit.page()
