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

from ._rules import Checked

if TYPE_CHECKING:
    import cattrs

_T = TypeVar("_T")


def _as_it_is(value: _T, _: object) -> _T:
    return value


def _read_date(value: Any, _: object) -> Any:  # noqa: ANN401 - anything else is kept for problems() to report
    try:
        return dt.date.fromisoformat(value)
    except (TypeError, ValueError):
        return value


def make_converter(write_amount: Callable[[Decimal], str], *, is_strict: bool) -> "cattrs.Converter":
    """Make a converter for the models of requests.

    The values of a model are read as they are: the fields' own converters turn texts into Decimal and
    enums, and problems() reports what is wrong. Importing cattrs takes as long as importing the rest, so
    make one on first use.

    Args:
        write_amount: writes an amount of money.
        is_strict: whether unknown keys are refused, and errors name every field.

    """
    import cattrs  # noqa: PLC0415 - see the docstring
    from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override  # noqa: PLC0415 - see the docstring

    converter = cattrs.Converter(
        prefer_attrib_converters=True, detailed_validation=is_strict, forbid_extra_keys=is_strict
    )

    def omitting_unset(cls: type[Any]) -> Callable[[Any], dict[str, Any]]:
        unset = {
            field.name: override(omit_if_default=True)
            for field in attrs.fields(cls)
            if field.default is None or field.default == ()
        }
        return make_dict_unstructure_fn(cls, converter, **unset)  # type: ignore[arg-type] # its flags are keywords too

    def read_list_of(model: type[Checked]) -> Callable[[Any, Any], Any]:
        def read(value: Any, _: object) -> Any:  # noqa: ANN401 - anything else is kept for problems() to report
            return [converter.structure(item, model) for item in value] if isinstance(value, list) else value

        return read

    def read_model(cls: type[Any]) -> Callable[[Any, Any], Any]:
        lists = {
            field.name: override(struct_hook=read_list_of(each.model))
            for field in attrs.fields(cls)
            if (each := field.metadata["rule"].each) is not None and each.model is not None
        }
        read = make_dict_structure_fn(cls, converter, **lists)  # type: ignore[arg-type] # its flags are keywords too
        return lambda value, _: read(value, cls) if isinstance(value, Mapping) else value

    converter.register_unstructure_hook(Decimal, write_amount)
    converter.register_unstructure_hook(dt.date, dt.date.isoformat)
    converter.register_unstructure_hook_factory(attrs.has, omitting_unset)
    for plain in (str, int, bool):
        converter.register_structure_hook(plain, _as_it_is)
    converter.register_structure_hook(dt.date, _read_date)
    converter.register_structure_hook_factory(
        lambda cls: attrs.has(cls) and issubclass(cls, Checked), read_model
    )
    return converter


@functools.cache
def _wire() -> "cattrs.Converter":
    return make_converter(lambda amount: f"{amount.copy_abs():.2f}", is_strict=False)


def to_wire(model: Checked) -> dict[str, Any]:
    """Turn a model without problems into values that JSON can hold."""
    wire: dict[str, Any] = _wire().unstructure(model)
    return wire


def from_wire(cls: type[_T], wire: Mapping[str, Any]) -> _T:
    """Turn decoded JSON into a model of a request.

    Raises:
        KeyError: a required field is missing.

    """
    return _wire().structure(wire, cls)
