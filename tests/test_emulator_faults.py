"""The faults that the emulator can simulate."""

import pytest

from wegetfinancing import (
    AsyncClient,
    AuthenticationError,
    CallError,
    DecodingError,
    NotFoundError,
    Outcome,
    RateLimitError,
    ServerError,
    TransportError,
)
from wegetfinancing.client.authentication import basic_authorization
from wegetfinancing.emulator import FAULTS, Effect, Emulator
from wegetfinancing.emulator.faults import SLOW_SECONDS, fault_of_order
from wegetfinancing.http import Request
from wegetfinancing.testing import credentials, financing_request, shipping_event

pytestmark = pytest.mark.anyio

WITH_AN_ANSWER = {"fault-slow", "fault-wrong-amount", "fault-no-amount"}


def seconds_for(name: str) -> float:
    """Give a call time enough to reach the emulator on a busy machine, and the rest all it wants."""
    return 0.5 if FAULTS[name].effect is Effect.SILENCE else 30


async def no_sleep(_: float) -> None:
    pass


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("by", ["order id", "order id and more", "script"])
async def test_a_create_that_was_carried_out_is_never_called_refused(name: str, by: str) -> None:
    fault = FAULTS[name]
    emulator = Emulator(credentials(), faults=[name] if by == "script" else [], sleep=no_sleep)
    order_id = {"order id": name, "order id and more": f"{name}-17", "script": "ORDER-1"}[by]
    async with AsyncClient(credentials(), transport=emulator, timeout=seconds_for(name)) as client:
        if name in WITH_AN_ANSWER:
            await client.create_request(financing_request(merchant_transaction_id=order_id))
        else:
            with pytest.raises(CallError) as caught:
                await client.create_request(financing_request(merchant_transaction_id=order_id))
            assert caught.value.outcome is not Outcome.NOT_SENT
            assert not (fault.carried_out and caught.value.outcome is Outcome.REFUSED)
    assert len(emulator.applications) == fault.carried_out


@pytest.mark.parametrize("name", FAULTS)
async def test_every_fault_may_meet_a_shipping_update(name: str) -> None:
    emulator = Emulator(credentials(), new_inv_id=lambda: "a1", sleep=no_sleep)
    async with AsyncClient(
        credentials(), transport=emulator, middleware=[], timeout=seconds_for(name)
    ) as client:
        await client.create_request(financing_request())
        emulator.fail_next(name)
        if name in WITH_AN_ANSWER:
            await client.update_shipping("a1", shipping_event())
        else:
            with pytest.raises(CallError) as caught:
                await client.update_shipping("a1", shipping_event())
            assert not (FAULTS[name].carried_out and caught.value.outcome is Outcome.REFUSED)
    assert len(emulator.applications["a1"].shipping_events) == FAULTS[name].carried_out


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("fault-malformed-json", DecodingError),
        ("fault-html", DecodingError),
        ("fault-502", ServerError),
        ("fault-429", RateLimitError),
        ("fault-reset", TransportError),
    ],
)
async def test_a_fault_raises_what_the_real_one_would(name: str, error: type[CallError]) -> None:
    emulator = Emulator(credentials(), faults=[name])
    async with AsyncClient(credentials(), transport=emulator) as client:
        with pytest.raises(error):
            await client.create_request(financing_request())


async def test_faults_come_in_their_order_and_then_all_is_well() -> None:
    emulator = Emulator(credentials(), faults=["fault-502", None, "fault-500"])
    emulator.fail_next("fault-429")
    names = [each.name if each else None for each in emulator.next_faults]
    assert names == ["fault-502", None, "fault-500", "fault-429"]
    seen: list[int | float | None] = []
    async with AsyncClient(credentials(), transport=emulator) as client:
        for _ in range(5):
            try:
                await client.create_request(financing_request())
                seen.append(None)
            except RateLimitError as error:
                seen += [error.status, error.retry_after]
            except ServerError as error:
                seen.append(error.status)
    assert seen == [502, None, 500, 429, 2, None]


async def test_the_answers_that_differ_are_seen() -> None:
    emulator = Emulator(credentials(), faults=["fault-wrong-amount", "fault-no-amount"])
    request = financing_request()
    async with AsyncClient(credentials(), transport=emulator) as client:
        dearer = await client.create_request(request)
        unnamed = await client.create_request(request)
    assert dearer.amount == request.expected_amount + 1
    assert unnamed.amount is None
    assert unnamed.inv_id in emulator.applications


async def test_a_slow_answer_waits_on_the_sleep_it_was_given() -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    emulator = Emulator(credentials(), faults=["fault-slow"], sleep=sleep)
    async with AsyncClient(credentials(), transport=emulator) as client:
        await client.create_request(financing_request())
    assert waited == [SLOW_SECONDS]


@pytest.mark.parametrize("name", ["fault-timeout-after-commit", "fault-502"])
async def test_a_wrong_password_is_not_hidden_by_a_fault_and_uses_none_up(name: str) -> None:
    emulator = Emulator(credentials(), faults=[name])
    async with AsyncClient(credentials(password="wrong"), transport=emulator) as client:
        with pytest.raises(AuthenticationError):
            await client.create_request(financing_request())
    assert emulator.next_faults == (FAULTS[name],)


async def test_what_cannot_be_carried_out_is_refused_as_ever() -> None:
    emulator = Emulator(credentials(), faults=["fault-timeout-after-commit"])
    async with AsyncClient(credentials(), transport=emulator) as client:
        with pytest.raises(NotFoundError):
            await client.update_shipping("no-such-loan", shipping_event())


async def test_the_order_id_of_anything_but_a_create_is_no_fault() -> None:
    emulator = Emulator(credentials())
    async with AsyncClient(credentials(), transport=emulator) as client:
        await client.create_test_postback({"merchant_transaction_id": "fault-502"})


def test_no_other_name_is_a_fault() -> None:
    with pytest.raises(ValueError, match="unknown fault; the faults are fault-timeout-after-commit, "):
        Emulator(credentials(), faults=["fault-of-mine"])
    for order_id in ("ORDER-1", "fault-", "fault-5020", "my-fault-502", None, 502, ["fault-502"]):
        assert fault_of_order(order_id) is None


def test_the_longest_name_counts() -> None:
    assert fault_of_order("fault-502-after-commit-9") is FAULTS["fault-502-after-commit"]
    assert fault_of_order("fault-502-9") is FAULTS["fault-502"]


def test_effects_other_than_an_answer_keep_the_answer_good() -> None:
    assert {each.effect for each in FAULTS.values()} == set(Effect)


def test_a_create_that_is_not_json_asks_for_no_fault() -> None:
    request = Request(
        operation="create_request",
        method="POST",
        url="https://emulator.invalid/merchant/1234/requests",
        headers={"Authorization": basic_authorization(credentials())},
        body=b"{fault-502",
    )
    reaction = Emulator(credentials()).react(request)
    assert (reaction.response.status, reaction.fault) == (400, None)
