"""Ratios of medians from interleaved runs, with their spread, and the table they are printed in."""

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import anyio.lowlevel
import attrs

Subject = Callable[[], Awaitable[Any]]

_MICROSECONDS: Final = 1e6


@attrs.frozen(kw_only=True)
class Row:
    """One figure: what was measured, against what, and how much the ratio may be off."""

    what: str
    against: str
    ratio: float | None = None
    spread: float = 0.0
    detail: str
    bound: float | None = None

    @property
    def missed(self) -> bool:
        """Whether the bound is missed by more than the spread."""
        return self.bound is not None and self.ratio is not None and self.ratio - self.spread > self.bound


def compared(
    what: str,
    ours: Sequence[float],
    against: str,
    theirs: Sequence[float],
    *,
    bound: float | None = None,
    unit: str = "µs",
    digits: int = 0,
) -> Row:
    """Compare two series whose items were measured in turn.

    The spread is half the distance between the quartiles of the ratios of neighbours.
    """
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(pairs, n=4)
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Row(
        what=what,
        against=against,
        ratio=mine / other,
        spread=(high - low) / 2,
        detail=f"{mine:,.{digits}f} against {other:,.{digits}f} {unit}",
        bound=bound,
    )


async def time_of(subject: Subject, calls: int, clock: Callable[[], float]) -> float:
    """Measure one call in microseconds."""
    began = clock()
    for _ in range(calls):
        await subject()
    await anyio.lowlevel.checkpoint()  # the event loop clears away ended timers on its own turn only
    return (clock() - began) / calls * _MICROSECONDS


async def interleaved(
    subjects: Mapping[str, Subject],
    *,
    rounds: int = 93,
    calls: int = 20,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Measure each subject once a round, each round beginning with another one.

    By default the CPU of this process counts, not the waiting.
    """
    for subject in subjects.values():
        await time_of(subject, calls, clock)
    gc.collect()
    gc.freeze()  # what was imported is not gone through again at somebody's expense
    measured: dict[str, list[float]] = {name: [] for name in subjects}
    names = list(subjects)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            measured[name].append(await time_of(subjects[name], calls, clock))
    gc.unfreeze()
    return measured


def interleaved_blocking(
    subjects: Mapping[str, Callable[[], Any]], *, rounds: int = 93, calls: int = 20
) -> dict[str, list[float]]:
    """Do the same with subjects that do not await, in this thread."""
    for subject in subjects.values():
        blocking_time_of(subject, calls)
    gc.collect()
    gc.freeze()  # as above
    measured: dict[str, list[float]] = {name: [] for name in subjects}
    names = list(subjects)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            measured[name].append(blocking_time_of(subjects[name], calls))
    gc.unfreeze()
    return measured


def blocking_time_of(subject: Callable[[], Any], calls: int) -> float:
    """Measure one call in microseconds of this process's CPU, whatever threads it runs in."""
    began = time.process_time()
    for _ in range(calls):
        subject()
    return (time.process_time() - began) / calls * _MICROSECONDS


def table(rows: Sequence[Row]) -> str:
    """Write the rows as a Markdown table; a bound stands in bold, and says where it is missed."""
    lines = [
        "| what | against | ratio | ± | bound | medians |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        bound = "" if row.bound is None else f"**≤ {row.bound:g}**{' missed' if row.missed else ''}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        spread = f"{row.spread:.2g}" if row.spread else ""
        lines.append(f"| {row.what} | {row.against} | {ratio} | {spread} | {bound} | {row.detail} |")
    return "\n".join(lines)
