"""``wegetfinancing.testing.pytest``, in suites of shops that are really run, and the deliveries."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from support.asgi import Shop
from support.wsgi import SyncShop
from wegetfinancing.contrib.flask import postback_view
from wegetfinancing.postbacks import PostbackApp, wsgi
from wegetfinancing.testing import credentials, signed_postback
from wegetfinancing.testing.deliveries import deliver_to_asgi, deliver_to_wsgi

pytest_plugins = ["pytester"]

Run: TypeAlias = Callable[..., pytest.RunResult]

URL = "https://shop.example/postbacks"
CONFTEST = 'pytest_plugins = ["wegetfinancing.testing.pytest"]\n'
BACKENDS = """
@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the suite of a shop in a process of its own, with no plugins but anyio's."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run_suite(**files: str) -> pytest.RunResult:
        pytester.makepyfile(**{"conftest": CONFTEST, **files})
        return pytester.runpytest_subprocess("-W", "error", "-p", "anyio", "-p", "no:cacheprovider")

    return run_suite


@pytest.mark.one_interpreter
def test_a_shop_that_awaits(run: Run) -> None:
    result = run(
        conftest=f"import pytest\n{CONFTEST}{BACKENDS}",
        test_shop="""
            import pytest

            from wegetfinancing.postbacks import PostbackApp
            from wegetfinancing.testing import INV_ID, financing_request, shipping_event, signed_postback

            pytestmark = pytest.mark.anyio

            @pytest.fixture
            def orders():
                return []

            @pytest.fixture
            def wegetfinancing_app(orders, wegetfinancing_credentials):
                async def handle(postback):
                    orders.append(postback.merchant_transaction_id)

                return PostbackApp(wegetfinancing_credentials, handle, path="/postbacks")

            async def test_the_client_sends_on_the_fake(wegetfinancing_client, wegetfinancing_transport):
                await wegetfinancing_client.create_request(financing_request())
                await wegetfinancing_client.update_shipping(INV_ID, shipping_event())
                assert wegetfinancing_transport.financing_requests == [financing_request()]

            async def test_a_postback_is_delivered(wegetfinancing_deliver, orders):
                answer = await wegetfinancing_deliver(signed_postback())
                assert (answer.status, answer.body) == (200, b"OK")
                assert orders == ["ORDER-123"]

            async def test_to_another_url(wegetfinancing_deliver, orders):
                answer = await wegetfinancing_deliver(signed_postback(), url="https://shop.example/other")
                assert answer.status == 404
                assert orders == []

            def test_a_test_need_not_use_what_it_asks_for(wegetfinancing_client, wegetfinancing_sync_client):
                pass
        """,
        test_emulated="""
            import pytest

            from wegetfinancing import AsyncClient
            from wegetfinancing.postbacks import PostbackApp
            from wegetfinancing.testing import financing_request

            pytestmark = pytest.mark.anyio

            @pytest.fixture
            def wegetfinancing_transport(wegetfinancing_emulator):
                return wegetfinancing_emulator

            async def test_the_emulator_answers(wegetfinancing_client, wegetfinancing_emulator):
                created = await wegetfinancing_client.create_request(financing_request())
                assert list(wegetfinancing_emulator.applications) == [created.inv_id]

            @pytest.fixture
            def wegetfinancing_postback_url():
                return "http://shop.test/elsewhere"

            @pytest.fixture
            def wegetfinancing_app(wegetfinancing_ledger, wegetfinancing_credentials):
                async def handle(decision):
                    pass

                return PostbackApp(
                    wegetfinancing_credentials, handle, ledger=wegetfinancing_ledger, path="/elsewhere"
                )

            async def test_from_the_form_to_the_order(
                wegetfinancing_credentials,
                wegetfinancing_emulator,
                wegetfinancing_ledger,
                wegetfinancing_deliver,
            ):
                settings = {"transport": wegetfinancing_emulator, "ledger": wegetfinancing_ledger}
                async with AsyncClient(wegetfinancing_credentials, **settings) as client:
                    created = await client.create_request(financing_request())
                approval = wegetfinancing_emulator.decide(created.inv_id, "approved")
                assert (await wegetfinancing_deliver(approval)).status == 200
                assert wegetfinancing_ledger.loan("ORDER-123").may_ship
        """,
    )
    result.assert_outcomes(passed=11)


