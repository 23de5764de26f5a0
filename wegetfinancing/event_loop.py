"""Which event loop is running, on asyncio and trio alike."""

from anyio.lowlevel import current_token


def current_event_loop() -> object:
    """Return an object that stands for the running event loop and for no other."""
    return current_token().native_token
