"""The WSGI PostbackApp called as a server calls it, with wsgiref's validator in between."""

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.util import setup_testing_defaults

import httpx
import pytest

from support.wsgi import GOOD, AppServer, Input, SyncShop, call, deliver, environ_of, handle_async
from test_tracebacks import GOOD_BODY, GOOD_SIGNATURE, locals_of_our_frames
from wegetfinancing import Approved, ConfigurationError, Postback, PostbackVersion
from wegetfinancing.postbacks import (
    BODY_LIMIT,
    Claim,
    MemoryDeliveryStore,
    NotYet,
    ResponseStatuses,
    SyncMemoryDeliveryStore,
)
from wegetfinancing.postbacks.wsgi import PostbackApp
from wegetfinancing.testing import credentials, signed_postback


@pytest.mark.parametrize("version", PostbackVersion)
def test_an_authentic_postback_is_handled_in_this_thread_and_answered_ok(version: PostbackVersion) -> None:
    shop, postback = SyncShop(), signed_postback(version=version)
    server = AppServer(PostbackApp(credentials(), shop))
    assert server.serve(environ_of(postback.body, postback.headers)) == 200
    assert server.body == b"OK"
    assert server.headers == {"content-type": "text/plain; charset=utf-8", "content-length": "2"}
    (handled,) = shop.handled
    assert isinstance(handled, Approved)
    assert shop.threads == [threading.get_ident()]


def test_a_second_delivery_is_answered_ok_and_not_handled_again() -> None:
    shop = SyncShop()
    app = PostbackApp(credentials(), shop)
    for timestamp in ("1700000000", "1700000001"):
        assert deliver(app, signed_postback(timestamp=timestamp)) == 200
    assert deliver(app, signed_postback("rejected")) == 200
    assert [each.status for each in shop.handled] == ["approved", "rejected"]


def test_httpx_can_call_it() -> None:
    app = PostbackApp(credentials(), SyncShop(), path="/postbacks")
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://shop.test") as vendor:
        answer = vendor.post("/postbacks", content=GOOD.body, headers=GOOD.headers)
        assert (answer.status_code, answer.text) == (200, "OK")
        assert vendor.post("/postbacks", content=b"{}", headers=GOOD.headers).status_code == 401


@pytest.mark.parametrize("length", [str(BODY_LIMIT + 1), "9" * 18])
def test_a_body_that_is_said_to_be_too_large_is_not_read(length: str) -> None:
    stream = Input(b"x" * (BODY_LIMIT + 1))
    app = PostbackApp(credentials(), SyncShop())
    assert call(app, stream, CONTENT_LENGTH=length) == (413, b"the body is over 64 KiB")
    assert stream.asked == []


def test_a_body_is_not_read_where_method_or_path_is_wrong() -> None:
    stream = Input(GOOD.body)
    app = PostbackApp(credentials(), SyncShop(), path="/postbacks")
    assert call(app, stream, PATH_INFO="/postbacks", REQUEST_METHOD="PUT") == (405, b"only POST")
    assert call(app, stream, PATH_INFO="/other") == (404, b"not found")
    assert stream.asked == []


def test_an_answer_to_head_has_no_body() -> None:
    server = AppServer(PostbackApp(credentials(), SyncShop()))
    assert server.serve(environ_of(b"", REQUEST_METHOD="HEAD")) == 405
    assert server.body == b""
    assert server.headers["content-length"] == str(len("only POST"))


def test_no_more_is_read_than_the_body_has() -> None:
    stream = Input(GOOD.body + b"the next request on the same connection")
    assert call(PostbackApp(credentials(), SyncShop()), stream, CONTENT_LENGTH=str(len(GOOD.body)))[0] == 200
    assert stream.read() == b"the next request on the same connection"


