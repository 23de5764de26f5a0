"""What the emulator finds wrong with a request, in the vendor's form.

Its own choice, since nobody outside the vendor can see it: which problem is reported first, beyond
"missing before invalid", and the texts of reasons.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from .._converter import from_wire
from .._rules import Checked
from ..enums import PostbackVersion
from ..http import Response
from ..models import Address, CartItem, FinancingRequest, ShippingEvent
from .responses import error_response

_INSIDE: Final[Mapping[str, type[Checked]]] = MappingProxyType(
    {
        "billing_address": Address,
        "shipping_address": Address,
        "cart_items": CartItem,
        "shipping_event": ShippingEvent,
    }
)
_INDEX: Final = re.compile(r"\[[0-9]+\]")


def read_request(wire: Mapping[str, Any]) -> FinancingRequest | Response:
    """Read the body of a ``create_request``, or refuse it."""
    missing = list(_missing(FinancingRequest, wire))
    if not wire.get("cart_items") and "amount" not in wire:
        missing.append("cart_items")
    if refusal := _missing_parameters(missing) or _unknown_parameters(FinancingRequest, wire):
        return refusal
    # What the server does by default (documented); the model's own default is what the client sends.
    request = from_wire(FinancingRequest, {"version": PostbackVersion.V0_2.value, **wire})
    if problems := request.problems():
        return _invalid_parameters(problems)
    return request


def read_shipping_event(wire: Mapping[str, Any]) -> ShippingEvent | Response:
    """Read the event of an ``update_shipping``, or refuse it."""
    event_wire = wire.get("shipping_event")
    missing = [name for name in ("loan_id", "shipping_event") if not wire.get(name)]
    if isinstance(event_wire, dict):
        missing += [f"shipping_event.{name}" for name in _missing(ShippingEvent, event_wire)]
    if refusal := _missing_parameters(missing):
        return refusal
    if not isinstance(event_wire, dict):
        return _invalid_parameters({"shipping_event": "must be an object"})
    if refusal := _unknown_parameters(ShippingEvent, event_wire, "shipping_event."):
        return refusal
    event = from_wire(ShippingEvent, event_wire)
    if problems := event.problems():
        return _invalid_parameters({f"shipping_event.{path}": text for path, text in problems.items()})
    return event


def _missing(model: type[Checked], wire: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for field in attrs.fields(model):  # type: ignore[arg-type] # subclasses are attrs classes
        path, value = prefix + field.name, wire.get(field.name)
        if field.default is attrs.NOTHING and (value is None or value == ""):
            yield path
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and field.name in _INSIDE:
                yield from _missing(_INSIDE[field.name], item, f"{path}.")


def _unknown(model: type[Checked], wire: Mapping[str, Any], prefix: str) -> Iterator[str]:
    known = {field.name for field in attrs.fields(model)}  # type: ignore[arg-type] # subclasses are attrs classes
    for name, value in wire.items():
        if name not in known:
            yield prefix + name
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and name in _INSIDE:
                yield from _unknown(_INSIDE[name], item, f"{prefix}{name}.")


def _missing_parameters(names: list[str]) -> Response | None:
    reasons = dict.fromkeys(names, "Missing required parameter")
    if not reasons:
        return None
    return error_response(400, "missing_parameters", message="MissingParameters", reasons=reasons)


def _unknown_parameters(model: type[Checked], wire: Mapping[str, Any], prefix: str = "") -> Response | None:
    unknown = dict.fromkeys(_unknown(model, wire, prefix), "Unknown parameter")
    return _invalid_parameters(unknown) if unknown else None


def _invalid_parameters(problems: Mapping[str, str]) -> Response:
    # The vendor is believed to name fields inside others with dots and without an index.
    reasons = {_INDEX.sub("", path): text for path, text in problems.items()}
    return error_response(400, "invalid_parameters", message="InvalidParameters", reasons=reasons)
