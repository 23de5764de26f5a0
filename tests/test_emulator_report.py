"""What a served emulator prints of each call and delivery."""

import re

import httpx
import pytest

from wegetfinancing import AsyncClient, CallError, HttpxTransport
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.emulator.report import delivery_line
from wegetfinancing.testing import (
    FakeTransport,
    credentials,
    error_response,
    financing_request,
    shipping_event,
)

pytestmark = pytest.mark.anyio


async def test_each_call_and_delivery_is_a_line_as_it_happens() -> None:
    lines: list[str] = []
    emulator = Emulator(credentials(), page="http://emulator.test/lc/", new_inv_id=lambda: "a1")
    shop = FakeTransport(error_response(200))
    app = emulator_app(emulator, shop, report=lines.append)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as browser:
        emulator.fail_next("fault-reset-after-commit", None)
        async with AsyncClient(credentials(), transport=HttpxTransport(browser)) as client:
            with pytest.raises(CallError):
                await client.create_request(financing_request(postback_url="http://127.0.0.1:9/postbacks"))
            await client.update_shipping("a1", shipping_event())
        await browser.post("http://emulator.test/lc/a1", data={"decision": "approved"})
        await browser.post("http://emulator.test/merchant/1234/shipping", content=b"{")
        await browser.post("http://emulator.test/merchant/1234/%1b[2J", json={"loan_id": 1})
    lines[2] = re.sub(r"\d+ ms", "12 ms", lines[2])
    assert lines == [
        "POST /merchant/1234/requests no answer (fault-reset-after-commit) ORDER-123 $499.00",
        "POST /merchant/1234/shipping HTTP 200 ORDER-123 $499.00",
        "-> approved ORDER-123 HTTP 200 12 ms",
        "POST /merchant/1234/shipping HTTP 401",
        "POST /merchant/1234/?[2J HTTP 401",
    ]


def test_a_line_cannot_control_the_terminal() -> None:
    assert delivery_line("approved", "\x1b[2J", "HTTP 200", 0.0123, "late") == (
        "-> approved ?[2J HTTP 200 12 ms (late)"
    )
