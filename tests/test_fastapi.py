"""PostbackApp in Starlette and FastAPI, and the FastAPI dependency, as an application uses them."""

import datetime as dt
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import PlainTextResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wegetfinancing import ConfigurationError, Postback, PostbackVersion, sign_postback
from wegetfinancing.contrib.fastapi import OPENAPI, RESPONSES, postback_from
from wegetfinancing.postbacks import BODY_LIMIT, NotYet, PostbackApp
from wegetfinancing.testing import credentials, signed_postback

pytestmark = pytest.mark.anyio

handled: list[Postback] = []


@pytest.fixture(autouse=True)
def nothing_handled() -> None:
    handled.clear()


async def keep(postback: Postback) -> None:
    handled.append(postback)


class ReadingTheBody(BaseHTTPMiddleware):
    """Middleware as applications have it, that reads the body before the route does."""

    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        await request.body()
        return await call_next(request)


def starlette_app() -> Starlette:
    return Starlette(
        routes=[Route("/postbacks", PostbackApp(credentials(), keep))],
        middleware=[Middleware(ReadingTheBody)],
    )


def fastapi_app() -> FastAPI:
    app = FastAPI(middleware=[Middleware(ReadingTheBody)])
    verified = Depends(postback_from([credentials()], max_age=dt.timedelta(minutes=5)))

    @app.post("/postbacks", openapi_extra=OPENAPI, responses=RESPONSES)
    async def receive(postback: Annotated[Postback, verified]) -> PlainTextResponse:
        handled.append(postback)
        return PlainTextResponse("OK")

    return app


def fastapi_app_with_a_route() -> FastAPI:
    app = FastAPI()
    app.router.routes.append(Route("/postbacks", PostbackApp(credentials(), keep)))
    return app


@pytest.fixture(params=[starlette_app, fastapi_app, fastapi_app_with_a_route])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(request.param())
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        yield client


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
async def test_a_mount_serves_the_path_with_a_slash_and_redirects_the_one_without(framework: type) -> None:
    app = framework()
    app.mount("/postbacks", PostbackApp(credentials(), keep))
    made = signed_postback()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        redirected = await client.post("/postbacks", content=made.body, headers=made.headers)
        assert (redirected.status_code, redirected.headers["location"]) == (
            307,
            "http://shop.test/postbacks/",
        )
        assert handled == []
        assert (await client.post("/postbacks/", content=made.body, headers=made.headers)).text == "OK"
    assert len(handled) == 1


async def test_an_authentic_postback_reaches_the_handler(vendor: httpx.AsyncClient) -> None:
    made = signed_postback()
    response = await vendor.post("/postbacks", content=made.body, headers=made.headers)
    assert (response.status_code, response.text) == (200, "OK")
    assert [each.merchant_transaction_id for each in handled] == ["ORDER-123"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"x-signature": "0" * 64}, 401),
        ({"x-signature": "\xff"}, 401),
    ],
)
async def test_anything_else_does_not(
    vendor: httpx.AsyncClient, changes: dict[str, str], status: int
) -> None:
    made = signed_postback()
    pairs = [(k.encode(), v.encode("latin-1")) for k, v in (made.headers | changes).items()]
    response = await vendor.post("/postbacks", content=made.body, headers=pairs)
    assert response.status_code == status
    assert handled == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_the_content_type_decides_nothing(vendor: httpx.AsyncClient, content_type: str | None) -> None:
    """A JSON rejection with an order id that an attacker has chosen stays a rejection."""
    order = "PO=7&function=transact&method=purchase&inv_status=Auth&inv_id=of-the-attacker&note="
    made = signed_postback("rejected", merchant_transaction_id=order)
    unsigned = {"content-type": content_type} if content_type else {}
    headers = {name: value for name, value in made.headers.items() if name != "content-type"} | unsigned
    response = await vendor.post("/postbacks", content=made.body, headers=headers)
    assert response.status_code == 200
    assert [(each.status, each.merchant_transaction_id) for each in handled] == [("rejected", order)]


