"""What a transport does with a request: checks of the transport contract."""

import anyio
import attrs

from ...client.operations import CREATE_TEST_POSTBACK
from .checking import require
from .loopback import Connection
from .transport_checking import SOON, CheckContext, check


async def echo(connection: Connection) -> None:
    """Answer each request with its own body."""
    while True:
        arrived = await connection.read()
        await connection.answer(arrived.body)


async def _read_and_stay_silent(connection: Connection) -> None:
    await connection.read()
    await connection.until_left()


@check
async def every_operation_is_answered(context: CheckContext) -> None:
    """Whatever the operation, send() returns a Response; an error status is an answer too."""
    async with context.transport() as transport:
        create = context.create()
        postback = attrs.evolve(create, operation=CREATE_TEST_POSTBACK.name, body=b"{}")
        postback = attrs.evolve(
            postback, url=create.url.replace("/requests", f"/{CREATE_TEST_POSTBACK.path}")
        )
        for request in (create, context.update(), postback):
            await context.answer(transport, request)


@check
async def closing_twice_is_harmless(context: CheckContext) -> None:
    """aclose() releases everything, and may be called again, also before anything was sent."""
    for sends in (False, True):
        transport = context.make_transport()
        if sends:
            await context.result(transport, context.update())
        await transport.aclose()
        try:
            await transport.aclose()
        except Exception as error:  # noqa: BLE001 - whatever it raises is the result
            msg = f"the second aclose() raised {type(error).__name__}"
            raise AssertionError(msg) from None


@check
async def a_cancelled_call_ends_cancelled(context: CheckContext) -> None:
    """A cancellation comes out of send() as it is: not as an answer, and not as another error."""
    async with context.transport() as transport:
        ended = "nothing"
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                ended = f"returned {type(await transport.send(context.update())).__name__}"
            except Exception as error:  # noqa: BLE001 - whatever it raises is the result
                ended = f"raised {type(error).__name__}"
        require(ended == "nothing", f"send() was cancelled and {ended}")


@check
async def a_request_arrives_as_it_is(context: CheckContext) -> None:
    """Method, URL, headers and body go out as they stand in the Request, each header once."""
    async with context.serve(echo) as server, context.transport() as transport:
        request = attrs.evolve(context.create(server.url), body=bytes(range(256)))
        await context.answer(transport, request)
        arrived = server.requests[0]
    path = request.url.removeprefix(server.url)
    expected = f"{request.method} {path} HTTP/1.1"
    require(arrived.start_line == expected, f"{expected!r} was to be sent, {arrived.start_line!r} arrived")
    for name, value in request.headers.items():
        values = [each.partition(": ")[2] for each in arrived.headers if each.startswith(f"{name}:")]
        require(values == [value], f"the header {name} did not arrive once and as it is")
    require(
        f"content-length: {len(request.body)}" in arrived.headers and arrived.body == request.body,
        "the body did not arrive as it is, with its Content-Length",
    )


@check
async def nothing_is_remembered_between_calls(context: CheckContext) -> None:
    """One customer's answer leaves no cookie in another customer's request."""

    async def set_cookie(connection: Connection) -> None:
        while True:
            await connection.read()
            await connection.answer(b"{}", "200 OK", "Set-Cookie: session=1; Path=/")

    async with context.serve(set_cookie) as server, context.transport() as transport:
        for _ in range(2):
            await context.answer(transport, context.update(server.url))
        cookies = [each for each in server.requests[1].headers if each.startswith("cookie:")]
    require(not cookies, "a cookie of the first answer went out with the second request")


@check
async def a_request_is_sent_once(context: CheckContext) -> None:
    """A transport repeats nothing: it cannot know what may be repeated, Retry does."""

    async def answer_once_then_close(connection: Connection) -> None:
        await connection.read()
        if len(connection.server.requests) == 1:
            await connection.answer()
            await connection.read()

    async with context.serve(answer_once_then_close) as server, context.transport() as transport:
        await context.result(transport, context.update(server.url))
        for request in (context.update(server.url), context.create(server.url)):
            before = len(server.requests)
            await context.result(transport, request)
            times = len(server.requests) - before
            require(times == 1, f"{request.operation} lost its connection and arrived {times} times")


@check
async def a_create_has_a_connection_of_its_own(context: CheckContext) -> None:
    """A request that must not be repeated goes out on a fresh connection that nothing else uses after it.

    A kept-alive one may close just as it is written to, and bytes left over from one answer would be
    read as the next one's.
    """
    async with context.serve(echo) as server, context.transport() as transport:
        for request in (context.update, context.create, context.create, context.update):
            await context.answer(transport, request(server.url))
        connections = [each.connection for each in server.requests]
    for used in connections[1:3]:
        require(connections.count(used) == 1, "a create shared its connection with another request")


@check
async def calls_at_once_get_their_own_answers(context: CheckContext) -> None:
    """Calls that run at the same time do not get in each other's way."""
    async with context.serve(echo) as server, context.transport() as transport:
        requests = [context.update(server.url, inv_id=f"loan-{number}") for number in range(8)]
        bodies: dict[bytes, bytes] = {}

        async def call(number: int) -> None:
            response = await context.answer(transport, requests[number])
            bodies[requests[number].body] = response.body

        async with anyio.create_task_group() as tasks:
            for number in range(len(requests)):
                tasks.start_soon(call, number)
    require(all(sent == came for sent, came in bodies.items()), "a call got another call's answer")


@check
async def the_deadline_ends_a_call(context: CheckContext) -> None:
    """When Request.deadline passes, send() ends and closes the connection.

    The client cancels it then; a transport that ends by itself a little earlier can say what was sent.
    """
    async with context.serve(_read_and_stay_silent) as server, context.transport() as transport:
        request = context.create(server.url, timeout=SOON)
        with anyio.CancelScope(deadline=request.deadline):
            await context.result(transport, request)
        await server.is_left()
    require(
        all(each.left_by_client for each in server.connections),
        f"{context.patience:g} seconds after the deadline the connection was still open",
    )


@check
async def a_cancelled_call_leaves_nothing_open(context: CheckContext) -> None:
    """A call that is cancelled closes its connection at once, and the transport stays usable."""
    arrived = anyio.Event()

    async def stay_silent_the_first_time(connection: Connection) -> None:
        await connection.read()
        if connection.number == 0:
            arrived.set()
            await connection.until_left()
        else:
            await connection.answer()

    async with context.serve(stay_silent_the_first_time) as server, context.transport() as transport:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(context.result, transport, context.create(server.url))
            with anyio.move_on_after(context.patience):
                await arrived.wait()
            tasks.cancel_scope.cancel()
        await server.is_left()
        require(
            all(each.left_by_client for each in server.connections),
            f"{context.patience:g} seconds after it was cancelled the connection was still open",
        )
        await context.answer(transport, context.create(server.url))


@check
async def closing_releases_every_connection(context: CheckContext) -> None:
    """After aclose() no connection is left open, kept-alive ones included."""
    async with context.serve(echo) as server:
        async with context.transport() as transport:
            for _ in range(2):
                await context.answer(transport, context.update(server.url))
            await context.answer(transport, context.create(server.url))
        require(
            await server.is_left(),
            f"{context.patience:g} seconds after aclose() a connection was still open",
        )
