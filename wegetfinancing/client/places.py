"""How many requests are sent at once, and that those whose customer waits find a place."""

from typing import Final, Protocol

import anyio

from ..http import Request

_RESERVED_SHARE: Final = 4


class Borrower(Protocol):
    """What occupies a place: one exchange."""

    @property
    def request(self) -> Request:
        """What it sends."""
        ...


class Places:
    """Places for requests at once; requests that may be repeated never occupy the last quarter.

    A customer waits for a create; nobody waits for a shipping update. So however many updates are queued, of
    this merchant or of another, a create finds a place as long as there are fewer creates than that.
    """

    __slots__ = ("_all", "_repeatable")

    def __init__(self, count: float) -> None:
        """Keep ``count`` places; of a single one, nothing can be reserved."""
        self._all = anyio.CapacityLimiter(count)
        self._repeatable = anyio.CapacityLimiter(max(count - max(count // _RESERVED_SHARE, 1), 1))

    async def acquire_on_behalf_of(self, borrower: Borrower) -> None:
        """Wait for a place, first come, first served."""
        if not borrower.request.repeatable:
            await self._all.acquire_on_behalf_of(borrower)
            return
        await self._repeatable.acquire_on_behalf_of(borrower)
        try:
            await self._all.acquire_on_behalf_of(borrower)
        except BaseException:
            self._repeatable.release_on_behalf_of(borrower)
            raise

    def release_on_behalf_of(self, borrower: Borrower) -> None:
        """Leave the place."""
        self._all.release_on_behalf_of(borrower)
        if borrower.request.repeatable:
            self._repeatable.release_on_behalf_of(borrower)
