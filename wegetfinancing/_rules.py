"""Checks on values. A rule returns a text that says what to do, or ``None`` if the value is right.

No rule raises, whatever the value, and no text repeats the value: it may be personal data.
"""

import contextlib
import datetime as dt
import decimal
import enum
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit

import attrs

_Item = TypeVar("_Item")
_Enum = TypeVar("_Enum", bound=enum.Enum)

Rule: TypeAlias = Callable[[Any], str | None]

REQUIRED: Final = "is required"

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_SPACE: Final = re.compile(r"\s")
_PHONE: Final = re.compile(r"[0-9]{10}")
_PLAIN_AMOUNT: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
# Far above any loan; it only keeps Decimal("1E+999999") from becoming a megabyte of digits.
_MAX_DIGITS: Final = 12
_CENT: Final = Decimal("0.01")
# Independent of the application's context: enough digits for any amount, and no exception for rounding.
_ROUNDING: Final = decimal.Context(prec=_MAX_DIGITS + 3, traps=[])
EXACT: Final = decimal.Context(prec=60)
"""Enough digits for the sum of any allowed amounts, whatever context the application has set."""
# Far above any cart; an int of thousands of digits cannot be written as JSON.
_MAX_QUANTITY: Final = 10**9


def is_missing(problem: str) -> bool:
    """Tell whether a rule's text says that a value is missing, and not that it is invalid."""
    return problem.startswith(REQUIRED)


class FieldRule(NamedTuple):
    """The rule for a field of a model, or for each item in a list.

    Attributes:
        check: the check on a value that is present.
        required: whether a value has to be present.
        model: the class of the model that the field holds, which has problems of its own.
        each: the rule for each item, where the field holds a list.

    """

    check: Rule
    required: bool = True
    model: "type[Checked] | None" = None
    each: "FieldRule | None" = None


def rule(check: Rule, *, required: bool = True) -> dict[str, FieldRule]:
    """Return the metadata of an attrs field."""
    return {"rule": FieldRule(check, required)}


def model(kind: type["Checked"], *, required: bool = True) -> dict[str, FieldRule]:
    """Return the metadata of an attrs field that holds a model of this class."""
    return {"rule": FieldRule(one(kind), required, model=kind)}


def several(each: Mapping[str, FieldRule]) -> dict[str, FieldRule]:
    """Return the metadata of an attrs field that holds a list whose items have the metadata ``each``."""
    return {"rule": FieldRule(_tuple, required=False, each=each["rule"])}


class Checked:
    """A frozen model whose fields carry rules."""

    __slots__ = ()

    def problems(self) -> dict[str, str]:
        """Find every problem at once; empty when there is none.

        Returns:
            path to text, in the order of the fields. Paths use the API's own names, with dots for nested
            fields and an index for list items: ``billing_address.zipcode``, ``cart_items[1].unit_price``.
            No text repeats a value.

        """
        found: dict[str, str] = {}
        self._find_problems(found, "")
        return found

    def _find_problems(self, found: dict[str, str], prefix: str) -> None:
        for name, field in _rules_of(type(self)):  # type: ignore[arg-type] # mypy confuses the hash of a class with that of its values
            _find_problems_of(getattr(self, name), field, found, prefix + name)
        for name, problem in self._problems_between_fields():
            found.setdefault(prefix + name, problem)

    def _problems_between_fields(self) -> Iterable[tuple[str, str]]:
        return ()


def paths(kind: type[Checked]) -> Iterator[str]:
    """Yield the paths of all fields, with ``[]`` after the name of a list: ``cart_items[].sku``."""
    for name, field in _rules_of(kind):  # type: ignore[arg-type] # mypy confuses the hash of a class with that of its values
        path, inner = (f"{name}[]", field.each) if field.each else (name, field)
        yield path
        if inner.model:
            yield from (f"{path}.{below}" for below in paths(inner.model))


@functools.cache
def _rules_of(kind: type[Checked]) -> list[tuple[str, FieldRule]]:
    return [(each.name, each.metadata["rule"]) for each in attrs.fields(kind)]  # type: ignore[arg-type] # subclasses are attrs classes


def _find_problems_of(value: Any, field: FieldRule, found: dict[str, str], path: str) -> None:  # noqa: ANN401 - any value can be in a field
    if value is None:
        if field.required:
            found[path] = REQUIRED
    elif isinstance(value, str) and not value:
        found[path] = REQUIRED if field.required else "must not be empty; leave it out instead"
    elif problem := field.check(value):
        found[path] = problem
    elif isinstance(value, Checked):
        value._find_problems(found, f"{path}.")  # noqa: SLF001 - of the same module
    elif field.each:
        for index, item in enumerate(value):
            _find_problems_of(item, field.each, found, f"{path}[{index}]")