class Dripping(Input):
    """Returns less than it is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 7))


@pytest.mark.parametrize("environ", [{}, {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}])
def test_a_body_may_come_in_pieces(environ: dict[str, Any]) -> None:
    shop = SyncShop()
    assert call(PostbackApp(credentials(), shop), Dripping(GOOD.body), **environ)[0] == 200
    assert len(shop.handled) == 1


def test_a_body_without_a_length_is_read_to_its_end_where_that_is_marked_and_not_beyond_the_limit() -> None:
    app = PostbackApp(credentials(), SyncShop())
    chunked: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    environ = environ_of(**chunked)
    del environ["CONTENT_LENGTH"]
    assert AppServer(app).serve(environ) == 200
    stream = Input(b"x" * 10 * BODY_LIMIT)
    assert call(app, stream, CONTENT_LENGTH="", **chunked)[0] == 413
    assert stream.tell() == BODY_LIMIT + 1


def test_a_body_without_a_length_is_not_waited_for_elsewhere() -> None:
    app = PostbackApp(credentials(), SyncShop())
    stream = Input(GOOD.body)
    assert call(app, stream, CONTENT_LENGTH="")[0] == 401  # an empty one, which GOOD's signature is not for
    status, text = call(app, stream, CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked")
    assert (status, text) == (411, b"this server needs a Content-Length")
    assert stream.asked == []


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", "x", "1.0", "\u00b2", "9" * 19, " 5"])
def test_a_length_that_is_not_a_number_is_refused(length: str) -> None:
    stream = Input(GOOD.body)
    app = PostbackApp(credentials(), SyncShop())
    environ = environ_of(stream, CONTENT_LENGTH=length)
    setup_testing_defaults(environ)  # past the validator, which refuses some of them itself
    statuses: list[str] = []
    assert list(app(environ, lambda status, _: statuses.append(status))) == [
        b"the content length is malformed"
    ]
    assert statuses == ["400 Bad Request"]
    assert stream.asked == []


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (None, (400, b"the body ended early")),
        (ConnectionResetError(), (400, b"the body ended early")),
        (TimeoutError(), (408, b"the body did not arrive in time")),
    ],
)
def test_a_body_that_breaks_off_is_refused_and_not_raised(
    failure: Exception | None, answer: tuple[int, bytes]
) -> None:
    shop = SyncShop()
    stream = Input(GOOD.body[:10], failure)
    assert call(PostbackApp(credentials(), shop), stream, CONTENT_LENGTH=str(len(GOOD.body))) == answer
    assert shop.threads == []


def test_the_path_is_what_follows_the_mount_and_is_read_as_utf_8() -> None:
    app = PostbackApp(credentials(), SyncShop(), path="/r\u00fcckruf")
    as_wsgi_has_it = "/r\u00fcckruf".encode().decode("latin-1")
    assert call(app, PATH_INFO=as_wsgi_has_it)[0] == 200
    assert call(app, PATH_INFO=as_wsgi_has_it, SCRIPT_NAME="/app")[0] == 200
    assert call(app, PATH_INFO="/r\u00fcckruf")[0] == 404
    assert call(app, PATH_INFO="", SCRIPT_NAME=as_wsgi_has_it)[0] == 404
    environ = environ_of(SCRIPT_NAME="/app")
    del environ["PATH_INFO"]  # a server may leave out what is empty
    assert list(PostbackApp(credentials(), SyncShop())(environ, lambda *_: None)) == [b"OK"]


def test_while_the_order_is_not_there_yet_it_is_tried_again_within_the_request() -> None:
    shop = SyncShop(NotYet(), NotYet())
    assert deliver(PostbackApp(credentials(), shop), GOOD) == 200
    assert (len(shop.threads), len(shop.handled)) == (3, 1)


def test_when_patience_ends_the_answer_is_not_yet_and_a_redelivery_is_handled() -> None:
    shop = SyncShop(NotYet())
    app = PostbackApp(credentials(), shop, patience=0)
    assert call(app) == (503, b"not yet")
    assert deliver(app, GOOD) == 200
    assert len(shop.handled) == 1


@pytest.mark.parametrize(
    ("failed", "line"),
    [(500, "500 Internal Server Error"), (502, "502 Bad Gateway"), (599, "599 Unknown")],
)
def test_a_handler_that_fails_is_answered_then_raised_and_handled_on_redelivery(
    failed: int, line: str
) -> None:
    shop = SyncShop(ZeroDivisionError())
    app = PostbackApp(credentials(), shop, statuses=ResponseStatuses(failed=failed))
    server = AppServer(app)
    with pytest.raises(ZeroDivisionError):
        server.serve(environ_of())
    assert (server.status, server.body) == (failed, b"failed")
    shop.failures.append(ZeroDivisionError())
    lines: list[str] = []
    next(app(environ_of(), lambda status, _: lines.append(status)))
    assert lines == [line]
    assert deliver(app, GOOD) == 200
    assert len(shop.handled) == 1


def test_a_handler_that_is_interrupted_is_handled_on_redelivery() -> None:
    shop = SyncShop(SystemExit())
    app = PostbackApp(credentials(), shop)
    with pytest.raises(SystemExit):
        deliver(app, GOOD)
    assert deliver(app, GOOD) == 200
    assert len(shop.handled) == 1


def test_a_repeat_can_be_looked_at() -> None:
    shop, repeats = SyncShop(), SyncShop(NotYet())
    app = PostbackApp(credentials(), shop, repeat_handler=repeats)
    for status in ("rejected", "approved", "rejected"):
        assert deliver(app, signed_postback(status)) == 200
    assert [each.status for each in shop.handled] == ["rejected", "approved"]
    assert [each.status for each in repeats.handled] == ["rejected"]
    assert len(repeats.threads) == 2


def test_deliveries_at_once_from_many_threads_are_handled_once_and_all_answered_ok() -> None:
    together = threading.Barrier(8)
    shop = SyncShop()
    app = PostbackApp(credentials(), shop)

    def one(_: int) -> set[int]:
        together.wait()
        return {deliver(app, signed_postback(inv_id=f"inv{number}")) for number in range(20)}

    with ThreadPoolExecutor(8) as threads:
        statuses = set().union(*threads.map(one, range(8)))
    assert statuses == {200}
    assert sorted(each.inv_id for each in shop.handled) == sorted(f"inv{number}" for number in range(20))


class BrokenSyncStore(SyncMemoryDeliveryStore):
    """A store that is out of reach at one of its steps."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def claim(self, key: str, owner: str) -> Claim:
        if self.step == "claim":
            raise ConnectionError
        return super().claim(key, owner)

    def release(self, *_: str) -> None:
        raise ConnectionError("the release failed too")

    def settle(self, *_: str) -> None:
        raise ConnectionError


