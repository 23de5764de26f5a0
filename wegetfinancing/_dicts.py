"""The models as plain dicts, for queues, tasks and sessions; the wire's form is in ``_converter``.

Unset fields are omitted, so that a process with an older version of the package, which does not know a new
field, can read every dict that does not use it.
"""

import datetime as dt
import functools
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from ._converter import make_converter
from ._rules import Checked, to_decimal
from ._tracebacks import clears_locals
from .errors import MalformedDictError

if TYPE_CHECKING:
    import cattrs

_T = TypeVar("_T")

# A dict that was made by hand may have anything as a key; only what could be a field's name is shown.
_FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MAX_PROBLEMS_SHOWN: Final = 10
_WAY_OUT: Final = (
    "Pass what to_dict() returned. If another process wrote it, with a newer version of the package, update"
    " this process first."
)


class DictModel:
    """A model that has the form of a plain dict, too."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the model as a dict that JSON can hold, for queues, tasks and sessions.

        Amounts are texts with all of their digits, dates are ``YYYY-MM-DD``, enums are their texts, and unset
        fields are left out. It holds customer data, and is not the API's form.

        Raises:
            ValueError: the model has ``problems()``.

        """
        return to_dict(self)

    @classmethod
    @clears_locals  # customer data
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the model that ``to_dict()`` was called on.

        Raises:
            MalformedDictError: a key is unknown or missing, or a value cannot be read. Other wrong values
                of a model with ``problems()`` are found there.

        """
        return from_dict(cls, data)


@clears_locals  # customer data
def to_dict(model: object) -> dict[str, Any]:
    """Turn a model into values that JSON can hold.

    Raises:
        ValueError: the model has problems.

    """
    if isinstance(model, Checked) and (problems := model.problems()):
        msg = f"the {type(model).__name__} has problems: {', '.join(problems)}"
        raise ValueError(msg)
    data: dict[str, Any] = _converter(type(model)).unstructure(model)
    return data


def from_dict(cls: type[_T], data: Mapping[str, Any]) -> _T:
    """Turn what ``to_dict`` returned into a model again.

    Raises:
        MalformedDictError: it is something else; its text shows no value.

    """
    import cattrs  # noqa: PLC0415 - takes as long to import as the rest of the package

    if not isinstance(data, Mapping):
        msg = f"it is of type {type(data).__name__}"
        raise malformed(msg, cls.__name__)
    problems: list[str] = []
    try:
        return _converter(cls).structure(data, cls)
    except cattrs.BaseValidationError as error:
        problems = cattrs.transform_error(error, "", _problem)
    # Raised outside the except clause: an exception that holds values must not be its context.
    shown = dict.fromkeys(problem.removesuffix(" @ ").replace(" @ .", ": ") for problem in problems)
    raise malformed("; ".join(list(shown)[:_MAX_PROBLEMS_SHOWN]), cls.__name__)


def malformed(problem: str, name: str) -> MalformedDictError:
    """Make the error that says what is wrong with a dict, and what to do."""
    return MalformedDictError(f"not the dict of a {name} ({problem}). {_WAY_OUT}")


def _problem(error: BaseException, _: object) -> str:
    import cattrs  # noqa: PLC0415 - as above

    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        names = {key if _FIELD_NAME.fullmatch(str(key)) else "(not a name)" for key in error.extra_fields}
        return f"no field {', '.join(sorted(names))}"
    return "missing" if isinstance(error, KeyError) else "cannot be read"


def _write_amount(amount: Decimal) -> str:
    return f"{amount:f}"


def _read_amount(value: object, _: object) -> Decimal:
    amount = to_decimal(value)  # type: ignore[arg-type] # whatever it is
    if not isinstance(amount, Decimal):
        raise TypeError
    return amount


def _read_text(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _converter(cls: type) -> "cattrs.Converter":
    return _for_requests() if issubclass(cls, Checked) else _for_answers()


@functools.cache
def _for_requests() -> "cattrs.Converter":
    return make_converter(_write_amount, is_strict=True)


@functools.cache
def _for_answers() -> "cattrs.Converter":
    import cattrs  # noqa: PLC0415 - as above

    converter = cattrs.Converter(forbid_extra_keys=True, omit_if_default=True)
    converter.register_unstructure_hook(Decimal, _write_amount)
    converter.register_unstructure_hook(dt.datetime, dt.datetime.isoformat)
    converter.register_structure_hook(Decimal, _read_amount)
    converter.register_structure_hook(str, _read_text)
    converter.register_structure_hook(dt.datetime, lambda value, _: dt.datetime.fromisoformat(value))
    return converter
