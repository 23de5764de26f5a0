"""The ledger against a plain model of it, with a connection that dies at statement n, for every n."""

import contextlib
import os
import tempfile
from pathlib import Path

import attrs
import pytest
import sqlalchemy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Column, Integer, MetaData, Table, insert, select
from sqlalchemy.engine import Connection

from support.statements import StatementFault, dying
from wegetfinancing import LedgerError, Outcome
from wegetfinancing._loan import Application, Verdict
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.ledger import Decision
from wegetfinancing.testing.contract.ledger_checking import MERCHANT, application, created, postback

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "25"))
ORDERS = ["A", "B"]
STATUSES = ["approved", "preapproved", "rejected", "refund"]
FINAL = {"approved", "rejected"}

shop = MetaData()
effects = Table("effects", shop, Column("n", Integer, primary_key=True), Column("decision", Integer))


@attrs.define
class Model:
    """What is known of one order, told in the plainest way."""

    state: str | None = None
    token: str | None = None
    has_id: bool = False
    has_amount: bool = False
    has_page: bool = False
    status: str | None = None
    at: int | None = None
    said: set[str] = attrs.field(factory=set)
    held: list[str] = attrs.field(factory=list)
    to_handle: int = 0
    early: list[tuple[str, int, bool]] = attrs.field(factory=list)
    delivered: set[tuple[str, int, bool]] = attrs.field(factory=set)

    def hear(self, status: str, at: int) -> None:
        if status in self.said:
            self.held.append("repeated")
            return
        self.said.add(status)
        if status == "refund":
            self.held.append("refund")
            self.to_handle += 1
        elif (
            self.status is None
            or (self.at is not None and at > self.at)
            or (at == self.at and self.status == "preapproved" and status in FINAL)
        ):
            self.status, self.at = status, at
            self.has_page = self.has_page and status not in FINAL
            self.to_handle += 1
        elif not (self.at is not None and at < self.at and status == "preapproved"):
            self.held.append("conflict")

    def identified(self) -> None:
        """The vendor's ID of the order is known."""
        self.has_id = True
        for status, at, _ in self.early:
            self.hear(status, at)
        self.early.clear()

    @property
    def codes(self) -> list[str]:
        amount = ["amount_not_seen"] if self.has_id and not self.has_amount else []
        return sorted([*amount, *self.held])


