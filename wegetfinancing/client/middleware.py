"""The chain of links around a transport, each one ``async def (request, call_next) -> response``."""

from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol

from .._rules import is_async
from ..errors import ConfigurationError
from ..http import Handler, Request, Response


class Middleware(Protocol):
    """A link in the chain: it may look at the request, answer it, or pass it on.

    It never sees the ``Authorization`` header, which is added below it. Calling ``call_next`` more
    than once repeats an operation that may be repeated; ``create_request`` and
    ``create_test_postback`` are sent once per call whatever a link does. Once the call has ended,
    ``call_next`` sends nothing any more.
    """

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Answer ``request``, as a rule with ``await call_next(request)``."""
        ...


def check_middleware(middleware: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """Return the links as a tuple, or say which one cannot be one.

    Raises:
        ConfigurationError: no sequence, or a link that is not ``async def``.

    """
    if callable(middleware) or not isinstance(middleware, Iterable):
        msg = "middleware must be a list of links; put a single one in brackets"
        raise ConfigurationError(msg)
    links = tuple(middleware)
    for number, link in enumerate(links, start=1):
        if not is_async(link):
            msg = (
                f"middleware number {number} ({_name(link)}) must be 'async def' with the parameters"
                " request and call_next, or an object whose __call__ is"
            )
            raise ConfigurationError(msg)
    return links


def _name(link: object) -> str:
    return getattr(link, "__qualname__", type(link).__qualname__)


def compose(middleware: Sequence[Middleware], handler: Handler) -> Handler:
    """Put the links around ``handler``, the first one outermost."""
    for link in reversed(middleware):
        handler = _joined(link, handler)
    return handler


def _joined(link: Middleware, call_next: Handler) -> Handler:
    def handle(request: Request) -> Awaitable[Response]:
        return link(request, call_next)

    return handle
