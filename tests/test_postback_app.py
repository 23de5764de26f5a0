"""PostbackApp called as a server calls it, on both event loops."""

import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.asgi import Shop, call, deliver
from wegetfinancing import (
    Approved,
    ConfigurationError,
    Postback,
    PostbackVersion,
    sign_postback,
)
from wegetfinancing.postbacks import (
    BODY_LIMIT,
    Claim,
    MemoryDeliveryStore,
    NotYet,
    PostbackApp,
    ResponseStatuses,
    SyncMemoryDeliveryStore,
)
from wegetfinancing.testing import INV_ID, SignedPostback, credentials, signed_postback

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("version", PostbackVersion)
async def test_an_authentic_postback_is_handled_and_answered_ok(version: PostbackVersion) -> None:
    shop, postback = Shop(), signed_postback(version=version)
    status, headers, body = await call(PostbackApp(credentials(), shop), postback.body, postback.headers)
    assert (status, body) == (200, b"OK")
    assert headers[b"content-type"] == b"text/plain; charset=utf-8"
    assert headers[b"content-length"] == b"2"
    (handled,) = shop.handled
    assert isinstance(handled, Approved)
    assert handled.merchant_transaction_id == "ORDER-123"


async def test_a_body_may_come_in_pieces() -> None:
    shop, postback = Shop(), signed_postback()
    pieces = [postback.body[:10], b"", postback.body[10:]]
    status, _, _ = await call(PostbackApp(credentials(), shop), pieces, postback.headers)
    assert status == 200
    assert len(shop.handled) == 1


async def test_a_second_delivery_is_answered_ok_and_not_handled_again() -> None:
    shop = Shop()
    app = PostbackApp(credentials(), shop)
    for timestamp in ("1700000000", "1700000001"):
        assert await deliver(app, signed_postback(timestamp=timestamp)) == 200
    assert await deliver(app, signed_postback("rejected")) == 200
    assert [each.status for each in shop.handled] == ["approved", "rejected"]


GOOD = signed_postback()


@pytest.mark.parametrize(
    ("body", "headers", "scope", "status"),
    [
        (GOOD.body, GOOD.headers | {"x-signature": "0" * 64}, {}, 401),
        (GOOD.body + b" ", GOOD.headers, {}, 401),
        (GOOD.body, {"content-type": "application/json"}, {}, 401),
        (GOOD.body, GOOD.headers | {"x-signature": "\xff" * 64}, {}, 401),
        (GOOD.body, {}, {}, 401),
        (GOOD.body, GOOD.headers, {"method": "GET"}, 405),
        (GOOD.body, GOOD.headers, {"method": "PUT"}, 405),
        (b"x" * (BODY_LIMIT + 1), GOOD.headers, {}, 413),
        ([b"x" * BODY_LIMIT, b"x", b"x" * BODY_LIMIT], GOOD.headers, {}, 413),
    ],
)
async def test_what_is_no_authentic_postback_is_refused_and_not_handled(
    body: Any, headers: dict[str, str], scope: dict[str, Any], status: int
) -> None:
    shop = Shop()
    assert (await call(PostbackApp(credentials(), shop), body, headers, **scope))[0] == status
    assert shop.calls == 0


def signed(body: bytes) -> dict[str, str]:
    return {"x-signature": sign_postback(body, "1", credentials()), "x-timestamp": "1"}


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"not JSON", b"\xff"])
async def test_an_authentic_postback_that_cannot_be_read_is_malformed(body: bytes) -> None:
    shop = Shop()
    status, _, text = await call(PostbackApp(credentials(), shop), body, signed(body))
    assert status == 400
    assert text.startswith(b"the postback ")
    assert shop.calls == 0


