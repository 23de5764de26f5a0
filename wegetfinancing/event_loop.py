"""Which event loop is running, on asyncio and trio alike."""

from typing import Final

from anyio.lowlevel import RunVar

_marker: Final[RunVar[object]] = RunVar("wegetfinancing.event_loop")


def current_event_loop() -> object:
    """Return an object that stands for the running event loop and for no other."""
    marker = _marker.get(None)
    if marker is None:
        marker = object()
        _marker.set(marker)
    return marker
