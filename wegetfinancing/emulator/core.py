"""The emulator itself. It answers as the vendor is known to; the rest is listed here as its own choice.

Documented or seen: paths, authentication, required fields, error bodies, how ``amount`` comes about,
the answers of ``create_request`` and ``update_shipping``, dialects and signature of postbacks. Its own
choice, since nobody outside the vendor can see it: the answer for an unknown loan, that shipping events
are appended and never merged, that refunds cannot exceed the loan, the answer of
``create_test_postback``, the form of ``x-timestamp``, and what the docstring of ``validation`` lists.
"""

import hmac
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import anyio.lowlevel
import attrs

from .._json import from_json
from .._rules import to_decimal
from ..client.authentication import basic_authorization
from ..client.operations import CREATE_REQUEST, CREATE_TEST_POSTBACK, OPERATIONS, UPDATE_SHIPPING
from ..credentials import Credentials
from ..errors import ConfigurationError, TransportError
from ..http import Request, Response
from ..models import FinancingRequest, ShippingEvent
from ..postbacks.events import Approved, Refunded
from .faults import SLOW_SECONDS, Effect, Fault, fault_of_order, named_fault
from .postbacks import SignedPostback, order_named_by, signed_postback, timestamp_at
from .responses import created_response, done_response, error_response, shipping_response
from .validation import read_request, read_shipping_event

_BY_PATH: Final = MappingProxyType({each.path: each.name for each in OPERATIONS.values()})


@attrs.define(kw_only=True)
class Application:
    """A financing request as the emulator keeps it.

    Attributes:
        merchant_id: whose it is.
        inv_id: its ID.
        href: the address of its page.
        request: what the shop sent.
        amount: what is financed, in USD.
        status: the last decision: ``approved``, ``preapproved``, ``rejected`` or ``refund``.
        was_approved: whether it was approved at any time, whatever followed.
        refunded: the sum of all refunds, in USD.
        shipping_events: in the order of arrival, repeats included.

    """

    merchant_id: str
    inv_id: str
    href: str = attrs.field(repr=False)
    request: FinancingRequest = attrs.field(repr=False)
    amount: Decimal
    status: str | None = None
    was_approved: bool = False
    refunded: Decimal = Decimal(0)
    shipping_events: list[ShippingEvent] = attrs.field(factory=list)


@attrs.frozen
class Reaction:
    """What the emulator does with a request.

    Attributes:
        effect: what happens to the answer on its way.
        response: the answer.
        fault: the simulated fault, if any.

    """

    effect: Effect
    response: Response
    fault: Fault | None = None


