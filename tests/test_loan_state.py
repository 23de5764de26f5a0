from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wegetfinancing import (
    Approved,
    Postback,
    Preapproved,
    Refunded,
    Rejected,
    UnknownPostback,
    parse_postback,
    parse_unverified_postback,
)
from wegetfinancing.postbacks import Advice, LoanState
from wegetfinancing.testing import credentials, signed_postback

APPLY, DUPLICATE, SURPRISING = Advice.APPLY, Advice.DUPLICATE, Advice.SURPRISING


def made(status: str, signed: int | str = 1) -> Postback:
    """A postback, written as ``refund 10`` where it has an amount, and when it was signed."""
    timestamp = signed if isinstance(signed, str) else str(1_700_000_000 + signed)
    word, _, amount = status.partition(" ")
    if word == "paused":
        body = b'{"request_token": "a1", "updates": {"status": "paused"}}'
        return parse_unverified_postback(body)
    said = signed_postback(word, inv_id="a1", amount=amount or None, timestamp=timestamp)
    return parse_postback(said.body, said.headers, credentials())


def state_after(statuses: Iterable[str]) -> LoanState:
    """Each was signed after the one before it."""
    state = LoanState()
    for signed, status in enumerate(statuses):
        state = state.after(made(status, signed))
    return state


@pytest.mark.parametrize(
    ("before", "now", "advice"),
    [
        ([], "approved", APPLY),
        ([], "preapproved", APPLY),
        ([], "rejected", APPLY),
        ([], "refund 10", SURPRISING),
        ([], "paused", SURPRISING),
        (["preapproved"], "approved", APPLY),
        (["preapproved"], "rejected", APPLY),
        (["preapproved"], "preapproved", DUPLICATE),
        (["rejected"], "approved", APPLY),
        (["rejected"], "preapproved", APPLY),
        (["rejected"], "rejected", DUPLICATE),
        (["approved"], "approved", DUPLICATE),
        (["approved"], "rejected", APPLY),
        (["approved"], "preapproved", APPLY),
        (["preapproved", "approved"], "preapproved", DUPLICATE),
        (["approved"], "refund 10", APPLY),
        (["approved", "refund 10"], "refund 20", APPLY),
        (["approved", "refund 10"], "refund 10", SURPRISING),
        (["approved", "refund 10"], "approved", DUPLICATE),
        (["approved", "refund 10"], "rejected", SURPRISING),
        (["rejected", "approved"], "rejected", SURPRISING),
        (["approved", "rejected"], "approved", SURPRISING),
        (["approved", "rejected"], "rejected", DUPLICATE),
        (["approved", "paused"], "paused", DUPLICATE),
        (["approved", "paused"], "refund 10", SURPRISING),
        (["refund 10"], "approved", SURPRISING),
    ],
    ids=str,
)
def test_what_a_postback_means_to_a_shop_that_knows_something(
    before: list[str], now: str, advice: Advice
) -> None:
    assert state_after(before).advise(made(now, signed=9)) is advice


@pytest.mark.parametrize(
    ("first", "first_signed", "second", "second_signed", "advice"),
    [
        ("approved", 5, "rejected", 6, APPLY),
        ("approved", 5, "rejected", 5, SURPRISING),
        ("approved", 5, "rejected", 4, SURPRISING),
        ("approved", "-", "rejected", 6, SURPRISING),
        ("approved", 5, "rejected", "-", SURPRISING),
        ("rejected", "-", "approved", "+", SURPRISING),
        ("rejected", 5, "approved", 6, APPLY),
        ("approved", 5, "preapproved", 6, APPLY),
        ("approved", 5, "preapproved", 5, SURPRISING),
        ("approved", 5, "preapproved", 4, DUPLICATE),
        ("preapproved", "-", "approved", "+", APPLY),
        ("preapproved", 5, "approved", 4, SURPRISING),
    ],
)
def test_of_two_decisions_the_one_that_was_signed_later_counts(
    first: str, first_signed: int | str, second: str, second_signed: int | str, advice: Advice
) -> None:
    state = LoanState().after(made(first, first_signed))
    assert state.advise(made(second, second_signed)) is advice
    assert state.after(made(second, second_signed)).may_ship is (
        {first: advice is DUPLICATE, second: advice is APPLY}.get("approved", False)
    )


