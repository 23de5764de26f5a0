"""The command ``wegetfinancing``: an emulator, a check of the set-up, a ledger's operations."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from . import _check_command, _emulator_command, _ledger_command, _postback_command, _trigger_command
from ._version import __version__
from .errors import ConfigurationError

_COMMANDS: Final = (_emulator_command, _trigger_command, _postback_command, _check_command, _ledger_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    chosen = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int | None] = chosen.run
    try:
        return run(chosen) or 0
    except (ConfigurationError, OSError, ValueError) as error:
        print(f"wegetfinancing: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wegetfinancing",
        description="An emulator of the vendor's API, a check of your set-up, and a ledger's operations.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