async def test_the_dependency_reads_a_bounded_body() -> None:
    transport = httpx.ASGITransport(fastapi_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        large = b"x" * (BODY_LIMIT + 1)
        response = await client.post("/postbacks", content=large, headers=signed_postback().headers)
    assert response.status_code == 413


async def test_a_header_that_is_missing_or_a_body_that_cannot_be_read_is_refused(
    vendor: httpx.AsyncClient,
) -> None:
    headers = {"content-type": "application/json"}
    assert (await vendor.post("/postbacks", content=b"{}", headers=headers)).status_code == 401
    made = signed_postback()
    empty = signed_postback_of(b"{}")
    assert (await vendor.post("/postbacks", content=b"{}", headers=empty)).status_code == 400
    assert (await vendor.get("/postbacks")).status_code == 405
    assert (await vendor.post("/postbacks/", content=made.body, headers=made.headers)).status_code in {
        307,
        404,
    }
    assert handled == []


def signed_postback_of(body: bytes) -> dict[str, str]:
    now = str(int(time.time()))
    signature = sign_postback(body, now, credentials())
    return {"content-type": "application/json", "x-signature": signature, "x-timestamp": now}


class ReadingTheForm:
    """Middleware that takes the raw bytes away: nothing can be verified after it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).form()

        async def nothing_left() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        await self.app(scope, nothing_left, send)


async def test_a_body_that_was_read_as_a_form_before_is_said_to_be_so() -> None:
    app = fastapi_app()
    app.user_middleware[:] = [Middleware(ReadingTheForm)]
    made = signed_postback(version=PostbackVersion.V0_2)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        with pytest.raises(ConfigurationError, match="read as a form before"):
            await client.post("/postbacks", content=made.body, headers=made.headers)


async def test_an_empty_body_is_refused_whatever_its_length_is_said_to_be() -> None:
    dependency = postback_from(credentials())
    for unsigned in ({}, {"content-length": "7"}):
        pairs = [(k.encode(), v.encode()) for k, v in (signed_postback_of(b"") | unsigned).items()]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        with pytest.raises(HTTPException, match="neither JSON nor a form"):
            await dependency(
                Request({"type": "http", "method": "POST", "path": "/", "headers": pairs}, receive)
            )


async def test_an_empty_body_that_is_not_signed_is_refused(vendor: httpx.AsyncClient) -> None:
    headers = {"x-signature": "0" * 64, "x-timestamp": "1"}
    assert (await vendor.post("/postbacks", content=b"", headers=headers)).status_code == 401
    assert handled == []


async def test_the_dependency_refuses_a_body_that_was_consumed_or_broken_off() -> None:
    dependency = postback_from(credentials())
    made = signed_postback()
    headers = [(name.encode(), value.encode()) for name, value in made.headers.items()]
    headers.append((b"content-length", str(len(made.body)).encode()))

    def request_with(*messages: dict[str, Any]) -> Request:
        left = list(messages)

        async def receive() -> dict[str, Any]:
            return left.pop(0)

        return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)

    consumed = request_with({"type": "http.request", "body": made.body})
    async for _ in consumed.stream():
        pass
    with pytest.raises(ConfigurationError, match="read as a form before"):
        await dependency(consumed)
    with pytest.raises(HTTPException, match="the sender has gone"):
        await dependency(request_with({"type": "http.disconnect"}))


async def test_the_dependency_gives_a_body_that_never_ends_up() -> None:
    headers = [(name.encode(), value.encode()) for name, value in signed_postback().headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}

    async def never() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(HTTPException, match="did not arrive in time"):
        await postback_from(credentials(), body_seconds=0.01)(Request(scope, never))


async def test_the_dependency_shows_up_in_the_openapi_schema() -> None:
    operation = fastapi_app().openapi()["paths"]["/postbacks"]["post"]
    names = {each["name"] for each in operation["parameters"]}
    assert names == {"x-signature", "x-timestamp"}
    assert set(operation["requestBody"]["content"]) == {
        "application/json",
        "application/x-www-form-urlencoded",
    }
    assert {"400", "401", "413"} <= set(operation["responses"])


async def test_settings_go_through_and_are_checked() -> None:
    async def never(postback: Postback) -> None:
        raise NotYet

    app: Any = Starlette(routes=[Route("/postbacks", PostbackApp(credentials(), never, patience=0))])
    made = signed_postback()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        response = await client.post("/postbacks", content=made.body, headers=made.headers)
    assert response.status_code == 503
    with pytest.raises(ConfigurationError, match="must be Credentials"):
        postback_from([])
    with pytest.raises(ConfigurationError, match="max_age must be"):
        postback_from(credentials(), max_age=-1)
    with pytest.raises(ConfigurationError, match="body_seconds must be"):
        postback_from(credentials(), body_seconds=-1)


def fastapi_app_with_a_mount() -> FastAPI:
    app = FastAPI()
    app.mount("/postbacks", PostbackApp(credentials(), keep))
    return app


async def test_a_mount_redirects_which_is_why_the_docs_use_a_route() -> None:
    made = signed_postback()
    for app, status in ((fastapi_app_with_a_mount(), 307), (fastapi_app_with_a_route(), 200)):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            response = await client.post("/postbacks", content=made.body, headers=made.headers)
        assert response.status_code == status
    assert len(handled) == 1
