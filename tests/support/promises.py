"""Writes the table of ``docs/promises.md`` from the faults of the matrix.

Run it in the folder ``tests``: ``python -m support.promises``.
"""

import itertools
from pathlib import Path

from support.faults import FAULTS, Fault

PAGE = Path(__file__).parent.parent.parent / "docs" / "promises.md"
BEGIN, END = "<!-- table: written by tests/support/promises.py -->", "<!-- end of the table -->"
WORDS = {"done": "done", "not_sent": "`NOT_SENT`", "refused": "`REFUSED`", "unknown": "`UNKNOWN`"}


def words(outcomes: tuple[str, ...]) -> str:
    return " or ".join(WORDS[each] for each in outcomes)


def columns(fault: Fault) -> tuple[str, str, str, str]:
    return fault.group, fault.processed.value, words(fault.create), words(fault.shipping)


def table() -> str:
    """Put the faults that have all columns in common into one row."""
    rows = [
        "| kind | what the server or proxy does | carried out | a create | an update |",
        "|---|---|---|---|---|",
    ]
    order = {fault.group: number for number, fault in reversed(list(enumerate(FAULTS)))}
    ordered = sorted(FAULTS, key=lambda fault: (order[fault.group], columns(fault)))
    for (group, processed, create, shipping), faults in itertools.groupby(ordered, columns):
        names = "; ".join(each.name for each in faults)
        rows.append(f"| {group} | {names} | {processed} | {create} | {shipping} |")
    cells = len(FAULTS) * 2 * 3 * 2
    rows += ["", f"{len(FAULTS)} behaviours, {cells:,} calls."]
    return "\n".join(rows)


def written(page: str) -> str:
    """Put the table into the page."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
