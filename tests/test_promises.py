"""What docs/promises.md claims, against what is tested."""

import re

from support.faults import FAULTS
from support.promises import PAGE, written


def test_the_table_is_that_of_the_matrix() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "in tests, run: python -m support.promises"


def test_what_the_page_names_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)", page)) | {".github/SECURITY.md"}
    assert len(named) > 8
    assert [each for each in sorted(named) if not (PAGE.parent.parent / each).exists()] == []


def test_every_fault_has_a_name_of_its_own() -> None:
    names = [(each.group, each.name) for each in FAULTS]
    assert len(names) == len(set(names))
