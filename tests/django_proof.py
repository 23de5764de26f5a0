"""The example shop in Django under kills, with figures: ``python tests/django_proof.py``.

Customers click twice at once, the emulator fails, and workers of gunicorn (forked, with threads) and of
uvicorn are killed with SIGKILL. The script prints what it finds and ends with status 0 only if no order has
more than one application, none is stuck, and every approval is applied exactly once.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from support.django_site import COMMANDS, Site
from support.proof_django import prove_django


def main(arguments: list[str] | None = None) -> int:
    """Return how many promises were broken, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=COMMANDS, action="append")
    parser.add_argument("--checkouts", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=4, help="of each of gunicorn's workers")
    parser.add_argument("--seconds", type=float, default=3.0, help="that a call to the vendor may take")
    parser.add_argument("--end-leases", action="store_true", help="those of killed workers, at the end")
    options = parser.parse_args(arguments)
    wrong = 0
    for server in options.server or COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            site = Site(server, Path(folder), options.workers, options.threads, options.seconds)
            found = prove_django(site, options.checkouts, options.kills, end_leases=options.end_leases)
        print(
            f"{server}, {options.workers} workers:", *found.lines, *found.wrong[:10], sep="\n  ", flush=True
        )
        wrong += len(found.wrong)
    print(f"promises broken: {wrong}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
