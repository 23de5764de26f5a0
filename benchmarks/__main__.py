"""Print the table; end non-zero when a bound is missed by more than the spread of its figure."""

import sys

import anyio

from . import (
    bulk,
    calls,
    first_call,
    imports,
    load,
    loopback,
    memory,
    merchants,
    postbacks,
    receiving,
    retry,
    round_trips,
    without_await,
)
from .harness import Row, table

SECTIONS = {
    each.__name__.rpartition(".")[2]: each.measure
    for each in (
        round_trips,
        first_call,
        calls,
        without_await,
        loopback,
        imports,
        load,
        memory,
        merchants,
        postbacks,
        receiving,
        bulk,
        retry,
    )
}


def main(names: list[str]) -> int:
    rows: list[Row] = []
    for name in names or SECTIONS:
        rows += anyio.run(SECTIONS[name])
    print(table(rows))
    return 1 if any(row.missed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
