"""Postbacks with a ledger over WSGI: applied in the request's thread, answered as over ASGI."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from support import asgi as asgi_server
from support import wsgi as wsgi_server
from support.ledgers import sqlite_ledgers
from test_ledger_postbacks import APPROVED, ORDER, Gone, applied
from wegetfinancing import ConfigurationError
from wegetfinancing.contrib.flask import postback_view
from wegetfinancing.ledger import Ledger, MemoryLedger, run_worker
from wegetfinancing.postbacks import NotYet, PostbackApp, ResponseStatuses, SyncMemoryDeliveryStore, wsgi
from wegetfinancing.testing import SignedPostback, credentials, signed_postback
from wegetfinancing.testing.contract.ledger_checking import Shop

REJECTED = signed_postback("rejected", timestamp="1700000002")


class ShopThatFailsOnce(Shop):
    """Applies nothing the first time."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure: Exception | None = failure

    def __call__(self, *args: Any) -> None:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        super().__call__(*args)


def with_a_worker(ledger: MemoryLedger) -> MemoryLedger:
    ledger.beat("one")
    return ledger


SITUATIONS: dict[str, Callable[[], MemoryLedger]] = {
    "applied": lambda: MemoryLedger(apply=Shop()),
    "apply fails": lambda: MemoryLedger(apply=ShopThatFailsOnce(ZeroDivisionError())),
    "apply fails, with a worker": lambda: with_a_worker(
        MemoryLedger(apply=ShopThatFailsOnce(ZeroDivisionError()))
    ),
    "not yet": lambda: MemoryLedger(apply=ShopThatFailsOnce(NotYet())),
    "gone for a moment": lambda: Gone({"record": 2}, apply=Shop()),
    "gone": lambda: Gone({"record": 10**6}, apply=Shop()),
    "gone once it is stored": lambda: Gone({"claim": 1}, apply=Shop()),
}
DELIVERIES = [APPROVED, APPROVED, REJECTED, signed_postback(timestamp="1700000003")]
SETTINGS: dict[str, Any] = {"patience": 0.2, "statuses": ResponseStatuses(failed=502, not_yet=504)}


def known_of(ledger: Ledger) -> object:
    """What a ledger knows of the order, its times left out."""
    loan = ledger.loan(ORDER)
    return loan and (loan.state, loan.status, loan.may_ship, [each.code for each in loan.held])


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.anyio
async def test_the_vendor_hears_the_same_over_asgi_and_wsgi(name: str, *, is_known: bool) -> None:
    ledgers = SITUATIONS[name](), SITUATIONS[name]()
    for each in ledgers:
        if is_known:
            applied(each)
    # Who is gone for a moment only is waited for, however long a moment is on a busy machine.
    settings = SETTINGS | ({"patience": 30.0} if name == "gone for a moment" else {})
    over_asgi = PostbackApp(credentials(), ledger=ledgers[0], **settings)
    over_wsgi = wsgi.PostbackApp(credentials(), ledger=ledgers[1], **settings)
    statuses = set()
    for made in DELIVERIES:
        status, _, body = await asgi_server.call(over_asgi, made.body, made.headers)
        assert wsgi_server.call(over_wsgi, made.body, headers=made.headers) == (status, body)
        statuses.add(status)
    assert known_of(ledgers[0]) == known_of(ledgers[1])
    assert statuses <= {200, 502, 504}


def test_it_is_applied_in_the_thread_of_the_request() -> None:
    threads: list[int] = []
    ledger = MemoryLedger(apply=lambda *_: threads.append(threading.get_ident()))
    applied(ledger)
    app = wsgi.PostbackApp(credentials(), ledger=ledger)
    for _ in range(2):
        assert wsgi_server.deliver(app, APPROVED) == 200
    assert threads == [threading.get_ident()]


def test_a_ledger_that_cannot_store_is_logged_with_what_was_said(caplog: pytest.LogCaptureFixture) -> None:
    app = wsgi.PostbackApp(credentials(), ledger=Gone({"record": 10**6}, apply=Shop()), patience=0)
    assert wsgi_server.call(app, APPROVED.body, headers=APPROVED.headers) == (503, b"not yet")
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert f"order {ORDER}, df0c3186b69be8aad35ff837a841d347, approved" in record.getMessage()


@pytest.mark.anyio
async def test_a_worker_handles_what_an_endpoint_could_not() -> None:
    shop = ShopThatFailsOnce(ZeroDivisionError())
    ledger = MemoryLedger(apply=shop)
    applied(ledger)
    assert wsgi_server.deliver(wsgi.PostbackApp(credentials(), ledger=ledger), APPROVED) == 500
    recorded = ledger.review().decisions
    assert [each.error for each in recorded] == ["ZeroDivisionError"]
    claim = ledger.claim(recorded[0].id)  # now, in place of after a pause
    assert claim is not None
    assert ledger.apply(claim)
    await run_worker(ledger, until_idle=True)
    assert shop.statuses == ["approved"]


def test_deliveries_at_once_from_many_threads_are_applied_once_in_one_database(tmp_path: Path) -> None:
    with sqlite_ledgers(tmp_path) as make:
        shop = Shop()
        ledger: Ledger = make(apply=shop)
        applied(ledger)
        app = wsgi.PostbackApp(credentials(), ledger=ledger)
        ledger.beat("one")  # a delivery that comes while another one applies leaves it to that
        together = threading.Barrier(8)

        def send(_: int) -> int:
            together.wait()
            return wsgi_server.deliver(app, APPROVED)

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(send, range(8))) == {200}
        assert shop.statuses == ["approved"]


def test_a_flask_view_has_a_ledger_too() -> None:
    shop = Shop()
    ledger = MemoryLedger(apply=shop)
    applied(ledger)
    app = Flask(__name__)
    app.add_url_rule("/postbacks", view_func=postback_view(credentials(), ledger=ledger))

    def post(made: SignedPostback) -> tuple[int, str]:
        answer = app.test_client().post("/postbacks", data=made.body, headers=made.headers)
        return answer.status_code, answer.text

    assert post(APPROVED) == (200, "OK")
    assert post(REJECTED) == (200, "OK")
    assert shop.statuses == ["approved", "rejected"]


@pytest.mark.parametrize(
    ("ledger", "settings", "way_out"),
    [
        (MemoryLedger(), {}, "make the ledger with apply=, or pass handler="),
        (MemoryLedger(), {"handler": "handle"}, "handler must be a function"),
        (MemoryLedger(), {"handler": wsgi_server.handle_async}, "handler must be a plain"),
        (MemoryLedger(apply=Shop()), {"handler": print}, "choose one"),
        (MemoryLedger(apply=Shop()), {"store": SyncMemoryDeliveryStore()}, "not for an endpoint with a"),
        (MemoryLedger(apply=Shop()), {"repeat_handler": print}, "not for an endpoint with a ledger"),
        (MemoryLedger(apply=Shop()), {"max_age": 300}, "not for an endpoint with a ledger"),
        (object(), {}, "ledger must be a ledger"),
        (MemoryLedger, {}, "ledger must be a ledger"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(ledger: Any, settings: Any, way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        wsgi.PostbackApp(credentials(), ledger=ledger, **settings)
