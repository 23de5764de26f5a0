"""The short form of ``nox -s ledger``: the same promises, with fewer orders and fewer kills."""

import pytest

from ledger_proof import main
from support.postgresql import programs

# What a create costs is measured by the long form; here, that nothing scans a table.
COST = ["--creates", "10", "--rows", "5000", "--max-ratio", "100"]
SHORT = ["--workers", "2", "--orders", "9", "--loans", "10", "--kills", "2", *COST]


@pytest.mark.long
@pytest.mark.parametrize("part", ["orders", "decisions", "cost"])
@pytest.mark.parametrize("storage", ["sqlite", "postgresql"])
def test_the_ledger_keeps_its_promises_under_kills(storage: str, part: str) -> None:
    if storage == "postgresql" and programs() is None:
        pytest.skip("there is no PostgreSQL")
    assert main(["--storage", storage, "--part", part, *SHORT]) == 0
