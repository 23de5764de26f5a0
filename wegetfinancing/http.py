"""HTTP requests and responses as values, for authors of a transport or a middleware.

``Request -> Response`` is the one shape of every layer: a transport's ``send``, a composed
middleware chain and the in-memory emulator are all a ``Handler`` and can stand in for one another.
"""

import contextlib
import math
from collections.abc import Awaitable, Callable, ItemsView, Iterable, Iterator, Mapping
from typing import Any, NoReturn, Self, TypeAlias

import attrs

from ._tracebacks import clears_locals, clears_locals_of_init

__all__ = ["Handler", "Headers", "Request", "Response"]


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

    @clears_locals  # what is refused may be a secret
    def __init__(self, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        """Accept a mapping or pairs."""
        found: dict[str, list[str]] = {}
        msg = "headers must be a mapping or pairs of str"
        with contextlib.suppress(TypeError, ValueError):  # not iterable, or not pairs
            for name, value in headers.items() if isinstance(headers, Mapping) else headers:
                if not isinstance(name, str) or not isinstance(value, str):
                    msg = f"headers must be str to str, not {type(name).__name__} to {type(value).__name__}"
                    break
                found.setdefault(name.lower(), []).append(value)
            else:
                # Joined once: anybody may send a header 100,000 times, and not every server has a limit.
                self._values = {name: ", ".join(values) for name, values in found.items()}
                return
        raise TypeError(msg)

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


def _to_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> Headers:
    return headers if type(headers) is Headers else Headers(headers)  # immutable, so it can be shared


@clears_locals_of_init
@attrs.frozen(kw_only=True)
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
    headers: Headers = attrs.field(factory=Headers, converter=_to_headers)
    body: bytes = attrs.field(default=b"", repr=False)
    repeatable: bool = False
    deadline: float = attrs.field(default=math.inf, repr=False, eq=False)


def _exactly(kind: type) -> Callable[[object, "attrs.Attribute[Any]", object], None]:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if type(value) is not kind:
            msg = f"{attribute.name} must be {kind.__name__}, not {type(value).__name__}"
            raise TypeError(msg)

    return check


@clears_locals_of_init
@attrs.frozen
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

    status: int = attrs.field(validator=_exactly(int))
    headers: Headers = attrs.field(factory=Headers, converter=_to_headers)
    body: bytes = attrs.field(default=b"", repr=False, validator=_exactly(bytes))
    body_error: str | None = attrs.field(default=None, kw_only=True)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status <= 299  # noqa: PLR2004 - the class of statuses


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
"""Anything that answers a request: a transport's ``send``, or the rest of a middleware chain."""
