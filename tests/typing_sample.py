"""What users write, checked by mypy --strict and pyright and never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, assert_never, assert_type
from wsgiref.types import WSGIApplication

import flask
import httpx
import httpx2

from wegetfinancing import (
    Address,
    Approved,
    AsyncClient,
    CallEnded,
    CallError,
    CallStarted,
    CartItem,
    Client,
    Country,
    CreatedRequest,
    Credentials,
    Currency,
    Environment,
    FinancingRequest,
    Hook,
    HttpxTransport,
    InvalidRequestError,
    Middleware,
    Outcome,
    Postback,
    PostbackVersion,
    Preapproved,
    RateLimitError,
    Refunded,
    Rejected,
    Retry,
    ShippingEvent,
    ShippingReceipt,
    ShippingState,
    Transport,
    UnknownPostback,
    default_middleware,
    parse_postback,
    postback_from_dict,
    sign_postback,
)
from wegetfinancing.contrib.fastapi import OrderFields, financing_request_from
from wegetfinancing.contrib.flask import financing_client, postback_view
from wegetfinancing.contrib.opentelemetry import OpenTelemetry
from wegetfinancing.emulator import Emulator
from wegetfinancing.http import Handler, Request, Response
from wegetfinancing.postbacks import MemoryDeliveryStore, SyncMemoryDeliveryStore
from wegetfinancing.postbacks.wsgi import PostbackApp, SyncPostbackHandler
from wegetfinancing.testing import FakeTransport, created_response, signed_postback
from wegetfinancing.testing.pytest import Deliver, SyncDeliver


class Mine:
    """A transport without a base class."""

    async def send(self, request: Request) -> Response:
        return Response(200, {"content-type": "application/json"}, request.body)

    async def aclose(self) -> None:
        pass


async def trace(request: Request, call_next: Handler) -> Response:
    return await call_next(request)


class Counter:
    """A middleware with a state."""

    count = 0

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        self.count += 1
        return await call_next(request)


def watch(call: CallStarted) -> Callable[[CallEnded], None]:
    def ended(result: CallEnded) -> None:
        assert_type([each.status for each in result.attempts], list[int | None])

    return ended


def note(call: CallStarted) -> None:
    assert_type(call.operation, str)


async def checkout(credentials: Credentials) -> None:
    transports: list[Transport | None] = [
        None,
        Mine(),
        FakeTransport(),
        FakeTransport(created_response(), RuntimeError(), lambda _: created_response("x")),
        Emulator(credentials),
        HttpxTransport(),
        HttpxTransport(httpx.AsyncClient(), limits=httpx.Limits(max_connections=5)),
        HttpxTransport(httpx2.AsyncClient()),
    ]
    middleware: Sequence[Middleware] = [trace, Counter(), Retry(attempts=5), *default_middleware()]
    hooks: Sequence[Hook] = [watch, note, OpenTelemetry()]
    async with AsyncClient(
        credentials,
        environment=Environment.SANDBOX,
        base_url=None,
        transport=transports[0],
        middleware=middleware,
        hooks=hooks,
        timeout=10,
    ) as client:
        request = FinancingRequest(
            first_name="Jane",
            last_name="Doe",
            email="jane@example.com",
            billing_address=Address(street1="1 Main St", city="Reno", state="NV", zipcode="89501"),
            shipping_address=Address(
                street1="1 Main St", city="Toronto", state="ON", zipcode="M5V 3L9", country="CA"
            ),
            cart_items=[
                CartItem(display_name="Super Widget", unit_price=Decimal("499.00"), quantity=1),
                CartItem(display_name="Small Widget", unit_price="1.50", quantity=2, unit_tax=0),
            ],
            shipping_amount="5",
            tax_amount=1,
            amount=None,
            currency="USD",
            version="1.9",
        )
        assert_type(request.problems(), dict[str, str])
        assert_type(request.expected_amount, Decimal)
        assert_type(FinancingRequest.from_dict(request.to_dict()), FinancingRequest)
        assert_type(request.currency is None, bool)
        try:
            created = await client.create_request(request, timeout=5.0)
        except InvalidRequestError as error:
            assert_type(error.reasons, dict[str, str])
            assert_type(error.status, int | None)
            raise
        except RateLimitError as error:
            assert_type(error.retry_after, float | None)
            raise
        except CallError as error:
            assert_type(error.outcome, Outcome)
            raise
        assert_type(created, CreatedRequest)
        assert_type(created.amount, Decimal | None)
        receipt = await client.update_shipping(
            created.inv_id,
            ShippingEvent(date=dt.date(2026, 1, 15), state=ShippingState.DISPATCHED, items=["a"]),
        )
        assert_type(receipt, ShippingReceipt)
        assert_type(await client.create_test_postback({"a": 1}), Any)


def enums_as_text(request: FinancingRequest) -> None:
    """Each enum is accepted as its text."""
    Address(street1="1 Main St", city="Toronto", state="on", zipcode="M5V 3L9", country="CA")
    ShippingEvent(date=dt.date(2026, 1, 15), state="dispatched")
    signed_postback(version="0.2")
    assert_type(request.version, PostbackVersion)
    assert_type(request.currency, Currency | None)
    assert_type(request.billing_address.country, Country)
    assert_type(request.billing_address.state, str)
    assert_type(request.amount, Decimal | None)
    assert_type(request.cart_items, Sequence[CartItem])
    assert_type(request.cart_items[0].unit_price, Decimal)


def mistakes(address: Address, item: CartItem) -> None:
    """Both type checkers report each of these lines: else the comment itself is an error."""
    FinancingRequest(
        first_name="Jane",
        last_name="Doe",
        email="jane@example.com",
        billing_address=address,
        shipping_address="1 Main St",  # type: ignore[arg-type]
        cart_items=item,  # type: ignore[arg-type]
        amount=4.99,  # type: ignore[arg-type]
        currency=17,  # type: ignore[arg-type]
        shipping_amount=[],  # type: ignore[arg-type]
        tax_amount=b"1",  # type: ignore[arg-type]
        version=1.9,  # type: ignore[arg-type]
    )
    FinancingRequest(
        first_name="Jane",
        last_name="Doe",
        email="jane@example.com",
        billing_address=address,
        cart_items=["Super Widget"],  # type: ignore[list-item]
        amount=Environment.LIVE,  # type: ignore[arg-type]
        currency=Country.US,  # type: ignore[arg-type]
        version=Country.US,  # type: ignore[arg-type]
    )
    CartItem(
        display_name="Super Widget",
        unit_price=4.99,  # type: ignore[arg-type]
        quantity="1",  # type: ignore[arg-type]
        unit_tax=0.5,  # type: ignore[arg-type]
    )
    Address(
        street1="1 Main St",
        city="Reno",
        state=ShippingState.OTHER,  # type: ignore[arg-type]
        zipcode=89501,  # type: ignore[arg-type]
        country=1,  # type: ignore[arg-type]
    )
    ShippingEvent(
        date="2026-01-15",  # type: ignore[arg-type]
        state=5,  # type: ignore[arg-type]
        items=[1],  # type: ignore[list-item]
    )
    signed_postback(version=0.2)  # type: ignore[arg-type]


def receive(body: bytes, headers: dict[str, str], credentials: Credentials) -> str | Decimal | None:
    postback = parse_postback(body, headers, [credentials, credentials], max_age=300)
    assert_type(postback, Postback)
    assert_type(postback_from_dict(postback.to_dict()), Postback)
    match postback:
        case Approved() | Preapproved() | Rejected():
            return postback.merchant_transaction_id
        case Refunded(amount=amount):
            assert_type(amount, Decimal | None)
            return amount
        case UnknownPostback():
            return postback.key
        case _:
            assert_never(postback)


def sign(credentials: Credentials) -> str:
    made = signed_postback("refund", amount="10.00")
    return sign_postback(made.body, made.headers["x-timestamp"], credentials)


from_env: Callable[[], AsyncClient] = AsyncClient.from_env


def settings(credentials: Credentials) -> None:
    assert_type(AsyncClient.from_env(environment="live", timeout=3, base_url=None), AsyncClient)
    AsyncClient(credentials, environment="sandbox", middleware=[Retry(attempts=5)])


def what_both_checkers_report(credentials: Credentials) -> None:
    """Each line is wrong; an ignore that is not needed is an error too."""
    AsyncClient.from_env(timeut=3)  # type: ignore[call-arg]
    AsyncClient.from_env(timeout="3")  # type: ignore[arg-type]
    AsyncClient.from_env(environment="life")  # type: ignore[arg-type]
    AsyncClient(credentials, environment="life")  # type: ignore[arg-type]
    AsyncClient(credentials, hooks=[trace])  # type: ignore[list-item]
    AsyncClient(credentials, middleware=[watch])  # type: ignore[list-item]
    Retry(attempts="5")  # type: ignore[arg-type]
    Retry(5)  # type: ignore[call-arg]


def postbacks_without_asgi(
    credentials: Credentials, handle: SyncPostbackHandler, app: flask.Flask
) -> WSGIApplication:
    PostbackApp(credentials, handle, store=MemoryDeliveryStore())  # type: ignore[arg-type]
    app.add_url_rule("/postbacks", view_func=postback_view([credentials], handle, patience=0))
    assert_type(financing_client(), Client)
    return PostbackApp(credentials, handle, store=SyncMemoryDeliveryStore())


def order_of(order_id: str) -> OrderFields:
    return {"merchant_transaction_id": order_id, "amount": "499.00", "currency": "USD"}


async def order_of_a_row(order_id: str) -> OrderFields:
    items = [CartItem(display_name="A chair", unit_price=1, quantity=1)]
    return {"merchant_transaction_id": order_id, "cart_items": items}


financing_request_from(order_of)
financing_request_from(order_of_a_row, also_from_body=["shipping_amount"])
financing_request_from(order_of, also_from_body=["postback_url"])  # type: ignore[list-item]


def order_without_its_id() -> OrderFields:
    return {"amount": 5}  # type: ignore[typeddict-item]


async def test_of_a_shop(wegetfinancing_deliver: Deliver, wegetfinancing_sync_deliver: SyncDeliver) -> None:
    assert_type(await wegetfinancing_deliver(signed_postback()), Response)
    assert_type(wegetfinancing_sync_deliver(signed_postback(), url="http://shop.test/"), Response)
