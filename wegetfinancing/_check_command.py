"""The command ``wegetfinancing check``: is the set-up right?"""

import argparse
from collections.abc import Callable
from typing import Any, Final

import anyio

from ._check_endpoint import check_endpoint, unchecked_endpoint
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
    report = _print_nothing if chosen.json else _print_line
    findings = anyio.run(_check, chosen, report)
    if chosen.json:
        print(as_json(findings))
    return 0 if are_right(findings) else 1


async def _check(chosen: argparse.Namespace, report: Callable[[Finding], None]) -> list[Finding]:
    findings: list[Finding] = []

    def add(finding: Finding) -> None:
        findings.append(finding)
        report(finding)

    finding, setup = check_settings()
    add(finding)
    async for finding in check_vendor(setup, chosen.timeout):
        add(finding)
    if chosen.postback_url is not None and setup is None:
        for finding in unchecked_endpoint("needs the settings"):
            add(finding)
    elif chosen.postback_url is not None and setup is not None:
        checking = check_endpoint(
            chosen.postback_url, setup.credentials, seconds=chosen.timeout, max_age=chosen.max_age
        )
        async for finding in checking:
            add(finding)
    return findings


def _print_line(finding: Finding) -> None:
    print(as_line(finding), flush=True)


def _print_nothing(_: Finding) -> None:
    """Print all at once, at the end."""
