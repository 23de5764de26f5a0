"""The port between the client and the network: what carries a request and brings the answer back."""

from typing import Protocol

from .._checks import has_methods
from ..errors import ConfigurationError
from ..http import Request, Response


class Transport(Protocol):
    """What carries a request to the vendor and brings the answer back.

    It may also have ``async def preconnect(url, *, deadline)``, which opens the connection for the next
    request to ``url`` that must not be repeated, and sends nothing. ``AsyncClient.preconnect()`` calls it, if
    it is there.
    """

    async def send(self, request: Request) -> Response:
        """Send ``request`` once and return the answer, whatever its status.

        Raises:
            TransportError: no answer. Its outcome is ``NOT_SENT`` only where it is certain that
                nothing reached the server. Any other exception counts as ``UNKNOWN``.

        """
        ...

    async def aclose(self) -> None:
        """Release every connection. Closing twice is harmless."""
        ...


def check_transport(transport: Transport) -> Transport:
    """Return the transport, or say what is missing.

    Raises:
        ConfigurationError: no instance with ``send`` and ``aclose``, or a client of httpx.

    """
    if hasattr(transport, "build_request"):
        msg = "transport is a client of httpx; wrap it: transport=HttpxTransport(client)"
        raise ConfigurationError(msg)
    if not has_methods(transport, "send", "aclose"):
        msg = "transport must be an instance with 'async def send(request)' and 'async def aclose()'"
        raise ConfigurationError(msg)
    return transport
