"""What a call and the import may cost, counted and not timed, so that nothing heavy creeps in."""

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

import wegetfinancing
from wegetfinancing import AsyncClient, HttpxTransport, parse_postback
from wegetfinancing.client.operations import create_request_body
from wegetfinancing.http import Request, Response
from wegetfinancing.testing import (
    FakeTransport,
    created_response,
    credentials,
    financing_request,
    shipping_event,
    shipping_response,
    signed_postback,
)

pytestmark = pytest.mark.anyio


ROUNDS = 4  # the last is counted
PACKAGE = Path(wegetfinancing.__file__).parent


@pytest.fixture(autouse=True)
def nobody_logs() -> Iterator[None]:
    """What other tests did to the loggers must not change what is counted."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def function_calls(subject: Callable[[], Awaitable[Any]]) -> int:
    """Count the functions, of Python and of C, that are called once everything has been set up."""
    for _ in range(ROUNDS - 1):
        await subject()
    counted: Counter[str] = Counter()

    def count(_: object, event: str, __: object) -> None:
        counted[event] += 1

    sys.setprofile(count)
    try:
        await subject()
    finally:
        sys.setprofile(None)
    return counted["call"] + counted["c_call"]


def answering(body: bytes) -> httpx.MockTransport:
    return httpx.MockTransport(
        lambda _: httpx.Response(200, headers={"content-type": "application/json"}, content=body)
    )


async def by_hand(body: bytes, answer: bytes) -> int:
    async with httpx.AsyncClient(transport=answering(answer), auth=("user", "password")) as hand:

        async def post() -> Any:
            return (await hand.post("https://x.example/requests", content=body)).json()

        return await function_calls(post)


async def test_a_create_calls_not_many_more_functions_than_posting_by_hand() -> None:
    answer = created_response().body
    async with AsyncClient(credentials(), transport=HttpxTransport(answering(answer))) as client:
        ours = await function_calls(lambda: client.create_request(financing_request()))
    theirs = await by_hand(create_request_body(financing_request()), answer)
    assert ours <= 2.3 * theirs


async def test_a_shipping_update_calls_not_many_more_functions_than_posting_by_hand() -> None:
    answer = shipping_response().body
    async with AsyncClient(credentials(), transport=HttpxTransport(answering(answer))) as client:
        ours = await function_calls(lambda: client.update_shipping("inv-1", shipping_event()))
    assert ours <= 2.3 * await by_hand(b"x" * 200, answer)


def frames_of_ours() -> list[str]:
    frame: FrameType | None = sys._getframe()
    found: list[str] = []
    while frame is not None:
        if PACKAGE in Path(frame.f_code.co_filename).parents:
            found.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return found[::-1]


class Looking(FakeTransport):
    """A transport that notes which frames lead to it."""

    seen: list[str]

    async def send(self, request: Request) -> Response:
        self.seen = frames_of_ours()
        return await super().send(request)


async def test_four_frames_of_ours_stand_between_the_caller_and_the_transport() -> None:
    transport = Looking()
    async with AsyncClient(credentials(), transport=transport) as client:
        await client.create_request(financing_request())
    assert transport.seen == [
        "AsyncClient.create_request",
        "Sender.send",
        "Retry.__call__",
        "Call.attempt",
    ]


async def test_at_most_seven_frames_of_ours_stand_between_the_caller_and_httpx() -> None:
    seen: list[str] = []

    def answer(_: httpx.Request) -> httpx.Response:
        seen.extend(frames_of_ours())
        return httpx.Response(200, content=created_response().body)

    async with AsyncClient(credentials(), transport=HttpxTransport(httpx.MockTransport(answer))) as client:
        await client.create_request(financing_request())
    assert 1 <= len(seen) <= 7, seen


async def test_reading_a_postback_calls_few_functions() -> None:
    made, who = signed_postback(), credentials()

    async def read() -> Any:
        return parse_postback(made.body, made.headers, who)

    assert await function_calls(read) <= 150


# What a client needs at most when it calls, and a process that receives postbacks never.
LATER = [
    "asyncio",
    "cattrs",
    "email",
    "httpcore",
    "httpx",
    "ssl",
    "trio",
]
USE = """
import sys
import anyio, attrs
before = set(sys.modules)
import wegetfinancing as wgf
wgf.FinancingRequest(
    first_name="Jane", last_name="Doe", email="jane@example.com",
    billing_address=wgf.Address(street1="123 Main St", city="New York", state="NY", zipcode="10001"),
    cart_items=[wgf.CartItem(display_name="Super Widget", unit_price="499.00", quantity=1)],
).problems()
wgf.AsyncClient(wgf.Credentials("1234", "api-user", "api-password"))
print(*sorted(set(sys.modules) - before))
"""


def test_the_import_brings_nothing_that_a_client_does_not_need_before_it_calls() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", USE]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 - the text above
    brought = set(done.stdout.split())
    assert "wegetfinancing.client" in brought
    assert brought.isdisjoint(LATER), brought.intersection(LATER)
