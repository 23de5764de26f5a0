"""Postbacks in Django: a sync view and an async one, under WSGI and under ASGI."""

import io
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import django
import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings

from support import django_shop
from support.django_project import MIDDLEWARE, OURS, ledger_factory, sqlite_database
from wegetfinancing import ConfigurationError, LedgerError
from wegetfinancing.contrib.django import (
    DjangoLedger,
    async_postback_view,
    get_ledger,
    postback_view,
)
from wegetfinancing.ledger import Decision
from wegetfinancing.postbacks import ResponseStatuses
from wegetfinancing.testing import credentials, signed_postback
from wegetfinancing.testing.contract.ledger_checking import application, created

ORDER = "ORDER-123"
SHOP = credentials()
SETTINGS = {
    **OURS,
    "MERCHANT_ID": SHOP.merchant_id,
    "USERNAME": SHOP.username,
    "PASSWORD": SHOP.password,
    "APPLY": "support.django_shop.apply",
}


@pytest.fixture(autouse=True)
def shop() -> Iterator[None]:
    """Settings with an ``apply``, and an empty ledger."""
    django_shop.told.clear()
    django_shop.opened.clear()
    django_shop.threads.clear()
    django_shop.failures.clear()
    with sqlite_database(), override_settings(WEGETFINANCING=SETTINGS):
        ledger_factory("default")()
        yield


def begin(ledger: DjangoLedger | None = None) -> None:
    ledger = get_ledger() if ledger is None else ledger
    intent = application()
    ledger.begin(intent)
    ledger.record_answer(intent, created())


def deliver(path: str, server: str, delivery: Any = None, **changes: Any) -> Any:
    """Deliver a postback over WSGI or ASGI, with CSRF checks."""
    delivery = signed_postback(timestamp="1700000001") if delivery is None else delivery
    arguments: dict[str, Any] = {
        "data": delivery.body,
        "content_type": "application/json",
        "headers": dict(delivery.headers),
        **changes,
    }
    if server == "wsgi":
        return Client(enforce_csrf_checks=True).post(path, **arguments)

    async def post() -> Any:
        return await AsyncClient(enforce_csrf_checks=True).post(path, **arguments)

    return anyio.run(post)


BOTH = pytest.mark.parametrize("path", ["/postbacks", "/async/postbacks"])
SERVERS = pytest.mark.parametrize("server", ["wsgi", "asgi"])


@BOTH
@SERVERS
def test_a_postback_is_stored_handled_and_answered(path: str, server: str) -> None:
    begin()
    for _ in range(2):
        answer = deliver(path, server)
        assert (answer.status_code, answer.content) == (200, b"OK")
        assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert django_shop.told == ["approved"]
    loan = get_ledger().loan(ORDER)
    assert loan is not None
    assert loan.may_ship


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django has no such middleware before 5.1")
@BOTH
@SERVERS
def test_where_every_other_page_needs_a_login_a_postback_does_not(path: str, server: str) -> None:
    begin()
    login_required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    with override_settings(MIDDLEWARE=[*MIDDLEWARE, login_required]):
        assert deliver(path, server).status_code == 200
    assert django_shop.told == ["approved"]


@BOTH
@SERVERS
def test_a_forged_postback_is_refused_and_nothing_stored(path: str, server: str) -> None:
    forged = signed_postback(credentials=credentials(password="another"))
    assert deliver(path, server, forged).status_code == 401
    assert get_ledger().review().decisions == ()


@BOTH
@SERVERS
def test_a_large_body_is_refused(path: str, server: str) -> None:
    assert deliver(path, server, data=b"x" * 70_000).status_code == 413


@BOTH
def test_only_post_is_answered(path: str) -> None:
    assert Client().get(path).status_code == 405


@BOTH
@SERVERS
def test_a_decision_that_fails_is_stored_and_the_vendor_told_so(path: str, server: str) -> None:
    begin()
    django_shop.failures.append(RuntimeError("the shop fails"))
    assert deliver(path, server).status_code == 500
    (waiting,) = get_ledger().review().decisions
    assert (waiting.state, waiting.error) == ("waiting", "RuntimeError")


