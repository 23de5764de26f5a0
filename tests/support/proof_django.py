"""The proof of the shop in Django: customers, the vendor's approvals, and what is found afterwards."""

import contextlib
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import anyio.to_thread
import attrs
import httpx

from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.emulator import FAULTS
from wegetfinancing.testing import credentials, signed_postback

from .django_site import Site
from .proof_orders import IN_DOUBT, Found, compare, resolve
from .proof_processes import GRACE_SECONDS, Chaos, applications_at

SKUS = ["sofa", "table", "bike", "lamp"]
CUSTOMER = {
    "first_name": "Jane",
    "last_name": "Doe",
    "email": "jane@example.com",
    "street1": "123 Main St",
    "city": "New York",
    "state": "NY",
    "zipcode": "10001",
}
CLICKERS = 2
CLICKS = 4
AT_ONCE = 12
FAULTY = 0.35
DELIVERED_TWICE = 0.2
SETTLE_SECONDS = 150.0  # more than two leases: a decision that a killed process was handling is free again
_FIELD = re.compile(r'name="(csrfmiddlewaretoken|number)" value="([^"]+)"')


@attrs.define
class Customers:
    """Customers who send their form twice at once, and again while they are told that they may.

    The vendor approves what they were sent to, and delivers that until it is answered 200.
    """

    site: Site
    chaos: Chaos
    told: dict[str, list[str]] = attrs.field(factory=dict)
    created: dict[str, str] = attrs.field(factory=dict)
    approved: set[str] = attrs.field(factory=set)
    answers: Counter[str] = attrs.field(factory=Counter)
    _transport: httpx.AsyncHTTPTransport = attrs.field(
        factory=lambda: httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=0)
        )
    )

    async def all(self, checkouts: int) -> list[tuple[str, str]]:
        """Check out, approve every application there is, and return these."""
        async with self._transport:
            await at_once([self.check_out] * checkouts)
            await anyio.to_thread.run_sync(self.chaos.join)
            await anyio.sleep(self.site.seconds + GRACE_SECONDS + 1)  # every deadline passes
            applications = await anyio.to_thread.run_sync(applications_at, self.site.emulator_url)
            rest = [each for each in applications if each[1] not in self.approved]
            await at_once([partial(self.approve, order, inv_id) for inv_id, order in rest])
        return applications

    def _browser(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self._transport, base_url=self.site.url, timeout=60)

    async def check_out(self) -> None:
        browser = self._browser()
        path = f"/checkout/{random.choice(SKUS)}"
        form = CUSTOMER | dict(_FIELD.findall(await self._open(browser, path)))
        order = form["number"]
        self.told[order] = []
        if random.random() < FAULTY:
            fault = {"fault": random.choice(list(FAULTS))}
            await self._browser().post(f"{self.site.emulator_url}/faults", data=fault)
        async with anyio.create_task_group() as tasks:
            for _ in range(CLICKERS):
                tasks.start_soon(self.click, browser, path, form)
        if order in self.created:
            await self.approve(order, self.created[order])

    async def _open(self, browser: httpx.AsyncClient, path: str) -> str:
        while True:
            with contextlib.suppress(httpx.HTTPError):  # of a worker that was killed
                response = await browser.get(path)
                assert response.status_code == 200, response.text
                return response.text

    async def click(self, browser: httpx.AsyncClient, path: str, form: dict[str, str]) -> None:
        for _ in range(CLICKS):
            said = await self.click_once(browser, path, form)
            self.told[form["number"]].append(said)
            self.chaos.step()
            if said in ("created", "unknown"):
                break

    async def click_once(self, browser: httpx.AsyncClient, path: str, form: dict[str, str]) -> str:
        try:
            response = await browser.post(path, data=form)
        except httpx.HTTPError:
            return "no answer"
        location = response.headers.get("location", "")
        if location.startswith(self.site.emulator_url):
            self.created[form["number"]] = location.rpartition("/")[2]
            return "created"
        if location == f"/orders/{form['number']}":
            return "unknown"
        return "refused" if response.status_code == 200 else f"status {response.status_code}"

    async def approve(self, order: str, inv_id: str) -> None:
        self.approved.add(order)
        postback = signed_postback("approved", inv_id=inv_id, merchant_transaction_id=order)
        async with anyio.create_task_group() as tasks:
            for _ in range(1 + (random.random() < DELIVERED_TWICE)):
                tasks.start_soon(self._deliver, postback.body, postback.headers)

    async def _deliver(self, body: bytes, headers: dict[str, str]) -> None:
        said = ""
        while said != "200":
            try:
                response = await self._browser().post("/postbacks", content=body, headers=headers)
            except httpx.HTTPError:
                said = "no answer"
            else:
                said = str(response.status_code)
            self.answers[said] += 1


