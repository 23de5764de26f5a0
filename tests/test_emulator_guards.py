"""What keeps other web sites and oversized bodies away from a served emulator."""

from collections.abc import AsyncIterator
from typing import Any, Self

import httpx
import pytest

from wegetfinancing import AsyncClient, HttpxTransport
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.testing import FakeTransport, credentials, error_response, financing_request

pytestmark = pytest.mark.anyio

EMULATOR = "http://emulator.test"
SHOP = "http://127.0.0.1:9/postbacks"
HTML = {"accept": "text/html"}


@pytest.fixture
def emulator() -> Emulator:
    return Emulator(credentials(), page=f"{EMULATOR}/lc/", new_inv_id=lambda: "a1")


@pytest.fixture
def shop() -> FakeTransport:
    """Where the emulator delivers its postbacks."""
    return FakeTransport(error_response(200))


@pytest.fixture
async def browser(emulator: Emulator, shop: FakeTransport) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(emulator_app(emulator, shop))
    async with httpx.AsyncClient(transport=transport, base_url=EMULATOR) as client:
        yield client


async def create(browser: httpx.AsyncClient, **changes: Any) -> str:
    """Create a request and return the address of its page."""
    async with AsyncClient(credentials(), transport=HttpxTransport(browser)) as client:
        return (await client.create_request(financing_request(**changes))).href


BUTTONS = [
    ("/lc/a1", {"decision": "approved"}),
    ("/deliver/1", {"how": "again"}),
    ("/out-of-order/a1", {}),
    ("/faults", {"fault": "fault-502"}),
]


@pytest.mark.parametrize(("path", "form"), BUTTONS)
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},  # another port of this machine
        {"origin": "https://evil.example"},
        {"origin": "http://emulator.test:8000"},
        {"origin": "null"},
        {"origin": "http://emulator.test", "sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
async def test_a_form_of_another_site_changes_nothing(
    browser: httpx.AsyncClient,
    emulator: Emulator,
    shop: FakeTransport,
    path: str,
    form: dict[str, str],
    headers: dict[str, str],
) -> None:
    href = await create(browser, postback_url=SHOP)
    await browser.post(href, data={"decision": "preapproved"})
    refused = await browser.post(path, data=form, headers=headers)
    assert (refused.status_code, refused.text) == (403, "cross-site posts are rejected")
    assert emulator.applications["a1"].status == "preapproved"
    assert emulator.next_faults == ()
    assert len(shop.requests) == 1


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://emulator.test"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}],
    ids=str,
)
async def test_its_own_forms_and_clients_that_are_not_browsers_go_through(
    browser: httpx.AsyncClient, emulator: Emulator, headers: dict[str, str]
) -> None:
    form = {"fault": "fault-502"}
    answer = await browser.post("/faults", data=form, headers=headers)
    assert answer.status_code == 303
    assert len(emulator.next_faults) == 1


@pytest.mark.parametrize(
    ("addresses", "ancestors"),
    [
        ({"postback_url": None}, "'none'"),
        (
            {
                "postback_url": "https://hooks.shop.example/p",
                "success_url": "https://shop.example:444/thanks",
            },
            "https://shop.example:444 https://hooks.shop.example",
        ),
        (
            {"postback_url": "http://127.0.0.1:8000/p", "failure_url": "http://localhost:8000/sorry"},
            "http://127.0.0.1:8000 http://localhost:8000",
        ),
        ({"postback_url": "https://shop.example;script-src*/p"}, "'none'"),
    ],
    ids=str,
)
async def test_only_a_page_of_the_shop_frames_the_application(
    browser: httpx.AsyncClient, addresses: dict[str, str | None], ancestors: str
) -> None:
    href = await create(browser, **addresses)
    pages = [
        await browser.get(href),
        await browser.post(href, data={"decision": "paused"}, headers=HTML),
        await browser.post(href, data={"decision": "approved", "then": "lightbox"}, headers=HTML),
    ]
    assert {_ancestors(page) for page in pages} == {ancestors}


async def test_nothing_frames_the_other_pages(browser: httpx.AsyncClient) -> None:
    for path in ("/", "/lc/none"):
        assert _ancestors(await browser.get(path)) == "'none'"


def _ancestors(page: httpx.Response) -> str:
    policy = page.headers["content-security-policy"].split("; ")
    (ancestors,) = (each for each in policy if each.startswith("frame-ancestors "))
    return str(ancestors.removeprefix("frame-ancestors "))


class EndlessBody(httpx.AsyncByteStream):
    """Counts the bytes that were asked for."""

    def __init__(self) -> None:
        self.read = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self.read > 600 * 1024 * 1024:
            raise StopAsyncIteration
        self.read += 64 * 1024
        return bytes(64 * 1024)


@pytest.mark.parametrize("path", ["/merchant/1234/requests", "/lc/a1", "/faults"])
@pytest.mark.parametrize(
    "headers", [{"transfer-encoding": "chunked"}, {"content-length": "629145600"}], ids=["chunked", "whole"]
)
async def test_of_an_endless_body_only_the_beginning_is_read(
    browser: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    await create(browser)
    body = EndlessBody()
    url = f"{EMULATOR}{path}"
    answer = await browser.send(httpx.Request("POST", url, headers=headers, stream=body))
    assert answer.status_code == 413
    assert body.read <= 1024 * 1024 + 64 * 1024
