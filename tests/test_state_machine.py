"""The client under every order of calls, faults, middleware and time that Hypothesis can think of.

The fake behind the transport's seam is way and server in one: what arrived there is what is judged,
and what the client said of it.
"""

import contextlib
import contextvars
import copy
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import anyio.lowlevel
import attrs
import pytest
from anyio.abc import TaskGroup, TaskStatus
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from support.virtual_time import VirtualTime, virtual_time
from wegetfinancing import AsyncClient, CallError, Outcome, Retry, TransportError
from wegetfinancing._json import from_json, to_json
from wegetfinancing.client.retry import REPEATED_STATUSES, RetryLimits
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.testing import credentials, financing_request, shipping_event

LIMITS = RetryLimits(attempts=3, base_delay=1.0, max_delay=4.0, quota=2, quota_per_success=0.5)
OPERATIONS = ["create_request", "update_shipping", "update_shipping", "create_test_postback"]


class OwnError(Exception):
    """What a middleware of the caller's own raises."""


@attrs.frozen
class RequestFate:
    """What becomes of one request: does it arrive, is it carried out, what comes back, and how slowly."""

    arrives: bool
    carried_out: bool
    reply: Response | TransportError | OSError | None
    slow_there: bool = False
    slow_back: bool = False


GOOD = Response(200, body=to_json({"inv_id": "x", "href": "https://x", "loan": "x"}))
LOST = TransportError("lost", outcome=Outcome.UNKNOWN)
NEVER_SENT = TransportError("no connection", outcome=Outcome.NOT_SENT)
REFUSALS = [Response(status) for status in (307, 308, 400, 401, 404, 409, 421, 422, 425, 429)]
FAILED = Response(500)
FAILURES = [Response(status) for status in (101, 204, 302, 408, 500, 502, 503, 504, 524, 599)]
LATER = Response(503, {"retry-after": "2"})

seldom = st.sampled_from([False, False, False, True])
slowness = {"slow_there": seldom, "slow_back": seldom}
never, perhaps, surely = st.just(False), st.booleans(), st.just(True)  # noqa: FBT003 - values to draw
faults = st.one_of(
    st.builds(RequestFate, never, never, st.sampled_from([NEVER_SENT, OSError(), None]), **slowness),
    st.builds(RequestFate, surely, never, st.sampled_from([*REFUSALS, LATER]), **slowness),
    st.builds(
        RequestFate, surely, perhaps, st.sampled_from([*FAILURES, LATER, LOST, OSError(), None]), **slowness
    ),
    st.builds(RequestFate, surely, surely, st.just(GOOD), **slowness),
)


Move: TypeAlias = Callable[["Turn"], Awaitable[None]]


@attrs.define(eq=False)
class Record:
    """One call: what is to happen to it, what the server saw of it, and what the client said of it."""

    number: int
    operation: str
    deadline: float
    outer: list[Move]
    inner: list[Move]
    faults: list[RequestFate]
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    handed_to_retry: int = 0
    attempts: int = 0
    sent: int = 0
    arrived: int = 0
    carried_out: int = 0
    ended: bool = False
    claim: Outcome | None = None
    broken: list[str] = attrs.field(factory=list)


current: contextvars.ContextVar[Record] = contextvars.ContextVar("current")


@attrs.define
class ScriptedServer:
    """The transport, and the server that tells calls apart by what their bodies say."""

    records: list[Record] = attrs.field(factory=list)
    waiting: list[anyio.Event] = attrs.field(factory=list)

    async def send(self, request: Request) -> Response:
        record = self.records[number_in(request)]
        record.sent += 1
        if record.ended or anyio.current_time() >= record.deadline:
            record.broken.append("was sent after the call had ended")
        fault = (
            record.faults.pop(0) if record.faults else RequestFate(arrives=True, carried_out=True, reply=GOOD)
        )
        await self.wait(slow=fault.slow_there)
        record.arrived += fault.arrives
        record.carried_out += fault.carried_out
        await self.wait(slow=fault.slow_back)
        match fault.reply:
            case None:
                await anyio.sleep_forever()
                raise AssertionError
            case Response():
                return fault.reply
            case error:
                raise copy.copy(error)

    async def wait(self, *, slow: bool) -> None:
        await anyio.lowlevel.checkpoint()
        if slow:
            word = anyio.Event()
            self.waiting.append(word)
            await word.wait()

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()


