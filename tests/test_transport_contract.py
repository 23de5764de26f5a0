"""The contract of a transport: ours keep it, and a broken one fails the check that is meant for it."""

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import httpx2
import pytest

from support import broken_transports as broken
from wegetfinancing import HttpxTransport, Transport
from wegetfinancing.emulator import Emulator
from wegetfinancing.testing import (
    IN_MEMORY_TRANSPORT_CHECKS,
    TRANSPORT_CHECKS,
    FakeTransport,
    TransportCheck,
    check_transport_contract,
    credentials,
)

pytestmark = pytest.mark.anyio

MakeTransport = Callable[[], Transport]


@pytest.fixture(params=["own", "httpx", "httpx2"])
async def make_transport(request: pytest.FixtureRequest) -> AsyncIterator[MakeTransport]:
    """Connections of our own, and a ready client of each library."""
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "own":
            yield HttpxTransport
        else:
            library: Any = {"httpx": httpx, "httpx2": httpx2}[request.param]
            client = await stack.enter_async_context(library.AsyncClient())
            yield lambda: HttpxTransport(client)


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=str)
async def test_the_transport_on_httpx_keeps_the_contract(
    make_transport: MakeTransport, check: TransportCheck
) -> None:
    await check(make_transport)


@pytest.mark.parametrize("check", IN_MEMORY_TRANSPORT_CHECKS, ids=str)
@pytest.mark.parametrize(
    "make_in_memory", [FakeTransport, lambda: Emulator(credentials())], ids=["fake", "emulator"]
)
async def test_transports_in_memory_keep_the_contract(
    make_in_memory: MakeTransport, check: TransportCheck
) -> None:
    await check(make_in_memory)


async def test_all_checks_run_in_one_call() -> None:
    await check_transport_contract(HttpxTransport)
    await check_transport_contract(FakeTransport, IN_MEMORY_TRANSPORT_CHECKS)


BROKEN = [
    (broken.ClosesOnce, "closing_twice_is_harmless", "the second aclose() raised RuntimeError"),
    (broken.TurnsCancellationIntoAnError, "a_cancelled_call_ends_cancelled", "raised TransportError"),
    (broken.TurnsCancellationIntoAnAnswer, "a_cancelled_call_ends_cancelled", "returned Response"),
    (broken.RenamesThePath, "a_request_arrives_as_it_is", "requests/ HTTP/1.1' arrived"),
    (broken.ChangesAHeader, "a_request_arrives_as_it_is", "the header user-agent did not arrive"),
    (broken.ChangesTheBody, "a_request_arrives_as_it_is", "the body did not arrive as it is"),
    (broken.KeepsCookies, "nothing_is_remembered_between_calls", "a cookie of the first answer"),
    (broken.SendsAgain, "a_request_is_sent_once", "lost its connection and arrived 2 times"),
    (broken.KeepsAConnectionForCreates, "a_create_has_a_connection_of_its_own", "shared its connection"),
    (broken.MixesUpCalls, "calls_at_once_get_their_own_answers", "a call got another call's answer"),
    (broken.IgnoresTheDeadline, "the_deadline_ends_a_call", "2 seconds after the deadline"),
    (broken.FinishesCancelledCalls, "a_cancelled_call_leaves_nothing_open", "2 seconds after it was"),
    (broken.KeepsConnectionsAfterClosing, "closing_releases_every_connection", "after aclose()"),
    (broken.DropsHeaders, "an_answer_comes_back_as_it_is", "a header that came twice is not '1, 2'"),
    (broken.ChangesTheStatus, "an_answer_comes_back_as_it_is", "and the Response says 202"),
    (broken.DecodesText, "an_answer_comes_back_as_it_is", "262144 bytes came, and the Response holds others"),
    (broken.TakesAnInterimAnswer, "an_answer_in_chunks_comes_back_whole", "the chunks of a 200"),
    (broken.RaisesForStatus, "an_error_status_is_returned", "send() raised TransportError"),
    (broken.ReturnsOtherStatuses, "an_error_status_is_returned", "503 came, and the Response says 500"),
    (broken.FollowsRedirects, "a_redirect_is_not_followed", "after 301 another request went out"),
    (broken.RaisesForRedirects, "a_redirect_is_not_followed", "301 came, and send() did not return it"),
    (broken.PassesHalfABodyAsWhole, "a_body_cut_short_is_not_whole", "passes as whole"),
    (broken.ReadsWithoutEnd, "an_answer_is_bounded", "all of 64 MiB were read"),
    (broken.PassesABoundedBodyAsWhole, "an_answer_is_bounded", "passes as whole"),
    (broken.Unpacks, "a_compressed_answer_is_not_unpacked", "was unpacked"),
    (broken.LetsTheLibrarysErrorsOut, "no_answer_is_a_transport_error", "send() ended with OSError"),
    (broken.SaysNotSent, "not_sent_is_never_wrong", "then the connection was closed, and the outcome was"),
    (broken.ShowsTheBody, "an_error_shows_nothing_of_the_request", "shows credentials or the customer"),
    (broken.ShowsItsCause, "an_error_shows_nothing_of_the_request", "shows credentials or the customer"),
]


