"""A transport on aiohttp, for a shop that uses it: ``AsyncClient(..., transport=AiohttpTransport())``.

It keeps the contract that ``wegetfinancing.testing.TRANSPORT_CHECKS`` checks. Close it yourself.
"""

import asyncio
import math
from types import SimpleNamespace

import aiohttp
import attrs
from yarl import URL

from wegetfinancing import DeadlineExceededError, Outcome, TransportError
from wegetfinancing.http import Request, Response

BODY_LIMIT = 1024 * 1024
# A call that the client has to end counts as sent. Only here it is known that there was no connection yet.
MARGIN = 0.02
# aiohttp would add its own to a request that lacks them.
NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@attrs.define
class Progress:
    """How far one request is."""

    connected: bool = False
    """Before there is a connection no byte of the request can leave."""

    answer: Response | None = None
    """The head of the answer, once it came: its status decides, even if the body never ends."""

    @property
    def outcome(self) -> Outcome:
        return Outcome.UNKNOWN if self.connected else Outcome.NOT_SENT


async def note_connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.connected = True


def make_session(proxy: str | None, *, keep_alive: bool) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(note_connected)
    trace.on_connection_reuseconn.append(note_connected)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=32, force_close=not keep_alive),
        cookie_jar=aiohttp.DummyCookieJar(),  # one customer's answer leaves nothing for the next
        auto_decompress=False,
        proxy=proxy,
        trust_env=False,  # it would also look into ~/.netrc for other credentials
        trace_configs=[trace],
        skip_auto_headers=NOT_ADDED,
    )


class AiohttpTransport:
    """A ``Transport`` on aiohttp; asyncio only, since aiohttp is. ``proxy`` is the URL of one, if need be."""

    def __init__(self, proxy: str | None = None) -> None:
        self._proxy = proxy
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._closed = False

    async def send(self, request: Request) -> Response:
        progress = Progress()
        left = request.deadline - asyncio.get_running_loop().time()
        left -= min(MARGIN, left / 10)
        if self._closed:
            message = "the transport is closed; make a new one"
            raise TransportError(message, outcome=Outcome.NOT_SENT, permanent=True)
        fault: Exception | None = None
        if left > 0:
            try:
                return await self._carry(request, left, progress)
            except Exception as error:  # noqa: BLE001 - whatever it is, progress says what it means
                fault = error
        # Out here, so that aiohttp's exception, which holds the request, is not the new one's context.
        if progress.answer is not None:
            return progress.answer
        if fault is None or isinstance(fault, TimeoutError):
            message = "no answer came before the deadline"
            raise DeadlineExceededError(message, outcome=progress.outcome)
        message = f"the connection failed ({type(fault).__name__})"
        permanent = isinstance(fault, aiohttp.ClientConnectorCertificateError)
        del fault
        raise TransportError(message, outcome=progress.outcome, permanent=permanent)

    async def _carry(self, request: Request, left: float, progress: Progress) -> Response:
        # A request that must not be repeated gets a connection of its own: a kept-alive one may be
        # closed by the server just as we write, and nobody could tell whether it was read.
        if request.repeatable not in self._sessions:
            self._sessions[request.repeatable] = make_session(self._proxy, keep_alive=request.repeatable)
        async with self._sessions[request.repeatable].request(
            request.method,
            URL(request.url, encoded=True),
            headers=dict(request.headers),
            data=request.body,
            allow_redirects=False,
            # Above its threshold aiohttp rounds up to whole seconds.
            timeout=aiohttp.ClientTimeout(total=None if left == math.inf else left, ceil_threshold=math.inf),
            trace_request_ctx=progress,
        ) as response:
            head = Response(response.status, list(response.headers.items()), body_error="was cut short")
            progress.answer = head
            if head.headers.get("content-encoding", "identity").lower() != "identity":
                return attrs.evolve(head, body_error="came compressed, which was not asked for")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > BODY_LIMIT:
                    response.close()
                    return attrs.evolve(head, body_error="is larger than 1 MiB")
            return Response(response.status, head.headers, bytes(body))

    async def aclose(self) -> None:
        self._closed = True
        for session in self._sessions.values():
            await session.close()
