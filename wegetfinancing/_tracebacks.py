"""Tracebacks that show no secret, nothing of a customer and no signed body.

Crash reporters show the local variables of every frame, and a signed body can be replayed.
"""

import functools
import traceback
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import attrs

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Class = TypeVar("_Class")


def clears_locals(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorate a function so that no frame keeps its local variables when it raises.

    The frames and their line numbers stay.
    """

    @functools.wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)
            del args, kwargs
            raise

    return call


def clears_locals_of_init(cls: type[_Class]) -> type[_Class]:
    """Decorate a class of attrs in the same way: its ``__init__`` is generated."""
    cls.__init__ = clears_locals(cls.__init__)  # type: ignore[method-assign] # attrs has made it
    return cls


@attrs.define(eq=False, repr=False)
class Captured(Generic[_Result]):
    """What a function returned or raised, kept while its caller forgets the arguments.

    For a caller whose own frame holds them, such as a coroutine that goes on::

        captured = capture(prepare, customer)
        del customer
        await send(captured.unwrap())
    """

    _result: _Result | None
    _error: Exception | None

    def unwrap(self) -> _Result:
        """Return the result or raise the error, whose traceback begins here. Call it once."""
        error, self._error = self._error, None  # its traceback holds this frame: without this, a cycle
        if error is None:
            return self._result  # type: ignore[return-value] # it is there if no error is
        try:
            raise error
        finally:
            del error


def capture(
    function: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> Captured[_Result]:
    """Call a function and keep its result, or its error without the frames that it was raised in."""
    try:
        return Captured(function(*args, **kwargs), None)
    except Exception as error:  # noqa: BLE001 - raised again by unwrap
        return Captured(None, error.with_traceback(None))