@pytest.mark.parametrize("body", [GOOD.body, b"{}", b"", b"inv_id=a&function=transact&method=void"])
async def test_no_unsigned_header_changes_the_answer(body: bytes) -> None:
    unsigned = [
        {},
        {"content-type": "application/json"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain", "content-encoding": "gzip"},
    ]
    results = []
    for headers in unsigned:
        shop = Shop()
        status, _, text = await call(PostbackApp(credentials(), shop), body, signed(body) | headers)
        results.append((status, text, shop.handled))
    assert all(each == results[0] for each in results)


async def test_a_header_that_comes_twice_is_refused() -> None:
    pairs = [(name.encode(), value.encode()) for name, value in GOOD.headers.items()]
    pairs.append((b"X-Signature", GOOD.headers["x-signature"].encode()))
    assert (await call(PostbackApp(credentials(), Shop()), GOOD.body, pairs))[0] == 401


async def test_a_body_of_exactly_the_bound_is_read() -> None:
    body = b"x" * BODY_LIMIT
    assert (await call(PostbackApp(credentials(), Shop()), body, signed(body)))[0] == 400


async def test_a_sender_that_goes_away_is_not_answered() -> None:
    shop = Shop()
    answer = await call(
        PostbackApp(credentials(), shop), [b"x", b""], GOOD.headers, end={"type": "http.disconnect"}
    )
    assert answer == (0, {}, b"")
    assert shop.calls == 0


async def test_a_body_that_never_ends_is_given_up() -> None:
    app = PostbackApp(credentials(), Shop(), body_seconds=0.01)
    end = {"type": "http.request", "body": b"x", "more_body": True}
    assert (await call(app, [b"x"], GOOD.headers, end=end))[0] == 408


async def test_an_age_and_several_credentials_are_taken() -> None:
    old = credentials(password="old")
    app = PostbackApp([credentials(), old], Shop(), max_age=300)
    assert await deliver(app, signed_postback(credentials=old)) == 200
    assert await deliver(app, signed_postback("rejected", timestamp="1700000000")) == 401


async def test_while_the_order_is_not_there_yet_it_is_tried_again_within_the_request() -> None:
    shop = Shop(NotYet(), NotYet())
    assert await deliver(PostbackApp(credentials(), shop), signed_postback()) == 200
    assert (shop.calls, len(shop.handled)) == (3, 1)


async def test_when_patience_ends_the_answer_is_not_yet_and_a_redelivery_is_handled() -> None:
    shop = Shop(NotYet())
    app = PostbackApp(credentials(), shop, patience=0)
    assert await deliver(app, signed_postback()) == 503
    assert await deliver(app, signed_postback()) == 200
    assert len(shop.handled) == 1


async def test_a_handler_that_fails_is_answered_500_raised_and_handled_on_redelivery() -> None:
    shop = Shop(ZeroDivisionError())
    app = PostbackApp(credentials(), shop)
    sent: list[int] = []

    async def send(message: Any) -> None:
        sent.extend([message["status"]] if "status" in message else [])

    with pytest.raises(ZeroDivisionError):
        await app(scope_of(GOOD), receive_of(GOOD), send)
    assert sent == [500]
    assert await deliver(app, signed_postback()) == 200
    assert len(shop.handled) == 1


def scope_of(postback: SignedPostback) -> dict[str, Any]:
    headers = [(name.encode(), value.encode()) for name, value in postback.headers.items()]
    return {"type": "http", "method": "POST", "path": "/", "headers": headers}


def receive_of(postback: SignedPostback) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": postback.body}

    return receive


async def ignore(message: Any) -> None:
    pass


async def test_a_delivery_cancelled_in_the_handler_is_handled_on_redelivery() -> None:
    started = anyio.Event()

    class Slow(Shop):
        async def __call__(self, postback: Postback) -> None:
            if not started.is_set():
                started.set()
                await anyio.sleep_forever()
            await super().__call__(postback)

    shop = Slow()
    app = PostbackApp(credentials(), shop)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, scope_of(GOOD), receive_of(GOOD), ignore)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert await deliver(app, signed_postback()) == 200
    assert len(shop.handled) == 1


async def test_two_deliveries_at_once_are_handled_once_and_both_answered_ok() -> None:
    shop, statuses = Shop(), []
    app = PostbackApp(credentials(), shop)

    async def one() -> None:
        statuses.append(await deliver(app, signed_postback()))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(one)
    assert statuses == [200] * 5
    assert len(shop.handled) == 1


async def test_what_is_taken_for_a_repeat_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for app, is_silent in (
        (PostbackApp(credentials(), Shop()), False),
        (PostbackApp(credentials(), Shop(), repeat_handler=Shop()), True),
    ):
        caplog.clear()
        for status in ("rejected", "approved"):
            assert await deliver(app, signed_postback(status)) == 200
        assert caplog.messages == []
        assert await deliver(app, signed_postback("rejected")) == 200
        repeat = f"1234:{INV_ID}:rejected was handled before, and is taken for a repeat"
        assert caplog.messages == ([] if is_silent else [repeat])


