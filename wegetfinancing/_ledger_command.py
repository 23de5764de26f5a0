"""The command ``wegetfinancing ledger``: what needs review, and what an operator decides."""

import argparse
import contextlib
import datetime as dt
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._arguments import dollars
from ._extras import install_command
from ._ledger.operators import REVIEW_LIMIT
from ._ledger_listing import Item, as_json, as_text, is_late, items_of
from ._loan import Loan
from .credentials import Environment
from .errors import ConfigurationError, LedgerError

if TYPE_CHECKING:
    from .contrib.sqlalchemy import SQLLedger

_UNDECIDED_DAYS: Final = 7.0
_TOO_LONG_HOURS: Final = 24.0
_WAITS: Final = 1
_COMMAND: Final = "wegetfinancing ledger URL"
_SQLITE: Final = ("sqlite", "sqlite+pysqlite")
_REMEDIES: Final = {
    "belong to the environment": "choose it with --environment",
    "tables are not there": "is the URL right?",
    "several merchants": "here --merchant ID",
    "ledger is empty": "here --merchant ID",
    "does not know this order": "is its ID right, and are --environment and --merchant?",
    "does not know this decision": "the list shows the numbers of those that wait",
    "only one that is waiting": "adopt its order if it is unmatched, or accept --apply its hold",
    "still waits for its handler": "retry it or dismiss it first",
    "database failed": "is it there and running, and may this user write to it?",
}
_DESCRIPTION: Final = f"""\
List what needs review in a ledger: applications that may or may not exist, applications without a decision,
held loans, and decisions that fail or belong to no order. Exit status: 0, 1 when something has waited too
long, 2 when the ledger could not be read. A COMMAND behind the URL changes the ledger:
{_COMMAND} resolve ORDER-123
"""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the command to the subparsers of ``wegetfinancing``."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--environment",
        choices=[each.value for each in Environment],
        help="whose tables these are; default: WEGETFINANCING_ENVIRONMENT, or sandbox",
    )
    common.add_argument(
        "--merchant", metavar="ID", help="whose orders and decisions; default: those of all merchants"
    )
    parser = commands.add_parser(
        "ledger",
        parents=[common],
        help="list what needs review in a ledger, and decide it",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "url",
        metavar="URL",
        help="sqlite:///shop.db, or postgresql+psycopg://user@host/shop, with the password in PGPASSWORD or "
        "~/.pgpass, since other users of the machine see the arguments of a process",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--undecided-days",
        type=_duration,
        default=_UNDECIDED_DAYS,
        metavar="DAYS",
        help="list applications that were created so long ago and are not decided; default: %(default)g",
    )
    parser.add_argument(
        "--too-long",
        type=_duration,
        default=_TOO_LONG_HOURS,
        metavar="HOURS",
        help="exit with status 1 when something has waited for longer; default: %(default)g",
    )
    parser.set_defaults(run=_run, act=None)
    actions = parser.add_subparsers(metavar="COMMAND")

    def action(name: str, act: Callable[["SQLLedger", argparse.Namespace], str], text: str) -> Any:  # noqa: ANN401 - a parser
        added = actions.add_parser(name, parents=[common], help=text, description=f"{text}.")
        added.set_defaults(act=act)
        return added

    order = {"metavar": "ORDER", "help": "your order ID, merchant_transaction_id"}
    added = action("resolve", _resolve, "the vendor has no application of this order: close its ID for ever")
    added.add_argument("order", **order)
    added = action("adopt", _adopt, "the vendor has the application: take it over")
    added.add_argument("order", **order)
    added.add_argument("inv_id", metavar="INV_ID", help="the vendor's ID")
    added.add_argument(
        "amount",
        metavar="AMOUNT",
        nargs="?",
        type=dollars,
        help="USD that the vendor finances, such as 499.00, if you see it",
    )
    added = action("accept", _accept, "you have reviewed these holds: they no longer keep the order")
    added.add_argument("order", **order)
    added.add_argument("holds", metavar="HOLD", nargs="+", help="as listed, such as refund:7")
    added.add_argument(
        "--apply", action="store_true", help="the held decisions behind them count, and are handled"
    )
    added = action("retry", _retry, "let a worker hand a decision to your handler now, whatever its pause")
    added.add_argument("decision", metavar="DECISION", type=int, help="its number, as listed")
    added = action("dismiss", _dismiss, "never hand a decision to your handler")
    added.add_argument("decision", metavar="DECISION", type=int, help="its number, as listed")
    added = action("forget", _forget, "erase the details of an order; its ID stays known")
    added.add_argument("order", **order)
    added = action(
        "purge", _purge, "erase the details of loans that have not changed for long and have nothing open"
    )
    added.add_argument("--older-than", type=_duration, required=True, metavar="DAYS")


def _duration(text: str) -> float:
    value = float(text)  # argparse turns the ValueError into a sentence
    if not 0 <= value <= 1e6:  # noqa: PLR2004 - more than a century
        msg = "must be between 0 and a million"
        raise argparse.ArgumentTypeError(msg)
    return value


