"""The HTML of a served emulator."""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs
import jinja2

from ..enums import PostbackVersion
from ..postbacks.events import Approved, Preapproved, Refunded, Rejected
from .core import Application, Emulator
from .faults import FAULTS
from .outbox import LATE_SECONDS, Outbox
from .postbacks import STATUSES

_STATUS_TEXTS: Final = {
    None: "waiting for a decision",
    Approved.status: "approved",
    Preapproved.status: "pre-approved",
    Rejected.status: "declined",
    Refunded.status: "refunded",
}
_OPEN: Final = frozenset({None, Preapproved.status, Rejected.status})
_DONE: Final = frozenset({Approved.status, Refunded.status})

_environment: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _time_of_day(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")


_environment.filters["time"] = _time_of_day
_environment.filters["dollars"] = "${:,.2f}".format
_environment.filters["words"] = _STATUS_TEXTS.get


@attrs.frozen(kw_only=True)
class LoggedCall:
    """A call of the API, for the dashboard.

    Attributes:
        at: seconds since the epoch.
        what: method and path.
        result: the answer's status, or the fault.

    """

    at: float
    what: str
    result: str


def application_page(application: Application, *, problem: str | None = None) -> str:
    """Render what the shop's customer sees: the cart and the decisions that are possible now."""
    remaining = application.amount - application.refunded
    return _render(
        "application.html",
        application=application,
        request=application.request,
        problem=problem,
        can_be_decided=application.status in _OPEN,
        can_be_refunded=application.status in _DONE
        and remaining > 0
        and application.request.version is PostbackVersion.V1_9,
        remaining=remaining,
        late_seconds=LATE_SECONDS,
    )


def finished_page(*, granted: bool) -> str:
    """Render the end of a visit in a lightbox: the page tells the lightbox script, which closes it."""
    return _render("finished.html", outcome="complete" if granted else "abort")


def missing_page() -> str:
    """Render the page for an unknown request."""
    return _render("missing.html")


def dashboard(emulator: Emulator, outbox: Outbox, calls: Iterable[LoggedCall]) -> str:
    """Render every request, postback and call."""
    return _render(
        "dashboard.html",
        applications=list(reversed(emulator.applications.values())),
        postbacks=list(reversed(outbox.postbacks)),
        calls=list(calls)[::-1],
        faults=FAULTS.values(),
        next_faults=emulator.next_faults,
        several_merchants=len(emulator.merchants) > 1,
        statuses=STATUSES,
        late_seconds=LATE_SECONDS,
    )


def _render(template: str, **values: object) -> str:
    return _environment.get_template(template).render(values)
