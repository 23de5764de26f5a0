"""HTTP requests and responses as values, for authors of a transport or a middleware.

``Request -> Response`` is the one shape of every layer: a transport's ``send``, a composed
middleware chain and the in-memory emulator are all a ``Handler`` and can stand in for one another.
"""

import math
from collections.abc import Awaitable, Callable, ItemsView, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn, Self, TypeAlias

import attrs

__all__ = ["Handler", "Headers", "Request", "Response"]


_NOT_HEADERS: Final = "headers must be a mapping or pairs of str"


class _ByValue:
    """A frozen value that copies as itself, and refuses to be pickled."""

    __slots__ = ()

    def __copy__(self) -> Self:
        """Return itself: it is immutable."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: it is immutable."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a pickle is a plain-text copy of credentials and customer data."""
        msg = f"{type(self).__name__} may hold credentials and customer data, and is not pickled"
        raise TypeError(msg)


class Headers(_ByValue, Mapping[str, str]):
    """HTTP headers: names compare without regard to case; a repeated header is joined by commas.

    The ``repr`` shows names only, since a value may be a secret, and they are never pickled.

    Raises:
        TypeError: names or values that are not ``str``; the text shows their types only.

    """

    __slots__ = ("_values",)

    def __init__(self, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        """Accept a mapping or pairs."""
        values = _read_headers(headers)
        if isinstance(values, str):
            del self, headers  # a traceback with local variables must not show them
            raise TypeError(values)
        self._values = values

    def __getitem__(self, name: str) -> str:
        """Return the value of the header ``name``, in any spelling."""
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        """Tell whether the header ``name`` is there, in any spelling."""
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in lower case."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._values)

    def items(self) -> ItemsView[str, str]:
        """Return the names, in lower case, with their values."""
        return self._values.items()

    def __repr__(self) -> str:
        """Show the names only."""
        return f"Headers({', '.join(self._values)})"

    def __eq__(self, other: object) -> bool:
        """Compare with other ``Headers``: the same names, in any spelling, and the same values."""
        return self._values == other._values if isinstance(other, Headers) else NotImplemented

    def __hash__(self) -> int:
        """Hash by content, so that requests and responses stay hashable values."""
        return hash(frozenset(self._values.items()))


def _read_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str] | str:
    """Return the values by name in lower case, or the text of what is wrong, which shows types only."""
    values: dict[str, str] = {}
    try:
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            if not isinstance(name, str) or not isinstance(value, str):
                return f"headers must be str to str, not {type(name).__name__} to {type(value).__name__}"
            key = name.lower()
            values[key] = f"{values[key]}, {value}" if key in values else value
    except (TypeError, ValueError):  # not iterable, or not pairs
        return _NOT_HEADERS
    return values


def _to_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> Headers:
    return headers if type(headers) is Headers else Headers(headers)  # immutable, so it can be shared


@attrs.frozen(init=False)
class Request(_ByValue):
    """One HTTP request, ready to send. It is never pickled.

    Attributes:
        operation: the operation's name, such as ``"create_request"``.
        method: the HTTP method.
        url: the absolute URL.
        headers: the HTTP headers; ``Authorization`` is added below every middleware.
        body: the bytes to send, the same on every repeat.
        repeatable: whether the operation may be sent again when its outcome is unknown. This is a
            property of the operation, not of the HTTP method.
        deadline: when the call ends, in seconds of ``anyio.current_time()``.

    Raises:
        TypeError: headers that are not ``str``.

    """

    operation: str
    method: str
    url: str
    headers: Headers = attrs.field(converter=_to_headers)
    body: bytes = attrs.field(repr=False)
    repeatable: bool
    deadline: float = attrs.field(repr=False, eq=False)

    def __init__(
        self,
        *,
        operation: str,
        method: str,
        url: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        repeatable: bool = False,
        deadline: float = math.inf,
    ) -> None:
        """Keep the parts."""
        problem = None
        try:
            headers = _to_headers(headers)
        except TypeError as error:
            problem = str(error)
        if problem is not None:
            del self, url, headers, body  # a traceback with local variables must not show them
            raise TypeError(problem)
        self.__attrs_init__(operation, method, url, headers, body, repeatable, deadline)  # pyright: ignore[reportAttributeAccessIssue] # made by attrs


@attrs.frozen(init=False)
class Response(_ByValue):
    """One HTTP answer, read to its end. It is never pickled.

    Attributes:
        status: the HTTP status.
        headers: the HTTP headers.
        body: the bytes that came; empty where ``body_error`` is set.
        body_error: why the body could not be read although the status came, such as
            ``"was cut short"``; ``None`` when it is whole. The status then still decides.

    Raises:
        TypeError: a part of another type; the text shows types only.

    """

    status: int
    headers: Headers = attrs.field(converter=_to_headers)
    body: bytes = attrs.field(repr=False)
    body_error: str | None

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        body_error: str | None = None,
    ) -> None:
        """Keep the parts."""
        problem = None
        try:
            headers = _to_headers(headers)
        except TypeError as error:
            problem = str(error)
        if type(status) is not int:
            problem = f"status must be int, not {type(status).__name__}"
        elif type(body) is not bytes:
            problem = f"body must be bytes, not {type(body).__name__}"
        if problem is not None:
            del self, status, headers, body  # a traceback with local variables must not show them
            raise TypeError(problem)
        self.__attrs_init__(status, headers, body, body_error)  # pyright: ignore[reportAttributeAccessIssue] # made by attrs

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status <= 299  # noqa: PLR2004 - the class of statuses


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
"""Anything that answers a request: a transport's ``send``, or the rest of a middleware chain."""