class LedgerMachine(RuleBasedStateMachine):
    """One ledger in SQLite, whose connection may die at any statement of any step."""

    @initialize()
    def open(self) -> None:
        self.stack = contextlib.ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.url = f"sqlite:///{Path(folder) / 'shop.db'}"
        self.engine = sqlalchemy.create_engine(self.url)
        self.stack.callback(self.engine.dispose)
        shop.create_all(self.engine)
        self.fails = False
        self.ledger = SQLLedger(self.url, environment="sandbox", apply=self.apply, lease=0.001)
        self.stack.callback(self.ledger.close)
        self.ledger.create_tables()
        self.models = {order: Model() for order in ORDERS}
        self.attempts: dict[str, Application] = {}
        self.handled: list[int] = []

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.everything_is_handled_once()
            self.stack.close()

    def apply(self, connection: Connection, decision: Decision) -> None:
        connection.execute(insert(effects).values(decision=decision.id))
        if self.fails:
            raise ZeroDivisionError

    at_statement = st.integers(0, 15)
    seldom = st.sampled_from([False, False, True])

    @rule(order=st.sampled_from(ORDERS), at=at_statement, is_lost=st.booleans())
    def the_customer_clicks(self, order: str, at: int, is_lost: bool) -> None:
        model = self.models[order]
        intent = application(order, expected_amount=created().amount, seconds=3600.0)
        try:
            with dying(StatementFault(at, is_lost=is_lost)):
                verdict = self.ledger.begin(intent).verdict
        except LedgerError as error:
            assert not error.uncertain  # noqa: PT017 - the second reading had no fault
            loan = self.ledger.loan(order, merchant_id=MERCHANT)
            if loan is not None and model.state in (None, "refused", "not_sent"):
                self.attempts.pop(order, None)  # the attempt before may have been replaced
                if model.state is None or loan.state.value == "not_sent":
                    model.state = "not_sent"  # it was committed, and undone
                if any(named for *_, named in model.early):
                    model.state = "created"
                    model.identified()
            return
        if model.state == "sending":
            expected = {Verdict.WAIT}
        elif model.state == "unknown":
            expected = {Verdict.UNKNOWN}
        elif model.state == "created":
            expected = {Verdict.STORED if model.has_page else Verdict.EXISTS}
        elif any(named for *_, named in model.early):
            expected = {Verdict.EXISTS}
            model.state = "created"
            model.identified()
        else:
            expected = {Verdict.SEND}
            model.state, model.token = "sending", intent.token
            self.attempts[order] = intent
        assert verdict in expected

    @rule(order=st.sampled_from(ORDERS), at=at_statement, is_lost=st.booleans())
    def the_vendor_answers(self, order: str, at: int, is_lost: bool) -> None:
        intent, model = self.attempts.get(order), self.models[order]
        if intent is None or intent.token != model.token or model.has_amount:
            return
        try:
            with dying(StatementFault(at, is_lost=is_lost)):
                self.ledger.record_answer(intent, created(f"id-{order}"))
        except LedgerError:
            self.ledger.record_answer(intent, created(f"id-{order}"))
        model.state, model.has_amount = "created", True
        model.has_page = model.status not in FINAL
        if not model.has_id:
            model.identified()

    @rule(
        order=st.sampled_from(ORDERS),
        outcome=st.sampled_from(Outcome),
        at=at_statement,
        is_lost=st.booleans(),
    )
    def the_call_fails(self, order: str, outcome: Outcome, at: int, is_lost: bool) -> None:
        intent, model = self.attempts.get(order), self.models[order]
        if intent is None:
            return
        try:
            with dying(StatementFault(at, is_lost=is_lost)):
                self.ledger.record_failure(intent, outcome)
        except LedgerError:
            self.ledger.record_failure(intent, outcome)
        if model.state == "sending" and intent.token == model.token:
            model.state = outcome.value

    @rule(
        order=st.sampled_from(ORDERS),
        status=st.sampled_from(STATUSES),
        signed=st.integers(1, 3),
        named=st.booleans(),
        at=at_statement,
        is_lost=st.booleans(),
    )
    def the_vendor_decides(
        self, order: str, status: str, signed: int, named: bool, at: int, is_lost: bool
    ) -> None:
        model = self.models[order]
        said = postback(
            status,
            signed=signed,
            inv_id=f"id-{order}",
            merchant_transaction_id=order if named else None,
            amount="5.00" if status == "refund" else None,
        )
        try:
            with dying(StatementFault(at, is_lost=is_lost)):
                recorded = self.ledger.record(said)
        except LedgerError:
            recorded = self.ledger.record(said)
        if (status, signed, named) not in model.delivered:
            model.delivered.add((status, signed, named))
            self.model_hears(model, status, signed, named=named)
        assert (recorded.order_id == order) is model.has_id

    def model_hears(self, model: Model, status: str, signed: int, *, named: bool) -> None:
        if model.has_id:
            model.hear(status, signed)
        elif named and model.state is not None:
            model.state = "created"
            model.identified()
            model.hear(status, signed)
        else:
            model.early.append((status, signed, named))

    @rule(fails=seldom, at=at_statement, is_lost=st.booleans())
    def a_worker_works(self, fails: bool, at: int, is_lost: bool) -> None:
        with contextlib.suppress(LedgerError), dying(StatementFault(at, is_lost=is_lost)):
            self.match()
            self.fails = fails
            claim = self.ledger.claim()
            if claim is not None:
                self.ledger.apply(claim)
        self.match()

    def match(self) -> None:
        self.ledger.match_again()
        for model in self.models.values():
            if model.has_id:
                model.identified()

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        for order, model in self.models.items() if hasattr(self, "models") else ():
            loan = self.ledger.loan(order, merchant_id=MERCHANT)
            if loan is None:
                assert model.state is None
                continue
            assert loan.state.value == model.state
            assert loan.status == model.status
            assert sorted(each.code for each in loan.held) == model.codes
            assert loan.may_ship is (model.status == "approved" and not model.codes)

    @invariant()
    def no_decision_has_two_effects(self) -> None:
        if hasattr(self, "engine"):
            with self.engine.connect() as connection:
                done = list(connection.scalars(select(effects.c.decision)))
            assert len(done) == len(set(done))

    def everything_is_handled_once(self) -> None:
        self.fails = False
        self.match()
        for order, model in self.models.items():
            for status, signed, named in list(model.delivered):
                said = postback(
                    status,
                    signed=signed,
                    inv_id=f"id-{order}",
                    merchant_transaction_id=order if named else None,
                    amount="5.00" if status == "refund" else None,
                )
                recorded = self.ledger.record(said)
                while (claim := self.ledger.claim(recorded.id)) is not None:
                    assert self.ledger.apply(claim)
        with self.engine.connect() as connection:
            done = list(connection.scalars(select(effects.c.decision)))
        assert len(done) == len(set(done)) == sum(model.to_handle for model in self.models.values())


@pytest.mark.long
def test_the_ledger_does_what_its_model_does() -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            suppress_health_check=list(HealthCheck),
        ),
    )