def number_in(request: Request) -> int:
    body = from_json(request.body)
    marks = (body.get("merchant_transaction_id"), body.get("loan_id"), body.get("call"))
    return int(next(mark for mark in marks if mark is not None))


@attrs.define
class Turn:
    """One way of a request through a link: what the plan of the call may have the link do."""

    link: "Mischief"
    record: Record
    request: Request
    call_next: Handler
    response: Response = FAILED

    async def pass_on(self) -> None:
        self.record.handed_to_retry += self.link.place == "outer"
        self.response = await self.call_next(self.request)

    async def pass_on_and_swallow(self) -> None:
        with contextlib.suppress(Exception):
            await self.pass_on()

    async def pass_on_twice_at_once(self) -> None:
        async with anyio.create_task_group() as both:
            both.start_soon(self.pass_on_and_swallow)
            both.start_soon(self.pass_on_and_swallow)

    async def pass_on_in_the_background(self) -> None:
        self.link.tasks.start_soon(self.pass_on_and_swallow)

    async def keep_call_next(self) -> None:
        self.link.kept.append(self)

    async def wait_for_a_word(self) -> None:
        await self.link.server.wait(slow=True)

    async def sleep_a_second(self) -> None:
        await anyio.sleep(1)

    async def lie_about_the_request(self) -> None:
        self.request = attrs.evolve(
            self.request, operation="update_shipping", repeatable=True, deadline=math.inf, url="https://x"
        )

    async def raise_an_error_of_its_own(self) -> None:
        raise OwnError

    async def claim_that_nothing_was_sent(self) -> None:
        raise TransportError("never mind", outcome=Outcome.NOT_SENT)

    async def answer_200(self) -> None:
        self.response = GOOD

    async def answer_400(self) -> None:
        self.response = Response(400)


moves = st.sampled_from([move for name, move in vars(Turn).items() if inspect.iscoroutinefunction(move)])
some = st.lists(moves, max_size=2)
# Where every link makes mischief, little gets through to the server; so most pass on, sooner or later.
plans = st.one_of(
    st.just([Turn.pass_on]),
    st.just([Turn.pass_on]),
    st.builds(lambda before, after: [*before, Turn.pass_on, *after], some, some),
    st.lists(moves, max_size=4),
)


@attrs.define
class Mischief:
    """A link of the chain that does what the plan of the call says."""

    place: str
    server: ScriptedServer
    tasks: TaskGroup
    kept: list[Turn] = attrs.field(factory=list)
    answers_seen: int = 0

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        record = current.get()
        record.attempts += self.place == "inner"
        turn = Turn(self, record, request, call_next)
        for move in getattr(record, self.place):
            await move(turn)
        self.answers_seen += turn.response.status not in REPEATED_STATUSES
        return turn.response


async def host_tasks(*, task_status: TaskStatus[TaskGroup]) -> None:
    async with anyio.create_task_group() as tasks:
        task_status.started(tasks)
        await anyio.sleep_forever()


# Of what there is. Drawn without a look at it: trio takes its tasks in no fixed order, and Hypothesis
# wants every draw to be the same again.
anything = st.integers(0, 9)


