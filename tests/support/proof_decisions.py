"""The second part of the ledger's proof: every decision handled, exactly once, in order per loan."""

import random
import time
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import anyio
import attrs
import httpx
import sqlalchemy
from sqlalchemy import select

from wegetfinancing.contrib.sqlalchemy import SQLLedger, metadata
from wegetfinancing.ledger import Loan
from wegetfinancing.postbacks.dialects import parse_postback
from wegetfinancing.testing import SignedPostback, credentials, signed_postback
from wegetfinancing.testing.contract.ledger_checking import application, created

from .proof_orders import Found
from .proof_processes import Chaos, Machines, effects, make_ledger, shop

PER_LOAN = 4
AT_ONCE = 16
STATUSES = ["preapproved", "approved", "approved", "rejected", "refund"]
GIVE_UP = 240.0
MERCHANT = credentials().merchant_id


def deliveries_of(order_id: str) -> list[SignedPostback]:
    """Make what is delivered about one loan: some decisions, some of them again, some signed anew."""
    made: list[SignedPostback] = []
    for _ in range(PER_LOAN):
        if made and random.random() < 0.15:
            made.append(random.choice(made))
            continue
        status = random.choice(STATUSES)
        made.append(
            signed_postback(
                status,
                inv_id=f"id-{order_id}",
                merchant_transaction_id=order_id if random.random() < 0.5 else None,
                amount=random.choice(["5.00", "7.50"]) if status == "refund" else None,
                timestamp=str(1_700_000_000 + random.randrange(5)),
            )
        )
    return made


@attrs.define
class Expected:
    """What the rules of the ledger say of one loan, told in the plainest way.

    Attributes:
        handled: the decisions that the handler has to see, in this order.
        holds: how many facts speak against shipping.

    """

    status: str | None = None
    at: float = 0.0
    refunded: Decimal = Decimal(0)
    holds: int = 0
    handled: list[int] = attrs.field(factory=list)
    keys: set[str] = attrs.field(factory=set)

    def hear(self, row: Any) -> None:
        if row.key in self.keys:
            self.holds += 1
            return
        self.keys.add(row.key)
        if row.status == "refund":
            self.refunded += Decimal(row.amount)
            self.holds += 1
        elif self.counts(row):
            self.status, self.at = row.status, row.signed_at
        else:
            self.holds += not (row.status == "preapproved" and row.signed_at < self.at)
            return
        self.handled.append(row.id)

    def counts(self, row: Any) -> bool:
        """Tell whether this one is the newer decision."""
        is_final = self.status == "preapproved" and row.status != "preapproved"
        return self.status is None or row.signed_at > self.at or (is_final and row.signed_at == self.at)

    def differs(self, loan: Loan) -> bool:
        said = (loan.status, loan.refunded, len(loan.held), loan.may_ship)
        return said != (self.status, self.refunded, self.holds, self.status == "approved" and not self.holds)


@attrs.define
class Vendor:
    """Delivers until it is answered 200, and records the answers of some loans in between."""

    machines: Machines
    chaos: Chaos
    ledger: SQLLedger
    answers: Counter[str] = attrs.field(factory=Counter)

    async def deliver_all(self, work: list[Any], at_once: int = AT_ONCE) -> None:
        limits = httpx.Limits(max_connections=50, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=30, trust_env=False) as client:

            async def carry() -> None:
                while work:
                    item = work.pop()
                    if isinstance(item, SignedPostback):
                        await self.deliver(client, item)
                    else:
                        await anyio.to_thread.run_sync(answer, self.ledger, item)

            async with anyio.create_task_group() as tasks:
                for _ in range(at_once):
                    tasks.start_soon(carry)

    async def deliver(self, client: httpx.AsyncClient, postback: SignedPostback) -> None:
        for _ in range(200):
            url = f"{self.machines.worker_url()}/postbacks"
            try:
                response = await client.post(url, content=postback.body, headers=postback.headers)
            except httpx.HTTPError:
                self.answers["none"] += 1
            else:
                self.answers[str(response.status_code)] += 1
                if response.status_code == 200:
                    break
            await anyio.sleep(0.1)
        self.chaos.step()