@BOTH
def test_a_decision_that_fails_while_a_worker_is_alive_is_answered_ok(path: str) -> None:
    begin()
    get_ledger().beat("worker")
    django_shop.failures.append(RuntimeError("the shop fails"))
    assert deliver(path, "wsgi").status_code == 200


@BOTH
@SERVERS
def test_atomic_requests_do_not_reach_the_view(path: str, server: str, monkeypatch: Any) -> None:
    """Or nothing would be committed when the vendor is answered, and async views would not work at all."""
    begin()
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", value=True)
    assert deliver(path, server).status_code == 200
    assert django_shop.told == ["approved"]


@BOTH
def test_missing_settings_are_logged_and_answered_as_a_failure(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(WEGETFINANCING=OURS):
        assert deliver(path, "wsgi").status_code == 500
    assert "decisions" in caplog.text


def call(view: Callable[[HttpRequest], Any], request: HttpRequest) -> HttpResponse:
    answer = view(request)
    if not isinstance(answer, HttpResponse):

        async def wait(waiting: Awaitable[HttpResponse] = answer) -> HttpResponse:
            return await waiting

        return anyio.run(wait)
    return answer


def request_of(delivery: Any = None) -> HttpRequest:
    delivery = signed_postback(timestamp="1700000001") if delivery is None else delivery
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in delivery.headers.items()}
    return RequestFactory().post("/", data=delivery.body, content_type="application/json", **headers)


@pytest.mark.parametrize(("ends_by_itself", "status"), [(True, 200), (False, 411)])
def test_a_body_in_chunks_is_read_where_the_server_marks_its_end(ends_by_itself: bool, status: int) -> None:
    begin()
    made = signed_postback(timestamp="1700000001")
    request = request_of(made)
    request.META |= {
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input": io.BytesIO(made.body),
        "wsgi.input_terminated": ends_by_itself,
    }
    del request.META["CONTENT_LENGTH"]
    chunked = WSGIRequest(request.META)
    assert chunked.body == b""  # as a middleware may have read it
    assert call(postback_view(), chunked).status_code == status
    assert django_shop.told == ["approved"] * ends_by_itself


def test_a_plain_handler_is_called_until_it_has_succeeded() -> None:
    ledger = DjangoLedger(environment="sandbox")
    begin(ledger)
    told: list[str] = []
    failures = [RuntimeError("the shop fails")]

    def handle(decision: Decision) -> None:
        if failures:
            raise failures.pop()
        told.append(decision.order_id)

    view = postback_view(handle, ledger=ledger, credentials=credentials())
    assert [call(view, request_of()).status_code for _ in range(2)] == [500, 200]
    assert told == [ORDER]


def test_an_async_handler_is_called_until_it_has_succeeded() -> None:
    ledger = DjangoLedger(environment="sandbox")
    begin(ledger)
    told: list[str] = []

    async def handle(decision: Decision) -> None:
        told.append(decision.order_id)

    view = async_postback_view(handle, ledger=ledger, credentials=[credentials()])
    assert [call(view, request_of()).status_code for _ in range(2)] == [200, 200]
    assert told == [ORDER]


@pytest.mark.parametrize(
    ("path", "handler"),
    [("/postbacks", "handle"), ("/async/postbacks", "handle"), ("/async/postbacks", "handle_async")],
)
@SERVERS
def test_a_handler_of_the_settings_is_called_by_either_view(path: str, handler: str, server: str) -> None:
    ours = {**SETTINGS, "HANDLER": f"support.django_shop.{handler}"}
    del ours["APPLY"]
    with override_settings(WEGETFINANCING=ours):
        begin()
        assert deliver(path, server).status_code == 200
        assert get_ledger().review().decisions == ()
    assert django_shop.told == ["approved"]


