"""Which event loop is running, on asyncio and trio alike."""


def current_event_loop() -> object:
    """Return an object that stands for the running event loop and for no other."""
    from anyio.lowlevel import current_token  # noqa: PLC0415 - not before a client calls

    return current_token().native_token