async def failures(make_transport: MakeTransport, checks: Any = TRANSPORT_CHECKS) -> dict[str, str]:
    """Run the checks: the names of those that fail, and what they say."""
    try:
        await check_transport_contract(make_transport, checks, patience=2)
    except AssertionError as error:
        lines = (line.partition(": ") for line in str(error).splitlines())
        return {name: text for name, _, text in lines}
    return {}


@pytest.mark.one_interpreter
@pytest.mark.parametrize(("make_broken", "name", "text"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
async def test_a_broken_transport_fails_the_check_for_what_is_broken_and_no_other(
    make_broken: Callable[[], broken.Good], name: str, text: str
) -> None:
    made: list[broken.Good] = []

    def make() -> broken.Good:
        made.append(make_broken())
        return made[-1]

    failed = await failures(make)
    for each in made:
        await each.inner.aclose()
    assert list(failed) == [name]
    assert text in failed[name]


@pytest.mark.parametrize(
    ("make_broken", "text"),
    [(broken.ReturnsText, "send() returned str"), (broken.RaisesInMemory, "send() raised ValueError")],
)
async def test_a_broken_transport_in_memory_fails_too(make_broken: MakeTransport, text: str) -> None:
    failed = await failures(make_broken, IN_MEMORY_TRANSPORT_CHECKS)
    assert list(failed) == ["every_operation_is_answered"]
    assert text in failed["every_operation_is_answered"]


async def test_a_body_that_cannot_be_used_may_be_raised_too() -> None:
    await check_transport_contract(broken.RaisesForBodies)


def named(name: str) -> TransportCheck:
    return next(each for each in TRANSPORT_CHECKS if each.name == name)


async def test_a_failure_is_one_assertion_that_names_the_check_and_its_rule() -> None:
    with pytest.raises(AssertionError) as caught:
        await named("a_redirect_is_not_followed")(broken.FollowsRedirects)
    assert re.fullmatch(
        r"a_redirect_is_not_followed: after 301 another request went out\. The rule: A redirect is .*\.",
        str(caught.value),
    )
    assert caught.value.__cause__ is None


async def test_a_transport_that_never_ends_is_not_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"send\(\) had not ended after 0\.1 seconds"):
        await named("an_error_status_is_returned")(broken.NeverEnds, patience=0.05)


async def test_what_is_no_failed_check_comes_out_as_it_is() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await named("an_error_status_is_returned")(broken.CannotBeClosed)
    assert caught.group_contains(RuntimeError)


def test_a_check_is_named_and_explained() -> None:
    names = [str(each) for each in (*TRANSPORT_CHECKS, *IN_MEMORY_TRANSPORT_CHECKS)]
    assert len(set(names)) == len(names) - 2  # two are about any transport
    assert {name for _, name, _ in BROKEN} == {str(each) for each in TRANSPORT_CHECKS}
    for each in TRANSPORT_CHECKS:
        assert each.rule.endswith(".")
