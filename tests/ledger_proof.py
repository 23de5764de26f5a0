"""The ledger under kills, with figures: ``python tests/ledger_proof.py``, or ``nox -s ledger``.

Workers are killed with SIGKILL, the database is restarted, the emulator fails, handlers fail. The script
prints what it finds on SQLite and on a PostgreSQL of its own, and ends with status 0 only if an order has
at most one application, none is stuck, every decision is handled exactly once and in order, and a create
costs no more with 100,000 loans in the tables.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from support.ledgers import new_database
from support.postgresql import Server, postgresql_server, programs
from support.proof_cost import prove_cost
from support.proof_decisions import prove_decisions
from support.proof_orders import Found, prove_orders
from support.proof_processes import Machines, serve_emulator, serve_worker

PARTS = ["orders", "decisions", "cost"]
STORAGES = ["sqlite", "postgresql"]


@attrs.frozen
class Databases:
    """Makes empty databases of one kind."""

    new_url: Callable[[], str]
    restart: Callable[[], None] | None = None


@contextlib.contextmanager
def databases(storage: str) -> Iterator[Databases]:
    with contextlib.ExitStack() as stack:
        if storage == "sqlite":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            numbers = iter(range(100))
            yield Databases(lambda: f"sqlite:///{folder / f'shop-{next(numbers)}.db'}")
        else:
            server: Server = stack.enter_context(postgresql_server(fsync=True))
            yield Databases(lambda: new_database(server), server.restart)


def prove(storage: str, parts: list[str], options: argparse.Namespace) -> list[Found]:
    """Run the parts on one kind of database, and print what is found."""
    founds: list[Found] = []
    with databases(storage) as made:
        for part in parts:
            machines = Machines(made.new_url(), options.workers, made.restart)
            match part:
                case "orders":
                    found = prove_orders(machines, options.orders, options.kills)
                case "decisions":
                    found = prove_decisions(machines, options.loans, options.kills)
                case _:
                    found = prove_cost(
                        machines.url, made.new_url(), options.creates, options.rows, options.max_ratio
                    )
            print(f"{storage}, {part}:", *found.lines, *found.wrong[:10], sep="\n  ", flush=True)
            founds.append(found)
    return founds


def main(arguments: list[str] | None = None) -> int:
    """Return how many promises were broken, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", choices=STORAGES, action="append")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--orders", type=int, default=500)
    parser.add_argument("--loans", type=int, default=500, help="each has four deliveries")
    parser.add_argument("--kills", type=int, default=20, help="workers killed in each part")
    parser.add_argument("--creates", type=int, default=500, help="to measure")
    parser.add_argument("--rows", type=int, default=100_000, help="loans in the large tables")
    parser.add_argument(
        "--max-ratio", type=float, default=1.1, help="of the costs with large and small tables"
    )
    options = parser.parse_args(arguments)
    founds: list[Found] = []
    for storage in options.storage or STORAGES:
        if storage == "postgresql" and programs() is None:
            print("there is no PostgreSQL; on Debian: apt-get install postgresql")
            return 1
        founds += prove(storage, options.part or PARTS, options)
    wrong = sum(len(found.wrong) for found in founds)
    print(f"promises broken: {wrong}")
    return min(wrong, 1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker", listener, url, emulator]:
            serve_worker(int(listener), url, emulator)
        case ["emulator", listener]:
            serve_emulator(int(listener))
        case arguments:
            sys.exit(main(arguments))