class Emulator:
    """The vendor's API in memory. It is a ``Transport``: pass it to ``AsyncClient``.

    Args:
        credentials: the ones it accepts, and signs its postbacks with; for several merchants, a list of
            one for each.
        page: the beginning of the ``href`` of a request.
        new_inv_id: makes the IDs; by default random ones in the vendor's form.
        clock: seconds since the epoch, for ``x-timestamp``.
        faults: one for each of the next calls, in order: a name of ``wegetfinancing.emulator.FAULTS``, or
            ``None`` for a call that succeeds. A ``create_request`` whose ``merchant_transaction_id``
            is such a name, or begins with one and ``-``, fails in that way too.
        sleep: waits for a number of seconds, for ``fault-slow``.

    Attributes:
        merchants: the IDs of the merchants that it serves.
        applications: what was created, by ``inv_id``.
        test_postbacks: the payloads of ``create_test_postback``.

    Raises:
        ConfigurationError: no credentials, or several of one merchant.

    """

    __slots__ = (
        "_answers",
        "_clock",
        "_credentials",
        "_faults",
        "_new_inv_id",
        "_page",
        "_sleep",
        "applications",
        "merchants",
        "test_postbacks",
    )

    def __init__(
        self,
        credentials: Credentials | Iterable[Credentials],
        *,
        page: str = "https://emulator.invalid/lc/",
        new_inv_id: Callable[[], str] = lambda: secrets.token_hex(16),
        clock: Callable[[], float] = time.time,
        faults: Iterable[str | None] = (),
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        """Start without applications."""
        self.applications: dict[str, Application] = {}
        self.test_postbacks: list[Any] = []
        served = (credentials,) if isinstance(credentials, Credentials) else tuple(credentials)
        self._credentials = {each.merchant_id: each for each in served}
        self.merchants: tuple[str, ...] = tuple(self._credentials)
        if not served or len(self.merchants) < len(served):
            msg = "credentials must be those of one merchant, or a list with one of each merchant"
            raise ConfigurationError(msg)
        self._page = page
        self._new_inv_id = new_inv_id
        self._clock = clock
        self._faults: deque[Fault | None] = deque()
        self._sleep = sleep
        self._answers: dict[str, Callable[[str, Any], Response]] = {
            CREATE_REQUEST.name: self._create_request,
            UPDATE_SHIPPING.name: self._update_shipping,
            CREATE_TEST_POSTBACK.name: self._create_test_postback,
        }
        self.fail_next(*faults)

    @property
    def next_faults(self) -> tuple[Fault | None, ...]:
        """The faults that the next calls will meet, in order."""
        return tuple(self._faults)

    def fail_next(self, *faults: str | None) -> None:
        """Queue these faults for the next calls, after those that are queued already.

        Raises:
            ValueError: a name is unknown.

        """
        self._faults.extend([None if name is None else named_fault(name) for name in faults])

    async def send(self, request: Request) -> Response:
        """Answer ``request``, or simulate a fault.

        Raises:
            TransportError: the fault is a connection that is reset.

        """
        await anyio.lowlevel.checkpoint()
        reaction = self.react(request)
        match reaction.effect:
            case Effect.SLOW:
                await self._sleep(SLOW_SECONDS)
            case Effect.SILENCE:
                await anyio.sleep_forever()
            case Effect.RESET:
                msg = "the emulator simulates a reset connection"
                raise TransportError(msg, operation=request.operation)
        return reaction.response

    async def aclose(self) -> None:
        """Do nothing: the emulator holds no resources."""
        await anyio.lowlevel.checkpoint()

    def react(self, request: Request) -> Reaction:
        """Answer ``request`` without awaiting anything; applying the effect is left to the caller."""
        operation = _operation(request)
        if refusal := self._refusal(request, operation):
            return Reaction(Effect.ANSWER, refusal)
        if self._faults:
            fault = self._faults.popleft()
        else:
            fault = _fault_of_body(request) if operation == CREATE_REQUEST.name else None
        if fault is None:
            return Reaction(Effect.ANSWER, self.answer(request))
        good = self.answer(request) if fault.carried_out else Response(200)
        if not good.is_success:
            return Reaction(Effect.ANSWER, good)
        return Reaction(fault.effect, fault.answer(good), fault)

    def answer(self, request: Request) -> Response:
        """Answer ``request`` without awaiting anything, and without a fault."""
        operation = _operation(request)
        if refusal := self._refusal(request, operation):
            return refusal
        try:
            wire = from_json(request.body)
        except ValueError:
            wire = None
        if not isinstance(wire, dict):
            return error_response(400, "generic", message="MalformedJson")
        return self._answers[operation](_path_parts(request)[1], wire)

    def _refusal(self, request: Request, operation: str) -> Response | None:
        authorization = request.headers.get("authorization", "").encode()
        callers = [
            each.merchant_id
            for each in self._credentials.values()
            if hmac.compare_digest(authorization, basic_authorization(each).encode())
        ]
        if not callers:
            return error_response(401, "http", message="Unauthorized")
        if operation not in self._answers:
            return error_response(404, "http", message="NotFound")
        if _path_parts(request)[1] not in callers:
            return error_response(403, "http", message="Forbidden")
        if request.method != "POST":
            return error_response(405, "http", message="MethodNotAllowed")
        return None

    def decide(
        self, inv_id: str, status: str, *, amount: Decimal | int | str | None = None
    ) -> SignedPostback:
        """Decide on a request and return the postback that reports it to the shop.

        Delivering it is left to the caller: once, twice, late or never.

        Args:
            inv_id: of a request in ``applications``.
            status: ``approved``, ``preapproved``, ``rejected`` or ``refund``.
            amount: USD, for a refund; by default all that remains.

        Raises:
            KeyError: the request is unknown.
            ValueError: the status is unknown, the amount is not possible, the requested dialect cannot
                express the decision, or a refund is of a request that was never approved.

        """
        application = self.applications[inv_id]
        remaining = application.amount - application.refunded
        if status == Refunded.status and not application.was_approved:
            msg = "only a request that was approved can be refunded"
            raise ValueError(msg)
        if status == Refunded.status and amount is None:
            amount = remaining
        postback = signed_postback(
            status,
            self._credentials[application.merchant_id],
            inv_id=inv_id,
            merchant_transaction_id=order_named_by(status, application.request),
            amount=amount,
            version=application.request.version,
            timestamp=timestamp_at(self._clock()),
        )
        if status == Refunded.status and amount is not None:
            if not 0 < to_decimal(amount) <= remaining:
                msg = f"amount must be above 0 and at most the remaining {remaining:.2f}"
                raise ValueError(msg)
            application.refunded += to_decimal(amount)
        application.status = status
        application.was_approved |= status == Approved.status
        return postback

    def _create_request(self, merchant_id: str, wire: dict[str, Any]) -> Response:
        request = read_request(wire)
        if isinstance(request, Response):
            return request
        inv_id = self._new_inv_id()
        application = Application(
            merchant_id=merchant_id,
            inv_id=inv_id,
            href=self._page + inv_id,
            request=request,
            amount=request.expected_amount,
        )
        self.applications[inv_id] = application
        return created_response(inv_id, href=application.href, amount=application.amount)

    def _update_shipping(self, merchant_id: str, wire: dict[str, Any]) -> Response:
        event = read_shipping_event(wire)
        if isinstance(event, Response):
            return event
        loan_id = wire["loan_id"]
        application = self.applications.get(loan_id) if isinstance(loan_id, str) else None
        if application is None or application.merchant_id != merchant_id:
            return error_response(404, "generic", message="LoanNotFound")
        application.shipping_events.append(event)
        return shipping_response(application.inv_id)

    def _create_test_postback(self, _merchant_id: str, wire: dict[str, Any]) -> Response:
        self.test_postbacks.append(wire)
        return done_response()


def _path_parts(request: Request) -> list[str]:
    return urlsplit(request.url).path.removeprefix("/").split("/")


def _operation(request: Request) -> str:
    match _path_parts(request):
        case ["merchant", _, path]:
            return _BY_PATH.get(path, "")
    return ""


def _fault_of_body(request: Request) -> Fault | None:
    try:
        wire = from_json(request.body)
    except ValueError:
        return None
    return fault_of_order(wire.get("merchant_transaction_id")) if isinstance(wire, dict) else None
