"""A client of one more merchant: the cost of making and keeping it."""

import time
import tracemalloc
from typing import Final

from wegetfinancing import AsyncClient, Client
from wegetfinancing.testing import FakeTransport, credentials

from .harness import Row

_CLIENTS: Final = 1000
_ROUNDS: Final = 7
_MAX_MICROSECONDS: Final = 20
_MAX_BYTES: Final = 1024


def cost(client: AsyncClient | Client) -> tuple[float, float]:
    """Measure one ``for_merchant``: microseconds of CPU, and bytes."""
    other = credentials(merchant_id="other")
    took: list[float] = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_CLIENTS):
            client.for_merchant(other)
        took.append((time.process_time() - began) / _CLIENTS * 1e6)
    tracemalloc.start()
    kept = [client.for_merchant(other) for _ in range(_CLIENTS)]
    size = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    return sorted(took)[_ROUNDS // 2], size


async def measure() -> list[Row]:
    """Measure both kinds of client."""
    rows = []
    for kind in (AsyncClient, Client):
        microseconds, size = cost(kind(credentials(), transport=FakeTransport()))
        what = f"`{kind.__name__}.for_merchant`"
        rows += [
            Row(
                what=what,
                against=f"{_MAX_MICROSECONDS} µs",
                ratio=microseconds / _MAX_MICROSECONDS,
                detail=f"{microseconds:.1f} µs",
                bound=1.0,
            ),
            Row(
                what=f"{what}, kept",
                against=f"{_MAX_BYTES} bytes",
                ratio=size / _MAX_BYTES,
                detail=f"{size:.0f} bytes",
                bound=1.0,
            ),
        ]
    return rows
