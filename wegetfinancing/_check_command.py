"""The command ``wegetfinancing check``: is the set-up right?"""

import argparse
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio

from ._check_endpoint import check_endpoint
from ._check_findings import Finding, are_right, as_json, as_line
from ._check_setup import check_settings, check_vendor
from ._checks import is_finite_number
from ._postback_command import require_postback_url

_SECONDS: Final = 30.0
_DESCRIPTION: Final = """\
Check the settings in WEGETFINANCING_*, DNS, TLS, and the credentials together with the merchant ID. The check
of the credentials sends a create without any field, which the API refuses: it cannot create an application.
With --postback-url, your own endpoint is checked too, by postbacks that no shop can act upon: their order,
their request and their status do not exist. Exit status: 0 if nothing has failed, 1 otherwise, 2 for wrong
arguments.
"""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the command to the subparsers of ``wegetfinancing``."""
    parser = commands.add_parser(
        "check",
        help="check settings, credentials and, with --postback-url, your endpoint",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--postback-url", metavar="URL", help="your endpoint, as the vendor calls it")
    parser.add_argument(
        "--max-age",
        type=_positive,
        metavar="SECONDS",
        help="the max_age of your endpoint, which must then refuse an older postback",
    )
    parser.add_argument(
        "--timeout",
        type=_positive,
        default=_SECONDS,
        metavar="SECONDS",
        help="how long to wait for each answer; default: %(default)g",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_run)


def _positive(text: str) -> float:
    value = float(text)  # argparse turns the ValueError into a sentence
    if not is_finite_number(value) or value <= 0:
        msg = "must be a number of seconds above 0"
        raise argparse.ArgumentTypeError(msg)
    return value


def _run(chosen: argparse.Namespace) -> int:
    if chosen.postback_url is not None:
        require_postback_url(chosen.postback_url)
    findings = anyio.run(_check, chosen)
    if chosen.json:
        print(as_json(findings))
    return 0 if are_right(findings) else 1


async def _check(chosen: argparse.Namespace) -> list[Finding]:
    findings = []
    async for finding in _findings(chosen):
        findings.append(finding)
        if not chosen.json:
            print(as_line(finding), flush=True)
    return findings


async def _findings(chosen: argparse.Namespace) -> AsyncIterator[Finding]:
    finding, setup = check_settings()
    yield finding
    async for finding in check_vendor(setup, chosen.timeout):
        yield finding
    if chosen.postback_url is not None:
        async for finding in check_endpoint(chosen.postback_url, setup, chosen.timeout, chosen.max_age):
            yield finding