def _run(chosen: argparse.Namespace) -> int:
    # Before the COMMAND or behind it: a default of their own would replace what was said before.
    chosen = argparse.Namespace(**({"environment": None, "merchant": None} | vars(chosen)))
    environment = chosen.environment or os.environ.get("WEGETFINANCING_ENVIRONMENT", "sandbox")
    try:
        with _opened(chosen.url, environment) as ledger:
            if chosen.act is None:
                return _review(ledger, chosen)
            print(chosen.act(ledger, chosen))
            return 0
    except (LedgerError, ConfigurationError, ValueError) as error:
        raise ConfigurationError(_with_remedy(str(error))) from None


def _with_remedy(text: str) -> str:
    return text + next((f"; {remedy}" for part, remedy in _REMEDIES.items() if part in text), "")


@contextlib.contextmanager
def _opened(url: str, environment: str) -> "Iterator[SQLLedger]":
    scheme, _, path = url.partition(":///")
    # Opening SQLite would make an empty file of a name that was mistyped.
    if scheme in _SQLITE and not Path(path.partition("?")[0]).is_file():
        msg = f"there is no file {path!r}"
        raise ConfigurationError(msg)
    try:
        from .contrib.sqlalchemy import SQLLedger  # noqa: PLC0415 - an extra

        ledger = SQLLedger(url, environment=environment)
    except ImportError as error:
        msg = f"{error.name or 'a library of the database'} is missing; {install_command('sql')}"
        raise ConfigurationError(msg) from None
    try:
        yield ledger
    finally:
        ledger.close()


# What an operator decides


def _resolve(ledger: "SQLLedger", chosen: argparse.Namespace) -> str:
    ledger.resolve(chosen.order, merchant_id=chosen.merchant)
    return f"{chosen.order} is closed; the customer may order again, under a new order ID"


def _adopt(ledger: "SQLLedger", chosen: argparse.Namespace) -> str:
    loan = ledger.adopt(chosen.order, chosen.inv_id, chosen.amount, merchant_id=chosen.merchant)
    return f"{chosen.order} is {chosen.inv_id}; {_what_is_open(loan)}"


def _accept(ledger: "SQLLedger", chosen: argparse.Namespace) -> str:
    loan = ledger.accept(chosen.order, chosen.holds, apply=chosen.apply, merchant_id=chosen.merchant)
    return f"accepted; {_what_is_open(loan)}"


def _what_is_open(loan: Loan) -> str:
    held = ", ".join(hold.id for hold in loan.held) or "none"
    return f"open holds: {held}; may ship: {'yes' if loan.may_ship else 'no'}"


def _retry(ledger: "SQLLedger", chosen: argparse.Namespace) -> str:
    ledger.retry(chosen.decision, merchant_id=chosen.merchant)
    alive = "" if ledger.has_worker() else "; no worker is alive: start one with run_worker"
    return f"decision {chosen.decision} is due now{alive}"


def _dismiss(ledger: "SQLLedger", chosen: argparse.Namespace) -> str:
    ledger.dismiss(chosen.decision, merchant_id=chosen.merchant)
    return f"decision {chosen.decision} is dismissed"


def _forget(ledger: "SQLLedger", chosen: argparse.Namespace) -> str:
    ledger.forget(chosen.order, merchant_id=chosen.merchant)
    return f"the details of {chosen.order} are erased; its ID stays known"


def _purge(ledger: "SQLLedger", chosen: argparse.Namespace) -> str:
    erased = ledger.purge(dt.timedelta(days=chosen.older_than), merchant_id=chosen.merchant)
    return f"orders whose details were erased: {erased}"


# What needs review


def _review(ledger: "SQLLedger", chosen: argparse.Namespace) -> int:
    undecided_for = dt.timedelta(days=chosen.undecided_days)
    review = ledger.review(undecided_for=undecided_for, merchant_id=chosen.merchant)
    items = items_of(review)
    if any(len(each) >= REVIEW_LIMIT for each in (review.loans, review.decisions, review.undecided)):
        print(f"there may be more: {REVIEW_LIMIT} of a kind are listed", file=sys.stderr)
    now, too_long = dt.datetime.now(dt.UTC), dt.timedelta(hours=chosen.too_long)
    has_worker = ledger.has_worker()
    if chosen.json:
        print(as_json(items, now, too_long, has_worker=has_worker))
    else:
        print(
            as_text(
                items,
                now,
                too_long,
                command=_COMMAND,
                names_merchant=_has_several_merchants(ledger, items),
                has_worker=has_worker,
            )
        )
    return _WAITS if is_late(items, now, too_long) else 0


def _has_several_merchants(ledger: "SQLLedger", items: list[Item]) -> bool:
    """Whether an order ID alone is not enough; a decision may be of a merchant without an order yet."""
    with ledger.transaction(write=False) as tx:
        return len(tx.merchants() | {str(each.data["merchant"]) for each in items}) > 1
