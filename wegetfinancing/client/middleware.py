"""The chain of links around a transport, each one ``async def (request, call_next) -> response``."""

import binascii
import functools
import inspect
from collections.abc import Awaitable, Iterable, Sequence
from typing import NoReturn, Protocol

from ..credentials import Credentials
from ..errors import ConfigurationError
from ..http import Handler, Headers, Request, Response


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


def is_async(link: object) -> bool:
    """Tell whether calling ``link`` gives something to await: ``async def``, or an object like it."""
    while isinstance(link, functools.partial):
        link = link.func
    call = type(link).__call__ if callable(link) else None
    return inspect.iscoroutinefunction(link) or inspect.iscoroutinefunction(call)


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


def basic_authorization(credentials: Credentials) -> str:
    """Encode credentials for the ``Authorization`` header, UTF-8 before base64 (RFC 7617)."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + binascii.b2a_base64(pair, newline=False).decode("ascii")


class BasicAuthentication:
    """Adds HTTP Basic credentials to each request."""

    __slots__ = ("_header", "_last")

    def __init__(self, credentials: Credentials) -> None:
        """Encode the header once."""
        self._header = basic_authorization(credentials)
        self._last = (Headers(), Headers())

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Pass the request on with its ``Authorization``."""
        plain, headers = self._last
        if request.headers is not plain:  # those of an operation are the same value on every call
            headers = Headers({**request.headers, "authorization": self._header})
            self._last = request.headers, headers
        authenticated = Request(
            operation=request.operation,
            method=request.method,
            url=request.url,
            headers=headers,
            body=request.body,
            repeatable=request.repeatable,
            deadline=request.deadline,
        )
        return await call_next(authenticated)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, as the credentials do: a pickle is a plain-text copy of the password."""
        msg = "BasicAuthentication holds a password and is not pickled"
        raise TypeError(msg)
