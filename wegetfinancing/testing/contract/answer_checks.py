"""What a transport makes of an answer, or of none: checks of the transport contract."""

import gzip
import traceback
from typing import Final

import anyio

from ...errors import Outcome, TransportError
from ...http import Response
from .checking import require
from .loopback import Behaviour, Connection, unused_url
from .transport_checking import SOON, CheckContext, check, outcome_of

_STATUSES: Final = (200, 201, 400, 401, 404, 408, 429, 500, 502, 503, 520)
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_LARGE: Final = bytes(range(256)) * 1024  # more than one packet, and no text in any encoding
_MIB: Final = 1024 * 1024
_FLOOD_MIB: Final = 64  # more than the buffers of both ends hold


def _answering(status: str, *headers: str, body: bytes = b"{}") -> Behaviour:
    async def behaviour(connection: Connection) -> None:
        while True:
            await connection.read()
            await connection.answer(body, status, *headers)

    return behaviour


def _sending(*pieces: bytes, reset: bool = False) -> Behaviour:
    async def behaviour(connection: Connection) -> None:
        await connection.read()
        for piece in pieces:
            await connection.send(piece)
        if reset:
            connection.reset_on_close()

    return behaviour


@check
async def an_answer_comes_back_as_it_is(context: CheckContext) -> None:
    """Status, headers and body are those that came; a repeated header is joined by commas."""
    behaviour = _answering("200 OK", "X-Extra: 1", "X-Extra: 2", body=_LARGE)
    async with context.serve(behaviour) as server, context.transport() as transport:
        response = await context.answer(transport, context.create(server.url))
    require(response.status == 200, f"200 came, and the Response says {response.status}")  # noqa: PLR2004 - the status
    require(response.headers.get("x-extra") == "1, 2", "a header that came twice is not '1, 2'")
    require(
        response.body == _LARGE and response.body_error is None,
        f"{len(_LARGE)} bytes came, and the Response holds others ({len(response.body)})",
    )


@check
async def an_answer_in_chunks_comes_back_whole(context: CheckContext) -> None:
    """A body in chunks is put together, and an interim 1xx answer is not mistaken for the answer."""
    behaviour = _sending(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\n',
        b"3\r\n:1}\r\n0\r\n\r\n",
    )
    async with context.serve(behaviour) as server, context.transport() as transport:
        response = await context.answer(transport, context.create(server.url))
    came = (response.status, response.body, response.body_error)
    require(came == (200, b'{"a":1}', None), "the chunks of a 200 did not come back as its whole body")


@check
async def an_error_status_is_returned(context: CheckContext) -> None:
    """Any status is an answer: send() returns it and raises nothing, since it decides what happened."""
    for status in _STATUSES:
        async with context.serve(_answering(f"{status} X")) as server, context.transport() as transport:
            response = await context.answer(transport, context.create(server.url))
        require(response.status == status, f"{status} came, and the Response says {response.status}")


@check
async def a_redirect_is_not_followed(context: CheckContext) -> None:
    """A redirect is returned like any status: following it sends the customer's data elsewhere."""
    for status in _REDIRECTS:
        behaviour = _answering(f"{status} X", "Location: /elsewhere")
        async with context.serve(behaviour) as server, context.transport() as transport:
            result = await context.result(transport, context.create(server.url))
            times = len(server.requests)
        require(times == 1, f"after {status} another request went out")
        require(
            isinstance(result, Response) and result.status == status,
            f"{status} came, and send() did not return it",
        )


@check
async def a_body_cut_short_is_not_whole(context: CheckContext) -> None:
    """A body that breaks off has a body_error, or send() raises with the outcome UNKNOWN."""
    behaviour = _sending(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")
    async with context.serve(behaviour) as server, context.transport() as transport:
        result = await context.result(transport, context.create(server.url))
    if isinstance(result, Response):
        require(result.body_error is not None, "2 of 100 bytes came, and the Response passes as whole")


@check
async def an_answer_is_bounded(context: CheckContext) -> None:
    """An answer that does not end is not read without end: about 1 MiB is the most there can be."""
    sent = 0

    async def flood(connection: Connection) -> None:
        nonlocal sent
        await connection.read()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < _FLOOD_MIB:
            await connection.send(b"x" * _MIB)
            sent += 1

    async with context.serve(flood) as server, context.transport() as transport:
        result = await context.result(transport, context.create(server.url))
    require(sent < _FLOOD_MIB, f"all of {_FLOOD_MIB} MiB were read")
    if isinstance(result, Response):
        require(result.body_error is not None, "the Response of a body without end passes as whole")


@check
async def a_compressed_answer_is_not_unpacked(context: CheckContext) -> None:
    """A body that came compressed is not unpacked: identity was asked for, and a bomb is small."""
    behaviour = _answering("200 OK", "Content-Encoding: gzip", body=gzip.compress(b'{"a":1}'))
    async with context.serve(behaviour) as server, context.transport() as transport:
        result = await context.result(transport, context.create(server.url))
    if isinstance(result, Response):
        require(result.body != b'{"a":1}', "a compressed answer was unpacked")


@check
async def no_answer_is_a_transport_error(context: CheckContext) -> None:
    """Where no answer came, send() raises TransportError and nothing of the library below it."""
    async with context.serve(_sending()) as server, context.transport() as transport:
        for url in (server.url, await unused_url()):
            result = await context.result(transport, context.create(url))
            require(
                isinstance(result, TransportError),
                f"no answer came, and send() ended with {type(result).__name__}",
            )


@check
async def not_sent_is_never_wrong(context: CheckContext) -> None:
    """NOT_SENT is reported only where it is certain: whatever the server read counts as UNKNOWN."""

    async def stay_silent(connection: Connection) -> None:
        await connection.read()
        await connection.until_left()

    behaviours = {
        "the connection was closed": _sending(),
        "the connection was reset": _sending(reset=True),
        "half a status line came": _sending(b"HTTP/1.1 20"),
        "no HTTP came": _sending(b"\x00\x01\r\n\r\n"),
        "a broken header came": _sending(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        "the deadline passed": stay_silent,
    }
    for what, behaviour in behaviours.items():
        async with context.serve(behaviour) as server, context.transport() as transport:
            result: Response | Exception | None = None
            request = context.create(server.url, timeout=SOON)
            with anyio.CancelScope(deadline=request.deadline):
                result = await context.result(transport, request)
            arrived = bool(server.requests)
        require(
            not (arrived and isinstance(result, Exception) and outcome_of(result) is Outcome.NOT_SENT),
            f"the server read the request, then {what}, and the outcome was NOT_SENT",
        )


@check
async def an_error_shows_nothing_of_the_request(context: CheckContext) -> None:
    """Errors are logged: neither credentials nor the customer show in them or in what caused them."""
    async with context.serve(_sending()) as server, context.transport() as transport:
        request = context.create(server.url)
        result = await context.result(transport, request)
    shown = "".join(traceback.format_exception(result)) if isinstance(result, Exception) else ""
    for secret in (request.headers["authorization"], request.body.decode(), "jane@example.com"):
        require(secret not in shown + repr(result), "the error shows credentials or the customer")
