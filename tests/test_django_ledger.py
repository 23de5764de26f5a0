"""``DjangoLedger``: it keeps the contract on both databases, and writes nothing in somebody's transaction."""

import contextlib
import threading
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.test import TestCase

from support.django_project import (
    FOLDER,
    add_database,
    ledger_factory,
    postgresql_database,
    sqlite_database,
)
from support.ledgers import leave_three_to_review, orders_to_review
from wegetfinancing import AsyncClient, Client, ConfigurationError, LedgerError, Outcome
from wegetfinancing._loan import Verdict
from wegetfinancing.contrib.django import DjangoLedger
from wegetfinancing.contrib.django.models import Worker
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.ledger import Decision, Loan, run_worker
from wegetfinancing.testing import (
    INV_ID,
    LEDGER_CHECKS,
    FakeTransport,
    LedgerCheck,
    credentials,
    financing_request,
)
from wegetfinancing.testing.contract.ledger_checking import application, created, postback

ORDER = "ORDER-123"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def alias(request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database."""
    if request.param == "sqlite":
        with sqlite_database() as name:
            yield name
    else:
        with postgresql_database(request.getfixturevalue("postgresql")) as name:
            yield name


@pytest.fixture
def make_ledger(alias: str) -> Callable[..., DjangoLedger]:
    return ledger_factory(alias)


@pytest.mark.parametrize("check", LEDGER_CHECKS, ids=str)
def test_it_keeps_the_contract(make_ledger: Callable[..., DjangoLedger], check: LedgerCheck) -> None:
    check(make_ledger)


def approved_loan(ledger: DjangoLedger) -> Loan:
    intent = application()
    ledger.begin(intent)
    ledger.record_answer(intent, created())
    ledger.record(postback())
    loan = ledger.loan(ORDER)
    assert loan is not None
    return loan


def client_of(ledger: DjangoLedger) -> tuple[Client, FakeTransport]:
    transport = FakeTransport()
    return Client(credentials(), transport=transport, ledger=ledger), transport


# The intent is committed before anything is sent


def test_a_create_outside_of_a_transaction_is_committed_and_sent(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    client, transport = client_of(make_ledger())
    with client:
        created_request = client.create_request(financing_request())
        assert client.create_request(financing_request()) == created_request
    assert len(transport.requests) == 1
    assert not connections[alias].in_atomic_block


def test_a_create_inside_atomic_is_refused_with_the_remedy(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    client, transport = client_of(make_ledger())
    with client, transaction.atomic(using=alias), pytest.raises(ConfigurationError) as caught:
        client.create_request(financing_request())
    assert "commit first" in str(caught.value)
    assert "@transaction.non_atomic_requests" in str(caught.value)
    assert transport.requests == []


def test_a_create_without_autocommit_is_refused(alias: str, make_ledger: Callable[..., DjangoLedger]) -> None:
    client, transport = client_of(make_ledger())
    with client:
        transaction.set_autocommit(False, using=alias)
        try:
            with pytest.raises(ConfigurationError, match="commit first"):
                client.create_request(financing_request())
        finally:
            transaction.set_autocommit(True, using=alias)
    assert transport.requests == []


def test_a_create_is_refused_on_a_connection_that_opens_without_autocommit() -> None:
    with sqlite_database():
        ledger_factory("default")()
        add_database("manual", ENGINE="django.db.backends.sqlite3", NAME=FOLDER / "shop.db", AUTOCOMMIT=False)
        client, transport = client_of(DjangoLedger(environment="sandbox", using="manual"))
        with client, pytest.raises(ConfigurationError, match="commit first"):
            client.create_request(financing_request())
    assert transport.requests == []


def test_even_an_order_that_is_known_is_not_looked_up_in_vain_inside_atomic(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    """Or the call would fail for the first time when it has to send."""
    ledger = make_ledger()
    approved_loan(ledger)
    with transaction.atomic(using=alias), pytest.raises(ConfigurationError, match="commit first"):
        ledger.begin(application())


def test_a_postback_is_not_recorded_in_somebodys_transaction(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    ledger = make_ledger()
    with transaction.atomic(using=alias), pytest.raises(ConfigurationError, match="commit first"):
        ledger.record(postback())
    assert ledger.review().decisions == ()


def test_a_create_inside_djangos_testcase_is_permitted(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    class Checkout(TestCase):
        databases = {alias}  # noqa: RUF012 - as Django declares it

        def test(self) -> None:
            client, transport = client_of(ledger)
            with client:
                client.create_request(financing_request())
                with transaction.atomic(using=alias), pytest.raises(ConfigurationError):
                    client.create_request(financing_request())
            assert len(transport.requests) == 1

    ledger = make_ledger()
    result = unittest.TestResult()
    unittest.TestSuite([Checkout("test")]).run(result)
    assert result.testsRun == 1
    assert [text for _, text in [*result.errors, *result.failures]] == []
    assert ledger.loan(ORDER) is None  # rolled back


def test_a_loan_can_be_read_inside_atomic(alias: str, make_ledger: Callable[..., DjangoLedger]) -> None:
    ledger = make_ledger()
    approved_loan(ledger)
    with transaction.atomic(using=alias):
        loan = ledger.loan(ORDER)
        assert loan is not None
        assert loan.may_ship
        assert ledger.loan(ORDER, connection=connections[alias]) == loan


def test_a_loan_can_be_read_without_autocommit(alias: str, make_ledger: Callable[..., DjangoLedger]) -> None:
    """Inside the shop's transaction, which no atomic() has declared."""
    ledger = make_ledger()
    approved_loan(ledger)
    transaction.set_autocommit(False, using=alias)
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute("INSERT INTO wgf_worker (id, seen_at) VALUES ('shop', 0)")
            loan = ledger.loan(ORDER)
            assert loan is not None
            assert loan.may_ship
            cursor.execute("SELECT count(*) FROM wgf_worker")
            assert cursor.fetchone() == (1,)
    finally:
        transaction.rollback(using=alias)
        transaction.set_autocommit(True, using=alias)


# A handler, and a shop with an endpoint of its own


class SlowHandler:
    """Writes, waits until it was rolled back, and does something else with the database."""

    def __init__(self, then: Callable[[Any], object], fails: type[Exception] | None) -> None:
        self._then = then
        self._fails = fails
        self.is_in = threading.Event()
        self.others_may_write = threading.Event()

    def __call__(self, shops: Any, _: Decision) -> None:
        effect(shops, "before")
        self.is_in.set()
        assert self.others_may_write.wait(30)
        if self._fails is None:
            self._then(shops)
        else:
            with pytest.raises(self._fails):
                self._then(shops)


def effect(shops: Any, name: str) -> None:
    with shops.cursor() as cursor:
        cursor.execute("INSERT INTO wgf_worker (id, seen_at) VALUES (%s, 0)", [name])


def effect_after(shops: Any) -> None:
    effect(shops, "after")


def effect_in_atomic(shops: Any) -> None:
    with transaction.atomic(using=shops.alias):
        effect_after(shops)


@pytest.mark.parametrize(
    ("then", "fails"),
    [
        (effect_after, OperationalError),
        (effect_in_atomic, OperationalError),
        (effect_after, None),
        (lambda _: None, None),
    ],
    ids=["writes on", "begins anew", "fails", "returns"],
)
def test_a_handler_on_sqlite_that_takes_too_long_is_rolled_back_and_others_can_write(
    then: Callable[[Any], object], fails: type[Exception] | None
) -> None:
    apply = SlowHandler(then, fails)
    with sqlite_database() as name:
        ledger = ledger_factory(name)(apply=apply, handler_seconds=1.0)
        approved_loan(ledger)
        recorded = ledger.record(postback())

        def handle() -> tuple[bool, int]:
            try:
                claim = ledger.claim(recorded.id)
                assert claim is not None
                is_handled = ledger.apply(claim)
                return is_handled, Worker.objects.count()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as threads:
            handled = threads.submit(handle)
            assert apply.is_in.wait(30)
            ledger.begin(application("ORDER-124"))  # waits for no longer than the handler may take
            apply.others_may_write.set()
            assert handled.result() == (False, 0)
        (waiting,) = ledger.review().decisions
        assert (waiting.attempts, waiting.error) == (1, "TimeoutError")


def test_a_handler_inside_a_test_case_has_no_time_limit() -> None:
    """Its transaction is not the ledger's to roll back."""

    def wait(*_: object) -> None:
        assert not threading.Event().wait(0.2)

    class Handling(TestCase):
        def test(self) -> None:
            ledger = ledger_factory("default")(apply=wait, handler_seconds=0.1)
            approved_loan(ledger)
            claim = ledger.claim(ledger.record(postback()).id)
            assert claim is not None
            assert ledger.apply(claim)

    with sqlite_database():
        result = unittest.TestResult()
        unittest.TestSuite([Handling("test")]).run(result)
    assert [text for _, text in [*result.errors, *result.failures]] == []


def test_a_handlers_effects_and_its_decision_are_committed_together(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    fails = [True]

    def apply(shops: Any, _: Decision) -> None:
        with shops.cursor() as cursor:
            cursor.execute("INSERT INTO wgf_worker (id, seen_at) VALUES ('effect', 0)")
        if fails:
            raise RuntimeError(fails.pop())

    def effects() -> int:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM wgf_worker")
            return int(cursor.fetchone()[0])

    ledger = make_ledger(apply=apply)
    approved_loan(ledger)
    results = []
    recorded = ledger.record(postback())
    for _ in range(2):
        claim = ledger.claim(recorded.id)
        assert claim is not None
        results.append((ledger.apply(claim), effects()))
    assert results == [(False, 0), (True, 1)]


def test_a_hook_that_fails_after_the_commit_is_not_said_to_be_tried_again(
    alias: str, make_ledger: Callable[..., DjangoLedger], caplog: pytest.LogCaptureFixture
) -> None:
    def no_broker() -> None:
        raise ConnectionRefusedError

    def apply(shops: Any, _: Decision) -> None:
        transaction.on_commit(no_broker, using=shops.alias)

    ledger = make_ledger(apply=apply)
    approved_loan(ledger)
    claim = ledger.claim()
    assert claim is not None
    assert ledger.apply(claim)
    assert ledger.review().decisions == ()
    assert "what followed failed; it is not tried again" in caplog.text
    assert "ConnectionRefusedError" in caplog.text


def test_a_handler_that_asks_for_a_rollback_has_failed(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    def apply(shops: Any, _: Decision) -> None:
        transaction.set_rollback(True, using=shops.alias)

    ledger = make_ledger(apply=apply)
    approved_loan(ledger)
    claim = ledger.claim()
    assert claim is not None
    assert not ledger.apply(claim)
    assert ledger.review().decisions[0].error == "TransactionManagementError"


def test_a_handler_whose_statement_fails_has_failed(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    def apply(shops: Any, _: Decision) -> None:
        with shops.cursor() as cursor:
            cursor.execute("SELECT * FROM nowhere")

    ledger = make_ledger(apply=apply)
    approved_loan(ledger)
    claim = ledger.claim()
    assert claim is not None
    assert not ledger.apply(claim)
    assert ledger.review().decisions[0].error in ("OperationalError", "ProgrammingError")


def test_a_handler_that_swallows_an_error_of_the_database_has_failed(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    """After it nothing is committed, and neither PostgreSQL nor SQLite says so at the end."""
    fails = {"sqlite": "INSERT OR ROLLBACK INTO wgf_meta SELECT * FROM wgf_meta", "postgresql": "SELECT 1/0"}

    def apply(shops: Any, _: Decision) -> None:
        with contextlib.suppress(DatabaseError), shops.cursor() as cursor:
            cursor.execute(fails[shops.vendor])

    ledger = make_ledger(apply=apply)
    approved_loan(ledger)
    claim = ledger.claim()
    assert claim is not None
    assert not ledger.apply(claim)
    (waiting,) = ledger.review().decisions
    assert waiting.error in ("TransactionManagementError", "InternalError")


def test_where_a_list_is_cut_off_what_a_customer_waits_for_comes_first(
    make_ledger: Callable[..., DjangoLedger],
) -> None:
    ledger = make_ledger()
    leave_three_to_review(ledger)
    listed = [orders_to_review(ledger, limit) for limit in (1, 2, 3)]
    assert listed == [["ORDER-2"], ["ORDER-2", "ORDER-3"], ["ORDER-2", "ORDER-3", "ORDER-1"]]


def test_once_is_part_of_the_shops_transaction(alias: str, make_ledger: Callable[..., DjangoLedger]) -> None:
    ledger = make_ledger()
    intent = application()
    ledger.begin(intent)
    ledger.record_answer(intent, created())
    shops = connections[alias]
    with transaction.atomic(using=alias):
        assert ledger.once(shops, postback()) is not None
        transaction.set_rollback(True, using=alias)
    with transaction.atomic(using=alias):
        decision = ledger.once(shops, postback())
        assert decision is not None
        assert ledger.once(shops, postback()) is None
    loan = ledger.loan(ORDER)
    assert loan is not None
    assert loan.may_ship


def test_once_needs_a_transaction_of_the_ledgers_database(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    ledger = make_ledger()
    with pytest.raises(ConfigurationError, match="needs a transaction"):
        ledger.once(connections[alias], postback())
    with pytest.raises(ConfigurationError, match="where the ledger is"):
        ledger.once(object(), postback())


def test_a_database_that_fails_inside_once_is_a_ledger_error(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    ledger = make_ledger()
    with transaction.atomic(using=alias):
        with connections[alias].cursor() as cursor:
            cursor.execute("ALTER TABLE wgf_inv RENAME TO elsewhere")
        with pytest.raises(LedgerError, match="the ledger's database failed"):
            ledger.once(connections[alias], postback())
        transaction.set_rollback(True, using=alias)
    assert ledger.review().decisions == ()


# Connections


def test_a_threads_connection_is_left_as_it_was_found(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    ledger = make_ledger()
    seen: list[tuple[bool, bool]] = []

    def work() -> None:
        connections[alias].close()
        ledger.loan(ORDER)
        closed = connections[alias].connection is None
        connections[alias].ensure_connection()
        ledger.loan(ORDER)
        seen.append((closed, connections[alias].connection is not None))
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, True)]


def test_a_transaction_that_was_interrupted_as_it_began_leaves_nothing_locked(
    alias: str, make_ledger: Callable[..., DjangoLedger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django has told the database, and does not remember that it has."""
    ledger = make_ledger()
    shops = connections[alias]
    shops.ensure_connection()
    set_autocommit = shops.set_autocommit

    def interrupted(*args: Any, **settings: Any) -> None:
        set_autocommit(*args, **settings)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shops, "set_autocommit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.beat("worker")
    intent = application()
    assert ledger.begin(intent).verdict is Verdict.SEND
    seen: list[Loan] = []

    def record_elsewhere() -> None:
        seen.append(ledger.record_answer(intent, created()))

    thread = threading.Thread(target=record_elsewhere)
    thread.start()
    thread.join()
    assert len(seen) == 1


def test_a_statement_that_was_interrupted_leaves_nothing_locked(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    """On SQLite the cursor that the traceback holds would keep others from writing, until it is collected."""
    ledger = make_ledger()

    def interrupt(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if sql.startswith("SELECT") and "wgf_loan" in sql:
            raise KeyboardInterrupt
        return result

    def record_elsewhere() -> None:
        try:
            seen.append(ledger.begin(application("ORDER-2"), timeout=5.0).verdict)
        finally:
            connections.close_all()

    seen: list[Verdict] = []
    ledger.begin(application())
    with connections[alias].execute_wrapper(interrupt), pytest.raises(KeyboardInterrupt) as caught:
        ledger.loan(ORDER)
    thread = threading.Thread(target=record_elsewhere)
    thread.start()
    thread.join()
    assert seen == [Verdict.SEND]
    assert caught.tb is not None


def test_what_a_handler_opens_in_a_thread_of_ours_is_closed(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    add_database("other", ENGINE="django.db.backends.sqlite3", NAME=FOLDER / "other.db")
    opened: list[Any] = []

    def apply(shops: Any, _: Decision) -> None:
        connections["other"].ensure_connection()
        opened.extend([shops, connections["other"]])

    ledger = make_ledger(apply=apply)
    approved_loan(ledger)
    anyio.run(lambda: run_worker(ledger, until_idle=True))
    assert [each.connection for each in opened] == [None, None]


def test_the_settings_of_a_connection_are_set_back() -> None:
    with sqlite_database():
        ledger = ledger_factory("default")(patience=1.0)

        def pragmas() -> list[int]:
            with connection.cursor() as cursor:
                return [
                    cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("busy_timeout", "synchronous")
                ]

        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous = OFF")
        before = pragmas()
        inside: list[list[int]] = []
        with ledger.transaction(write=True):
            inside.append(pragmas())
        assert inside == [[1000, 3]]
        assert pragmas() == before
        with pytest.raises(LedgerError), ledger.transaction(write=True):
            connection.close()
        assert pragmas() == [5000, 2]  # of a new connection


def test_an_async_client_uses_it_too(alias: str, make_ledger: Callable[..., DjangoLedger]) -> None:
    ledger, transport = make_ledger(), FakeTransport()

    async def main() -> None:
        async with AsyncClient(credentials(), transport=transport, ledger=ledger) as client:
            for _ in range(2):
                await client.create_request(financing_request())

    anyio.run(main)
    assert len(transport.requests) == 1
    loan = ledger.loan(ORDER)
    assert loan is not None
    assert loan.inv_id == INV_ID


def test_an_order_is_applied_for_once_by_any_number_of_threads(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    client, transport = client_of(make_ledger())
    with client, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.create_request(financing_request()).inv_id, range(24)))
    assert set(answers) == {INV_ID}
    assert len(transport.requests) == 1


# Failures


def test_a_database_that_is_locked_is_a_ledger_error() -> None:
    with sqlite_database():
        ledger = ledger_factory("default")(patience=0.05)
        locked, done = threading.Event(), threading.Event()

        def lock() -> None:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("UPDATE wgf_meta SET version = version WHERE id = 0")
                locked.set()
                done.wait(30)
            connections.close_all()

        thread = threading.Thread(target=lock)
        thread.start()
        assert locked.wait(30)
        with pytest.raises(LedgerError, match="database is locked") as caught:
            ledger.begin(application())
        done.set()
        thread.join()
        assert not caught.value.uncertain
        ledger.begin(application())


def test_a_commit_whose_acknowledgement_is_lost_leaves_no_intent(
    alias: str, make_ledger: Callable[..., DjangoLedger], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make_ledger()
    ledger.record_failure(application("ANOTHER"), outcome=Outcome.NOT_SENT)
    opened = connections[alias]
    commit = opened.commit

    def lose() -> None:
        monkeypatch.setattr(opened, "commit", commit)
        commit()
        raise OperationalError

    monkeypatch.setattr(opened, "commit", lose)
    opened.ensure_connection()
    with pytest.raises(LedgerError) as caught, ledger.transaction(write=True):
        pass
    assert caught.value.uncertain


def test_tables_of_the_other_environment_are_refused(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    approved_loan(make_ledger())
    other = DjangoLedger(environment="live", using=alias)
    with pytest.raises(LedgerError, match="belong to the environment sandbox"):
        other.loan(ORDER)
    with pytest.raises(LedgerError, match="belong to the environment sandbox"):
        other.begin(application())


@pytest.mark.parametrize("alias", ["postgresql"], indirect=True)  # SQLite lets only one of the two write
def test_tables_that_another_environment_uses_first_at_the_same_moment_are_refused(
    alias: str, make_ledger: Callable[..., DjangoLedger]
) -> None:
    sandbox = make_ledger()

    def use_them_first() -> None:
        DjangoLedger(environment="live", using=alias).beat("live")
        connections.close_all()

    first = threading.Thread(target=use_them_first)

    def come_second(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        if sql.startswith("INSERT INTO") and "wgf_meta" in sql:
            first.start()
            first.join()
        return execute(sql, *args)

    with connections[alias].execute_wrapper(come_second), pytest.raises(LedgerError, match="live"):
        sandbox.begin(application())
    assert DjangoLedger(environment="live", using=alias).loan(ORDER) is None


def test_a_missing_table_is_a_ledger_error() -> None:
    add_database("empty", ENGINE="django.db.backends.sqlite3", NAME=FOLDER / "empty.db")
    with pytest.raises(LedgerError, match=r"no such table: wgf_meta; have the migrations been applied\?"):
        DjangoLedger(environment="sandbox", using="empty").loan(ORDER)


def test_another_kind_of_database_is_refused() -> None:
    add_database("dummy", ENGINE="django.db.backends.dummy")
    with pytest.raises(ConfigurationError, match="SQLite and PostgreSQL"):
        DjangoLedger(environment="sandbox", using="dummy").check()


@pytest.mark.parametrize("name", ["patience", "handler_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "5"])
def test_a_number_of_seconds_has_to_be_one(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        DjangoLedger(environment="sandbox", **{name: value})


# Both ledgers have the same tables


def test_sqlalchemys_ledger_works_on_djangos_tables() -> None:
    with sqlite_database():
        loan = approved_loan(ledger_factory("default")())
        connections.close_all()
        ledger = SQLLedger(f"sqlite:///{FOLDER / 'shop.db'}", environment="sandbox")
        assert ledger.loan(ORDER) == loan
        assert ledger.record(postback("refund", amount="10.00")).order_id == ORDER
        ledger.close()
        refunded = DjangoLedger(environment="sandbox").loan(ORDER)
        assert refunded is not None
        assert [each.code for each in refunded.held] == ["refund"]