class Calls(RuleBasedStateMachine):
    """Calls that overlap, on a clock that only the machine moves."""

    backend: str

    def __init__(self) -> None:
        super().__init__()
        self.open = contextlib.ExitStack()
        self.time: VirtualTime = self.open.enter_context(virtual_time(self.backend))
        self.host, self.tasks = self.time.portal.start_task(host_tasks)
        self.server = ScriptedServer()
        self.outer = Mischief("outer", self.server, self.tasks)
        self.inner = Mischief("inner", self.server, self.tasks)
        retry = Retry(**attrs.asdict(LIMITS), random=lambda: 0.5, wall_clock=lambda: 0.0)
        self.client = AsyncClient(
            credentials(), transport=self.server, middleware=[self.outer, retry, self.inner]
        )
        self.now = 0.0

    @property
    def records(self) -> list[Record]:
        return self.server.records

    @rule(
        operation=st.sampled_from(OPERATIONS),
        at_once=st.sampled_from([1, 1, 3]),
        timeout=st.sampled_from([0.5, 3.0, 30.0, 30.0]),
        outer=plans,
        inner=plans,
        script=st.lists(faults, max_size=5) | faults.map(lambda fault: [fault] * 9),
    )
    def call(
        self,
        operation: str,
        at_once: int,
        timeout: float,
        outer: list[Move],
        inner: list[Move],
        script: list[RequestFate],
    ) -> None:
        def start() -> None:
            deadline = anyio.current_time() + timeout
            for _ in range(at_once):
                record = Record(len(self.records), operation, deadline, outer, inner, list(script))
                self.records.append(record)
                self.tasks.start_soon(self.carry, record, timeout)

        self.time.run(start)

    async def carry(self, record: Record, timeout: float) -> None:
        current.set(record)
        mark = str(record.number)
        with record.scope:
            try:
                match record.operation:
                    case "create_request":
                        request = financing_request(merchant_transaction_id=mark)
                        await self.client.create_request(request, timeout=timeout)
                    case "update_shipping":
                        await self.client.update_shipping(mark, shipping_event(), timeout=timeout)
                    case _:
                        await self.client.create_test_postback({"call": mark}, timeout=timeout)
            except CallError as error:
                record.claim = error.outcome
            except OwnError as error:
                words = error.__notes__[-1]
                record.claim = next(each for each in Outcome if each.description in words)
            except BaseException as error:
                if not isinstance(error, anyio.get_cancelled_exc_class()):
                    record.broken.append(f"let {type(error).__name__} out")
                raise
            finally:
                record.ended = True
        record.ended = True

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 5.0, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.time.advance(seconds)

    @rule(which=anything)
    def a_wait_ends(self, which: int) -> None:
        if waiting := self.server.waiting:
            self.time.run(waiting.pop(which % len(waiting)).set)

    @rule(which=anything)
    def a_call_is_cancelled(self, which: int) -> None:
        if self.records:
            self.time.run(self.records[which % len(self.records)].scope.cancel)

    @rule(which=anything)
    def a_middleware_calls_what_it_has_kept(self, which: int) -> None:
        if kept := [*self.outer.kept, *self.inner.kept]:
            turn = kept[which % len(kept)]
            self.time.run(lambda: self.tasks.start_soon(turn.pass_on_and_swallow))

    @invariant()
    def nothing_is_broken(self) -> None:
        assert [(record.operation, record.broken) for record in self.records if record.broken] == []

    @invariant()
    def what_must_not_be_repeated_is_sent_at_most_once(self) -> None:
        for record in self.records:
            if record.operation != "update_shipping":
                assert record.arrived <= record.sent <= 1, record

    @invariant()
    def not_sent_is_never_wrong(self) -> None:
        for record in self.records:
            if record.claim is Outcome.NOT_SENT:
                assert record.arrived == 0, record

    @invariant()
    def what_was_carried_out_is_never_called_refused(self) -> None:
        for record in self.records:
            if record.claim is Outcome.REFUSED:
                assert record.carried_out == 0, record

    @invariant()
    def no_call_outlives_its_deadline(self) -> None:
        for record in self.records:
            assert record.ended or self.now < record.deadline, record

    @invariant()
    def repeats_stay_inside_the_policy(self) -> None:
        repeats = 0
        for record in self.records:
            assert record.attempts <= record.handed_to_retry * LIMITS.attempts, record
            repeats += max(0, record.attempts - record.handed_to_retry)
        assert repeats <= LIMITS.quota + LIMITS.quota_per_success * self.inner.answers_seen

    def teardown(self) -> None:
        try:
            for record in self.records:
                self.time.run(record.scope.cancel)
            self.time.run(self.tasks.cancel_scope.cancel)
            self.host.result()
            self.time.portal.call(self.client.aclose)
        finally:
            self.open.close()
        assert all(record.ended for record in self.records)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_never_twice_and_never_a_wrong_word(backend: str) -> None:
    machine = type("Machine", (Calls,), {"backend": backend})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=200,
            stateful_step_count=25,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