def text(*, at_least: int = 1, lines: bool = False) -> Rule:
    """Accept text of at least so many characters, not counting surrounding spaces; by default one line."""
    forbidden = _CONTROL_BUT_LINES if lines else _CONTROL

    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return f"must be text, not {type(value).__name__}"
        if len(value.strip()) < at_least:
            return "must not be blank" if at_least == 1 else f"must have {at_least} characters or more"
        if forbidden.search(value):
            return f"must not hold control characters{'' if lines else ' such as line ends'}"
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair, which is not a character"
        return None

    return check


def matching(pattern: re.Pattern[str], advice: str) -> Rule:
    """Accept text that matches the whole pattern; ``advice`` says what it should look like."""
    is_text = text()

    def check(value: object) -> str | None:
        return is_text(value) or (None if pattern.fullmatch(str(value)) else advice)

    return check


def among(texts: Iterable[str], advice: str) -> Rule:
    """Accept one of these texts; ``advice`` says what it should look like."""
    known = frozenset(texts)

    def check(value: object) -> str | None:
        return None if isinstance(value, str) and value in known else advice

    return check


email: Final = matching(_EMAIL, "must be an e-mail address such as jane@example.com")
phone: Final = matching(_PHONE, "must be 10 digits without country code or dashes, such as 2125551234")


_one_line: Final = text()


def url(value: object) -> str | None:
    """Accept an absolute http or https URL, which a browser or the vendor can call."""
    if problem := _one_line(value):
        return problem
    address = str(value)
    try:
        parts = urlsplit(address)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and not _SPACE.search(address)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        is_valid = False
    return None if is_valid else "must be an absolute URL such as https://shop.example/postbacks"


def money(*, above_zero: bool = False) -> Rule:
    """Accept amounts in dollars that two decimals can hold exactly, never a float."""

    def check(value: object) -> str | None:
        if isinstance(value, float):
            return "must not be a float, which cannot hold cents exactly; use Decimal('1.23')"
        if not isinstance(value, Decimal) or not value.is_finite():
            return "must be an amount such as Decimal('1640.94'), without thousands separators"
        if value.adjusted() >= _MAX_DIGITS:
            return f"must have at most {_MAX_DIGITS} digits before the decimal point"
        if value != value.quantize(_CENT, context=_ROUNDING):
            return "must have at most two decimals; round it to cents first"
        if value < 0 or (above_zero and value == 0):
            return "must be more than 0" if above_zero else "must be 0 or more"
        return None

    return check


def count(value: object) -> str | None:
    """Accept a whole number of 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool):
        return f"must be an int, not {type(value).__name__}"
    if value < 1:
        return "must be 1 or more"
    return None if value <= _MAX_QUANTITY else f"must be at most {_MAX_QUANTITY}"


def boolean(value: object) -> str | None:
    """Accept True or False, and nothing that is merely truthy or falsy."""
    return None if isinstance(value, bool) else f"must be True or False, not {type(value).__name__}"


def day(value: object) -> str | None:
    """Accept a date without a time: the wire carries no time."""
    if isinstance(value, dt.datetime):
        return "must be a date, not a datetime; use .date() in your shop's time zone"
    return None if isinstance(value, dt.date) else f"must be a date, not {type(value).__name__}"


def member(kind: type[enum.Enum]) -> Rule:
    """Accept a member of an enum."""

    def check(value: object) -> str | None:
        if isinstance(value, kind):
            return None
        return "must be one of " + ", ".join(str(each.value) for each in kind)

    return check


def one(kind: type) -> Rule:
    """Accept a model of this class."""

    def check(value: object) -> str | None:
        return None if isinstance(value, kind) else f"must be {_an(kind)}, not {type(value).__name__}"

    return check


def _tuple(value: object) -> str | None:
    """Accept a tuple, into which the field's converter has turned a list."""
    return None if isinstance(value, tuple) else f"must be a list, not {type(value).__name__}"


def _an(kind: type) -> str:
    return f"an {kind.__name__}" if kind.__name__[0] in "AEIOU" else f"a {kind.__name__}"


def to_decimal(value: Decimal | int | str) -> Decimal:
    """Turn an amount into Decimal where that is exact; leave anything else for the rule to report."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and _PLAIN_AMOUNT.fullmatch(value):
        return Decimal(value)
    return value  # type: ignore[return-value] # the field's rule refuses anything else


def to_tuple(value: Sequence[_Item] | None) -> Sequence[_Item]:
    """Turn a list into a tuple, and None into an empty one; leave anything else for the rule to report."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else value


def to_member(kind: type[_Enum], value: _Enum | str) -> _Enum:
    """Turn the text of an enum into its member; leave anything else for the rule to report."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value  # type: ignore[return-value] # the field's rule refuses anything else
