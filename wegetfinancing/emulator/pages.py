"""The HTML of a served emulator."""

import datetime as dt
from pathlib import Path
from typing import Final

import jinja2

from ..enums import PostbackVersion
from ..postbacks.events import Approved, Preapproved, Refunded, Rejected
from .calls import CallLog
from .core import Application, Emulator
from .faults import FAULTS
from .outbox import LATE_SECONDS, Outbox
from .postbacks import STATUSES
from .report import order_of

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
_environment.filters["milliseconds"] = lambda seconds: f"{seconds * 1000:,.0f} ms"
_environment.filters["words"] = _STATUS_TEXTS.get


def application_page(application: Application, *, problem: str | None = None) -> str:
    """Render what the shop's customer sees: the cart and the decisions that are possible now."""
    return _render(
        "application.html",
        application=application,
        request=application.request,
        problem=problem,
        can_be_decided=application.status in _OPEN,
        can_be_refunded=application.status in _DONE and _can_be_refunded(application),
        remaining=application.amount - application.refunded,
        late_seconds=LATE_SECONDS,
    )


def finished_page(*, granted: bool) -> str:
    """Render the end of a visit in a lightbox: the page tells the lightbox script, which closes it."""
    return _render("finished.html", outcome="complete" if granted else "abort")


def missing_page() -> str:
    """Render the page for an unknown request."""
    return _render("missing.html")


def dashboard(emulator: Emulator, outbox: Outbox, calls: CallLog, *, order: str = "") -> str:
    """Render every request, postback and call, or those whose order ID or ``inv_id`` contains ``order``."""

    def is_shown(*names: str) -> bool:
        return any(order.lower() in name.lower() for name in names)

    applications = [
        each for each in reversed(emulator.applications.values()) if is_shown(order_of(each), each.inv_id)
    ]
    return _render(
        "dashboard.html",
        order=order,
        applications=applications,
        decisions={each.inv_id: _decisions(each) for each in applications},
        postbacks=[each for each in reversed(outbox.postbacks) if is_shown(each.order, each.inv_id)],
        calls=[each for each in calls.newest_first() if is_shown(each.order, each.inv_id)],
        faults=FAULTS.values(),
        next_faults=emulator.next_faults,
        several_merchants=len(emulator.merchants) > 1,
        late_seconds=LATE_SECONDS,
    )


def _can_be_refunded(application: Application) -> bool:
    is_known = application.request.version is PostbackVersion.V1_9
    return is_known and application.was_approved and application.refunded < application.amount


def _decisions(application: Application) -> list[str]:
    return [each for each in STATUSES if each != Refunded.status or _can_be_refunded(application)]


def _render(template: str, **values: object) -> str:
    return _environment.get_template(template).render(values)