@pytest.mark.parametrize("signed", [1, 2])
def test_an_approval_that_was_signed_before_the_latest_rejection_does_not_ship(signed: int) -> None:
    state = LoanState().after(made("rejected", 0)).after(made("rejected", 2)).after(made("rejected", 1))
    assert state.advise(made("approved", signed)) is SURPRISING
    assert not state.after(made("approved", signed)).may_ship
    assert state.after(made("approved", 3)).may_ship


@pytest.mark.parametrize(
    ("signed", "advice"), [(7, DUPLICATE), (8, DUPLICATE), (9, SURPRISING), ("-", SURPRISING)]
)
def test_a_refund_of_the_same_amount_that_was_signed_later_may_be_another_one(
    signed: int | str, advice: Advice
) -> None:
    state = LoanState().after(made("approved", 5)).after(made("refund 10", 7)).after(made("refund 20", 8))
    assert state.advise(made("refund 10", signed)) is advice
    if signed == "-":
        unknown_when = LoanState().after(made("approved", 5)).after(made("refund 10", "-"))
        assert unknown_when.advise(made("refund 10", 9)) is SURPRISING


def test_only_an_approval_that_stands_and_that_nothing_contradicts_may_ship() -> None:
    for statuses, may_ship in (
        ([], False),
        (["preapproved"], False),
        (["approved"], True),
        (["approved", "approved"], True),
        (["rejected", "approved"], True),
        (["approved", "paused"], False),
        (["approved", "rejected"], False),
        (["rejected", "approved", "rejected"], False),
        (["refund 10", "approved"], False),
        (["approved", "refund 10"], False),
    ):
        assert state_after(statuses).may_ship is may_ship


def test_once_a_person_has_looked_the_decision_that_stands_counts() -> None:
    surprised = LoanState().after(made("approved")).after(made("rejected"))
    assert surprised.resolved("approved").may_ship
    assert not surprised.resolved("rejected").may_ship
    assert surprised.resolved("rejected").advise(made("rejected")) is DUPLICATE
    assert surprised.resolved("rejected").advise(made("approved")) is SURPRISING
    assert state_after(["paused"]).resolved(None).advise(made("paused")) is DUPLICATE
    assert state_after(["paused"]).resolved(None).advise(made("approved")) is APPLY


STATUSES = ["approved", "preapproved", "rejected", "refund 10", "refund 20", "refund", "paused"]
KINDS = (Approved, Preapproved, Rejected, Refunded, UnknownPostback)


@given(st.lists(st.sampled_from(STATUSES)), st.sampled_from(STATUSES))
def test_advice_never_raises_whatever_came_before(before: list[str], now: str) -> None:
    assert state_after(before).advise(made(now)) in Advice


class AdvisedShop(RuleBasedStateMachine):
    """A shop that follows the advice, against a vendor who may deliver anything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = LoanState()
        self.applied: list[Postback] = []
        self.stands: str | None = None  # what an operator has said

    @rule(status=st.sampled_from(STATUSES))
    def deliver(self, status: str) -> None:
        postback = made(status)
        advice = self.state.advise(postback)
        again = postback.key in self.state.handled | self.state.surprises
        assert not (advice is APPLY and again), "what was handled is never applied again"
        assert not (advice is DUPLICATE and not again), "what is new is never taken for a repeat"
        assert not (advice is APPLY and self.state.surprises), "manual review comes first"
        if advice is APPLY:
            assert not isinstance(postback, UnknownPostback)
            assert not isinstance(postback, Refunded) or self.state.status in {"approved", "refund"}
            self.applied.append(postback)
        self.state = self.state.after(postback)

    @rule(status=st.sampled_from(["approved", "rejected", None]))
    def a_person_looks(self, status: str | None) -> None:
        if self.state.surprises:
            self.state = self.state.resolved(status)
            self.stands = status

    @invariant()
    def ships_only_when_the_last_applied_decision_is_an_approval(self) -> None:
        assert not (self.state.may_ship and self.state.surprises)
        if self.state.may_ship and self.stands is None:
            assert isinstance(self.applied[-1], Approved)

    @invariant()
    def each_decision_is_applied_once(self) -> None:
        keys = [each.key for each in self.applied]
        assert len(keys) == len(set(keys))


TestAdvisedShop = AdvisedShop.TestCase
