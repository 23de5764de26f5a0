"""The whole flow over real HTTP on this machine, no account needed: ``python -m nox -s demo``.

An emulator plays the vendor, and a tiny shop with a ledger in a SQLite file applies and receives postbacks;
each is a server on its own loopback port. The exit status is 0 only if every step really happened.
"""

import contextlib
import datetime as dt
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import attrs
import httpx
import uvicorn
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.engine import Connection
from starlette.applications import Starlette

from wegetfinancing import (
    Address,
    Approved,
    AsyncClient,
    CallError,
    CartItem,
    CreatedRequest,
    Credentials,
    FinancingRequest,
    InvalidRequestError,
    Outcome,
    Refunded,
    ShippingEvent,
    ShippingState,
)
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.ledger import Decision, Loan, run_worker
from wegetfinancing.postbacks import PostbackApp

CREDENTIALS = Credentials(merchant_id="1234", username="demo-user", password="demo-password")  # noqa: S106 - throw-away
ORDER = "ORDER-123"
LEASE_SECONDS = 1.0  # short, so that the decision of a killed worker is soon free again
METADATA = MetaData()
EVENTS = Table("events", METADATA, Column("order_id", String), Column("text", String))


class Shop:
    """Creates an order only when an authentic approval has come; records refunds and pays nobody."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        METADATA.create_all(self.engine)
        self.ledger = SQLLedger(url, environment="sandbox", apply=self.apply, lease=LEASE_SECONDS)
        self.ledger.create_tables()
        self.is_broken = False
        self.is_slow = False

    def apply(self, connection: Connection, decision: Decision) -> None:
        """Write what a decision changes, in the ledger's transaction: all of it or nothing, and once."""
        text = decision.postback.status
        if isinstance(decision.postback, Approved):
            text = "order created"
        elif isinstance(decision.postback, Refunded):
            text = f"${decision.postback.amount} refunded"
        connection.execute(insert(EVENTS).values(order_id=decision.order_id, text=text))
        if self.is_broken:
            msg = "the warehouse does not answer"
            raise RuntimeError(msg)
        if self.is_slow:
            print("half way", flush=True)
            time.sleep(60)

    @property
    def events(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.scalars(select(EVENTS.c.text)))

    @property
    def loan(self) -> Loan:
        loan = self.ledger.loan(ORDER)
        assert loan is not None  # noqa: S101 - it was applied for
        return loan