def test_a_store_out_of_reach_before_handling_fails_and_after_it_does_not() -> None:
    for step, answered, handled in (("claim", 500, 0), ("settle", 200, 1)):
        shop = SyncShop()
        server = AppServer(PostbackApp(credentials(), shop, store=BrokenSyncStore(step)))
        with pytest.raises(Exception, match=r"^$|the store could not record it"):
            server.serve(environ_of())
        assert server.status == answered
        assert len(shop.handled) == handled


def starts_a_coroutine(postback: Postback) -> object:
    return handle_async(postback)


class Awaitable:
    """An awaitable that is not a coroutine."""

    def __await__(self) -> Iterator[None]:
        return iter(())


def returns_awaitable(_: Postback) -> object:
    return Awaitable()


@pytest.mark.parametrize("handler", [starts_a_coroutine, returns_awaitable])
def test_a_handler_whose_awaitable_nobody_awaits_is_a_failure_and_no_handling(handler: Any) -> None:
    app = PostbackApp(credentials(), handler)
    for _ in range(2):
        server = AppServer(app)
        with pytest.raises(ConfigurationError, match="returned an awaitable"):
            server.serve(environ_of())
        assert server.status == 500


def test_a_handler_that_raises_what_ends_a_generator_has_failed() -> None:
    shop = SyncShop(StopIteration())
    server = AppServer(PostbackApp(credentials(), shop))
    with pytest.raises(RuntimeError):
        server.serve(environ_of())
    assert server.status == 500


@pytest.mark.parametrize(
    ("arguments", "settings", "way_out"),
    [
        (([], SyncShop()), {}, "credentials must be Credentials"),
        ((credentials(), None), {}, "handler must be a plain"),
        ((credentials(), handle_async), {}, "handler must be a plain 'def .*'async def' needs ASGI"),
        ((credentials(), SyncShop()), {"repeat_handler": handle_async}, "repeat_handler must be"),
        ((credentials(), SyncShop()), {"store": MemoryDeliveryStore()}, "such as SyncMemoryDeliveryStore"),
        ((credentials(), SyncShop()), {"store": object()}, "store must be"),
        ((credentials(), SyncShop()), {"max_age": -1}, "max_age must be"),
        ((credentials(), SyncShop()), {"path": "postbacks"}, "path must begin with a slash"),
        (
            (credentials(), SyncShop()),
            {"patience": math.nan},
            "patience must be a number of seconds, 0 or more",
        ),
        (
            (credentials(), SyncShop()),
            {"store": SyncMemoryDeliveryStore(keep_seconds=60), "max_age": 300},
            "keep_seconds of the store must be at least",
        ),
    ],
)
def test_settings_that_cannot_be_right_are_refused(
    arguments: Any, settings: dict[str, Any], way_out: str
) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        PostbackApp(*arguments, **settings)


def test_an_age_is_checked() -> None:
    app = PostbackApp(credentials(), SyncShop(), max_age=300)
    assert deliver(app, signed_postback()) == 200
    assert deliver(app, signed_postback("rejected", timestamp="1700000000")) == 401


@pytest.mark.parametrize("failure", [None, ZeroDivisionError()])
def test_no_frame_of_ours_holds_the_body_or_the_signature(failure: Exception | None) -> None:
    shop = SyncShop(*([ZeroDivisionError()] if failure is None else []))
    stream = Input(GOOD_BODY, failure)
    headers = {"x-signature": GOOD_SIGNATURE, "x-timestamp": "1"}
    environ = environ_of(stream, headers, CONTENT_LENGTH="", **{"wsgi.input_terminated": True})
    with pytest.raises(ZeroDivisionError) as caught:
        list(PostbackApp(credentials(), shop)(environ, lambda *_: None))
    seen = locals_of_our_frames(caught.value)
    assert "canary-body" not in seen
    assert GOOD_SIGNATURE not in seen
