import subprocess
import sys
import time
from typing import Any

import pytest

from wegetfinancing import (
    AsyncClient,
    Outcome,
    PostbackVersion,
    RateLimitError,
    Refunded,
    TransportError,
    parse_postback,
)
from wegetfinancing.emulator import Emulator
from wegetfinancing.http import Request, Response
from wegetfinancing.ledger import MemoryLedger
from wegetfinancing.testing import (
    INV_ID,
    FakeTransport,
    cart_item,
    created_response,
    credentials,
    error_response,
    financing_request,
    shipping_event,
    signed_postback,
)

pytestmark = pytest.mark.anyio


async def test_without_a_script_every_request_succeeds_and_is_recorded_as_a_model() -> None:
    transport = FakeTransport()
    request = financing_request(cart_items=[cart_item(quantity=2)], shipping_amount="5")
    async with AsyncClient(credentials(), transport=transport) as client:
        created = await client.create_request(request)
        receipt = await client.update_shipping(created.inv_id, shipping_event())
        assert await client.create_test_postback({"a": 1}) == {"type": "done", "http_code": 200}
    assert created.inv_id == receipt.loan == INV_ID
    assert created.amount == request.expected_amount
    assert transport.financing_requests == [request]
    assert transport.shipping_updates == [(INV_ID, shipping_event())]
    assert transport.test_postbacks == [{"a": 1}]
    await transport.aclose()
    assert transport.closed


async def test_a_script_gives_answers_failures_and_whatever_a_function_says() -> None:
    def echo(request: Request) -> Response:
        return created_response(request.operation)

    transport = FakeTransport(
        created_response("first", href="https://x", amount=5),
        TransportError("lost", outcome=Outcome.UNKNOWN),
        error_response(429, retry_after="3"),
        echo,
    )
    async with AsyncClient(credentials(), transport=transport) as client:
        first = await client.create_request(financing_request())
        assert (first.inv_id, first.href, str(first.amount)) == ("first", "https://x", "5.00")
        with pytest.raises(TransportError, match="lost"):
            await client.create_request(financing_request())
        with pytest.raises(RateLimitError) as caught:
            await client.create_request(financing_request())
        assert caught.value.retry_after == 3
        assert (await client.create_request(financing_request())).inv_id == "create_request"
        with pytest.raises(TransportError, match="given 4 replies and got another request") as end:
            await client.create_request(financing_request())
    assert end.value.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize("wrong", [TransportError, {"inv_id": "x"}, 200])
async def test_what_cannot_be_a_reply_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(TypeError, match="reply 2 must be a Response"):
        FakeTransport(created_response(), wrong)


@pytest.mark.parametrize("version", PostbackVersion)
async def test_a_signed_postback_verifies_with_the_credentials_made_here(version: PostbackVersion) -> None:
    made = signed_postback("rejected", version=version)
    parse_postback(made.body, made.headers, credentials())


async def test_a_refund_carries_its_amount() -> None:
    made = signed_postback("refund", amount="1200", timestamp="1700000000")
    postback = parse_postback(made.body, made.headers, credentials())
    assert isinstance(postback, Refunded)
    assert str(postback.amount) == "1200.00"
    assert made.headers["x-timestamp"] == "1700000000"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"status": "refund", "amount": 5.5}, "amount must not be a float"),
        ({"status": "refund", "amount": "1,000"}, "amount must be an amount such as"),
        ({"status": "paused"}, "status must be one of approved, preapproved, rejected, refund"),
        (
            {"status": "refund", "version": PostbackVersion.V0_2},
            "a refund has never been seen in the dialect 0.2",
        ),
    ],
)
async def test_a_postback_nobody_has_seen_is_not_made_up(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        signed_postback(**settings)


async def test_two_orders_do_not_share_an_application() -> None:
    ledger = MemoryLedger()
    async with AsyncClient(credentials(), transport=FakeTransport(), ledger=ledger) as client:
        for order in ("ORDER-1", "ORDER-2", "ORDER-3"):
            await client.create_request(financing_request(merchant_transaction_id=order))
    loans = ledger.loans(["ORDER-1", "ORDER-2", "ORDER-3"])
    assert [each.held for each in loans.values()] == [(), (), ()]
    ids = [each.inv_id for each in loans.values()]
    assert ids[0] == INV_ID
    assert len(set(ids)) == 3


async def test_what_is_signed_later_is_later_within_a_second_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.9)
    ledger = MemoryLedger(apply=lambda _connection, _decision: None)
    emulator = Emulator(credentials(), new_inv_id=lambda: INV_ID, clock=time.time)
    async with AsyncClient(credentials(), transport=emulator, ledger=ledger) as client:
        await client.create_request(financing_request())
    for number, status in enumerate(["preapproved", "approved", "rejected"]):
        made = signed_postback(status) if number % 2 else emulator.decide(INV_ID, status)
        ledger.record(parse_postback(made.body, made.headers, credentials()))
        loan = ledger.loan("ORDER-123")
        assert loan is not None
        assert (loan.status, loan.held) == (status, ())


def printed_by(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own code


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("wegetfinancing", ["httpx", "ssl", "asyncio", "trio"]),
        ("wegetfinancing.testing", ["httpx", "ssl", "asyncio", "trio", "pytest"]),
        ("wegetfinancing.emulator", ["httpx", "ssl", "asyncio", "trio"]),
    ],
)
def test_importing_brings_nothing_in_that_is_not_needed(module: str, absent: list[str]) -> None:
    # Old versions of anyio bring ssl themselves; what counts is what comes on top of the dependencies.
    code = f"""
import sys, anyio, attrs, cattrs
before = set(sys.modules)
import {module}
print([each for each in {absent!r} if each in set(sys.modules) - before])
"""
    assert printed_by(code) == "[]\n"


def test_receiving_a_postback_never_imports_httpx() -> None:
    code = """
import sys
from wegetfinancing import parse_postback
from wegetfinancing.testing import credentials, signed_postback
made = signed_postback()
parse_postback(made.body, made.headers, credentials())
print("httpx" in sys.modules)
"""
    assert printed_by(code) == "False\n"


@pytest.mark.parametrize("version", PostbackVersion)
def test_a_postback_is_signed_in_the_dialect_that_is_asked_for_by_its_text_too(
    version: PostbackVersion,
) -> None:
    made = [signed_postback(version=each, timestamp="1700000000") for each in (version, version.value)]
    assert made[0] == made[1]
    assert parse_postback(made[1].body, made[1].headers, credentials()).version == version.value


@pytest.mark.parametrize("version", ["0.3", "", 0.2, None])
def test_a_dialect_that_does_not_exist_is_refused(version: Any) -> None:
    with pytest.raises(ValueError, match=r"version must be one of 0\.2, 1\.0, 1\.9"):
        signed_postback(version=version)
