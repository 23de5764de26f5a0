"""Tracebacks that hold neither a postback's body nor its signature.

A signed body can be replayed, and crash reporters show the local variables of every frame.
"""

import functools
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


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
