"""The stores of deliveries, in memory and in a real Redis."""

import contextlib
import math
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import anyio
import fakeredis
import pytest
import redis.asyncio
import redis.exceptions

from support.redis_server import SERVER, redis_server
from wegetfinancing import ConfigurationError
from wegetfinancing.contrib.redis import RedisDeliveryStore, SyncRedisDeliveryStore
from wegetfinancing.postbacks import (
    Claim,
    DeliveryStore,
    MemoryDeliveryStore,
    SyncDeliveryStore,
    SyncMemoryDeliveryStore,
)
from wegetfinancing.testing import STORE_CHECKS, StoreCheck, check_store_contract

pytestmark = pytest.mark.anyio

GRANTED, IN_PROGRESS, SETTLED = Claim.GRANTED, Claim.IN_PROGRESS, Claim.SETTLED


Connect: TypeAlias = Callable[..., redis.asyncio.Redis]


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connect]:
    """Clients of a Redis server of our own, or of an imitation where there is none to start."""
    if SERVER is None:
        assert "CI" not in os.environ, "on Debian: apt-get install redis-server"
        imitation = fakeredis.FakeServer(version=(7,))
        yield lambda **settings: fakeredis.FakeAsyncRedis(server=imitation, **settings)
        return
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield lambda **settings: redis.asyncio.Redis(port=port, **settings)


@contextlib.asynccontextmanager
async def redis_store(connect: Connect, **settings: Any) -> AsyncIterator[RedisDeliveryStore]:
    async with connect() as client:
        await client.flushall()
        yield RedisDeliveryStore(client, **settings)


class Awaited:
    """A store that does not await, for tests that do."""

    def __init__(self, store: SyncDeliveryStore) -> None:
        self.store = store

    @property
    def keep_seconds(self) -> float | None:
        return self.store.keep_seconds

    async def claim(self, key: str, owner: str) -> Claim:
        return self.store.claim(key, owner)

    async def release(self, key: str, owner: str) -> None:
        self.store.release(key, owner)

    async def settle(self, key: str, owner: str) -> None:
        self.store.settle(key, owner)


@pytest.mark.parametrize("check", STORE_CHECKS, ids=str)
async def test_the_store_in_memory_keeps_the_contract(check: StoreCheck) -> None:
    await check(memory_store)


@pytest.mark.parametrize("check", STORE_CHECKS, ids=str)
async def test_so_does_the_one_for_threads(check: StoreCheck) -> None:
    async def make() -> DeliveryStore:
        return Awaited(SyncMemoryDeliveryStore())

    await check(make)


async def memory_store() -> DeliveryStore:
    return MemoryDeliveryStore()


class GrantsEverything(MemoryDeliveryStore):
    async def claim(self, key: str, owner: str) -> Claim:
        await super().claim(key, owner)
        return GRANTED


class ReleasesForAnyone(MemoryDeliveryStore):
    async def release(self, *_: str) -> None:
        self.__init__()  # type: ignore[misc] # it forgets everything


class SettlesForAnyone(MemoryDeliveryStore):
    async def settle(self, key: str, owner: str) -> None:
        self.__init__()  # type: ignore[misc] # as if there were no claim
        await super().settle(key, owner)


class LooksBeforeItClaims(MemoryDeliveryStore):
    def __init__(self) -> None:
        super().__init__()
        self.known: set[str] = set()

    async def claim(self, key: str, owner: str) -> Claim:
        is_new = key not in self.known
        answer = await super().claim(key, owner)
        self.known.add(key)
        return GRANTED if is_new else answer


class SettlesOnlyClaims(MemoryDeliveryStore):
    async def settle(self, key: str, owner: str) -> None:
        if await self.claim(key, "another") is not GRANTED:
            await super().settle(key, owner)
        else:
            await self.release(key, "another")


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (GrantsEverything, "a_claim_is_granted_once"),
        (LooksBeforeItClaims, "of_many_claims_at_once_one_is_granted"),
        (ReleasesForAnyone, "a_released_claim_can_be_claimed"),
        (SettlesForAnyone, "a_settled_decision_stays_settled"),
        (SettlesOnlyClaims, "what_was_handled_is_settled_even_without_a_claim"),
    ],
)
async def test_a_broken_store_fails_the_check_that_is_meant_for_it(
    broken: type[MemoryDeliveryStore], name: str
) -> None:
    async def make() -> DeliveryStore:
        return broken()

    with pytest.raises(AssertionError, match=f"(?m)^{name}: "):
        await check_store_contract(make)
    await check_store_contract(memory_store)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_in_memory_a_claim_expires_and_then_its_owner_cannot_settle_it() -> None:
    clock = Clock()
    store = MemoryDeliveryStore(claim_seconds=10, keep_seconds=100, clock=clock)
    assert await store.claim("a", "killed") is GRANTED
    clock.now += 9.9
    assert await store.claim("a", "two") is IN_PROGRESS
    clock.now += 0.2
    assert await store.claim("a", "two") is GRANTED
    await store.settle("a", "killed")
    assert await store.claim("a", "three") is IN_PROGRESS
    await store.settle("a", "two")
    clock.now += 99
    assert await store.claim("a", "three") is SETTLED
    clock.now += 2
    assert await store.claim("a", "three") is GRANTED


