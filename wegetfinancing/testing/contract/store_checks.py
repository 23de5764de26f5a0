"""The contract of a ``DeliveryStore``, as checks that any of them can run.

Pass each check to a test of your own::

    @pytest.mark.parametrize("check", STORE_CHECKS, ids=str)
    @pytest.mark.anyio
    async def test_my_store_keeps_the_contract(check):
        await check(make_store)

where ``make_store()`` returns a store with nothing in it.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

import anyio
import attrs

from ...postbacks.deliveries import Claim, DeliveryStore
from .checking import Check, require

MakeStore: TypeAlias = Callable[[], Awaitable[DeliveryStore]]
Body: TypeAlias = Callable[[DeliveryStore], Awaitable[None]]

_AT_ONCE: Final = 50


@attrs.frozen
class StoreCheck(Check[Body]):
    """One rule that every ``DeliveryStore`` keeps: await it with what makes one.

    Attributes:
        name: such as ``a_claim_is_granted_once``; ``str()`` of the check too.
        rule: the rule in a sentence or two.

    """

    async def __call__(self, make_store: MakeStore) -> None:
        """Run the check.

        Args:
            make_store: ``await make_store()`` returns a store with nothing in it.

        Raises:
            AssertionError: the store breaks the rule; the text says how.

        """
        store = await make_store()
        with self._stating_the_rule():
            await self._body(store)


_check: Final = StoreCheck.of


async def _require(store: DeliveryStore, key: str, owner: str, expected: Claim) -> None:
    claim = await store.claim(key, owner)
    require(claim is expected, f"claim({key!r}, {owner!r}) was {claim.value} and not {expected.value}")


@_check
async def a_claim_is_granted_once(store: DeliveryStore) -> None:
    """While one delivery has a claim, another of the same decision gets none; other decisions do."""
    await _require(store, "a", "one", Claim.GRANTED)
    await _require(store, "a", "two", Claim.IN_PROGRESS)
    await _require(store, "b", "two", Claim.GRANTED)


@_check
async def of_many_claims_at_once_one_is_granted(store: DeliveryStore) -> None:
    """However many claim a decision at the same time, one is granted."""
    claims: list[Claim] = []

    async def claim(owner: str) -> None:
        claims.append(await store.claim("a", owner))

    async with anyio.create_task_group() as tasks:
        for number in range(_AT_ONCE):
            tasks.start_soon(claim, str(number))
    granted = claims.count(Claim.GRANTED)
    require(granted == 1, f"{granted} of {_AT_ONCE} claims were granted")


@_check
async def a_released_claim_can_be_claimed(store: DeliveryStore) -> None:
    """A claim that its owner releases is free again; another owner releases nothing."""
    await store.release("a", "one")
    await _require(store, "a", "one", Claim.GRANTED)
    await store.release("a", "two")
    await _require(store, "a", "two", Claim.IN_PROGRESS)
    await store.release("a", "one")
    await _require(store, "a", "two", Claim.GRANTED)


@_check
async def a_settled_decision_stays_settled(store: DeliveryStore) -> None:
    """What its owner settles is settled for everyone, for good; another owner settles nothing."""
    await _require(store, "a", "one", Claim.GRANTED)
    await store.settle("a", "two")
    await _require(store, "a", "two", Claim.IN_PROGRESS)
    await store.settle("a", "one")
    await _require(store, "a", "two", Claim.SETTLED)
    await store.release("a", "one")
    await _require(store, "a", "two", Claim.SETTLED)


@_check
async def what_was_handled_is_settled_even_without_a_claim(store: DeliveryStore) -> None:
    """A decision whose claim has expired was handled all the same, and nobody else has claimed it."""
    await store.settle("a", "one")
    await _require(store, "a", "two", Claim.SETTLED)


STORE_CHECKS: Final[tuple[StoreCheck, ...]] = (
    a_claim_is_granted_once,
    of_many_claims_at_once_one_is_granted,
    a_released_claim_can_be_claimed,
    a_settled_decision_stays_settled,
    what_was_handled_is_settled_even_without_a_claim,
)


async def check_store_contract(make_store: MakeStore, checks: Iterable[StoreCheck] = STORE_CHECKS) -> None:
    """Run all checks, and name every rule that is broken.

    Args:
        make_store: ``await make_store()`` returns a store with nothing in it.
        checks: by default all.

    Raises:
        AssertionError: rules are broken; the text has a line for each.

    """
    broken = []
    for check in checks:
        try:
            await check(make_store)
        except AssertionError as error:
            broken.append(str(error))
    if broken:
        raise AssertionError("\n".join(broken))
