"""The emulator over HTTP, for any client and browser. Needs ``wegetfinancing[emulator]``."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request as HTTPRequest
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from starlette.responses import Response as HTTPResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from ..client.httpx_transport import HttpxTransport
from ..client.transport import Transport
from ..http import Request
from ..postbacks.events import Approved, Preapproved, Refunded, Rejected
from . import pages
from .calls import CallLog
from .core import Application, Emulator
from .faults import SLOW_SECONDS, Effect
from .guards import frame_ancestors, read_body, refuse_other_sites
from .outbox import Outbox, OutgoingPostback
from .report import call_line

__all__ = ["emulator_app"]

LIGHTBOX_PATH: Final = "/libs/1.0/getfinancing.js"
"""Where the vendor's own server has the lightbox script (seen in the official clients)."""

_STATIC: Final = Path(__file__).parent / "static"
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'"
)


class _Silence(HTTPResponse):
    """Never answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        await receive()  # the body has been read, so this is the caller going away


def emulator_app(
    emulator: Emulator,
    transport: Transport | None = None,
    *,
    hosts: Iterable[str] = (),
    reset: Callable[[Scope], None] | None = None,
    report: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
) -> Starlette:
    """Make the ASGI app that serves ``emulator``, its pages and its postbacks.

    ``Emulator(page=...)`` must begin with the address it is served under and end with ``/lc/``.

    - ``/merchant/...``: the vendor's API.
    - ``/lc/<inv_id>``: the application page. ``POST`` with the form field ``decision`` (``approved``,
      ``preapproved``, ``rejected`` or ``refund``, then also ``amount``) decides; the postback is
      delivered before the answer, which redirects a browser to ``success_url`` or ``failure_url`` and
      otherwise reports in JSON what the shop answered.
    - ``/``: the dashboard.
    - ``/libs/1.0/getfinancing.js``: the lightbox script.

    Args:
        emulator: what is served.
        transport: sends the postbacks; by default an ``HttpxTransport``.
        hosts: where postbacks may go besides loopback addresses.
        reset: resets the connection of an ASGI scope, which ASGI itself cannot. Without it, a fault that
            resets the connection breaks the answer off.
        report: receives one line for each call and each delivery, as they happen.
        clock: seconds since the epoch.
        sleep: waits for a number of seconds.

    """
    sender = HttpxTransport(ready_connections=0) if transport is None else transport
    outbox = Outbox(sender, hosts=hosts, report=report, clock=clock, sleep=sleep)
    endpoints = _Endpoints(emulator, outbox, reset, report, clock, sleep)
    return Starlette(
        routes=[
            Route("/merchant/{rest:path}", endpoints.api, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            Route("/lc/{inv_id}", endpoints.decide, methods=["POST"]),
            Route("/lc/{inv_id}", endpoints.application_page),
            Route("/", endpoints.dashboard),
            Route("/deliver/{number:int}", endpoints.deliver, methods=["POST"]),
            Route("/out-of-order/{inv_id}", endpoints.out_of_order, methods=["POST"]),
            Route("/faults", endpoints.fail_next, methods=["POST"]),
            Route("/clear", endpoints.clear, methods=["POST"]),
            Route(LIGHTBOX_PATH, endpoints.lightbox),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]
    )


class _Endpoints:
    """The endpoint of each path."""

    def __init__(
        self,
        emulator: Emulator,
        outbox: Outbox,
        reset: Callable[[Scope], None] | None,
        report: Callable[[str], None],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._emulator = emulator
        self._outbox = outbox
        self._reset = reset
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._calls = CallLog(emulator)

    async def api(self, request: HTTPRequest) -> HTTPResponse:
        began, at = anyio.current_time(), self._clock()
        body = await read_body(request)
        known = len(self._emulator.applications)
        received = Request(
            operation="", method=request.method, url=str(request.url), headers=request.headers, body=body
        )
        reaction = self._emulator.react(received)
        answer, path = reaction.response, request.url.path
        is_new = len(self._emulator.applications) > known
        call = self._calls.add(received, reaction, path=path, created=is_new, at=at)
        result = f"{call.result} ({call.fault})" if call.fault else call.result
        self._report(call_line(call.method, path, result, call.application))
        match reaction.effect:
            case Effect.SLOW:
                await self._sleep(SLOW_SECONDS)
            case Effect.SILENCE:
                return _Silence()
            case Effect.RESET:
                if self._reset is None:
                    return HTTPResponse(headers={"content-length": "1"})
                self._reset(request.scope)
                return _Silence()
        call.seconds = anyio.current_time() - began
        return HTTPResponse(answer.body, answer.status, dict(answer.headers))

    async def application_page(self, request: HTTPRequest) -> HTTPResponse:
        application = self._emulator.applications.get(request.path_params["inv_id"])
        if application is None:
            return _page(pages.missing_page(), HTTPStatus.NOT_FOUND)
        return _page(pages.application_page(application), framed_for=application)

    async def decide(self, request: HTTPRequest) -> HTTPResponse:
        refuse_other_sites(request)
        application = self._emulator.applications.get(request.path_params["inv_id"])
        wants_page = "text/html" in request.headers.get("accept", "")
        if application is None:
            if wants_page:
                return _page(pages.missing_page(), HTTPStatus.NOT_FOUND)
            return _problem("unknown request", HTTPStatus.NOT_FOUND)
        fields = await _fields(request)
        try:
            decision, delivery = fields.get("decision", ""), fields.get("delivery", "now")
            _check_delivery(delivery, "now", "late", "hold")
            amount = fields.get("amount", "").strip() if decision == Refunded.status else None
            signed = self._emulator.decide(application.inv_id, decision, amount=amount or None)
        except ValueError as error:
            if wants_page:
                page = pages.application_page(application, problem=str(error))
                return _page(page, framed_for=application)
            return _problem(str(error), HTTPStatus.BAD_REQUEST)
        postback = self._outbox.add(application, signed)
        later = await self._deliver(postback, delivery)
        if wants_page:
            return _onward(application, fields, later)
        answer = postback.attempts[-1].answer if postback.attempts else "not delivered yet"
        return JSONResponse({"decision": postback.status, "postback": answer}, background=later)

    async def _deliver(self, postback: OutgoingPostback, how: str) -> BackgroundTask | None:
        match how:
            case "late":
                return BackgroundTask(self._outbox.deliver_late, postback)
            case "twice":
                await self._outbox.deliver_twice(postback)
            case "forged":
                await self._outbox.deliver_forged(postback)
            case "again":
                await self._outbox.deliver(postback, "again")
            case "now":
                await self._outbox.deliver(postback)
        return None

    async def deliver(self, request: HTTPRequest) -> HTTPResponse:
        refuse_other_sites(request)
        postback = self._outbox.find(request.path_params["number"])
        if postback is None:
            return _problem("unknown postback", HTTPStatus.NOT_FOUND)
        fields = await _fields(request)
        how = fields.get("how", "")
        try:
            _check_delivery(how, "again", "twice", "late", "forged")
        except ValueError as error:
            return _problem(str(error), HTTPStatus.BAD_REQUEST)
        later = await self._deliver(postback, how)
        return _to_dashboard(fields, f"postback-{postback.number}", later)

    async def out_of_order(self, request: HTTPRequest) -> HTTPResponse:
        refuse_other_sites(request)
        fields = await _fields(request)
        await self._outbox.deliver_out_of_order(request.path_params["inv_id"])
        return _to_dashboard(fields, "postbacks")

    async def fail_next(self, request: HTTPRequest) -> HTTPResponse:
        refuse_other_sites(request)
        fields = await _fields(request)
        try:
            self._emulator.fail_next(fields.get("fault", ""))
        except ValueError as error:
            return _problem(str(error), HTTPStatus.BAD_REQUEST)
        return _to_dashboard(fields, "faults")

    async def clear(self, request: HTTPRequest) -> HTTPResponse:
        refuse_other_sites(request)
        self._emulator.applications.clear()
        self._outbox.clear()
        self._calls.clear()
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)

    async def dashboard(self, request: HTTPRequest) -> HTTPResponse:
        order = request.query_params.get("order", "").strip()
        return _page(pages.dashboard(self._emulator, self._outbox, self._calls, order=order))

    async def lightbox(self, _: HTTPRequest) -> HTTPResponse:
        return FileResponse(_STATIC / "getfinancing.js", headers={"cache-control": "no-store"})


def _page(
    html: str,
    status: int = HTTPStatus.OK,
    *,
    framed_for: Application | None = None,
    background: BackgroundTask | None = None,
) -> HTTPResponse:
    """Answer with a page, which a lightbox may frame if it belongs to an application."""
    ancestors = frame_ancestors(None if framed_for is None else framed_for.request)
    headers = {
        "cache-control": "no-store",
        "content-security-policy": f"{_CONTENT_SECURITY_POLICY}; {ancestors}",
    }
    return HTMLResponse(html, status, headers, background=background)


def _problem(text: str, status: int) -> HTTPResponse:
    return JSONResponse({"problem": text}, status)


def _check_delivery(how: str, *known: str) -> None:
    if how not in known:
        msg = f"delivery must be one of {', '.join(known)}"
        raise ValueError(msg)


async def _fields(request: HTTPRequest) -> dict[str, str]:
    return dict(parse_qsl((await read_body(request)).decode("ascii", "replace")))


def _to_dashboard(
    fields: Mapping[str, str], anchor: str, later: BackgroundTask | None = None
) -> HTTPResponse:
    """Redirect the browser to where it was on the dashboard, with its filter."""
    order = fields.get("order", "")
    query = f"?{urlencode({'order': order})}" if order else ""
    return RedirectResponse(f"/{query}#{anchor}", HTTPStatus.SEE_OTHER, background=later)


def _onward(
    application: Application, fields: Mapping[str, str], later: BackgroundTask | None
) -> HTTPResponse:
    """Redirect the browser after a decision."""
    granted = application.status in {Approved.status, Preapproved.status}
    then = fields.get("then", "")
    if then == "lightbox":
        page = pages.finished_page(granted=granted)
        return _page(page, framed_for=application, background=later)
    if then == "dashboard":
        return _to_dashboard(fields, f"request-{application.inv_id}", later)
    if granted:
        destination = application.request.success_url
    elif application.status == Rejected.status:
        destination = application.request.failure_url
    else:
        destination = None
    destination = destination or f"/lc/{application.inv_id}"
    return RedirectResponse(destination, HTTPStatus.SEE_OTHER, background=later)