async def test_in_memory_what_has_expired_takes_no_room() -> None:
    clock = Clock()
    store = MemoryDeliveryStore(claim_seconds=10, keep_seconds=100, clock=clock)
    for number in range(1000):
        await store.claim(str(number), "one")
        await store.settle(str(number), "one")
        clock.now += 1
    assert len(store) < 120


async def test_in_memory_a_decision_is_remembered_for_good_by_default() -> None:
    clock = Clock()
    store = MemoryDeliveryStore(clock=clock)
    assert store.keep_seconds is None
    await store.claim("a", "one")
    await store.settle("a", "one")
    for _ in range(100):
        clock.now += 30 * 24 * 3600
        assert await store.claim("a", "two") is SETTLED


def redis_that_is_not_asked(**settings: Any) -> RedisDeliveryStore:
    return RedisDeliveryStore(redis.asyncio.Redis(), **settings)


def sync_redis_that_is_not_asked(**settings: Any) -> SyncRedisDeliveryStore:
    return SyncRedisDeliveryStore(redis.Redis(), **settings)


@pytest.mark.parametrize(
    "make",
    [
        MemoryDeliveryStore,
        SyncMemoryDeliveryStore,
        redis_that_is_not_asked,
        sync_redis_that_is_not_asked,
    ],
)
@pytest.mark.parametrize("name", ["claim_seconds", "keep_seconds"])
def test_a_store_refuses_a_time_that_cannot_be_right(
    make: Callable[..., DeliveryStore | SyncDeliveryStore], name: str
) -> None:
    for wrong in (0, -1, math.nan, math.inf, 10**10, "60", True):
        with pytest.raises(ConfigurationError, match=f"{name} must be a number of seconds, above 0"):
            make(**{name: wrong})
    assert make(keep_seconds=100).keep_seconds == 100


def test_of_many_claims_from_threads_one_is_granted() -> None:
    store = SyncMemoryDeliveryStore()
    together = threading.Barrier(8)

    def claim(owner: int) -> list[Claim]:
        together.wait()
        return [store.claim(str(key), str(owner)) for key in range(200)]

    with ThreadPoolExecutor(8) as threads:
        claims = [each for claimed in threads.map(claim, range(8)) for each in claimed]
    assert claims.count(GRANTED) == 200
    assert len(store) == 200


