"""What the checks of the transport contract use."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

import anyio
import attrs

from ...client.authentication import basic_authorization
from ...client.operations import CREATE_REQUEST, UPDATE_SHIPPING, create_request_body, update_shipping_body
from ...client.transport import Transport
from ...emulator.responses import INV_ID
from ...errors import Outcome, TransportError
from ...http import Headers, Request, Response
from ..fakes import credentials, financing_request, shipping_event
from .checking import Check
from .loopback import Behaviour, LoopbackServer, loopback_server

PATIENCE: Final = 5.0
"""Seconds until a check no longer waits for what should have happened."""

SOON: Final = 0.2
"""Seconds until a deadline that is meant to pass."""

_PLENTY: Final = 60.0
# Nothing listens on the discard port; a transport in memory does not look.
_NOWHERE: Final = "http://127.0.0.1:9"


@attrs.frozen
class CheckContext:
    """What a check works with: the transport's maker, a server, and requests as the client makes them."""

    make_transport: Callable[[], Transport]
    patience: float

    @contextlib.asynccontextmanager
    async def transport(self) -> AsyncIterator[Transport]:
        """Make a transport, and close it at the end."""
        transport = self.make_transport()
        try:
            yield transport
        finally:
            with anyio.move_on_after(self.patience, shield=True):
                await transport.aclose()

    def serve(self, behaviour: Behaviour) -> AbstractAsyncContextManager[LoopbackServer]:
        """Serve on a loopback port."""
        return loopback_server(behaviour, self.patience)

    def create(self, url: str = _NOWHERE, *, timeout: float = _PLENTY) -> Request:
        """Make a request that must not be repeated."""
        body = create_request_body(financing_request())
        deadline = anyio.current_time() + timeout
        return _authorized(CREATE_REQUEST.request(url, credentials().merchant_id, body, deadline))

    def update(self, url: str = _NOWHERE, *, inv_id: str = INV_ID) -> Request:
        """Make a request that may be repeated."""
        body = update_shipping_body(inv_id, shipping_event())
        deadline = anyio.current_time() + _PLENTY
        return _authorized(UPDATE_SHIPPING.request(url, credentials().merchant_id, body, deadline))

    async def result(self, transport: Transport, request: Request) -> Response | Exception:
        """Send a request, and return a description of the result."""
        with anyio.move_on_after(2 * self.patience):
            try:
                return await transport.send(request)
            except Exception as error:  # noqa: BLE001 - whatever it raises is the result
                return error
        msg = f"send() had not ended after {2 * self.patience:g} seconds"
        raise AssertionError(msg)

    async def answer(self, transport: Transport, request: Request) -> Response:
        """Send a request that is answered."""
        result = await self.result(transport, request)
        if isinstance(result, Response):
            return result
        did = "raised" if isinstance(result, Exception) else "returned"
        msg = f"send() {did} {type(result).__name__} where it should have returned the Response that came"
        raise AssertionError(msg)


def _authorized(request: Request) -> Request:
    headers = Headers({**request.headers, "authorization": basic_authorization(credentials())})
    return attrs.evolve(request, headers=headers)


def outcome_of(failure: Exception) -> Outcome:
    """Return the outcome that the client reports: any other exception counts as ``UNKNOWN``."""
    return failure.outcome if isinstance(failure, TransportError) else Outcome.UNKNOWN


Body: TypeAlias = Callable[[CheckContext], Awaitable[None]]


@attrs.frozen
class TransportCheck(Check[Body]):
    """One rule that every ``Transport`` keeps: await it with what makes one.

    Attributes:
        name: such as ``a_redirect_is_not_followed``; ``str()`` of the check too.
        rule: the rule in a sentence or two.

    """

    async def __call__(self, make_transport: Callable[[], Transport], *, patience: float = PATIENCE) -> None:
        """Run the check.

        Args:
            make_transport: makes the transport, inside the event loop. The check closes it.
            patience: seconds to wait for what should happen before it counts as never happening.

        Raises:
            AssertionError: the transport breaks the rule; the text says how.

        """
        with self._stating_the_rule():
            await self._body(CheckContext(make_transport, patience))


check: Final = TransportCheck.of
