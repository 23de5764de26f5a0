import copy
import pickle
from typing import Any

import pytest

from wegetfinancing import (
    APIError,
    AuthenticationError,
    CallError,
    ConfigurationError,
    DeadlineExceededError,
    DecodingError,
    InvalidRequestError,
    MalformedPostbackError,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    PostbackError,
    RateLimitError,
    ServerError,
    SignatureError,
    TransportError,
    WeGetFinancingError,
)
from wegetfinancing.errors import outcome_of_status, worst_outcome
from wegetfinancing.ledger import ApplicationState
from wegetfinancing.postbacks import Advice

TREE = {
    ConfigurationError: WeGetFinancingError,
    CallError: WeGetFinancingError,
    TransportError: CallError,
    DeadlineExceededError: TransportError,
    APIError: CallError,
    InvalidRequestError: APIError,
    AuthenticationError: APIError,
    PermissionDeniedError: APIError,
    NotFoundError: APIError,
    RateLimitError: APIError,
    ServerError: APIError,
    DecodingError: CallError,
    PostbackError: WeGetFinancingError,
    SignatureError: PostbackError,
    MalformedPostbackError: PostbackError,
}

EXAMPLES: list[WeGetFinancingError] = [
    ConfigurationError("no"),
    TransportError("lost", outcome=Outcome.UNKNOWN, operation="create_request", permanent=True),
    DeadlineExceededError("late", outcome=Outcome.NOT_SENT),
    RateLimitError(
        "HTTP 429",
        status=429,
        outcome=Outcome.REFUSED,
        operation="update_shipping",
        error="generic",
        code=429,
        message="slow down",
        subjects=("email",),
        reasons={"email": "secret@example.com is bad"},
        debug={"secret": 1},
        stamp="abc",
        body=b"secret",
        retry_after=2.5,
        headers={"x-request-id": "secret"},
    ),
    DecodingError("HTTP 200, but the answer is not JSON", status=200, body=b"secret"),
    SignatureError("no"),
]


@pytest.mark.parametrize(("error", "base"), TREE.items())
def test_the_tree_is_the_documented_one(error: type[Exception], base: type[Exception]) -> None:
    assert error.__bases__ == (base,)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickle_with_all_it_knows(error: WeGetFinancingError, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own data
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_can_be_copied(error: WeGetFinancingError) -> None:
    assert vars(copy.copy(error)) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_text_and_repr_hold_nothing_of_reasons_debug_and_body(error: WeGetFinancingError) -> None:
    assert "secret" not in str(error) + repr(error)


@pytest.mark.parametrize("kind", [Outcome, ApplicationState, Advice])
def test_what_a_shop_decides_by_equals_its_text(kind: Any) -> None:
    assert [each for each in kind if each != each.value or f"{each}" != each.value] == []


def test_the_text_says_the_operation_and_whether_it_may_have_happened() -> None:
    error = TransportError("lost", outcome=Outcome.NOT_SENT, operation="create_request")
    assert str(error) == "create_request: lost. Nothing was sent."
    error.outcome = Outcome.UNKNOWN
    assert str(error) == "create_request: lost. It may have been carried out."
    assert str(CallError("no", outcome=Outcome.REFUSED)) == "no. The server refused it."


@pytest.mark.parametrize(
    "error",
    [CallError("lost"), TransportError("lost"), APIError("HTTP 500"), DecodingError("HTTP 200", status=200)],
    ids=lambda error: type(error).__name__,
)
def test_what_does_not_say_its_outcome_counts_as_unknown(error: CallError) -> None:
    assert error.outcome is Outcome.UNKNOWN


def test_an_attempt_that_may_have_happened_outweighs_all_others() -> None:
    assert worst_outcome() is Outcome.NOT_SENT
    assert worst_outcome(Outcome.REFUSED, Outcome.NOT_SENT) is Outcome.REFUSED
    assert worst_outcome(Outcome.NOT_SENT, Outcome.UNKNOWN, Outcome.REFUSED) is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        (range(100, 307), Outcome.UNKNOWN),
        ((307, 308), Outcome.REFUSED),
        (range(309, 400), Outcome.UNKNOWN),
        (range(400, 408), Outcome.REFUSED),
        ((408,), Outcome.UNKNOWN),
        (range(409, 500), Outcome.REFUSED),
        (range(500, 1000), Outcome.UNKNOWN),
    ],
)
def test_every_status_has_the_outcome_of_the_table(statuses: list[int], outcome: Outcome) -> None:
    assert {outcome_of_status(status) for status in statuses} == {outcome}