@pytest.mark.one_interpreter
def test_a_shop_that_does_not_await(run: Run) -> None:
    result = run(
        test_shop="""
            import pytest
            from flask import Flask

            from wegetfinancing.contrib.flask import postback_view
            from wegetfinancing.testing import created_response, financing_request, signed_postback

            ORDERS = []

            @pytest.fixture
            def wegetfinancing_app(wegetfinancing_credentials):
                app = Flask("shop")
                view = postback_view(wegetfinancing_credentials, ORDERS.append)
                app.add_url_rule("/postbacks", view_func=view)
                return app

            def test_the_client(wegetfinancing_sync_client, wegetfinancing_transport):
                wegetfinancing_sync_client.create_request(financing_request())
                assert len(wegetfinancing_transport.requests) == 1

            def test_a_postback(wegetfinancing_sync_deliver):
                answer = wegetfinancing_sync_deliver(signed_postback())
                assert (answer.status, answer.body) == (200, b"OK")
                assert len(ORDERS) == 1
                elsewhere = "http://shop.test:8000/elsewhere?a=b"
                assert wegetfinancing_sync_deliver(signed_postback(), url=elsewhere).status == 404
        """,
        test_without_an_app="""
            def test_a_postback(wegetfinancing_sync_deliver):
                pass
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*define a fixture wegetfinancing_app that returns your ASGI or WSGI app"])


def test_the_package_runs_without_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import wegetfinancing, wegetfinancing.testing"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own


@pytest.mark.anyio
@pytest.mark.parametrize(
    "middleware", [[], [Middleware(TrustedHostMiddleware, allowed_hosts=["shop.example"])]]
)
async def test_what_an_asgi_app_sees_is_a_request_as_of_a_server(middleware: list[Middleware]) -> None:
    shop = Shop()
    app = Starlette(routes=[Route("/postbacks", PostbackApp(credentials(), shop))], middleware=middleware)
    answer = await deliver_to_asgi(app, signed_postback(), URL, raise_app_exceptions=True)
    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(shop.handled) == 1


# The middleware of older versions of Starlette leaves its own generator to the collector.
@pytest.mark.filterwarnings("ignore:Async generator 'starlette:ResourceWarning")
@pytest.mark.anyio
async def test_an_asgi_app_that_listens_for_the_end_and_answers_in_pieces() -> None:
    async def stream(request: Request) -> StreamingResponse:
        assert (request.url.scheme, request.url.path) == ("https", "/post backs")
        assert (request.query_params["a"], request.scope["raw_path"]) == ("b", b"/post%20backs")
        assert request.client is not None
        await request.body()

        async def pieces() -> Any:
            for piece in ("O", "K"):
                yield piece

        return StreamingResponse(pieces())

    class Watching(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Callable[..., Any]) -> Any:
            return await call_next(request)

    app = Starlette(
        routes=[Route("/post backs", stream, methods=["POST"])], middleware=[Middleware(Watching)]
    )
    url = "https://shop.example/post%20backs?a=b"
    answer = await deliver_to_asgi(app, signed_postback(), url, raise_app_exceptions=True)
    assert (answer.status, answer.body) == (200, b"OK")


@pytest.mark.anyio
async def test_what_an_asgi_app_raises_reaches_the_test_unless_the_answer_is_wanted() -> None:
    failing = PostbackApp(credentials(), Shop(*[RuntimeError("no stock")] * 2))
    with pytest.raises(RuntimeError, match="no stock"):
        await deliver_to_asgi(failing, signed_postback(), URL, raise_app_exceptions=True)
    answer = await deliver_to_asgi(failing, signed_postback(), URL, raise_app_exceptions=False)
    assert answer.status == 500


@pytest.mark.anyio
async def test_an_asgi_app_that_does_not_answer_is_told() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.debug"})

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    with pytest.raises(AssertionError, match="sent no answer"):
        await deliver_to_asgi(silent, signed_postback(), URL, raise_app_exceptions=False)
    with pytest.raises(RuntimeError, match="broken"):
        await deliver_to_asgi(broken, signed_postback(), URL, raise_app_exceptions=False)


@pytest.mark.anyio
async def test_an_app_of_the_other_kind_is_told() -> None:
    app: Any = wsgi.PostbackApp(credentials(), SyncShop())
    with pytest.raises(TypeError, match="for a WSGI app use wegetfinancing_sync_deliver"):
        await deliver_to_asgi(app, signed_postback(), URL, raise_app_exceptions=True)
    app = PostbackApp(credentials(), Shop())
    with pytest.raises(TypeError, match="for an ASGI app use wegetfinancing_deliver"):
        deliver_to_wsgi(app, signed_postback(), URL, raise_app_exceptions=True)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "scheme", "host", "port"),
    [
        ("https://shop.example/postbacks", "https", "shop.example", 443),
        ("http://shop.example/postbacks", "http", "shop.example", 80),
        ("http://shop.test:8000/postbacks", "http", "shop.test", 8000),
    ],
)
async def test_an_app_sees_the_address_that_was_called(url: str, scheme: str, host: str, port: int) -> None:
    seen: list[Any] = []

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["scheme"], *scope["server"]))
        await send({"type": "http.response.start", "status": 204})

    def in_wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append((environ["wsgi.url_scheme"], environ["SERVER_NAME"], int(environ["SERVER_PORT"])))
        start_response("204 No Content", [])
        return []

    assert (await deliver_to_asgi(asgi, signed_postback(), url, raise_app_exceptions=True)).status == 204
    assert deliver_to_wsgi(in_wsgi, signed_postback(), url, raise_app_exceptions=True).status == 204
    assert seen == [(scheme, host, port)] * 2


def test_a_wsgi_app_of_any_form() -> None:
    def in_a_list(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("x-path", environ["PATH_INFO"])])
        return [environ["wsgi.input"].read()]

    def written(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])(b"O")
        yield b"K"

    made = signed_postback()
    answer = deliver_to_wsgi(in_a_list, made, URL, raise_app_exceptions=True)
    assert (answer.body, answer.headers["x-path"]) == (made.body, "/postbacks")
    assert deliver_to_wsgi(written, made, URL, raise_app_exceptions=True).body == b"OK"
    # A class without a signature that Python can read.
    assert deliver_to_wsgi(Opaque(in_a_list), made, URL, raise_app_exceptions=True).status == 200


class Opaque:
    """Calls another app, and says nothing of how it is called."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.__signature__ = "none"  # inspect raises TypeError

    def __call__(self, *args: Any) -> Any:
        return self.app(*args)


def test_what_a_wsgi_app_raises_reaches_the_test_unless_the_answer_is_wanted() -> None:
    failing = wsgi.PostbackApp(credentials(), SyncShop(*[RuntimeError("no stock")] * 2))
    with pytest.raises(RuntimeError, match="no stock"):
        deliver_to_wsgi(failing, signed_postback(), URL, raise_app_exceptions=True)
    answer = deliver_to_wsgi(failing, signed_postback(), URL, raise_app_exceptions=False)
    assert (answer.status, answer.body) == (500, b"failed")


def test_a_flask_app_verifies_what_is_delivered() -> None:
    app = Flask("shop")
    app.add_url_rule("/postbacks", view_func=postback_view(credentials(), SyncShop()))
    forged = signed_postback(credentials=credentials(password="other"))
    assert deliver_to_wsgi(app, forged, URL, raise_app_exceptions=True).status == 401
