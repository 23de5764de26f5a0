"""Which event loop is running, on asyncio and trio alike."""

import functools
from types import ModuleType


@functools.cache
def lowlevel() -> ModuleType:
    """Give ``anyio.lowlevel``: not before a client calls, and then without asking the import system again."""
    import anyio.lowlevel  # noqa: PLC0415 - as the docstring says

    return anyio.lowlevel


def current_event_loop() -> object:
    """Return an object that stands for the running event loop and for no other."""
    return lowlevel().current_token().native_token