async def at_once(work: list[Callable[[], Awaitable[None]]]) -> None:
    """Do all of it, some at a time."""

    async def carry() -> None:
        while work:
            await work.pop()()

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(carry)


def prove_django(site: Site, checkouts: int, kills: int, *, end_leases: bool = False) -> Found:
    """Let every order be applied for by two clicks at once, and compare with the emulator.

    ``end_leases``: do not wait a minute for a decision that a killed worker was handling.
    """
    found = Found()
    began = time.monotonic()
    with site.running():
        chaos = Chaos(site, checkouts * CLICKERS, kills)
        customers = Customers(site, chaos)
        applications = anyio.run(customers.all, checkouts)
        seconds = time.monotonic() - began
        _settle(site, found, end_leases=end_leases)
    answers = Counter(said for each in customers.told.values() for said in each)
    found.lines += [
        f"killed {site.kills} times",
        f"{checkouts} checkouts in {seconds:.0f} s; {answers.total()} clicks were answered: {dict(answers)}",
    ]
    orders = list(customers.told)
    url = f"sqlite:///{site.database}"
    with contextlib.closing(SQLLedger(url, environment="sandbox", grace=GRACE_SECONDS)) as ledger:
        compare(found, ledger, orders, customers.told, applications)
        _compare_shop(found, site, ledger, applications)
        pending = [order for order in orders if not set(customers.told[order]) & {"created", "refused"}]
        loans = ledger.loans(orders, merchant_id=credentials().merchant_id)
        in_doubt = sum(loan.state in IN_DOUBT for loan in loans.values())
        found.lines.append(
            f"{len(pending)} orders were shown as pending or in review; {in_doubt} are still in doubt, since"
            " no decision came"
        )
        resolve(found, ledger, orders, {order: inv_id for inv_id, order in applications})
    found.lines.append(f"approvals were answered: {dict(customers.answers)}")
    return found


def _settle(site: Site, found: Found, *, end_leases: bool) -> None:
    """Wait until every decision has been handled."""
    if end_leases:
        _rows(site, "UPDATE wgf_decision SET lease_until = 0, due = 0 WHERE state = 'waiting'")
    give_up = time.monotonic() + SETTLE_SECONDS
    while waiting := _rows(site, "SELECT id, attempts, error FROM wgf_decision WHERE state = 'waiting'"):
        if time.monotonic() > give_up:
            found.wrong.append(f"decisions were not handled: {waiting}")
            break
        time.sleep(0.2)


def _compare_shop(found: Found, site: Site, ledger: SQLLedger, applications: list[tuple[str, str]]) -> None:
    """Compare what the shop has written in ``apply``, and what may leave, with the applications."""
    lost = _rows(site, "SELECT order_id FROM wgf_loan EXCEPT SELECT number FROM django_shop_order")
    found.wrong += [f"{order} was applied for, and the shop does not know it" for (order,) in lost]
    events = _rows(
        site,
        "SELECT number, status, group_concat(text) FROM django_shop_order o"
        " JOIN django_shop_event e ON e.order_id = o.id GROUP BY number, status",
    )
    names = {order for _, order in applications}
    written = {number for number, status, texts in events if (status, texts) == ("approved", "approved")}
    found.wrong += [f"{order} was not approved exactly once in the shop" for order in names ^ written]
    loans = ledger.loans(names, merchant_id=credentials().merchant_id)
    may_ship = {order for order, loan in loans.items() if loan.may_ship}
    as_expected = {order for order, loan in loans.items() if loan.amount == loan.expected_amount}
    found.wrong += [f"{order} may ship, or may not" for order in may_ship ^ as_expected]
    found.lines.append(f"{len(written)} approvals were each applied once; {len(may_ship)} orders may ship")


def _rows(site: Site, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(site.database, timeout=30)) as connection, connection:
        return connection.execute(statement).fetchall()
