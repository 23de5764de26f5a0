"""A fake transport that answers from a script, builders of sensible values, and signed postbacks."""

import datetime as dt
import itertools
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeAlias

import anyio.lowlevel
import attrs

from .._converter import from_wire
from .._json import from_json
from ..client.operations import CREATE_REQUEST, CREATE_TEST_POSTBACK, UPDATE_SHIPPING
from ..credentials import Credentials
from ..emulator.postbacks import SignedPostback, timestamp_at
from ..emulator.postbacks import signed_postback as _signed_postback
from ..emulator.responses import INV_ID, created_response, done_response, shipping_response
from ..enums import PostbackVersion, ShippingState
from ..errors import Outcome, TransportError
from ..http import Request, Response
from ..models import Address, CartItem, FinancingRequest, ShippingEvent

Reply: TypeAlias = Response | Exception | Callable[[Request], Response]


class FakeTransport:
    """A ``Transport`` that answers from a script and records what was sent.

    Each reply of the script serves one request: a ``Response``, an exception to raise such as
    ``TransportError("lost", outcome=Outcome.UNKNOWN)``, or a function of the request. Without a
    script every request succeeds; the first application has the ID ``INV_ID``, and each further one its own.

    Attributes:
        requests: what was sent, oldest first.
        closed: whether ``aclose`` was called.

    """

    def __init__(self, *script: Reply) -> None:
        """Check the replies, which are used in this order."""
        for number, reply in enumerate(script, start=1):
            is_function = callable(reply) and not isinstance(reply, type)
            if not is_function and not isinstance(reply, Response | Exception):
                msg = f"reply {number} must be a Response, an exception and not its class, or a function"
                raise TypeError(msg)
        self.requests: list[Request] = []
        self.closed: bool = False
        self._script = list(script)
        self._scripted = bool(script)
        self._numbers = itertools.count(1)

    async def send(self, request: Request) -> Response:
        """Record the request and return the next reply.

        Raises:
            TransportError: the script has ended; nothing was sent.

        """
        await anyio.lowlevel.checkpoint()
        self.requests.append(request)
        if not self._scripted:
            return self._success(request)
        if not self._script:
            msg = f"FakeTransport was given {len(self.requests) - 1} replies and got another request"
            raise TransportError(msg, outcome=Outcome.NOT_SENT)
        reply = self._script.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, Response) else reply(request)

    async def aclose(self) -> None:
        """Record that it was closed."""
        await anyio.lowlevel.checkpoint()
        self.closed = True

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: it records what was sent."""
        msg = "a FakeTransport records credentials and customer data, and is not pickled"
        raise TypeError(msg)

    @property
    def financing_requests(self) -> list[FinancingRequest]:
        """What ``create_request`` sent, as models."""
        return [from_wire(FinancingRequest, wire) for wire in self._bodies(CREATE_REQUEST.name)]

    @property
    def shipping_updates(self) -> list[tuple[str, ShippingEvent]]:
        """What ``update_shipping`` sent: the ID and the event as a model."""
        return [
            (wire["loan_id"], from_wire(ShippingEvent, wire["shipping_event"]))
            for wire in self._bodies(UPDATE_SHIPPING.name)
        ]

    @property
    def test_postbacks(self) -> list[dict[str, Any]]:
        """What ``create_test_postback`` sent, decoded."""
        return self._bodies(CREATE_TEST_POSTBACK.name)

    def _bodies(self, operation: str) -> list[dict[str, Any]]:
        return [from_json(each.body) for each in self.requests if each.operation == operation]

    def _success(self, request: Request) -> Response:
        if request.operation == CREATE_REQUEST.name:
            expected = from_wire(FinancingRequest, from_json(request.body)).expected_amount
            number = next(self._numbers)
            return created_response(INV_ID if number == 1 else f"{number:032x}", amount=expected)
        if request.operation == UPDATE_SHIPPING.name:
            return shipping_response(from_json(request.body)["loan_id"])
        return done_response()


_CREDENTIALS: Final = Credentials(merchant_id="1234", username="api-user", password="api-password")  # noqa: S106 - invented
_ADDRESS: Final = Address(street1="123 Main St", city="New York", state="NY", zipcode="10001")
_CART_ITEM: Final = CartItem(display_name="Super Widget", unit_price=Decimal("499.00"), quantity=1)
_FINANCING_REQUEST: Final = FinancingRequest(
    first_name="Jane",
    last_name="Doe",
    email="jane@example.com",
    phone="2125551234",
    billing_address=_ADDRESS,
    cart_items=[_CART_ITEM],
    merchant_transaction_id="ORDER-123",
    postback_url="https://shop.example/postbacks",
)
_SHIPPING_EVENT: Final = ShippingEvent(
    date=dt.date(2026, 1, 15),
    state=ShippingState.DISPATCHED,
    shipment_company="UPS",
    tracking_number="1Z999AA10123456784",
)


def credentials(**changes: Any) -> Credentials:  # noqa: ANN401 - the fields of the model
    """Make invented credentials; keywords replace fields."""
    return attrs.evolve(_CREDENTIALS, **changes)


def address(**changes: Any) -> Address:  # noqa: ANN401 - the fields of the model
    """Make an address in New York; keywords replace fields."""
    return attrs.evolve(_ADDRESS, **changes)


def cart_item(**changes: Any) -> CartItem:  # noqa: ANN401 - the fields of the model
    """Make one widget for 499.00; keywords replace fields."""
    return attrs.evolve(_CART_ITEM, **changes)


def financing_request(**changes: Any) -> FinancingRequest:  # noqa: ANN401 - the fields of the model
    """Make a request without problems; keywords replace fields."""
    return attrs.evolve(_FINANCING_REQUEST, **changes)


def shipping_event(**changes: Any) -> ShippingEvent:  # noqa: ANN401 - the fields of the model
    """Make a dispatched shipment without problems; keywords replace fields."""
    return attrs.evolve(_SHIPPING_EVENT, **changes)


def signed_postback(
    status: str = "approved",
    *,
    inv_id: str = INV_ID,
    merchant_transaction_id: str | None = "ORDER-123",
    amount: Decimal | int | str | None = None,
    version: PostbackVersion | str = PostbackVersion.V1_9,
    credentials: Credentials = _CREDENTIALS,
    timestamp: str | None = None,
) -> SignedPostback:
    """Make a postback as the vendor would send it, with ``headers`` and ``body``.

    Args:
        status: ``approved``, ``preapproved``, ``rejected`` or ``refund``.
        inv_id: the ID of the request.
        merchant_transaction_id: your order ID; ``None`` omits it, as documented rejections and refunds do.
        amount: USD, for a refund.
        version: the dialect, also as text: ``"0.2"``.
        credentials: the ones to sign with; by default those of ``credentials()``.
        timestamp: the text of ``x-timestamp``; by default the current time in epoch seconds, with a fraction
            that makes each postback later than those made before it.

    Raises:
        ValueError: the status or the version is unknown, or such a decision has never been seen in this
            dialect.

    """
    return _signed_postback(
        status,
        credentials,
        inv_id=inv_id,
        merchant_transaction_id=merchant_transaction_id,
        amount=amount,
        version=version,
        timestamp=timestamp_at(time.time()) if timestamp is None else timestamp,
    )
