"""The contract of a ledger: ours keep it, and a broken one fails the check that is meant for it."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from support.broken_ledgers import BROKEN, HoldsNothing
from support.ledgers import memory_ledgers, postgresql_ledgers, sqlite_ledgers
from wegetfinancing.ledger import Ledger, MemoryLedger
from wegetfinancing.testing import LEDGER_CHECKS, LedgerCheck, check_ledger_contract


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql"])
def make_ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Ledger]]:
    """Ledgers on each storage."""
    made: contextlib.AbstractContextManager[Callable[..., Ledger]]
    if request.param == "memory":
        made = memory_ledgers()
    elif request.param == "sqlite":
        made = sqlite_ledgers(tmp_path_factory.mktemp("ledgers"))
    else:
        made = postgresql_ledgers(request.getfixturevalue("postgresql"))
    with made as make:
        yield make


@pytest.mark.parametrize("check", LEDGER_CHECKS, ids=str)
def test_our_ledgers_keep_the_contract(make_ledger: Callable[..., Ledger], check: LedgerCheck) -> None:
    check(make_ledger)


@pytest.mark.parametrize(
    ("broken", "name"), BROKEN, ids=[f"{broken.__name__}-{name}" for broken, name in BROKEN]
)
def test_a_broken_ledger_fails_the_check_that_is_meant_for_it(
    broken: Callable[..., Ledger], name: str
) -> None:
    (check,) = [each for each in LEDGER_CHECKS if each.name == name]
    with pytest.raises(AssertionError, match=f"^{name}: "):
        check(broken)


def test_every_check_has_a_ledger_that_it_is_meant_for() -> None:
    assert [name for _, name in BROKEN] == [each.name for each in LEDGER_CHECKS]


def test_all_checks_run_in_one_call() -> None:
    check_ledger_contract(MemoryLedger)
    with pytest.raises(AssertionError, match=r"(?s)an_amount_has_to_be_seen.*contradicting_decisions"):
        check_ledger_contract(HoldsNothing)
