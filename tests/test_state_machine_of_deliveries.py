"""Postbacks in every order of deliveries, failures, cancellations and time that Hypothesis can think of."""

import contextlib

import anyio
import anyio.lowlevel
import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from support.virtual_time import VirtualTime, virtual_time
from test_postback_app import deliver
from test_state_machine import anything, host_tasks
from wegetfinancing import Postback
from wegetfinancing.postbacks import MemoryDeliveryStore, NotYet, PostbackApp
from wegetfinancing.testing import credentials, signed_postback

CLAIM_SECONDS = 60.0
DECISIONS = [(inv_id, status) for inv_id in ("A", "B") for status in ("approved", "rejected")]


class ShopError(Exception):
    """What a handler of the shop's raises."""


@attrs.define(eq=False)
class Handling:
    """One run of the handler."""

    key: str
    claimed_until: float
    ends: anyio.Event = attrs.field(factory=anyio.Event)
    failure: Exception | None = None
    running: bool = True
    returned: bool = False
    settled: bool = False


@attrs.define(eq=False)
class Delivery:
    """One request of the vendor's, and the answer to it."""

    decision: tuple[str, str]
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    status: int | None = None


class Deliveries(RuleBasedStateMachine):
    """Deliveries that overlap, in front of a shop that may fail."""

    backend: str

    @initialize()
    def open_the_shop(self) -> None:
        self.open = contextlib.ExitStack()
        self.time: VirtualTime = self.open.enter_context(virtual_time(self.backend))
        self.host, self.tasks = self.time.portal.start_task(host_tasks)
        self.handlings: list[Handling] = []
        self.deliveries: list[Delivery] = []
        self.needless: list[Handling] = []
        store = MemoryDeliveryStore(claim_seconds=CLAIM_SECONDS, clock=anyio.current_time)
        self.app = PostbackApp(credentials(), self.handle, store=store)

    async def handle(self, postback: Postback) -> None:
        handling = Handling(postback.key, claimed_until=anyio.current_time() + CLAIM_SECONDS)
        self.needless += [
            each
            for each in self.handlings
            if each.key == handling.key
            and (each.settled or (each.running and anyio.current_time() < each.claimed_until))
        ]
        self.handlings.append(handling)
        try:
            await handling.ends.wait()
            if handling.failure is not None:
                raise handling.failure
            handling.returned = True
            handling.settled = anyio.current_time() < handling.claimed_until
        finally:
            handling.running = False

    @rule(decision=st.sampled_from(DECISIONS), at_once=st.sampled_from([1, 1, 2]))
    def the_vendor_delivers(self, decision: tuple[str, str], at_once: int) -> None:
        def start() -> None:
            for _ in range(at_once):
                delivery = Delivery(decision)
                self.deliveries.append(delivery)
                self.tasks.start_soon(self.carry, delivery)

        self.time.run(start)

    async def carry(self, delivery: Delivery) -> None:
        inv_id, status = delivery.decision
        postback = signed_postback(status, inv_id=inv_id)
        with delivery.scope, contextlib.suppress(ShopError):
            delivery.status = await deliver(self.app, postback)

    @property
    def running(self) -> list[Handling]:
        return [each for each in self.handlings if each.running]

    @rule(which=anything, failure=st.sampled_from([None, None, NotYet, ShopError]))
    def a_handler_ends(self, which: int, failure: type[Exception] | None) -> None:
        if running := self.running:
            handling = running[which % len(running)]
            handling.failure = failure() if failure is not None else None
            self.time.run(handling.ends.set)

    @rule(which=anything)
    def the_vendor_hangs_up(self, which: int) -> None:
        if self.deliveries:
            self.time.run(self.deliveries[which % len(self.deliveries)].scope.cancel)

    @rule(seconds=st.sampled_from([0.05, 1.0, 6.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.time.advance(seconds)

    @invariant()
    def no_decision_is_handled_twice_inside_one_claim(self) -> None:
        assert self.needless == []

    @invariant()
    def ok_is_said_only_of_what_was_handled(self) -> None:
        handled = {each.key for each in self.handlings if each.returned}
        for delivery in self.deliveries:
            inv_id, status = delivery.decision
            assert delivery.status != 200 or any(inv_id in key and status in key for key in handled)

    def teardown(self) -> None:
        try:
            for delivery in self.deliveries:
                self.time.run(delivery.scope.cancel)
            self.no_decision_is_lost()
        finally:
            self.time.run(self.tasks.cancel_scope.cancel)
            self.host.result()
            self.open.close()

    def no_decision_is_lost(self) -> None:
        """Whatever went before, the next delivery finds it handled or has it handled, at once."""
        for decision in DECISIONS:
            self.the_vendor_delivers(decision, 1)
            for handling in self.running:
                self.time.run(handling.ends.set)
            assert self.deliveries[-1].status == 200
        self.ok_is_said_only_of_what_was_handled()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_decision_is_lost_or_handled_twice(backend: str) -> None:
    machine = type("Machine", (Deliveries,), {"backend": backend})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=50, stateful_step_count=25, deadline=None)
    )