def worker_that_is_killed(url: str) -> None:
    """Run a worker in a process of its own, and kill it in the middle of its work."""
    command = [sys.executable, __file__, "slow-worker", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this file
        assert process.stdout is not None  # noqa: S101 - for the type checker
        line = process.stdout.readline()
        process.kill()
    check(line == "half way\n", "the worker has begun")


def slow_worker(url: str) -> None:
    shop = Shop(url)
    shop.is_slow = True
    anyio.run(run_worker, shop.ledger)


class SayLog(logging.Handler):
    """Shows what the package logs, without the traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"log: {record.getMessage()}")


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
def serving(app: Starlette | PostbackApp, bound: socket.socket) -> Iterator[None]:
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


def financing_request(shop_url: str, order_id: str = ORDER) -> FinancingRequest:
    return FinancingRequest(
        first_name="Jane",
        last_name="Doe",
        email="jane@example.com",
        phone="2125551234",
        billing_address=Address(street1="123 Main St", city="New York", state="NY", zipcode="10001"),
        cart_items=[CartItem(display_name="Super Widget", unit_price=Decimal("499.00"), quantity=2)],
        shipping_amount=Decimal("12.50"),
        merchant_transaction_id=order_id,
        postback_url=f"{shop_url}/postbacks",
    )


def check_the_setup(emulator_url: str, shop_url: str) -> None:
    step("1. Is the set-up right? wegetfinancing check --postback-url ...")
    environment = {
        "WEGETFINANCING_BASE_URL": emulator_url,
        "WEGETFINANCING_MERCHANT_ID": CREDENTIALS.merchant_id,
        "WEGETFINANCING_USERNAME": CREDENTIALS.username,
        "WEGETFINANCING_PASSWORD": CREDENTIALS.password,
    }
    command = [sys.executable, "-m", "wegetfinancing", "check", "--postback-url", f"{shop_url}/postbacks"]
    done = subprocess.run(  # noqa: S603 - our own
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    for line in (done.stdout + done.stderr).splitlines():
        say(line)
    check(done.returncode == 0, "every check has passed")


async def buy(emulator_url: str, shop_url: str, shop: Shop, emulator: Emulator) -> None:
    async with AsyncClient(CREDENTIALS, base_url=emulator_url, ledger=shop.ledger) as client:
        created = await click_twice(client, financing_request(shop_url), shop, emulator)
        await handle_until_it_succeeds(created, shop)
        await refuse_a_forgery(created, shop_url, shop)
        await ship_and_refund(client, created, shop, emulator)


async def click_twice(
    client: AsyncClient, request: FinancingRequest, shop: Shop, emulator: Emulator
) -> CreatedRequest:
    step("2. Jane checks out and clicks twice: two calls at once, one application")
    clicks: list[CreatedRequest] = []

    async def click() -> None:
        clicks.append(await client.create_request(request))

    async with anyio.create_task_group() as fingers:
        fingers.start_soon(click)
        fingers.start_soon(click)
    created, again = clicks
    say(f"inv_id  {created.inv_id}   the same for both: {created.inv_id == again.inv_id}")
    say(f"href    {created.href}   (where Jane's browser goes)")
    say(f"amount  ${created.amount}")
    check(created.amount == request.expected_amount, "the amount is what the shop expects")
    check(len(emulator.applications) == 1, "there is one application")
    check(shop.events == [], "no order before the approval")
    return created


async def handle_until_it_succeeds(created: CreatedRequest, shop: Shop) -> None:
    step("3. The lender approves, and the shop's handler fails: the decision is stored")
    shop.is_broken = True
    async with httpx.AsyncClient() as browser:
        decided = await browser.post(created.href, data={"decision": "approved"})
    shop.is_broken = False
    say(f"the shop answered {decided.json()['postback']}: a vendor that delivers again may do so")
    say(f"ledger: status {shop.loan.status}, waiting decisions {len(shop.ledger.review().decisions)}")
    check(decided.json()["postback"] == "HTTP 500", "the postback was stored and not handled")
    check(shop.events == [], "nothing of the failed attempt is left")

    step("4. A worker tries again, and is killed in the middle")
    await anyio.to_thread.run_sync(worker_that_is_killed, str(shop.engine.url))
    say(f"the shop's table after the kill: {shop.events or 'empty, as before'}")
    check(shop.events == [], "nothing of the killed attempt is left")

    step("5. Another worker finishes: the order is created, exactly once")
    with anyio.move_on_after(20):
        while not shop.events:
            await run_worker(shop.ledger, until_idle=True)  # as a cron job would
            await anyio.sleep(0.1)
    say(f"the shop's table: {shop.events}; ledger: may ship: {shop.loan.may_ship}")
    check(shop.events == ["order created"], "the order was created once")
    check(shop.loan.may_ship, "the order may be shipped")


async def refuse_a_forgery(created: CreatedRequest, shop_url: str, shop: Shop) -> None:
    step("6. Someone forges an approval for another order")
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
    say(f"the shop answered HTTP {forged.status_code}: {forged.text}")
    check(forged.status_code == HTTPStatus.UNAUTHORIZED, "the forgery was refused")
    check(shop.ledger.loan("ORDER-FORGED") is None, "the forgery is not in the ledger")


async def ship_and_refund(
    client: AsyncClient, created: CreatedRequest, shop: Shop, emulator: Emulator
) -> None:
    step("7. The shop ships, and tells the vendor")
    event = ShippingEvent(
        date=dt.datetime.now(dt.UTC).date(),
        state=ShippingState.DISPATCHED,
        shipment_company="UPS",
        tracking_number="1Z999AA10123456784",
    )
    receipt = await client.update_shipping(created.inv_id, event)
    say(f"recorded against loan {receipt.loan}")
    check(emulator.applications[created.inv_id].shipping_events == [event], "the vendor knows of it")

    step("8. Jane returns one widget, the vendor refunds it, and its postback reports that to the shop")
    async with httpx.AsyncClient() as vendor:
        refunded = await vendor.post(created.href, data={"decision": "refund", "amount": "499.00"})
    check(refunded.json()["postback"] == "HTTP 200", "the postback was delivered")
    say(f"the shop's table: {shop.events}; it pays nobody")
    say(f"held for review: {[hold.text for hold in shop.loan.held]}")
    check(shop.events == ["order created", "$499.00 refunded"], "the refund is recorded")
    check(not shop.loan.may_ship, "what was refunded is held until someone has reviewed it")


async def fail(shop_url: str, shop: Shop) -> None:
    step("9. Three ways a create can fail, and what each means for the shop")
    bound, nobody = listen()
    bound.close()
    for what, url, order_id, expected in (
        ("nobody listens", nobody, "ORDER-124", Outcome.NOT_SENT),
        ("the server dies while it answers", dying_server(), "ORDER-125", Outcome.UNKNOWN),
        ("Jane tries that order again", nobody, "ORDER-125", Outcome.UNKNOWN),
    ):
        async with AsyncClient(CREDENTIALS, base_url=url, timeout=5, ledger=shop.ledger) as client:
            try:
                await client.create_request(financing_request(shop_url, order_id))
            except CallError as error:
                say(f"{what}: {error}")
                check(error.outcome is expected, f"the outcome is {expected.name}")
            else:
                check(happened=False, what=f"a failure because {what}")
    async with AsyncClient(CREDENTIALS, base_url=nobody, ledger=shop.ledger) as client:
        try:
            request = financing_request(shop_url, "ORDER-126")
            await client.create_request(attrs.evolve(request, first_name="J", email="jane"))
        except InvalidRequestError as error:
            say(f"the form is wrong: {error}")
            check(list(error.reasons) == ["first_name", "email"], "both faults are named")
        else:
            check(happened=False, what="a refusal before sending")
    waits = [(loan.order_id, loan.state.value) for loan in shop.ledger.review().loans]
    say(f"the ledger lists for review: {waits}")
    check(("ORDER-125", "unknown") in waits, "the order whose outcome is unknown is listed")


def main() -> None:
    logging.getLogger("wegetfinancing").addHandler(SayLog(logging.ERROR))
    shop_socket, shop_url = listen()
    emulator_socket, emulator_url = listen()
    emulator = Emulator(CREDENTIALS, page=f"{emulator_url}/lc/")
    with TemporaryDirectory() as folder:
        shop = Shop(f"sqlite:///{Path(folder) / 'shop.db'}")
        print(f"An emulator of the vendor at {emulator_url}, a shop at {shop_url}, its ledger in SQLite.")
        with (
            serving(PostbackApp(CREDENTIALS, ledger=shop.ledger, path="/postbacks"), shop_socket),
            serving(emulator_app(emulator), emulator_socket),
        ):
            check_the_setup(emulator_url, shop_url)
            check(not emulator.applications, "the check has created nothing")
            check(not shop.ledger.review().decisions, "nor is there anything to review")
            anyio.run(buy, emulator_url, shop_url, shop, emulator)
            anyio.run(fail, shop_url, shop)
        shop.ledger.close()
        shop.engine.dispose()
    print("\nEvery step happened.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["slow-worker"]:
        slow_worker(sys.argv[2])
    else:
        main()
