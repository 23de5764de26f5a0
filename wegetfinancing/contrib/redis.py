"""Claims in Redis, for any number of workers. Needs ``wegetfinancing[redis]``."""

from typing import Final

from redis.asyncio import Redis

from ..postbacks.deliveries import CLAIM_SECONDS, KEEP_SECONDS, Claim

__all__ = ["RedisDeliveryStore"]

_SETTLED: Final = b"settled"
# Each script is one atomic step in Redis: it changes a claim only while its owner still holds it.
_RELEASE: Final = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1])"
_SETTLE: Final = """
local holder = redis.call('get', KEYS[1])
if not holder or holder == ARGV[1] then
    redis.call('set', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
"""


class RedisDeliveryStore:
    """A ``DeliveryStore`` that all workers share.

    What Redis has not written to disk when it dies is forgotten: the decision may then be handled
    again, and is not lost.

    Args:
        redis: a client of ``redis.asyncio``; its maker closes it. It runs on asyncio.
        claim_seconds: how long a claim lasts; longer than any handler takes.
        keep_seconds: how long a handled decision is remembered.
        prefix: what the names of the keys begin with.

    """

    __slots__ = ("_claim_ms", "_keep_ms", "_prefix", "_redis")

    def __init__(
        self,
        redis: Redis,
        *,
        claim_seconds: float = CLAIM_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
        prefix: str = "wegetfinancing:postback:",
    ) -> None:
        """Keep the client; nothing is sent yet."""
        self._redis = redis
        self._claim_ms = int(claim_seconds * 1000)
        self._keep_ms = int(keep_seconds * 1000)
        self._prefix = prefix

    async def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision unless it is settled or another claim on it has not expired."""
        name = self._prefix + key
        # One command sets the claim if there is none and says what there was.
        held = await self._redis.set(name, owner, nx=True, get=True, px=self._claim_ms)
        # It may be our own: a client that lost the answer asks again by itself.
        if held in (None, owner, owner.encode()):
            return Claim.GRANTED
        return Claim.SETTLED if held in (_SETTLED, _SETTLED.decode()) else Claim.IN_PROGRESS

    async def release(self, key: str, owner: str) -> None:
        """Forget the claim, if ``owner`` still holds it."""
        await self._redis.eval(_RELEASE, 1, self._prefix + key, owner)

    async def settle(self, key: str, owner: str) -> None:
        """Remember the decision as handled, unless another owner holds the claim by now."""
        await self._redis.eval(_SETTLE, 1, self._prefix + key, owner, _SETTLED, str(self._keep_ms))
