"""Claims in Redis, for any number of workers. Needs ``wegetfinancing[redis]``."""

import logging
import math
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ..errors import ConfigurationError
from ..postbacks.deliveries import CLAIM_SECONDS, Claim
from ..postbacks.settings import as_seconds

__all__ = ["RedisDeliveryStore"]

_SETTLED: Final = b"settled"
# Each script is one atomic step in Redis: it changes a claim only while its owner still holds it.
_RELEASE: Final = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1])"
_SETTLE: Final = """
local holder = redis.call('get', KEYS[1])
if not holder or holder == ARGV[1] then
    if ARGV[3] then
        redis.call('set', KEYS[1], ARGV[2], 'PX', ARGV[3])
    else
        redis.call('set', KEYS[1], ARGV[2])
    end
end
"""
_EVICTS: Final = (
    "Redis may evict keys when its memory is full (maxmemory-policy is not noeviction), and with them claims"
    " and handled decisions, which are then handled again: set maxmemory-policy to noeviction"
)
_LOGGER: Final = logging.getLogger("wegetfinancing")


class RedisDeliveryStore:
    """A ``DeliveryStore`` that all workers share.

    What Redis has not written to disk when it dies is forgotten: the decision may then be handled
    again, and is not lost. The same happens to a key that Redis evicts: use a Redis with
    ``maxmemory-policy noeviction``. ``check`` makes sure of it at start-up; without it the first claim logs
    what it finds.

    Args:
        redis: a client of ``redis.asyncio``; whoever made it closes it. It runs on asyncio.
        claim_seconds: how long a claim lasts; longer than any handler takes.
        keep_seconds: how long a handled decision is remembered; ``None`` for ever, at some 200 bytes for
            each decision.
        prefix: what the names of the keys begin with.

    Raises:
        ConfigurationError: a number of seconds that is not above 0.

    """

    __slots__ = ("_claim_ms", "_is_checked", "_keep_seconds", "_prefix", "_redis")

    def __init__(
        self,
        redis: Redis,
        *,
        claim_seconds: float = CLAIM_SECONDS,
        keep_seconds: float | None = None,
        prefix: str = "wegetfinancing:postback:",
    ) -> None:
        """Keep the client; nothing is sent yet."""
        self._redis = redis
        self._claim_ms = _milliseconds(as_seconds("claim_seconds", claim_seconds))
        self._keep_seconds = None if keep_seconds is None else as_seconds("keep_seconds", keep_seconds)
        self._prefix = prefix
        self._is_checked = False

    @property
    def keep_seconds(self) -> float | None:
        """Seconds for which a handled decision is remembered; ``None`` for ever."""
        return self._keep_seconds

    async def check(self) -> None:
        """Make sure that Redis keeps every claim. Call it at start-up.

        A managed Redis may refuse to tell (``CONFIG GET``); then a record at level WARNING says so.

        Raises:
            ConfigurationError: Redis may evict keys.

        """
        try:
            settings = await self._redis.config_get("maxmemory", "maxmemory-policy")
        except ResponseError:
            settings = {}
        self._is_checked = True
        policy = settings.get("maxmemory-policy")
        if policy is None:
            _LOGGER.warning("could not read Redis' maxmemory-policy: make sure that it is noeviction")
        elif policy != "noeviction" and settings.get("maxmemory") != "0":  # 0 is no limit
            raise ConfigurationError(_EVICTS)

    async def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision unless it is settled or another claim on it has not expired."""
        if not self._is_checked:
            await self._log_check()
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
        keep = () if self._keep_seconds is None else (str(_milliseconds(self._keep_seconds)),)
        await self._redis.eval(_SETTLE, 1, self._prefix + key, owner, _SETTLED, *keep)

    async def _log_check(self) -> None:
        # Refusing the postback would lose a decision for certain; an evicted claim may repeat one.
        try:
            await self.check()
        except ConfigurationError as error:
            _LOGGER.error("%s", error)  # noqa: TRY400 - the traceback would say no more


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
