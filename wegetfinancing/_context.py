"""What follows a call through threads and event loops."""

import contextvars
from typing import Final

HANDLING: Final[contextvars.ContextVar[frozenset[str]]] = contextvars.ContextVar(
    "wegetfinancing_handling", default=frozenset()
)
"""The ledgers in whose transaction the shop's handler runs right now."""
