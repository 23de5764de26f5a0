"""Claims in Redis, for any number of workers. Needs ``wegetfinancing[redis]``."""

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import redis
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ..errors import ConfigurationError
from ..postbacks.deliveries import CLAIM_SECONDS, Claim
from ..postbacks.settings import as_seconds

__all__ = ["RedisDeliveryStore", "SyncRedisDeliveryStore"]

RedisClient = TypeVar("RedisClient")

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
_POLICY: Final = ("maxmemory", "maxmemory-policy")
_LOGGER: Final = logging.getLogger("wegetfinancing")


class _Store(Generic[RedisClient]):
    """What either store asks Redis, and how it reads the answers; a subclass sends it."""

    __slots__ = ("_claim_ms", "_is_checked", "_keep_seconds", "_prefix", "_redis")

    def __init__(
        self,
        redis: RedisClient,
        *,
        claim_seconds: float = CLAIM_SECONDS,
        keep_seconds: float | None = None,
        prefix: str = "wegetfinancing:postback:",
    ) -> None:
        """Check the settings; nothing is sent yet."""
        self._redis = redis
        self._claim_ms = _milliseconds(as_seconds("claim_seconds", claim_seconds))
        self._keep_seconds = None if keep_seconds is None else as_seconds("keep_seconds", keep_seconds)
        self._prefix = prefix
        self._is_checked = False

    @property
    def keep_seconds(self) -> float | None:
        """Seconds for which a handled decision is remembered; ``None`` for ever."""
        return self._keep_seconds

    @property
    def _claiming(self) -> dict[str, Any]:
        """Options of SET. One command sets the claim if there is none and says what there was."""
        return {"nx": True, "get": True, "px": self._claim_ms}

    @staticmethod
    def _claimed(held: object, owner: str) -> Claim:
        """Read the answer of SET."""
        # It may be our own: a client that lost the answer asks again by itself.
        if held in (None, owner, owner.encode()):
            return Claim.GRANTED
        return Claim.SETTLED if held in (_SETTLED, _SETTLED.decode()) else Claim.IN_PROGRESS

    def _releasing(self, key: str, owner: str) -> tuple[Any, ...]:
        """Arguments of EVAL."""
        return (_RELEASE, 1, self._prefix + key, owner)

    def _settling(self, key: str, owner: str) -> tuple[Any, ...]:
        """Arguments of EVAL."""
        keep = () if self._keep_seconds is None else (str(_milliseconds(self._keep_seconds)),)
        return (_SETTLE, 1, self._prefix + key, owner, _SETTLED, *keep)

    def _check(self, settings: Mapping[Any, Any]) -> None:
        """Read the answer of CONFIG GET; empty if Redis refuses to tell."""
        self._is_checked = True
        policy = settings.get("maxmemory-policy")
        if policy is None:
            _LOGGER.warning("could not read Redis' maxmemory-policy: make sure that it is noeviction")
        elif policy != "noeviction" and settings.get("maxmemory") != "0":  # 0 means no limit
            raise ConfigurationError(_EVICTS)


class RedisDeliveryStore(_Store[Redis]):
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

    __slots__ = ()

    async def check(self) -> None:
        """Make sure that Redis keeps every claim. Call it at start-up.

        A managed Redis may refuse to tell (``CONFIG GET``); then a record at level WARNING says so.

        Raises:
            ConfigurationError: Redis may evict keys.

        """
        try:
            settings = await self._redis.config_get(*_POLICY)
        except ResponseError:
            settings = {}
        self._check(settings)

    async def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision unless it is settled or another claim on it has not expired."""
        if not self._is_checked:
            with _logged():
                await self.check()
        return self._claimed(await self._redis.set(self._prefix + key, owner, **self._claiming), owner)

    async def release(self, key: str, owner: str) -> None:
        """Forget the claim, if ``owner`` still holds it."""
        await self._redis.eval(*self._releasing(key, owner))

    async def settle(self, key: str, owner: str) -> None:
        """Remember the decision as handled, unless another owner holds the claim by now."""
        await self._redis.eval(*self._settling(key, owner))


class SyncRedisDeliveryStore(_Store[redis.Redis]):
    """A ``SyncDeliveryStore`` that all workers share. It is ``RedisDeliveryStore`` without ``await``.

    Both keep the same keys, so workers of either kind can share a Redis.

    Args:
        redis: a client ``redis.Redis``; whoever made it closes it. Make it with ``socket_timeout=5`` and
            ``socket_connect_timeout=5``: nothing else interrupts a call to a Redis that does not answer.
        claim_seconds: how long a claim lasts; longer than any handler takes.
        keep_seconds: how long a handled decision is remembered; ``None`` for ever, at some 200 bytes for
            each decision.
        prefix: what the names of the keys begin with.

    Raises:
        ConfigurationError: a number of seconds that is not above 0.

    """

    __slots__ = ()

    def check(self) -> None:
        """Make sure that Redis keeps every claim. Call it at start-up.

        A managed Redis may refuse to tell (``CONFIG GET``); then a record at level WARNING says so.

        Raises:
            ConfigurationError: Redis may evict keys.

        """
        try:
            settings = self._redis.config_get(*_POLICY)
        except ResponseError:
            settings = {}
        self._check(settings)

    def claim(self, key: str, owner: str) -> Claim:
        """Claim the decision unless it is settled or another claim on it has not expired."""
        if not self._is_checked:
            with _logged():
                self.check()
        return self._claimed(self._redis.set(self._prefix + key, owner, **self._claiming), owner)

    def release(self, key: str, owner: str) -> None:
        """Forget the claim, if ``owner`` still holds it."""
        self._redis.eval(*self._releasing(key, owner))

    def settle(self, key: str, owner: str) -> None:
        """Remember the decision as handled, unless another owner holds the claim by now."""
        self._redis.eval(*self._settling(key, owner))


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    # Refusing the postback would lose a decision for certain; an evicted claim may repeat one.
    try:
        yield
    except ConfigurationError as error:
        _LOGGER.error("%s", error)  # noqa: TRY400 - the traceback would say no more


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
