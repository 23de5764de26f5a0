"""Checks on settings, which tell and do not raise."""

import functools
import inspect
import ipaddress
import sys
from typing import TypeGuard, cast


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is this machine: ``localhost``, ``127.0.0.0/8`` or ``::1``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_finite_number(value: object) -> TypeGuard[float]:
    """Tell whether a setting is a number in the range of a float; an int may be out of range."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(cast("float", value)) <= sys.float_info.max


def has_methods(value: object, *names: str) -> bool:
    """Tell whether ``value`` is an instance, and not a class, with these methods."""
    return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in names)


def is_async(function: object) -> bool:
    """Tell whether ``function`` is an ``async def``, or an object whose ``__call__`` is one."""
    while isinstance(function, functools.partial):
        function = function.func
    call = type(function).__call__ if callable(function) else None
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
