"""The sandbox itself: it answers as the vendor is known to, and says where that is its own choice.

Documented or seen: paths, authentication, required fields, error bodies, how ``amount`` comes about,
the answers of ``create_request`` and ``update_shipping``, dialects and signature of postbacks. Its own
choice, since nobody outside the vendor can see it: which of two faults is reported first beyond
"missing before invalid", the texts of reasons, the answer for an unknown loan, that shipping events
are appended and never merged, the answer of ``create_test_postback``, the form of ``x-timestamp``.
"""

import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import anyio.lowlevel
import attrs

from ..config import Credentials
from ..converter import from_json, from_wire, to_json
from ..middleware import basic_authorization
from ..models import Address, CartItem, FinancingRequest, ShippingEvent
from ..operations import CREATE_REQUEST, CREATE_TEST_POSTBACK, OPERATIONS, UPDATE_SHIPPING
from ..rules import Checked
from ..transport import Request, Response
from .postbacks import SignedPostback, signed_postback

_INSIDE: Final[Mapping[str, type[Checked]]] = MappingProxyType(
    {
        "billing_address": Address,
        "shipping_address": Address,
        "cart_items": CartItem,
        "shipping_event": ShippingEvent,
    }
)
_BY_PATH: Final = MappingProxyType({each.path: each.name for each in OPERATIONS.values()})
_INDEX: Final = re.compile(r"\[[0-9]+\]")


@attrs.define(kw_only=True)
class Application:
    """A financing request as the sandbox keeps it.

    Attributes:
        inv_id: its id.
        href: the address of its page.
        request: what the shop sent.
        amount: what is financed, in USD.
        status: the last decision: ``approved``, ``preapproved``, ``rejected`` or ``refund``.
        shipping_events: in the order they came, repeats included.

    """

    inv_id: str
    href: str = attrs.field(repr=False)
    request: FinancingRequest = attrs.field(repr=False)
    amount: Decimal
    status: str | None = None
    shipping_events: list[ShippingEvent] = attrs.field(factory=list)


