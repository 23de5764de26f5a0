"""What docs/promises.md claims, against what is tested."""

from faults import FAULTS
from promises import PAGE, written


def test_the_table_is_that_of_the_matrix() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "run python tests/promises.py"


def test_every_fault_has_a_name_of_its_own() -> None:
    names = [(each.group, each.name) for each in FAULTS]
    assert len(names) == len(set(names))