class SyncFakeRedis:
    """Answers CONFIG GET as told, and grants every claim."""

    def __init__(self, settings: dict[str, str] | Exception) -> None:
        self.settings = settings
        self.asked = 0

    def config_get(self, *_: str) -> dict[str, str]:
        self.asked += 1
        if isinstance(self.settings, Exception):
            raise self.settings
        return self.settings

    def set(self, *_: str, **__: object) -> None:
        """Say that there was no claim."""


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({"maxmemory": "0", "maxmemory-policy": "allkeys-lru"}, None),
        ({"maxmemory": "100", "maxmemory-policy": "volatile-ttl"}, "ERROR"),
        (redis.exceptions.NoPermissionError("no permissions to run 'config|get'"), "WARNING"),
    ],
)
def test_without_awaiting_the_first_claim_logs_what_may_be_evicted_and_is_granted(
    settings: Any, level: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    fake: Any = SyncFakeRedis(settings)
    store = SyncRedisDeliveryStore(fake)
    for key in ("a", "b"):
        assert store.claim(key, "one") is GRANTED
    assert [each.levelname for each in caplog.records] == ([level] if level else [])
    assert fake.asked == 1


def test_without_awaiting_a_server_that_evicts_is_refused_at_start_up() -> None:
    fake: Any = SyncFakeRedis({"maxmemory": "100", "maxmemory-policy": "volatile-ttl"})
    with pytest.raises(ConfigurationError, match="set maxmemory-policy to noeviction"):
        SyncRedisDeliveryStore(fake).check()


class FakeRedis:
    """Answers CONFIG GET as told, and grants every claim."""

    def __init__(self, settings: dict[str, str] | Exception) -> None:
        self.settings = settings
        self.asked = 0

    async def config_get(self, *_: str) -> dict[str, str]:
        self.asked += 1
        if isinstance(self.settings, Exception):
            raise self.settings
        return self.settings

    async def set(self, *_: str, **__: object) -> None:
        """Say that there was no claim."""


class TestRedis:
    """On asyncio only: the Redis client runs on nothing else."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_the_store_in_redis_does_what_a_store_has_to(self, connect: Connect) -> None:
        async with connect() as client:

            async def make() -> DeliveryStore:
                await client.flushall()
                return RedisDeliveryStore(client)

            await check_store_contract(make)

    @pytest.mark.parametrize("decode_responses", [False, True])
    async def test_so_does_the_one_that_does_not_await_and_both_share_their_claims(
        self, connect: Connect, *, decode_responses: bool
    ) -> None:
        async with connect() as client:
            await client.flushall()
            settings = client.connection_pool.connection_kwargs
            sync_client = (
                fakeredis.FakeRedis(server=settings["server"], decode_responses=decode_responses)
                if isinstance(client, fakeredis.FakeAsyncRedis)
                else redis.Redis(port=settings["port"], decode_responses=decode_responses)
            )
            with contextlib.closing(sync_client):
                store = SyncRedisDeliveryStore(sync_client, keep_seconds=4000)

                async def make() -> DeliveryStore:
                    await client.flushall()
                    return Awaited(store)

                await check_store_contract(make)
                store.settle("d", "sync")
                assert await RedisDeliveryStore(client).claim("d", "async") is SETTLED
                assert await RedisDeliveryStore(client).claim("e", "async") is GRANTED
                assert store.claim("e", "sync") is IN_PROGRESS
                assert 3_990_000 < await client.pttl("wegetfinancing:postback:d") <= 4_000_000

    async def test_a_client_that_decodes_answers_will_do(self, connect: Connect) -> None:
        async with connect(decode_responses=True) as client:

            async def make() -> DeliveryStore:
                await client.flushall()
                return RedisDeliveryStore(client)

            await check_store_contract(make)

    async def test_claims_and_settled_decisions_expire(self, connect: Connect) -> None:
        async with connect() as client:
            await client.flushall()
            store = RedisDeliveryStore(client, claim_seconds=20, keep_seconds=4000, prefix="shop:")
            await store.claim("a", "one")
            assert 19_000 < await client.pttl("shop:a") <= 20_000
            await store.settle("a", "one")
            assert 3_999_000 < await client.pttl("shop:a") <= 4_000_000

    async def test_a_decision_is_remembered_for_good_by_default(self, connect: Connect) -> None:
        async with connect() as client:
            await client.flushall()
            store = RedisDeliveryStore(client, prefix="shop:")
            assert store.keep_seconds is None
            await store.claim("a", "one")
            await store.settle("a", "one")
            assert await client.pttl("shop:a") == -1
            assert await store.claim("a", "two") is SETTLED

    @pytest.mark.parametrize("decode_responses", [False, True])
    async def test_it_can_tell_whether_a_server_evicts(
        self, connect: Connect, *, decode_responses: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with connect(decode_responses=decode_responses) as client:
            try:
                await client.config_set("maxmemory", "100mb")
            except redis.exceptions.ResponseError:  # an imitation
                await RedisDeliveryStore(client).check()
                assert "could not read Redis' maxmemory-policy" in caplog.text
                return
            await client.config_set("maxmemory-policy", "allkeys-lru")
            with pytest.raises(ConfigurationError, match="set maxmemory-policy to noeviction"):
                await RedisDeliveryStore(client).check()
            await client.config_set("maxmemory-policy", "noeviction")
            await RedisDeliveryStore(client).check()
            await client.config_set("maxmemory", "0")

    @pytest.mark.parametrize(
        ("settings", "level"),
        [
            ({"maxmemory": "0", "maxmemory-policy": "allkeys-lru"}, None),
            ({"maxmemory": "100", "maxmemory-policy": "noeviction"}, None),
            ({"maxmemory": "100", "maxmemory-policy": "volatile-ttl"}, "ERROR"),
            ({"maxmemory-policy": "volatile-ttl"}, "ERROR"),
            ({}, "WARNING"),
            (redis.exceptions.NoPermissionError("no permissions to run 'config|get'"), "WARNING"),
        ],
    )
    async def test_the_first_claim_logs_what_may_be_evicted_and_is_granted(
        self, settings: Any, level: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        fake: Any = FakeRedis(settings)
        store = RedisDeliveryStore(fake)
        for key in ("a", "b"):
            assert await store.claim(key, "one") is GRANTED
        assert [each.levelname for each in caplog.records] == ([level] if level else [])
        assert all("noeviction" in each.message for each in caplog.records)
        assert fake.asked == 1

    async def test_a_check_that_got_no_answer_is_made_again(self) -> None:
        fake: Any = FakeRedis(redis.exceptions.ConnectionError())
        store = RedisDeliveryStore(fake)
        for _ in range(2):
            with pytest.raises(redis.exceptions.ConnectionError):
                await store.claim("a", "one")
        assert fake.asked == 2

    async def test_a_claim_asked_for_twice_by_its_owner_is_granted(self, connect: Connect) -> None:
        """The client asks again by itself when the connection is lost before the answer."""
        async with redis_store(connect) as store:
            assert await store.claim("a", "one") is GRANTED
            assert await store.claim("a", "one") is GRANTED
            assert await store.claim("a", "two") is IN_PROGRESS

    async def test_of_many_claims_at_once_one_is_granted(self, connect: Connect) -> None:
        claims = []

        async with redis_store(connect) as store, anyio.create_task_group() as tasks:

            async def claim(owner: str) -> None:
                claims.append(await store.claim("a", owner))

            for number in range(50):
                tasks.start_soon(claim, str(number))
        assert claims.count(GRANTED) == 1
