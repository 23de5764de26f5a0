"""The first part of the ledger's proof: at most one application per order, and none stuck."""

import random
import time
from collections import Counter

import anyio
import attrs
import httpx

from wegetfinancing import AsyncClient, CallError
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.emulator import FAULTS
from wegetfinancing.ledger import ApplicationState, Loan
from wegetfinancing.testing import FakeTransport, created_response, credentials, financing_request

from .proof_processes import CALL_SECONDS, GRACE_SECONDS, Chaos, Machines, make_ledger

CLICKERS = 3
CLICKS = 4
AT_ONCE = 12
IN_DOUBT = {ApplicationState.SENDING, ApplicationState.UNKNOWN}
AGAIN = {ApplicationState.REFUSED, ApplicationState.NOT_SENT}


def order_ids(count: int) -> list[str]:
    """Name orders; every third one meets one of the emulator's faults at each attempt."""
    names = list(FAULTS)
    return [f"{names[n // 3 % len(names)]}-{n}" if n % 3 == 0 else f"order-{n}" for n in range(count)]


@attrs.define
class Clicks:
    """Customers who click, several workers at once, and again while they are told that they may."""

    machines: Machines
    chaos: Chaos
    told: dict[str, list[str]] = attrs.field(factory=dict)

    async def all(self, orders: list[str]) -> None:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
        waiting = list(reversed(orders))
        async with httpx.AsyncClient(limits=limits, timeout=20, trust_env=False) as client:

            async def carry() -> None:
                while waiting:
                    await self.order(client, waiting.pop())

            async with anyio.create_task_group() as tasks:
                for _ in range(AT_ONCE):
                    tasks.start_soon(carry)

    async def order(self, client: httpx.AsyncClient, order_id: str) -> None:
        self.told[order_id] = []
        if random.random() < 0.2:
            fault = {"fault": random.choice(list(FAULTS))}
            await client.post(f"{self.machines.emulator_url}/faults", data=fault)
        async with anyio.create_task_group() as tasks:
            for _ in range(CLICKERS):
                tasks.start_soon(self.click, client, order_id)

    async def click(self, client: httpx.AsyncClient, order_id: str) -> None:
        for _ in range(CLICKS):
            said = await self.click_once(client, order_id)
            self.told[order_id].append(said)
            self.chaos.step()
            if said in ("created", "unknown"):
                break

    async def click_once(self, client: httpx.AsyncClient, order_id: str) -> str:
        try:
            response = await client.post(f"{self.machines.worker_url()}/apply/{order_id}")
        except httpx.HTTPError:
            return "no answer"
        return response.text if response.status_code == 200 else f"status {response.status_code}"


@attrs.define
class Found:
    """What is found afterwards; every text in ``wrong`` is a broken promise."""

    lines: list[str] = attrs.field(factory=list)
    wrong: list[str] = attrs.field(factory=list)


def prove_orders(machines: Machines, count: int, kills: int) -> Found:
    """Let every order be applied for by three workers at once, and compare with the emulator."""
    orders = order_ids(count)
    ledger = make_ledger(machines.url)
    ledger.create_tables()
    chaos = Chaos(machines, count * CLICKERS, kills)
    clicks = Clicks(machines, chaos)
    with machines.running():
        anyio.run(clicks.all, orders)
        chaos.join()
        time.sleep(CALL_SECONDS + GRACE_SECONDS + 1)  # every deadline passes
        applications = machines.applications()
    found = Found()
    found.lines.append(f"killed {machines.kills} times; database restarted {machines.restarts} times")
    answers = Counter(said for each in clicks.told.values() for said in each)
    found.lines.append(f"{sum(answers.values())} clicks on {count} orders were answered: {dict(answers)}")
    compare(found, ledger, orders, clicks.told, applications)
    resolve(found, ledger, orders, {order: inv_id for inv_id, order in applications})
    ledger.close()
    return found


def compare(
    found: Found,
    ledger: SQLLedger,
    orders: list[str],
    told: dict[str, list[str]],
    applications: list[tuple[str, str]],
) -> None:
    """Compare what the ledger knows and the customers were told with the emulator's applications."""
    per_order = Counter(order for _, order in applications)
    most = max(per_order.values(), default=0)
    found.lines.append(f"{len(applications)} applications at the emulator, at most {most} per order")
    found.wrong += [f"{order} has {n} applications" for order, n in per_order.items() if n > 1]
    inv_ids = {order: inv_id for inv_id, order in applications}
    loans = ledger.loans(orders, merchant_id=credentials().merchant_id)
    listed = {loan.order_id for loan in ledger.review().loans}
    states = Counter(loan.state.value for loan in loans.values())
    found.lines.append(f"ledger: {dict(states)}, {len(orders) - len(loans)} never written down")
    for order in orders:
        problem = _problem(loans.get(order), inv_ids.get(order), told[order], is_listed=order in listed)
        if problem is not None:
            found.wrong.append(f"{order} {problem}: {loans.get(order)}, told {told[order]}")


def _problem(loan: Loan | None, inv_id: str | None, told: list[str], *, is_listed: bool) -> str | None:
    if set(told) - {"created", "refused", "not_sent", "unknown", "no answer"}:
        return "was answered with an error of another kind"
    if inv_id is not None and not set(told) - {"refused", "not_sent"}:
        return "exists, and everybody was told that it does not"
    if inv_id is None and "created" in told:
        return "does not exist, and somebody was told that it does"
    if loan is None or loan.state in AGAIN:
        return None if inv_id is None else "exists, and may be applied for again"
    if loan.state in IN_DOUBT:
        return None if is_listed else "is in doubt and not listed"
    return None if loan.inv_id == inv_id else "has another ID at the emulator"


def resolve(found: Found, ledger: SQLLedger, orders: list[str], inv_ids: dict[str, str]) -> None:
    """Do what an operator does, who looks at the vendor's; afterwards nothing is in doubt."""
    adopted = absent = 0
    for loan in ledger.review().loans:
        if loan.state not in IN_DOUBT:
            continue
        if loan.order_id in inv_ids:
            ledger.adopt(loan.order_id, inv_ids[loan.order_id], loan.expected_amount)
            adopted += 1
        else:
            ledger.resolve(loan.order_id)
            absent += 1
    loans = ledger.loans(orders, merchant_id=credentials().merchant_id)
    found.wrong += [f"{each.order_id} is stuck" for each in loans.values() if each.state in IN_DOUBT]
    again = [order for order in orders if order not in loans or loans[order].state in AGAIN]
    anyio.run(_apply_again, found, ledger, again)
    found.lines.append(
        f"listed and resolved: {adopted} found at the emulator, {absent} absent;"
        f" {len(again)} refused or not sent, and applied for again"
    )


async def _apply_again(found: Found, ledger: SQLLedger, orders: list[str]) -> None:
    for order in orders:
        transport = FakeTransport(created_response(f"again-{order}"))
        async with AsyncClient(credentials(), transport=transport, ledger=ledger) as client:
            try:
                await client.create_request(financing_request(merchant_transaction_id=order))
            except CallError as error:
                found.wrong.append(f"{order} cannot be applied for again: {error!r}")
