"""The shop's own functions in threads that Django does not look after."""

import functools
from typing import Any

from django.db import connections

from ..._checks import is_async


def in_any_thread(function: Any) -> Any:  # noqa: ANN401 - a function of any kind, or none
    """Wrap a plain function for a thread of ours, so that it leaves no connection open there.

    Django closes what has broken or grown old only where a request begins and ends. In our threads a broken
    connection would be used again for ever.
    """
    if not callable(function) or is_async(function):
        return function

    @functools.wraps(function)
    def call(*args: object) -> object:
        try:
            return function(*args)
        finally:
            connections.close_all()

    return call
