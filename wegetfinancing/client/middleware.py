"""The chain of middleware around a call, each one ``async def (request, call_next) -> response``."""

from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol

from .._checks import is_async
from ..errors import ConfigurationError
from ..http import Handler, Request, Response


class Middleware(Protocol):
    """Stands between a client and its transport: it can look at a request, answer it, or pass it on.

    It never sees the ``Authorization`` header, which is added below it, and it cannot change the body.
    Calling ``call_next`` more than once repeats an operation that may be repeated;
    ``create_request`` and ``create_test_postback`` are sent once per call whatever a middleware
    does. Once the call has ended, ``call_next`` sends nothing any more.
    """

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Answer ``request``, usually with ``await call_next(request)``."""
        ...


def check_middleware(middleware: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """Return the middleware as a tuple, or say which item cannot be one.

    Raises:
        ConfigurationError: not a sequence, or an item that is not ``async def``.

    """
    if callable(middleware) or not isinstance(middleware, Iterable):
        msg = "middleware must be a list; put a single one in brackets"
        raise ConfigurationError(msg)
    found = tuple(middleware)
    for number, each in enumerate(found, start=1):
        if not is_async(each):
            msg = (
                f"middleware number {number} ({_name(each)}) must be 'async def' with the parameters"
                " request and call_next, or an object whose __call__ is"
            )
            raise ConfigurationError(msg)
    return found


def _name(middleware: object) -> str:
    return getattr(middleware, "__qualname__", type(middleware).__qualname__)


def compose(middleware: Sequence[Middleware], handler: Handler) -> Handler:
    """Put the middleware around ``handler``, the first one outermost."""
    for each in reversed(middleware):
        handler = _around(each, handler)
    return handler


def _around(middleware: Middleware, call_next: Handler) -> Handler:
    def handle(request: Request) -> Awaitable[Response]:
        return middleware(request, call_next)

    return handle