async def test_a_repeat_can_be_looked_at() -> None:
    shop, repeats = Shop(), Shop(NotYet())
    app = PostbackApp(credentials(), shop, repeat_handler=repeats)
    for status in ("rejected", "approved", "rejected"):
        assert await deliver(app, signed_postback(status)) == 200
    assert [each.status for each in shop.handled] == ["rejected", "approved"]
    assert [each.status for each in repeats.handled] == ["rejected"]
    assert repeats.calls == 2


class SlowStore(MemoryDeliveryStore):
    """A store whose answer to a claim is lost on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = anyio.Event()

    async def claim(self, key: str, owner: str) -> Claim:
        claim = await super().claim(key, owner)
        if not self.asked.is_set():
            self.asked.set()
            await anyio.sleep_forever()
        return claim


async def test_a_delivery_cancelled_while_it_claims_leaves_no_claim_behind() -> None:
    store, shop = SlowStore(), Shop()
    app = PostbackApp(credentials(), shop, store=store, patience=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, scope_of(GOOD), receive_of(GOOD), ignore)
        await store.asked.wait()
        tasks.cancel_scope.cancel()
    assert await deliver(app, signed_postback()) == 200
    assert len(shop.handled) == 1


class BrokenStore(MemoryDeliveryStore):
    """A store that is out of reach at one of its steps."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    async def claim(self, key: str, owner: str) -> Claim:
        if self.step == "claim":
            raise ConnectionError
        return await super().claim(key, owner)

    async def release(self, *_: str) -> None:
        raise ConnectionError("the release failed too")

    async def settle(self, *_: str) -> None:
        raise ConnectionError


async def test_a_store_out_of_reach_before_handling_fails_and_after_it_does_not() -> None:
    for step, answered, handled in (("claim", 500, 0), ("settle", 200, 1)):
        shop = Shop()
        sent: list[int] = []

        async def send(message: Any, sent: list[int] = sent) -> None:
            sent.extend([message["status"]] if "status" in message else [])

        app = PostbackApp(credentials(), shop, store=BrokenStore(step))
        with pytest.raises(Exception, match=r"^$|the store could not record it"):
            await app(scope_of(GOOD), receive_of(GOOD), send)
        assert sent == [answered]
        assert len(shop.handled) == handled


async def test_the_statuses_that_ask_for_a_redelivery_can_be_chosen() -> None:
    statuses = ResponseStatuses(failed=502, not_yet=425)
    shop = Shop(NotYet(), ZeroDivisionError())
    app = PostbackApp(credentials(), shop, patience=0, statuses=statuses)
    assert await deliver(app, signed_postback()) == 425
    sent: list[int] = []

    async def send(message: Any) -> None:
        sent.extend([message["status"]] if "status" in message else [])

    with pytest.raises(ZeroDivisionError):
        await app(scope_of(GOOD), receive_of(GOOD), send)
    assert sent == [502]
    assert await deliver(app, signed_postback()) == 200


async def test_alone_it_can_be_bound_to_one_path() -> None:
    app = PostbackApp(credentials(), Shop(), path="/postbacks")
    assert (await call(app, GOOD.body, GOOD.headers, path="/postbacks"))[0] == 200
    assert (await call(app, GOOD.body, GOOD.headers, path="/app/postbacks", root_path="/app"))[0] == 200
    assert (await call(app, GOOD.body, GOOD.headers, path="/app/postbacks", root_path="/app/"))[0] == 200
    assert (await call(app, GOOD.body, GOOD.headers, path="/postbacks", root_path="/post"))[0] == 200
    assert (await call(app, GOOD.body, GOOD.headers, path="/postbacks", root_path=None))[0] == 200
    assert (await call(app, GOOD.body, GOOD.headers, path="/postbacks/"))[0] == 404


async def test_it_lives_with_a_server_and_serves_http_only() -> None:
    app = PostbackApp(credentials(), Shop())
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(RuntimeError, match="serves HTTP, not websocket"):
        await app({"type": "websocket"}, receive, send)


