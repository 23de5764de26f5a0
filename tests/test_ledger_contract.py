"""The contract of a ledger: ours keep it, and a broken one fails the check that is meant for it."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from support.ledgers import memory_ledgers, postgresql_ledgers, sqlite_ledgers
from wegetfinancing.ledger import Ledger
from wegetfinancing.testing import LEDGER_CHECKS, LedgerCheck


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
