"""Claims, so that each decision is handled once, however many deliveries and workers there are.

A delivery claims the decision's key, handles it, and settles the claim. A claim expires, so that a
worker killed in the middle loses nothing: a later delivery handles the decision again. Handlers
therefore run **at least once**; make their effects part of a transaction that can happen once, such
as inserting the key into a unique column together with the order.
"""

import enum
import math
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import anyio.lowlevel
import attrs

from .settings import as_seconds

__all__ = [
    "CLAIM_SECONDS",
    "Claim",
    "DeliveryStore",
    "MemoryDeliveryStore",
    "SyncDeliveryStore",
    "SyncMemoryDeliveryStore",
]

CLAIM_SECONDS: Final = 60.0
"""How long a claim lasts by default."""


class Claim(enum.Enum):
    """The result of an attempt to claim a decision."""

    GRANTED = "granted"
    """The caller handles it, until the claim expires."""

    IN_PROGRESS = "in_progress"
    """Another delivery is handling it right now."""

    SETTLED = "settled"
    """It has been handled."""


class DeliveryStore(Protocol):
    """Remembers which decisions are being handled and which have been. Each method is atomic.

    A postback that somebody has captured keeps its valid signature. Once its decision is forgotten, a
    replay of it would be handled as a new one. So ``PostbackApp`` accepts a store that forgets only together
    with a ``max_age``, and only if ``keep_seconds`` is at least ``2 * max_age + 60``.
    """

    @property
    def keep_seconds(self) -> float | None:
        """Seconds for which a handled decision is remembered; ``None`` for ever."""
        ...

    async def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision ``key`` for ``owner``, a text no other delivery has."""
        ...

    async def release(self, key: str, owner: str) -> None:
        """Release the claim, so that a redelivery is handled; do nothing if it is no longer held."""
        ...

    async def settle(self, key: str, owner: str) -> None:
        """Record that the decision was handled; do nothing if another owner holds the claim by now."""
        ...


class SyncDeliveryStore(Protocol):
    """The same for ``wegetfinancing.postbacks.wsgi.PostbackApp``, with methods that block.

    They are called from any number of threads at once. Nothing interrupts a method that blocks, so whatever
    it waits for needs a timeout of its own, of some 5 seconds.
    """

    @property
    def keep_seconds(self) -> float | None:
        """Seconds for which a handled decision is remembered; ``None`` for ever."""
        ...

    def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision ``key`` for ``owner``, a text no other delivery has."""
        ...

    def release(self, key: str, owner: str) -> None:
        """Release the claim, so that a redelivery is handled; do nothing if it is no longer held."""
        ...

    def settle(self, key: str, owner: str) -> None:
        """Record that the decision was handled; do nothing if another owner holds the claim by now."""
        ...


@attrs.define
class _Entry:
    owner: str | None  # None when settled
    until: float


class SyncMemoryDeliveryStore:
    """A ``SyncDeliveryStore`` for **one process**, from any of its threads.

    Other workers do not see it, and a restart forgets it.

    Args:
        claim_seconds: how long a claim lasts; longer than any handler takes.
        keep_seconds: how long a handled decision is remembered; ``None`` for as long as the process lives.
        clock: seconds on any clock that only goes forward.

    Raises:
        ConfigurationError: a number of seconds that is not above 0.

    """

    __slots__ = ("_claim_seconds", "_clock", "_entries", "_keep_seconds", "_lock", "_prune_at")

    def __init__(
        self,
        *,
        claim_seconds: float = CLAIM_SECONDS,
        keep_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing remembered."""
        self._claim_seconds = as_seconds("claim_seconds", claim_seconds)
        self._keep_seconds = None if keep_seconds is None else as_seconds("keep_seconds", keep_seconds)
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._prune_at = 0.0

    @property
    def keep_seconds(self) -> float | None:
        """Seconds for which a handled decision is remembered; ``None`` while the process lives."""
        return self._keep_seconds

    def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision unless it is settled or another claim on it has not expired."""
        with self._lock:
            now = self._clock()
            self._prune(now)
            entry = self._entries.get(key)
            if entry is not None and entry.until > now:
                return Claim.SETTLED if entry.owner is None else Claim.IN_PROGRESS
            self._entries[key] = _Entry(owner, now + self._claim_seconds)
            return Claim.GRANTED

    def release(self, key: str, owner: str) -> None:
        """Forget the claim, if ``owner`` still holds it."""
        with self._lock:
            if self._holds(key, owner):
                del self._entries[key]

    def settle(self, key: str, owner: str) -> None:
        """Remember the decision as handled, unless another owner holds the claim by now."""
        with self._lock:
            if key not in self._entries or self._holds(key, owner):
                until = math.inf if self._keep_seconds is None else self._clock() + self._keep_seconds
                self._entries[key] = _Entry(None, until)

    def __len__(self) -> int:
        """Count what is remembered."""
        return len(self._entries)

    def _holds(self, key: str, owner: str) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.owner == owner

    def _prune(self, now: float) -> None:
        if now < self._prune_at:
            return
        self._entries = {key: entry for key, entry in self._entries.items() if entry.until > now}
        self._prune_at = now + self._claim_seconds


class MemoryDeliveryStore:
    """A ``DeliveryStore`` for **one process**: other workers do not see it, and a restart forgets it.

    Args:
        claim_seconds: how long a claim lasts; longer than any handler takes.
        keep_seconds: how long a handled decision is remembered; ``None`` for as long as the process lives.
        clock: seconds on any clock that only goes forward.

    Raises:
        ConfigurationError: a number of seconds that is not above 0.

    """

    __slots__ = ("_entries",)

    def __init__(
        self,
        *,
        claim_seconds: float = CLAIM_SECONDS,
        keep_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing remembered."""
        self._entries = SyncMemoryDeliveryStore(
            claim_seconds=claim_seconds, keep_seconds=keep_seconds, clock=clock
        )

    @property
    def keep_seconds(self) -> float | None:
        """Seconds for which a handled decision is remembered; ``None`` while the process lives."""
        return self._entries.keep_seconds

    async def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision unless it is settled or another claim on it has not expired."""
        await anyio.lowlevel.checkpoint()
        return self._entries.claim(key, owner)

    async def release(self, key: str, owner: str) -> None:
        """Forget the claim, if ``owner`` still holds it."""
        await anyio.lowlevel.checkpoint()
        self._entries.release(key, owner)

    async def settle(self, key: str, owner: str) -> None:
        """Remember the decision as handled, unless another owner holds the claim by now."""
        await anyio.lowlevel.checkpoint()
        self._entries.settle(key, owner)

    def __len__(self) -> int:
        """Count what is remembered."""
        return len(self._entries)
