"""The sandbox over HTTP, for any client and any language. Needs ``wegetfinancing[sandbox]``."""

from urllib.parse import parse_qs, urlsplit

import anyio
from starlette.applications import Starlette
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse
from starlette.responses import Response as HTTPResponse
from starlette.routing import Route

from ..config import is_loopback
from ..errors import TransportError
from ..httpx_transport import HttpxTransport
from ..transport import Request, Transport
from .core import Sandbox
from .postbacks import SignedPostback

_DELIVERY_SECONDS = 10.0


def sandbox_app(sandbox: Sandbox, transport: Transport | None = None) -> Starlette:
    """Make the ASGI app that serves ``sandbox`` and delivers its postbacks.

    ``Sandbox(page=...)`` must begin with the address it is served under and end with ``/lc/``. The
    postbacks travel with ``transport``, an ``HttpxTransport`` unless told otherwise.

    - ``/merchant/...``: the vendor's API.
    - ``POST /lc/<inv_id>`` with the form field ``decision`` (``approved``, ``preapproved``,
      ``rejected`` or ``refund``): what the applicant and the lender decide. The postback is
      delivered, to loopback addresses only, before the answer, which tells what the shop answered.
    """
    carrier = HttpxTransport() if transport is None else transport

    async def api(request: HTTPRequest) -> HTTPResponse:
        answer = sandbox.answer(
            Request(
                operation="",
                method=request.method,
                url=str(request.url),
                headers=request.headers,
                body=await request.body(),
            )
        )
        return HTTPResponse(answer.body, answer.status, dict(answer.headers))

    async def decide(request: HTTPRequest) -> HTTPResponse:
        application = sandbox.applications.get(request.path_params["inv_id"])
        (decision,) = parse_qs((await request.body()).decode("ascii", "replace")).get("decision", [""])[:1]
        if application is None:
            return JSONResponse({"problem": "no such request"}, 404)
        try:
            postback = sandbox.decide(application.inv_id, decision)
        except ValueError as error:
            return JSONResponse({"problem": str(error)}, 400)
        return JSONResponse(
            {"decision": decision, "postback": await _deliver(postback, application.request.postback_url)}
        )

    async def _deliver(postback: SignedPostback, url: str | None) -> str:
        if url is None:
            return "discarded: the request named no postback_url"
        if not is_loopback(urlsplit(url).hostname or ""):
            return "discarded: this sandbox delivers to loopback addresses only"
        try:
            answer = await carrier.send(
                Request(
                    operation="postback",
                    method="POST",
                    url=url,
                    headers=postback.headers,
                    body=postback.body,
                    deadline=anyio.current_time() + _DELIVERY_SECONDS,
                )
            )
        except TransportError as error:
            return str(error)
        return f"HTTP {answer.status}"

    return Starlette(
        routes=[
            Route("/merchant/{rest:path}", api, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            Route("/lc/{inv_id}", decide, methods=["POST"]),
        ]
    )
