"""What the benchmarks say of a figure; the figures themselves are not a test."""

import pytest

from benchmarks.harness import Row, compared, table


@pytest.mark.parametrize(
    ("ratio", "spread", "missed"),
    [(0.8, 0.0, False), (0.9, 0.0, False), (1.0, 0.2, False), (1.0, 0.05, True)],
)
def test_a_bound_is_missed_by_more_than_the_spread(ratio: float, spread: float, missed: bool) -> None:
    row = Row(what="a", against="b", ratio=ratio, spread=spread, detail="", bound=0.9)
    assert row.missed is missed
    assert (" missed |" in table([row])) is missed


def test_a_figure_without_a_bound_misses_none() -> None:
    assert not Row(what="a", against="b", ratio=9.0, detail="").missed
    assert not Row(what="a", against="b", detail="", bound=0.9).missed


def test_a_ratio_is_one_of_medians_and_its_spread_that_of_neighbours() -> None:
    row = compared("a", [2.0, 4.0, 6.0, 100.0, 4.0], "b", [1.0, 2.0, 2.0, 2.0, 2.0])
    assert row.ratio == pytest.approx(4 / 2)
    assert row.spread == pytest.approx((26.5 - 2.0) / 2)  # the quarters of 2, 2, 2, 3 and 50
    assert row.detail == "4 against 2 µs"