def test_the_sync_view_refuses_an_async_handler_of_the_settings(caplog: pytest.LogCaptureFixture) -> None:
    ours = {**SETTINGS, "APPLY": None, "HANDLER": django_shop.handle_async}
    with override_settings(WEGETFINANCING=ours):
        assert deliver("/postbacks", "wsgi").status_code == 500
    assert "handler must be a plain" in caplog.text


def test_a_lookup_and_a_handler_in_a_thread_of_ours_leave_no_connection_open() -> None:
    ledger = DjangoLedger(environment="sandbox")
    begin(ledger)

    def lookup(merchant_id: str) -> Any:
        connections["default"].ensure_connection()
        django_shop.opened.append(connections["default"])
        return (each for each in [SHOP] if each.merchant_id == merchant_id)  # read after the call, as a query

    view = async_postback_view(django_shop.handle, ledger=ledger, credentials=lookup)
    answer = view(request_of(), SHOP.merchant_id)

    async def wait() -> HttpResponse:
        return await answer

    assert anyio.run(wait).status_code == 200
    assert threading.get_ident() not in django_shop.threads
    assert [each.connection for each in django_shop.opened] == [None, None]


async def an_async_handler(_: Decision) -> None:
    pass


def a_plain_handler(_: Decision) -> None:
    pass


@pytest.mark.parametrize(
    ("handler", "apply"), [(None, None), (a_plain_handler, django_shop.apply), (an_async_handler, None)]
)
def test_there_is_exactly_one_plain_handler(
    handler: Any, apply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    view = postback_view(handler, ledger=DjangoLedger(environment="sandbox", apply=apply))
    assert call(view, request_of()).status_code == 500
    assert "ConfigurationError" in caplog.text


def test_patience_has_to_be_a_number_of_seconds() -> None:
    for make in (postback_view, async_postback_view):
        with pytest.raises(ConfigurationError, match="patience"):
            make(patience=-1)


class Away(DjangoLedger):
    """A ledger whose database is away for some attempts, at one method."""

    def __init__(self, method: str, failures: int) -> None:
        super().__init__(environment="sandbox", apply=django_shop.apply)
        self.method = method
        self.failures = failures

    def fail_at(self, method: str) -> None:
        if method == self.method and self.failures:
            self.failures -= 1
            raise LedgerError("the database is away")

    def record(self, *args: Any) -> Any:
        self.fail_at("record")
        return super().record(*args)

    def claim(self, *args: Any) -> Any:
        self.fail_at("claim")
        return super().claim(*args)


@pytest.mark.parametrize(("failures", "patience", "status"), [(1, 5.0, 200), (1, 0.0, 503)])
def test_a_postback_that_cannot_be_stored_is_tried_again_while_patience_lasts(
    failures: int, patience: float, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Away("record", failures)
    begin(ledger)
    view = postback_view(ledger=ledger, patience=patience)
    assert call(view, request_of()).status_code == status
    assert ("could not be stored: order ORDER-123" in caplog.text) == (status == 503)


def test_a_database_that_fails_once_it_is_stored_is_answered_as_failed() -> None:
    ledger = Away("claim", 1)
    begin(ledger)
    view = postback_view(ledger=ledger, statuses=ResponseStatuses(failed=502))
    assert call(view, request_of()).status_code == 502


class BrokenBody(io.BytesIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, *_: Any) -> bytes:
        raise self.error


@pytest.mark.parametrize(("error", "status"), [(OSError(), 400), (TimeoutError(), 408)])
def test_a_body_that_breaks_off_is_refused(error: Exception, status: int) -> None:
    request = request_of()
    request._stream = BrokenBody(error)  # where a server's errors come from
    assert call(postback_view(), request).status_code == status


@BOTH
def test_no_log_holds_the_body(path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    begin()
    django_shop.failures.append(RuntimeError("the shop fails"))
    delivery = signed_postback(timestamp="1700000001")
    deliver(path, "wsgi", delivery)
    assert delivery.body.decode() not in caplog.text