class Sandbox:
    """The vendor's API in memory. It is a ``Transport``: give it to ``AsyncClient``.

    Args:
        credentials: the ones it accepts, and signs its postbacks with.
        page: what the ``href`` of a request begins with.
        new_inv_id: makes the ids; random ones of the vendor's form unless told otherwise.
        clock: seconds since the epoch, for ``x-timestamp``.

    Attributes:
        applications: what was created, by ``inv_id``.
        test_postbacks: the payloads of ``create_test_postback``.

    """

    __slots__ = (
        "_answers",
        "_authorization",
        "_clock",
        "_credentials",
        "_new_inv_id",
        "_page",
        "applications",
        "test_postbacks",
    )

    def __init__(
        self,
        credentials: Credentials,
        *,
        page: str = "https://sandbox.invalid/lc/",
        new_inv_id: Callable[[], str] = lambda: secrets.token_hex(16),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start with nothing created."""
        self.applications: dict[str, Application] = {}
        self.test_postbacks: list[Any] = []
        self._credentials = credentials
        self._authorization = basic_authorization(credentials)
        self._page = page
        self._new_inv_id = new_inv_id
        self._clock = clock
        self._answers: dict[str, Callable[[Any], Response]] = {
            CREATE_REQUEST.name: self._create_request,
            UPDATE_SHIPPING.name: self._update_shipping,
            CREATE_TEST_POSTBACK.name: self._create_test_postback,
        }

    async def send(self, request: Request) -> Response:
        """Answer ``request``."""
        await anyio.lowlevel.checkpoint()
        return self.answer(request)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""
        await anyio.lowlevel.checkpoint()

    def answer(self, request: Request) -> Response:
        """Answer ``request`` without awaiting anything."""
        operation = _operation(request)
        if refusal := self._refusal(request, operation):
            return refusal
        try:
            wire = from_json(request.body)
        except ValueError:
            wire = None
        if not isinstance(wire, dict):
            return _error(400, "generic", "MalformedJson")
        return self._answers[operation](wire)

    def _refusal(self, request: Request, operation: str) -> Response | None:
        if not hmac.compare_digest(
            request.headers.get("authorization", "").encode(), self._authorization.encode()
        ):
            return _error(401, "http", "Unauthorized")
        if operation not in self._answers:
            return _error(404, "http", "NotFound")
        if _path_parts(request)[1] != self._credentials.merchant_id:
            return _error(403, "http", "Forbidden")
        if request.method != "POST":
            return _error(405, "http", "MethodNotAllowed")
        return None

    def decide(
        self, inv_id: str, status: str, *, amount: Decimal | int | str | None = None
    ) -> SignedPostback:
        """Decide on a request and write the postback that tells the shop.

        It is not delivered: that is the caller's to do, once, twice, late or never.

        Args:
            inv_id: of a request in ``applications``.
            status: ``approved``, ``preapproved``, ``rejected`` or ``refund``.
            amount: USD, for a refund: the whole unless told otherwise.

        Raises:
            KeyError: no such request.
            ValueError: no such status or amount, or none that the dialect asked for can say.

        """
        application = self.applications[inv_id]
        if status == "refund" and amount is None:
            amount = application.amount
        postback = signed_postback(
            status,
            self._credentials,
            inv_id=inv_id,
            merchant_transaction_id=application.request.merchant_transaction_id,
            amount=amount,
            version=application.request.version,
            timestamp=str(int(self._clock())),
        )
        application.status = status
        return postback

    def _create_request(self, wire: dict[str, Any]) -> Response:
        missing = list(_missing(FinancingRequest, wire))
        if not wire.get("cart_items") and "amount" not in wire:
            missing.append("cart_items")
        if error := _missing_parameters(missing) or _unknown_parameters(FinancingRequest, wire):
            return error
        request = from_wire(FinancingRequest, wire)
        if problems := request.problems():
            return _invalid_parameters(problems)
        inv_id = self._new_inv_id()
        application = Application(
            inv_id=inv_id, href=self._page + inv_id, request=request, amount=request.expected_amount
        )
        self.applications[inv_id] = application
        return _json(200, {"inv_id": inv_id, "href": application.href, "amount": f"{application.amount:.2f}"})

    def _update_shipping(self, wire: dict[str, Any]) -> Response:
        event_wire = wire.get("shipping_event")
        missing = [name for name in ("loan_id", "shipping_event") if not wire.get(name)]
        if isinstance(event_wire, dict):
            missing += [f"shipping_event.{name}" for name in _missing(ShippingEvent, event_wire)]
        if error := _missing_parameters(missing):
            return error
        if not isinstance(event_wire, dict):
            return _invalid_parameters({"shipping_event": "must be an object"})
        if error := _unknown_parameters(ShippingEvent, event_wire, "shipping_event."):
            return error
        event = from_wire(ShippingEvent, event_wire)
        if problems := event.problems():
            return _invalid_parameters({f"shipping_event.{path}": text for path, text in problems.items()})
        loan_id = wire["loan_id"]
        application = self.applications.get(loan_id) if isinstance(loan_id, str) else None
        if application is None:
            return _error(404, "generic", "LoanNotFound")
        application.shipping_events.append(event)
        return _json(200, {"loan": loan_id, "type": "done", "http_code": 200})

    def _create_test_postback(self, wire: dict[str, Any]) -> Response:
        self.test_postbacks.append(wire)
        return _json(200, {"type": "done", "http_code": 200})


def _path_parts(request: Request) -> list[str]:
    return urlsplit(request.url).path.removeprefix("/").split("/")


def _operation(request: Request) -> str:
    match _path_parts(request):
        case ["merchant", _, path]:
            return _BY_PATH.get(path, "")
    return ""


def _missing(model: type[Checked], wire: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for field in attrs.fields(model):  # type: ignore[arg-type] # subclasses are attrs classes
        path, value = prefix + field.name, wire.get(field.name)
        if field.default is attrs.NOTHING and (value is None or value == ""):
            yield path
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and field.name in _INSIDE:
                yield from _missing(_INSIDE[field.name], item, f"{path}.")


def _unknown(model: type[Checked], wire: Mapping[str, Any], prefix: str) -> Iterator[str]:
    known = {field.name for field in attrs.fields(model)}  # type: ignore[arg-type] # likewise
    for name, value in wire.items():
        if name not in known:
            yield prefix + name
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and name in _INSIDE:
                yield from _unknown(_INSIDE[name], item, f"{prefix}{name}.")


def _missing_parameters(names: list[str]) -> Response | None:
    reasons = dict.fromkeys(names, "Missing required parameter")
    return _error(400, "missing_parameters", "MissingParameters", reasons) if reasons else None


def _unknown_parameters(model: type[Checked], wire: Mapping[str, Any], prefix: str = "") -> Response | None:
    unknown = dict.fromkeys(_unknown(model, wire, prefix), "Unknown parameter")
    return _invalid_parameters(unknown) if unknown else None


def _invalid_parameters(problems: Mapping[str, str]) -> Response:
    # The vendor is believed to name fields inside others with dots and without an index.
    reasons = {_INDEX.sub("", path): text for path, text in problems.items()}
    return _error(400, "invalid_parameters", "InvalidParameters", reasons)


def _error(status: int, error: str, message: str, reasons: Mapping[str, str] | None = None) -> Response:
    fields = {"subjects": list(reasons), "reasons": dict(reasons)} if reasons else {}
    stamp = secrets.token_hex(8)
    body = {"type": "error", "error": error, "code": status, "message": message, **fields, "stamp": stamp}
    return _json(status, body)


def _json(status: int, value: object) -> Response:
    return Response(status, {"content-type": "application/json"}, to_json(value))