@pytest.mark.parametrize(
    ("arguments", "settings", "way_out"),
    [
        (([], Shop()), {}, "credentials must be Credentials"),
        ((credentials(), None), {}, "handler must be"),
        ((credentials(), print), {}, "handler must be"),
        ((credentials(), Shop()), {"repeat_handler": print}, "repeat_handler must be"),
        ((credentials(), Shop()), {"store": SyncMemoryDeliveryStore()}, "store must be .* 'async def'"),
        ((credentials(), Shop()), {"max_age": -1}, "max_age must be"),
        ((credentials(), Shop()), {"path": "postbacks"}, "path must begin with a slash"),
        ((credentials(), Shop()), {"patience": math.nan}, "patience must be a number of seconds, 0 or more"),
        ((credentials(), Shop()), {"patience": -1}, "patience must be"),
        ((credentials(), Shop()), {"patience": "5"}, "patience must be"),
        ((credentials(), Shop()), {"body_seconds": -1}, "body_seconds must be a number of seconds, above 0"),
        ((credentials(), Shop()), {"body_seconds": 0}, "body_seconds must be"),
        ((credentials(), Shop()), {"body_seconds": 10**9 + 1}, "body_seconds must be"),
    ],
)
async def test_settings_that_cannot_be_right_are_refused(
    arguments: Any, settings: dict[str, Any], way_out: str
) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        PostbackApp(*arguments, **settings)


@pytest.mark.parametrize(
    ("keep_seconds", "max_age", "is_accepted"),
    [
        (None, None, True),
        (None, 300, True),
        (30 * 24 * 3600.0, None, False),
        (660, 300, True),
        (659.9, 300, False),
        (60, 0, True),
        (600, dt.timedelta(minutes=5), False),
        (660, dt.timedelta(minutes=5), True),
    ],
)
async def test_a_store_that_forgets_must_outlast_every_captured_postback(
    keep_seconds: float | None, max_age: Any, is_accepted: bool
) -> None:
    store = MemoryDeliveryStore(keep_seconds=keep_seconds)
    if is_accepted:
        PostbackApp(credentials(), Shop(), store=store, max_age=max_age)
    else:
        with pytest.raises(ConfigurationError, match="max_age"):
            PostbackApp(credentials(), Shop(), store=store, max_age=max_age)


async def test_an_approval_that_is_replayed_a_year_later_is_not_handled_again() -> None:
    now, shop = [0.0], Shop()
    app = PostbackApp(credentials(), shop, store=MemoryDeliveryStore(clock=lambda: now[0]))
    assert await deliver(app, GOOD) == 200
    now[0] += 365 * 24 * 3600.0
    assert await deliver(app, GOOD) == 200
    assert len(shop.handled) == 1


header_names = (
    st.sampled_from([b"x-signature", b"X-Timestamp", b"content-type", b"content-length"]) | st.binary()
)
hostile_headers = st.lists(st.tuples(header_names, st.binary()), max_size=6)
hostile_bodies = st.lists(st.binary(max_size=2000), min_size=1, max_size=4)
mutations = st.sampled_from([b"", b" ", b"}", b'"', b"\xff", b'{"updates":', b"NaN", b"["])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hostile_headers, hostile_bodies)
async def test_hostile_requests_are_refused_and_nothing_else(
    headers: list[tuple[bytes, bytes]], body: list[bytes]
) -> None:
    shop = Shop()
    status, _, _ = await call(PostbackApp(credentials(), shop), body, headers)
    assert status == 401
    assert shop.calls == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(GOOD.body)), mutations)
async def test_authentic_garbage_is_malformed_and_nothing_else(at: int, piece: bytes) -> None:
    body = GOOD.body[:at] + piece + GOOD.body[at:]
    shop = Shop()
    status, _, _ = await call(PostbackApp(credentials(), shop), body, signed(body))
    assert status in {200, 400}
    assert len(shop.handled) == (status == 200)


async def test_json_of_any_kind_is_answered() -> None:
    values: list[Any] = [None, 5, "x", [], {"updates": []}, {"request_token": 1, "updates": {"status": 1}}]
    for value in values:
        body = json.dumps(value).encode()
        assert (await call(PostbackApp(credentials(), Shop()), body, signed(body)))[0] in {200, 400}
