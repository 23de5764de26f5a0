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
from wegetfinancing.decisions import Advice, LoanState
from wegetfinancing.testing import credentials, signed_postback

APPLY, DUPLICATE, SURPRISING = Advice.APPLY, Advice.DUPLICATE, Advice.SURPRISING


def made(status: str) -> Postback:
    """A postback, written as ``refund 10`` where it has an amount."""
    word, _, amount = status.partition(" ")
    if word == "paused":
        body = b'{"request_token": "a1", "updates": {"status": "paused"}}'
        return parse_unverified_postback(body, "application/json")
    signed = signed_postback(word, inv_id="a1", amount=amount or None)
    return parse_postback(signed.body, signed.headers, credentials())


def state_after(statuses: Iterable[str]) -> LoanState:
    state = LoanState()
    for status in statuses:
        state = state.after(made(status))
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
        (["approved"], "rejected", SURPRISING),
        (["approved"], "preapproved", SURPRISING),
        (["preapproved", "approved"], "preapproved", DUPLICATE),
        (["approved"], "refund 10", APPLY),
        (["approved", "refund 10"], "refund 20", APPLY),
        (["approved", "refund 10"], "refund 10", DUPLICATE),
        (["approved", "refund 10"], "approved", DUPLICATE),
        (["approved", "refund 10"], "rejected", SURPRISING),
        (["rejected", "approved"], "rejected", SURPRISING),
        (["approved", "rejected"], "approved", SURPRISING),
        (["approved", "paused"], "paused", DUPLICATE),
        (["approved", "paused"], "refund 10", APPLY),
    ],
    ids=str,
)
def test_what_a_postback_means_to_a_shop_that_knows_something(
    before: list[str], now: str, advice: Advice
) -> None:
    assert state_after(before).advise(made(now)) is advice


def test_only_an_approval_that_stands_may_ship() -> None:
    for statuses, may_ship in (
        ([], False),
        (["preapproved"], False),
        (["approved"], True),
        (["approved", "paused"], True),
        (["approved", "rejected"], False),
        (["rejected", "approved"], True),
        (["approved", "refund 10"], False),
    ):
        assert state_after(statuses).may_ship is may_ship


STATUSES = ["approved", "preapproved", "rejected", "refund 10", "refund 20", "refund", "paused"]
KINDS = (Approved, Preapproved, Rejected, Refunded, UnknownPostback)


@given(st.lists(st.sampled_from(STATUSES)), st.sampled_from(STATUSES))
def test_advice_never_raises_whatever_came_before(before: list[str], now: str) -> None:
    assert state_after(before).advise(made(now)) in Advice


class Shop(RuleBasedStateMachine):
    """A shop that follows the advice, against a vendor who may deliver anything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = LoanState()
        self.applied: list[Postback] = []
        self.refunded = 0

    @rule(status=st.sampled_from(STATUSES))
    def deliver(self, status: str) -> None:
        postback = made(status)
        advice = self.state.advise(postback)
        again = postback.key in self.state.handled
        assert not (advice is APPLY and again), "what was handled is never applied again"
        assert not (advice is DUPLICATE and not again), "what is new is never taken for a repeat"
        if advice is APPLY:
            assert not isinstance(postback, UnknownPostback)
            self.applied.append(postback)
            self.refunded += isinstance(postback, Refunded)
            self.state = self.state.after(postback)

    @invariant()
    def ships_only_when_the_last_applied_decision_is_an_approval(self) -> None:
        last = self.applied[-1] if self.applied else None
        assert self.state.may_ship == isinstance(last, Approved)

    @invariant()
    def refunds_come_after_an_approval_only(self) -> None:
        kinds = [type(each) for each in self.applied]
        assert not self.refunded or Approved in kinds[: kinds.index(Refunded)]

    @invariant()
    def each_decision_is_applied_once(self) -> None:
        keys = [each.key for each in self.applied]
        assert len(keys) == len(set(keys))


TestShop = Shop.TestCase
