"""The view that receives postbacks, in Flask apps as shops have them."""

import contextlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, got_request_exception, request
from flask.testing import FlaskClient

from test_wsgi import Input, SyncShop, handle_async
from wegetfinancing import Client, ConfigurationError, PostbackVersion
from wegetfinancing.contrib.flask import financing_client, postback_view
from wegetfinancing.postbacks import BODY_LIMIT, NotYet, ResponseStatuses
from wegetfinancing.testing import (
    FakeTransport,
    SignedPostback,
    credentials,
    financing_request,
    signed_postback,
)

GOOD = signed_postback()


def app_with(shop: SyncShop, **settings: Any) -> Flask:
    app = Flask(__name__)
    app.add_url_rule("/postbacks", view_func=postback_view(credentials(), shop, **settings))
    return app


def post(vendor: FlaskClient, postback: SignedPostback = GOOD, **changes: Any) -> tuple[int, str]:
    given: dict[str, Any] = {"data": postback.body, "headers": postback.headers} | changes
    answer = vendor.post("/postbacks", **given)
    return answer.status_code, answer.text


@pytest.mark.parametrize("version", PostbackVersion)
def test_an_authentic_postback_reaches_the_handler_once(version: PostbackVersion) -> None:
    shop = SyncShop()
    vendor = app_with(shop).test_client()
    for _ in range(2):
        answer = vendor.post(
            "/postbacks",
            data=signed_postback(version=version).body,
            headers=signed_postback(version=version).headers,
        )
        assert (answer.status_code, answer.text) == (200, "OK")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert [each.merchant_transaction_id for each in shop.handled] == ["ORDER-123"]


def test_anything_else_does_not() -> None:
    shop = SyncShop()
    vendor = app_with(shop, max_age=300).test_client()
    assert post(vendor, data=GOOD.body + b" ")[0] == 401
    assert post(vendor, headers={})[0] == 401
    assert post(vendor, signed_postback(timestamp="1700000000"))[0] == 401
    assert post(vendor, data=b"")[0] == 401
    assert post(vendor, data=b"x" * (BODY_LIMIT + 1)) == (413, "the body is over 64 KiB")
    for method in ("GET", "PUT", "HEAD"):
        assert vendor.open("/postbacks", method=method).status_code == 405
    assert vendor.post("/postbacks/", data=GOOD.body, headers=GOOD.headers).status_code == 404
    assert shop.threads == []


def test_a_route_for_other_methods_receives_nothing_by_them() -> None:
    app, view = Flask(__name__), postback_view(credentials(), SyncShop())
    app.add_url_rule("/postbacks", view_func=view, methods=["GET", "POST"])
    answer = app.test_client().get("/postbacks", headers=GOOD.headers)
    assert (answer.status_code, answer.text) == (405, "only POST")


def test_a_body_that_a_hook_has_read_is_read_again() -> None:
    shop = SyncShop()
    app = app_with(shop)
    bodies: list[bytes] = []
    app.before_request(lambda: bodies.append(request.get_data()))
    vendor = app.test_client()
    assert post(vendor) == (200, "OK")
    assert post(vendor, data=b"x" * (BODY_LIMIT + 1))[0] == 413
    assert post(vendor, data=b"")[0] == 401
    assert len(shop.handled) == 1


def test_a_body_that_a_hook_has_read_as_a_form_is_said_to_be_so(caplog: pytest.LogCaptureFixture) -> None:
    app = app_with(SyncShop())
    forms: list[object] = []
    app.before_request(lambda: forms.append(request.form))
    assert post(app.test_client(), signed_postback(version=PostbackVersion.V0_2)) == (500, "failed")
    assert "the raw body was read as a form before" in caplog.text


def test_the_limit_of_the_app_and_a_sender_that_goes_away_are_refusals() -> None:
    shop = SyncShop()
    app = app_with(shop)
    vendor = app.test_client()
    app.config["MAX_CONTENT_LENGTH"] = 10
    assert post(vendor) == (413, "the body is over 64 KiB")
    app.config["MAX_CONTENT_LENGTH"] = None
    whole = {"CONTENT_LENGTH": str(len(GOOD.body))}
    for stream in (io.BytesIO(GOOD.body[:10]), Input(GOOD.body[:10], ConnectionResetError())):
        answer = post(vendor, data=None, input_stream=stream, environ_overrides=whole)
        assert answer == (400, "the body ended early")
    assert shop.threads == []


def test_a_handler_that_fails_is_answered_logged_signalled_and_handled_on_redelivery(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = SyncShop(ZeroDivisionError())
    app = app_with(shop, statuses=ResponseStatuses(failed=502))
    seen: list[Exception] = []

    def see(_: Flask, exception: Exception) -> None:
        seen.append(exception)

    with got_request_exception.connected_to(see, app):
        assert post(app.test_client()) == (502, "failed")
    assert [type(each) for each in seen] == [ZeroDivisionError]
    (record,) = caplog.records
    assert (record.name, record.exc_info is not None) == (app.name, True)
    assert post(app.test_client()) == (200, "OK")
    assert len(shop.handled) == 1


def test_settings_go_through_and_are_checked() -> None:
    shop, repeats = SyncShop(NotYet()), SyncShop()
    vendor = app_with(shop, patience=0, repeat_handler=repeats).test_client()
    assert post(vendor) == (503, "not yet")
    for _ in range(2):
        assert post(vendor) == (200, "OK")
    assert (len(shop.handled), len(repeats.handled)) == (1, 1)
    with pytest.raises(ConfigurationError, match="handler must be a plain"):
        postback_view(credentials(), handle_async)


def app_that_creates(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(config)

    @app.post("/checkout")
    def checkout() -> str:
        return financing_client().create_request(financing_request()).inv_id

    return app


def test_an_app_has_one_client_whose_settings_are_its_own() -> None:
    transport = FakeTransport()
    settings = {"credentials": credentials(), "transport": transport, "environment": "live"}
    app = app_that_creates(WEGETFINANCING=settings)
    assert "wegetfinancing" not in app.extensions  # an app can be made without credentials
    together = threading.Barrier(4)

    def check_out(_: int) -> int:
        together.wait()
        return app.test_client().post("/checkout").status_code

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(check_out, range(4))) == {200}
    with contextlib.closing(app.extensions["wegetfinancing"]) as client, app.app_context():
        assert financing_client() is client
        assert "sandbox" not in repr(client)
    assert len(transport.requests) == 4
    assert transport.closed


@pytest.mark.usefixtures("emulator")
def test_what_the_app_does_not_set_comes_from_the_environment() -> None:
    app = app_that_creates()
    assert app.test_client().post("/checkout").status_code == 200
    with contextlib.closing(app.extensions["wegetfinancing"]) as client:
        assert "sandbox" in repr(client)


def test_settings_that_are_missing_are_named_at_the_first_use() -> None:
    app = app_that_creates(TESTING=True)
    with pytest.raises(ConfigurationError, match="WEGETFINANCING_MERCHANT_ID"):
        app.test_client().post("/checkout")


def test_a_test_can_put_a_client_of_its_own_in_its_place() -> None:
    app, transport = app_that_creates(), FakeTransport()
    with Client(credentials(), transport=transport) as client:
        app.extensions["wegetfinancing"] = client
        assert app.test_client().post("/checkout").status_code == 200
    assert len(transport.requests) == 1
