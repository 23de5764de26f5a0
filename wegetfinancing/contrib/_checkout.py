"""Turn what a customer has filled in, and what the shop knows of the order, into a financing request.

It knows no framework. What a customer may set are the fields of the customer; order ID, amount and addresses
of the shop come from the shop.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal, Required, TypeAlias, TypedDict

import attrs

from .._rules import is_missing
from .._tracebacks import clears_locals
from ..enums import Currency, PostbackVersion
from ..errors import ConfigurationError
from ..models import Address, CartItem, FinancingRequest

BodyField: TypeAlias = Literal["amount", "cart_items", "shipping_amount", "tax_amount"]
"""A field that may be read from a body which staff or systems of the shop have filled in."""


class OrderFields(TypedDict, total=False):
    """What the shop sets of a ``FinancingRequest``: any of its fields, by name.

    ``merchant_transaction_id`` is required, and ``cart_items`` or ``amount``. Fields of the customer are for
    what the shop knows already, such as the e-mail address of an account.
    """

    merchant_transaction_id: Required[str]
    first_name: str
    last_name: str
    email: str
    phone: str | None
    billing_address: Address
    shipping_address: Address | None
    cart_items: Sequence[CartItem]
    shipping_amount: Decimal | int | str | None
    tax_amount: Decimal | int | str | None
    amount: Decimal | int | str | None
    currency: Currency | str | None
    version: PostbackVersion | str
    postback_url: str | None
    success_url: str | None
    failure_url: str | None
    sent_to_consumer: bool | None
    software_name: str | None
    software_version: str | None
    software_plugin_version: str | None


@attrs.frozen
class Problem:
    """What is wrong with a body.

    Attributes:
        path: of the field, as ``problems()`` names it; empty for the whole body.
        text: what is wrong, without the value.
        kind: as pydantic calls such an error.

    """

    path: str
    text: str
    kind: str


_CUSTOMER: Final = ("first_name", "last_name", "email", "phone", "billing_address", "shipping_address")
_MAY_BE_ADDED: Final = frozenset(BodyField.__args__)  # type: ignore[attr-defined] # of a Literal
_ALL: Final = tuple(field.name for field in attrs.fields(FinancingRequest))
_IN_A_PHONE: Final = re.compile(r"[ ().-]")
_BELOW: Final = re.compile(r"[.\[]")
# The texts of the rules speak to a programmer; these speak of a body.
_TEXTS: Final = (
    ("must not be a float", 'must be text such as "1640.94": a fraction in JSON cannot hold cents exactly'),
    ("must be an amount such as", "must be an amount such as 1640.94, without thousands separators"),
    (f"must be an {Address.__name__}", "must be an object"),
    (f"must be a {CartItem.__name__}", "must be an object"),
)


def _required(kind: type[Any]) -> list[str]:
    return [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]


def _paths(names: Iterable[str], of_an_address: Iterable[str]) -> list[str]:
    """Name the fields of a form, in which those of an address have the paths of ``problems()``."""
    paths: list[str] = []
    for name in names:
        paths += [f"{name}.{each}" for each in of_an_address] if name.endswith("_address") else [name]
    return paths


_TEXT: Final = {"type": "string"}
_ADDRESS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {field.name: _TEXT for field in attrs.fields(Address)},
    "required": _required(Address),
}
JSON_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {name: _ADDRESS if name.endswith("_address") else _TEXT for name in _CUSTOMER},
    "required": _required(FinancingRequest),
}
"""What a customer fills in, as OpenAPI describes it."""

FORM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": dict.fromkeys(_paths(_CUSTOMER, _ADDRESS["properties"]), _TEXT),
    "required": _paths(JSON_SCHEMA["required"], _ADDRESS["required"]),
}
"""The same as a form."""


def as_accepted(also_from_body: Iterable[str]) -> frozenset[str]:
    """Return the names of the fields that are read from a body.

    Raises:
        ConfigurationError: one of them must never come from there.

    """
    also = frozenset(also_from_body)
    if also - _MAY_BE_ADDED:
        msg = f"also_from_body may name {', '.join(sorted(_MAY_BE_ADDED))}; all else is the shop's to set"
        raise ConfigurationError(msg)
    return also | set(_CUSTOMER)


def from_form(pairs: Iterable[tuple[str, object]]) -> tuple[dict[str, Any], list[Problem]]:
    """Nest the fields of a form, whose names are the paths of ``problems()``: ``billing_address.city``."""
    body: dict[str, Any] = {}
    addresses: dict[str, dict[str, str]] = {}
    problems = []
    seen: set[str] = set()
    for path, value in pairs:
        name, _, inner = path.partition(".")
        if name not in _ALL or not isinstance(value, str):  # the shop's own, and uploaded files
            continue
        if path in seen:
            problems.append(Problem(path, "came more than once", "value_error"))
        seen.add(path)
        if not inner:
            body[path] = value
        elif value.strip():
            addresses.setdefault(name, {})[inner] = value
    return {**body, **addresses}, problems


@clears_locals  # customer data
def read_checkout(
    body: Mapping[str, Any], order: OrderFields, accepted: frozenset[str]
) -> tuple[FinancingRequest, list[Problem]]:
    """Make the request, and find what is wrong with the body. What the shop sets comes from nowhere else.

    Raises:
        ConfigurationError: what the shop has set is wrong; the customer can do nothing about it.

    """
    if not order.get("merchant_transaction_id"):
        msg = "the order must set merchant_transaction_id: the ID that the shop has saved the order under"
        raise ConfigurationError(msg)
    accepted = accepted - order.keys()
    refused = [name for name in _ALL if name not in accepted and _cleaned(body.get(name)) is not None]
    problems = [Problem(name, "is set by the shop", "extra_forbidden") for name in refused]
    values = {name: _read(name, body.get(name)) for name in accepted}
    given = {name: value for name, value in values.items() if value is not None or name in _CUSTOMER}
    request = FinancingRequest(**given, **order)
    of_the_shop = []
    for path, told in request.problems().items():
        if _BELOW.split(path)[0] not in accepted and not _is_about_amount(path, told, accepted):
            of_the_shop.append(f"{path} {told}")
            continue
        text = next((ours for beginning, ours in _TEXTS if told.startswith(beginning)), told)
        problems.append(Problem(path, text, "missing" if is_missing(told) else "value_error"))
    if of_the_shop:
        msg = f"what the order sets is wrong: {'; '.join(of_the_shop)}"
        raise ConfigurationError(msg)
    return request, problems


def _is_about_amount(path: str, told: str, accepted: frozenset[str]) -> bool:
    """Tell whether neither items nor an amount are there, and the body could have had the amount."""
    return path == "cart_items" and is_missing(told) and "amount" in accepted


def _read(name: str, value: object) -> object:
    match name:
        case "billing_address":
            # Without any of them: each field that is missing is named.
            return _model(Address, {} if _cleaned(value) is None else value)
        case "shipping_address":
            return None if _cleaned(value) in (None, {}) else _model(Address, value)
        case "cart_items":
            return [_model(CartItem, each) for each in value] if isinstance(value, list) else value
        case "phone":
            phone = _cleaned(value)
            return _IN_A_PHONE.sub("", phone) if isinstance(phone, str) else phone
        case _:
            return _cleaned(value)


def _model(kind: type[Address | CartItem], value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    read: dict[str, Any] = {}
    for field in attrs.fields(kind):
        inner = _cleaned(value.get(field.name))
        if inner is not None or field.default is attrs.NOTHING:
            read[field.name] = inner
    return kind(**read)


def _cleaned(value: object) -> object:
    """Take the space around a text away; what is left blank was not filled in."""
    return (value.strip() or None) if isinstance(value, str) else value
