"""The whole flow over real HTTP on this machine, no account needed: ``python -m nox -s demo``.

An emulator plays the vendor and a tiny shop receives postbacks, each a server on its own loopback port.
The exit status is 0 only if every step really happened.
"""

import contextlib
import datetime as dt
import socket
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from http import HTTPStatus

import anyio
import attrs
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from wegetfinancing import (
    Address,
    Approved,
    AsyncClient,
    CallError,
    CartItem,
    Credentials,
    FinancingRequest,
    InvalidRequestError,
    MalformedPostbackError,
    Outcome,
    Refunded,
    ShippingEvent,
    ShippingState,
    SignatureError,
    parse_postback,
)
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app

CREDENTIALS = Credentials(merchant_id="1234", username="demo-user", password="demo-password")  # noqa: S106 - throw-away
ORDER = "ORDER-123"


class Shop:
    """Creates an order only when an authentic approval has come; records refunds and pays nobody."""

    def __init__(self) -> None:
        self.orders: dict[str, str] = {}  # order id to inv_id
        self.refunded: dict[str, Decimal | None] = {}  # inv_id to what the vendor has refunded, in USD

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/postbacks", self.receive, methods=["POST"])])

    async def receive(self, request: Request) -> PlainTextResponse:
        try:
            postback = parse_postback(await request.body(), request.headers, CREDENTIALS, max_age=300)
        except SignatureError as error:
            say(f"the shop refuses a postback: {error}")
            return PlainTextResponse("bad signature", 401)
        except MalformedPostbackError as error:
            say(f"the shop cannot read a postback: {error}")
            return PlainTextResponse("malformed", 400)
        if isinstance(postback, Approved) and postback.merchant_transaction_id is not None:
            self.orders[postback.merchant_transaction_id] = postback.inv_id
            say(f"the shop verified an approval and created order {postback.merchant_transaction_id}")
        if isinstance(postback, Refunded):
            self.refunded[postback.inv_id] = postback.amount
            say(f"the shop recorded that the vendor has refunded ${postback.amount}; it pays nobody")
        return PlainTextResponse("OK")


def step(text: str) -> None:
    print(f"\n{text}")


def say(text: str) -> None:
    print(f"   {text}")


def check(happened: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not happened:
        print(f"\nThis should have happened and did not: {what}")
        raise SystemExit(1)


def listen() -> tuple[socket.socket, str]:
    """Bind a free loopback port."""
    bound = socket.create_server(("127.0.0.1", 0))
    return bound, f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def serving(app: Starlette, bound: socket.socket) -> Iterator[None]:
    """Serve an app in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def dying_server() -> str:
    """Accept one call, read it, and close without an answer, like a server that crashes."""
    bound, url = listen()

    def die() -> None:
        with bound, bound.accept()[0] as connection:
            connection.recv(65536)

    threading.Thread(target=die, daemon=True).start()
    return url


def financing_request(shop_url: str) -> FinancingRequest:
    return FinancingRequest(
        first_name="Jane",
        last_name="Doe",
        email="jane@example.com",
        phone="2125551234",
        billing_address=Address(street1="123 Main St", city="New York", state="NY", zipcode="10001"),
        cart_items=[CartItem(display_name="Super Widget", unit_price=Decimal("499.00"), quantity=2)],
        shipping_amount=Decimal("12.50"),
        merchant_transaction_id=ORDER,
        postback_url=f"{shop_url}/postbacks",
    )


async def buy(emulator_url: str, shop_url: str, shop: Shop, emulator: Emulator) -> None:
    request = financing_request(shop_url)
    async with AsyncClient(CREDENTIALS, base_url=emulator_url) as client:
        step("1. Jane checks out: the shop creates a financing request")
        created = await client.create_request(request)
        say(f"inv_id  {created.inv_id}")
        say(f"href    {created.href}   (where Jane's browser goes)")
        say(f"amount  ${created.amount}")
        check(created.amount == request.expected_amount, "the amount is what the shop expects")
        check(not shop.orders, "no order before the approval")

        step("2. Jane applies, and the lender approves: the emulator sends the signed postback")
        async with httpx.AsyncClient() as browser:
            decided = await browser.post(created.href, data={"decision": "approved"})
        say(f"the shop answered {decided.json()['postback']}")
        check(decided.json()["postback"] == "HTTP 200", "the postback was delivered")
        check(shop.orders == {ORDER: created.inv_id}, "the order exists now")

        step("3. Someone forges an approval for another order")
        async with httpx.AsyncClient() as forger:
            forged = await forger.post(
                f"{shop_url}/postbacks",
                json={
                    "version": "1.9",
                    "request_token": created.inv_id,
                    "merchant_transaction_id": "ORDER-FORGED",
                    "updates": {"status": "approved"},
                },
                headers={"x-signature": "0" * 64, "x-timestamp": str(int(time.time()))},
            )
        say(f"the shop answered HTTP {forged.status_code}")
        check(forged.status_code == HTTPStatus.UNAUTHORIZED, "the forgery was refused")
        check(shop.orders == {ORDER: created.inv_id}, "the forgery created no order")

        step("4. The shop ships, and tells the vendor")
        event = ShippingEvent(
            date=dt.datetime.now(dt.UTC).date(),
            state=ShippingState.DISPATCHED,
            shipment_company="UPS",
            tracking_number="1Z999AA10123456784",
        )
        receipt = await client.update_shipping(shop.orders[ORDER], event)
        say(f"recorded against loan {receipt.loan}")
        check(emulator.applications[created.inv_id].shipping_events == [event], "the vendor knows of it")

        step("5. Jane returns one widget, the vendor refunds it, and its postback reports that to the shop")
        async with httpx.AsyncClient() as vendor:
            refunded = await vendor.post(created.href, data={"decision": "refund", "amount": "499.00"})
        check(refunded.json()["postback"] == "HTTP 200", "the postback was delivered")
        check(shop.refunded == {created.inv_id: Decimal("499.00")}, "the refund is recorded")


async def fail(shop_url: str) -> None:
    step("6. Three ways a create can fail, and what each means for the shop")
    request = financing_request(shop_url)
    bound, nobody = listen()
    bound.close()
    for what, url, expected in (
        ("nobody listens", nobody, Outcome.NOT_SENT),
        ("the server dies while it answers", dying_server(), Outcome.UNKNOWN),
    ):
        async with AsyncClient(CREDENTIALS, base_url=url, timeout=5) as client:
            try:
                await client.create_request(request)
            except CallError as error:
                say(f"{what}: {error}")
                check(error.outcome is expected, f"the outcome is {expected.name}")
            else:
                check(happened=False, what=f"a failure because {what}")
    async with AsyncClient(CREDENTIALS, base_url=nobody) as client:
        try:
            await client.create_request(attrs.evolve(request, first_name="J", email="jane"))
        except InvalidRequestError as error:
            say(f"the form is wrong: {error}")
            check(list(error.reasons) == ["first_name", "email"], "both faults are named")
        else:
            check(happened=False, what="a refusal before sending")


def main() -> None:
    shop_socket, shop_url = listen()
    emulator_socket, emulator_url = listen()
    shop, emulator = Shop(), Emulator(CREDENTIALS, page=f"{emulator_url}/lc/")
    print(f"An emulator of the vendor at {emulator_url}, a shop at {shop_url}.")
    with (
        serving(shop.app(), shop_socket),
        serving(emulator_app(emulator), emulator_socket),
    ):
        anyio.run(buy, emulator_url, shop_url, shop, emulator)
        anyio.run(fail, shop_url)
    print("\nEvery step happened.")


if __name__ == "__main__":
    main()
