"""Handling each decision once, whatever the number of deliveries and workers.

A delivery claims the decision's key, handles it, and settles the claim. A claim expires, so that a
worker killed in the middle loses nothing: a later delivery handles the decision again. Handlers
therefore run **at least once**; make their effects part of a transaction that can happen once, such
as inserting the key into a unique column together with the order.
"""

import enum
import time
from collections.abc import Callable
from typing import Final, Protocol

import anyio.lowlevel
import attrs

__all__ = ["CLAIM_SECONDS", "KEEP_SECONDS", "Claim", "DeliveryStore", "MemoryDeliveryStore"]

CLAIM_SECONDS: Final = 60.0
"""How long a claim lasts unless told otherwise."""

KEEP_SECONDS: Final = 30 * 24 * 3600.0
"""How long a handled decision is remembered unless told otherwise."""


class Claim(enum.Enum):
    """What became of an attempt to claim a decision."""

    GRANTED = "granted"
    """It is yours to handle, until the claim expires."""

    IN_PROGRESS = "in_progress"
    """Another delivery is handling it right now."""

    SETTLED = "settled"
    """It has been handled."""


class DeliveryStore(Protocol):
    """Remembers which decisions are being handled and which have been. Each method is atomic."""

    async def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision ``key`` for ``owner``, a text no other delivery has."""
        ...

    async def release(self, key: str, owner: str) -> None:
        """Give the claim back, so that a redelivery is handled; nothing if it is no longer held."""
        ...

    async def settle(self, key: str, owner: str) -> None:
        """Note that the decision was handled; nothing if another owner holds the claim by now."""
        ...


@attrs.define
class _Entry:
    owner: str | None  # None when settled
    until: float


class MemoryDeliveryStore:
    """A ``DeliveryStore`` for **one process**: other workers do not see it, and a restart forgets it.

    Args:
        claim_seconds: how long a claim lasts; longer than any handler takes.
        keep_seconds: how long a handled decision is remembered.
        clock: seconds on any clock that only goes forward.

    """

    __slots__ = ("_claim_seconds", "_clock", "_entries", "_keep_seconds", "_prune_at")

    def __init__(
        self,
        *,
        claim_seconds: float = CLAIM_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing remembered."""
        self._claim_seconds = claim_seconds
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._prune_at = 0.0

    async def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision unless it is settled or another claim on it has not expired."""
        await anyio.lowlevel.checkpoint()
        now = self._clock()
        self._prune(now)
        entry = self._entries.get(key)
        if entry is not None and entry.until > now:
            return Claim.SETTLED if entry.owner is None else Claim.IN_PROGRESS
        self._entries[key] = _Entry(owner, now + self._claim_seconds)
        return Claim.GRANTED

    async def release(self, key: str, owner: str) -> None:
        """Forget the claim, if ``owner`` still holds it."""
        await anyio.lowlevel.checkpoint()
        if self._holds(key, owner):
            del self._entries[key]

    async def settle(self, key: str, owner: str) -> None:
        """Remember the decision as handled, unless another owner holds the claim by now."""
        await anyio.lowlevel.checkpoint()
        if key not in self._entries or self._holds(key, owner):
            self._entries[key] = _Entry(None, self._clock() + self._keep_seconds)

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