def answer(ledger: SQLLedger, intent: Any) -> None:
    """Record the vendor's answer to a create, as a worker would; it tries again while it has time."""
    while True:
        try:
            ledger.record_answer(intent, created(f"id-{intent.order_id}"))
        except Exception:  # noqa: BLE001 - the database is restarted meanwhile
            time.sleep(0.1)
        else:
            return


def prove_decisions(machines: Machines, loans: int, kills: int) -> Found:
    """Deliver decisions in random order to workers that are killed, and compare with the plain rules."""
    engine = sqlalchemy.create_engine(machines.url, pool_pre_ping=True)
    ledger = make_ledger(machines.url)
    ledger.create_tables()
    shop.create_all(engine)
    orders = [f"loan-{number}" for number in range(loans)]
    work: list[Any] = []
    for number, order in enumerate(orders):
        intent = application(order)
        ledger.begin(intent)
        if number % 5:
            answer(ledger, intent)
        else:
            work.append(intent)  # its decisions may come before the answer
    deliveries = [each for order in orders for each in deliveries_of(order)]
    work += deliveries
    random.shuffle(work)
    chaos = Chaos(machines, len(deliveries), kills)
    vendor = Vendor(machines, chaos, ledger)
    with machines.running():
        anyio.run(vendor.deliver_all, work)
        chaos.join()
        _wait_until_handled(engine, vendor, deliveries)
    found = Found()
    found.lines.append(f"killed {machines.kills} times; database restarted {machines.restarts} times")
    found.lines.append(
        f"{len(deliveries)} deliveries about {loans} loans; attempts by answer: {dict(vendor.answers)}"
    )
    _compare(found, engine, ledger, deliveries)
    ledger.close()
    engine.dispose()
    return found


def _digest(delivery: SignedPostback) -> str:
    return parse_postback(delivery.body, delivery.headers, credentials()).digest


def _wait_until_handled(engine: sqlalchemy.Engine, vendor: Vendor, deliveries: list[SignedPostback]) -> None:
    """Deliver again what is not handled: that tries it at once, where a worker would pause for minutes."""
    decision = metadata.tables["wgf_decision"]
    by_digest = {_digest(each): each for each in deliveries}
    give_up = time.monotonic() + GIVE_UP
    open_states = select(decision.c.digest).where(decision.c.state.in_(["waiting", "unmatched"]))
    while time.monotonic() < give_up:
        with engine.connect() as connection:
            left = list(connection.scalars(open_states))
        if not left:
            return
        anyio.run(vendor.deliver_all, [by_digest[digest] for digest in left])
        time.sleep(0.5)


def _compare(
    found: Found, engine: sqlalchemy.Engine, ledger: SQLLedger, deliveries: list[SignedPostback]
) -> None:
    decision = metadata.tables["wgf_decision"]
    with engine.connect() as connection:
        rows = list(connection.execute(select(decision).order_by(decision.c.id)))
        done = list(connection.execute(select(effects).order_by(effects.c.number)))
    lost = {_digest(each) for each in deliveries} - {row.digest for row in rows}
    found.wrong += [f"a delivery is lost: {digest}" for digest in lost]
    expected: dict[str, Expected] = defaultdict(Expected)
    for row in rows:
        expected[row.inv_id.removeprefix("id-")].hear(row)
    effect: dict[str, list[int]] = defaultdict(list)
    for each in done:
        effect[each.order_id].append(each.decision)
    loans = ledger.loans(expected, merchant_id=MERCHANT)
    for order, said in expected.items():
        if effect[order] != said.handled:
            found.wrong.append(f"{order} had the effects {effect[order]}, and {said.handled} were expected")
        if said.differs(loans[order]):
            found.wrong.append(f"{order} is {loans[order]}, and {said} was expected")
    states = Counter(row.state for row in rows)
    found.lines.append(f"{len(rows)} different ones stored, {len(lost)} lost: {dict(states)}")
    twice = len(done) - len({each.decision for each in done})
    found.lines.append(
        f"handler ran {sum(row.attempts for row in rows)} times; {len(done)} effects, {twice} twice,"
        f" {sum(len(each.handled) for each in expected.values())} expected"
    )
    listed = {loan.order_id for loan in ledger.review().loans}
    held = {order for order, said in expected.items() if said.holds}
    found.wrong += [f"{order} is held and not listed" for order in held - listed if len(listed) < 1000]
    found.lines.append(f"{len(held)} loans are held for review by the rules, and listed")
