"""Conversion between the models and the wire. All of its rules are here, none in the models.

- Unset fields are omitted, never sent as null: the server is believed to refuse null (inferred).
- Money is a text with a dot and two decimals, as the official clients send it.
- JSON is ASCII only, with other characters escaped: without a charset the server is believed to
  decode ISO-8859-1 (inferred).
"""

import datetime as dt
import functools
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ._json import read_amount, read_text
from ._rules import Checked
from .models import CartItem, CreatedRequest, ShippingReceipt

if TYPE_CHECKING:
    import cattrs

_T = TypeVar("_T")


def _read_created(answer: Mapping[str, Any], _: object) -> CreatedRequest:
    # One guide of the vendor shows `request_token` in place of `inv_id`, and no amount.
    inv_id = answer.get("inv_id") or answer.get("request_token")
    amount = answer.get("amount")
    return CreatedRequest(
        inv_id=read_text(inv_id, "inv_id"),
        href=read_text(answer.get("href"), "href"),
        amount=None if amount is None else read_amount(amount, "amount"),
        raw=answer,
    )


def _read_receipt(answer: Mapping[str, Any], _: object) -> ShippingReceipt:
    return ShippingReceipt(loan=read_text(answer.get("loan"), "loan"), raw=answer)


def _as_it_is(value: _T, _: object) -> _T:
    return value


def _read_date(value: Any, _: object) -> Any:  # noqa: ANN401 - anything else is kept for problems() to report
    try:
        return dt.date.fromisoformat(value)
    except (TypeError, ValueError):
        return value


def _read_items(value: Any, _: object) -> Any:  # noqa: ANN401 - anything else is kept for problems() to report
    return [from_wire(CartItem, item) for item in value] if isinstance(value, list) else value


@functools.cache
def _converter() -> "cattrs.Converter":
    """Make the converter on first use, since importing cattrs takes as long as importing the rest.

    The values of a model are read as they are: the fields' own converters turn texts into Decimal and
    enums, and problems() reports what is wrong.
    """
    import cattrs  # noqa: PLC0415 - see the docstring
    from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override  # noqa: PLC0415 - see the docstring

    converter = cattrs.Converter(prefer_attrib_converters=True, detailed_validation=False)

    def omitting_unset(cls: type[Any]) -> Callable[[Any], dict[str, Any]]:
        unset = {
            field.name: override(omit_if_default=True)
            for field in attrs.fields(cls)
            if field.default is None or field.default == ()
        }
        return make_dict_unstructure_fn(cls, converter, **unset)  # type: ignore[arg-type] # its flags are keywords too

    def read_model(cls: type[Any]) -> Callable[[Any, Any], Any]:
        items = {"cart_items": override(struct_hook=_read_items)} if hasattr(cls, "cart_items") else {}
        read = make_dict_structure_fn(cls, converter, **items)  # type: ignore[arg-type] # its flags are keywords too
        return lambda value, _: read(value, cls) if isinstance(value, Mapping) else value

    converter.register_unstructure_hook(Decimal, lambda amount: f"{amount.copy_abs():.2f}")
    converter.register_unstructure_hook(dt.date, dt.date.isoformat)
    converter.register_unstructure_hook_factory(attrs.has, omitting_unset)
    for plain in (str, int, bool):
        converter.register_structure_hook(plain, _as_it_is)
    converter.register_structure_hook(dt.date, _read_date)
    converter.register_structure_hook_factory(
        lambda cls: attrs.has(cls) and issubclass(cls, Checked), read_model
    )
    converter.register_structure_hook(CreatedRequest, _read_created)
    converter.register_structure_hook(ShippingReceipt, _read_receipt)
    return converter


def to_wire(model: Checked) -> dict[str, Any]:
    """Turn a model without problems into values that JSON can hold."""
    wire: dict[str, Any] = _converter().unstructure(model)
    return wire


def from_wire(cls: type[_T], wire: Mapping[str, Any]) -> _T:
    """Turn decoded JSON into a model.

    Raises:
        ValueError: an answer's member is missing or of the wrong type.
        KeyError: a required field of an outgoing model is missing.

    """
    return _converter().structure(wire, cls)
