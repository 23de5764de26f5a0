"""What ``wegetfinancing check`` finds, as lines for people and as JSON for programs."""

import enum
import json
from collections.abc import Iterable
from typing import Final

import attrs

_NAME_WIDTH: Final = 11
_STATUS_WIDTH: Final = 7


class Status(enum.Enum):
    """How a check has ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not done: it does not apply here, or what it needs has failed."""


@attrs.frozen
class Finding:
    """The result of one check.

    Attributes:
        name: of the check.
        status: how it has ended.
        text: what was seen.
        remedy: what to do where it failed; else empty.

    """

    name: str
    status: Status
    text: str
    remedy: str = ""


def ok(name: str, text: str) -> Finding:
    """Make the result of a check that has passed."""
    return Finding(name, Status.OK, text)


def failed(name: str, text: str, remedy: str) -> Finding:
    """Make the result of a check that has failed."""
    return Finding(name, Status.FAILED, text, remedy)


def skipped(name: str, text: str) -> Finding:
    """Make the result of a check that was not done."""
    return Finding(name, Status.SKIPPED, text)


def are_right(findings: Iterable[Finding]) -> bool:
    """Tell whether nothing has failed."""
    return all(each.status is not Status.FAILED for each in findings)


def as_line(finding: Finding) -> str:
    """Show a result to a person."""
    told = f"{finding.text}; {finding.remedy}" if finding.remedy else finding.text
    # What an endpoint or a resolver says must not control the terminal.
    printable = "".join(each if each.isprintable() else "?" for each in told)
    return f"{finding.status.value:{_STATUS_WIDTH}} {finding.name:{_NAME_WIDTH}} {printable}"


def as_json(findings: Iterable[Finding]) -> str:
    """Show all results to a program."""
    shown = [
        {"name": each.name, "status": each.status.value, "text": each.text, "remedy": each.remedy or None}
        for each in findings
    ]
    return json.dumps({"ok": are_right(findings), "checks": shown}, indent=2)
