"""What may stand in a field. A rule gives a text that says what to do, or ``None`` when all is well.

No rule raises, whatever it is given, and no text repeats the value: it may be personal data.
"""

import contextlib
import datetime as dt
import enum
import functools
import inspect
import operator
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard, TypeVar, cast

import attrs

_Item = TypeVar("_Item")
_Enum = TypeVar("_Enum", bound=enum.Enum)

Rule: TypeAlias = Callable[[Any], str | None]

REQUIRED: Final = "is required"

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_PHONE: Final = re.compile(r"[0-9]{10}")
_PLAIN_URL: Final = re.compile(r"https?://[a-z0-9.-]+(/[A-Za-z0-9._~/-]*)?")
_PLAIN_AMOUNT: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
# Far above any loan; it only keeps Decimal("1E+999999") from becoming a megabyte of digits.
_MOST_DIGITS: Final = 12
_PLAIN_MONEY: Final = re.compile(rf"[0-9]{{1,{_MOST_DIGITS}}}(\.[0-9]{{1,2}})?")
_MOST_PIECES: Final = 10**9  # likewise


class FieldRule(NamedTuple):
    """What a field of a model, or an item in it, has to be.

    Attributes:
        check: what it is checked with.
        required: whether it has to be there.
        is_model: whether it is a model, with problems of its own.
        each: what each item in it has to be.

    """

    check: Rule
    required: bool = True
    is_model: bool = False
    each: "FieldRule | None" = None


def rule(check: Rule, *, required: bool = True) -> dict[str, FieldRule]:
    """Make the metadata of an attrs field."""
    return {"rule": FieldRule(check, required)}


def model(kind: type["Checked"], *, required: bool = True) -> dict[str, FieldRule]:
    """Make the metadata of an attrs field that holds such a model."""
    return {"rule": FieldRule(one(kind), required, is_model=True)}


def several(each: Mapping[str, FieldRule]) -> dict[str, FieldRule]:
    """Make the metadata of an attrs field that holds any number of what has the metadata ``each``."""
    return {"rule": FieldRule(_tuple, required=False, each=each["rule"])}


class Checked:
    """A frozen model whose fields carry rules."""

    __slots__ = ("_found_fine",)
    _found_fine: bool

    def problems(self) -> dict[str, str]:
        """Find every fault at once; empty when there is none.

        Returns:
            path to text, in the order of the fields. Paths use the API's own names, dots for what
            lies inside and an index for list items: ``billing_address.zipcode``,
            ``cart_items[1].unit_price``. No text repeats a value.

        """
        found: dict[str, str] = {}
        # A shop asks before it creates, expected_amount asks again, and so does create_request.
        if getattr(self, "_found_fine", False) is not True:
            stays_as_it_is = self._find_problems(found, "")
            if stays_as_it_is and not found:
                object.__setattr__(self, "_found_fine", True)  # attrs' own way around frozen
        return found

    def _find_problems(self, found: dict[str, str], at: str) -> bool:
        """Find the faults, and tell whether what is fine stays so.

        Every value that a rule lets through is immutable, and so are the models; a class that somebody
        derived from one need not be.
        """
        stays_as_it_is = Checked in type(self).__bases__
        values, fields = _fields_of(type(self))  # type: ignore[arg-type] # mypy takes the hash of a class for that of its values
        for value, (name, field, plain_check) in zip(values(self), fields, strict=True):
            if (value is not None or field.required) and (plain_check is None or plain_check(value)):
                stays_as_it_is &= _find_problems_of(found, at + name, value, field)
        for name, problem in self._problems_between_fields():
            found.setdefault(at + name, problem)
        return stays_as_it_is

    def _problems_between_fields(self) -> Iterable[tuple[str, str]]:
        return ()


_Fields: TypeAlias = list[tuple[str, FieldRule, Rule | None]]


@functools.cache
def _fields_of(kind: type[Checked]) -> tuple[Callable[[object], Sequence[object]], _Fields]:
    """Gather the fields of a model once: it is asked for its problems on every call."""
    fields = {each.name: each.metadata["rule"] for each in attrs.fields(kind)}  # type: ignore[arg-type] # subclasses are attrs classes
    return operator.attrgetter(*fields), [
        (name, field, None if field.is_model or field.each else field.check) for name, field in fields.items()
    ]


def _find_problems_of(found: dict[str, str], path: str, value: Any, field: FieldRule) -> bool:  # noqa: ANN401 - whatever stands in a field
    if value is None or (isinstance(value, str) and not value):
        found[path] = REQUIRED if field.required else "must not be empty; leave it out instead"
    elif problem := field.check(value):
        found[path] = problem
    elif isinstance(value, Checked):
        return value._find_problems(found, f"{path}.")  # noqa: SLF001 - of the same module
    elif field.each:
        stays_as_it_is = True
        for index, item in enumerate(value):
            stays_as_it_is &= _find_problems_of(found, f"{path}[{index}]", item, field.each)
        return stays_as_it_is
    return True


def text(*, at_least: int = 1, lines: bool = False) -> Rule:
    """Text of so many characters, blanks around it not counted; one line unless told otherwise."""
    forbidden = _CONTROL_BUT_LINES if lines else _CONTROL

    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return f"must be text, not {type(value).__name__}"
        if len(value.strip()) < at_least:
            return "must not be blank" if at_least == 1 else f"must have {at_least} characters or more"
        if value.isprintable():  # neither control characters nor surrogates
            return None
        if forbidden.search(value):
            return f"must not hold control characters{'' if lines else ' such as line ends'}"
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair, which is no character"
        return None

    return check


def matching(pattern: re.Pattern[str], advice: str) -> Rule:
    """Text that matches the whole pattern; ``advice`` says what it should look like."""
    is_text = text()

    def check(value: object) -> str | None:
        if isinstance(value, str) and value.isprintable() and pattern.fullmatch(value):
            return None  # most are
        return is_text(value) or (None if pattern.fullmatch(str(value)) else advice)

    return check


def among(texts: Iterable[str], advice: str) -> Rule:
    """One of these texts; ``advice`` says what it should look like."""
    known = frozenset(texts)

    def check(value: object) -> str | None:
        return None if isinstance(value, str) and value in known else advice

    return check


email: Final = matching(_EMAIL, "must be an e-mail address such as jane@example.com")
phone: Final = matching(_PHONE, "must be 10 digits without country code or dashes, such as 2125551234")


_one_line: Final = text()


def url(value: object) -> str | None:
    """Accept an absolute http or https address, as a browser or the vendor can call it."""
    if isinstance(value, str) and _PLAIN_URL.fullmatch(value):  # most are; the rest takes far longer
        return None
    if problem := _one_line(value):
        return problem
    from urllib.parse import urlsplit  # noqa: PLC0415 - for the few that are not plain

    address = str(value)
    try:
        parts = urlsplit(address)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", address)
        _ = parts.port  # raises when it is no number
    except ValueError:
        fine = False
    return None if fine else "must be an absolute URL such as https://shop.example/postbacks"


def money(*, above_zero: bool = False) -> Rule:
    """Amounts in dollars with at most two decimals, never a float."""

    def check(value: object) -> str | None:
        is_plain = isinstance(value, Decimal) and _PLAIN_MONEY.fullmatch(str(value))  # most are
        return None if is_plain and value else _problem_of_amount(value, above_zero=above_zero)

    return check


def _problem_of_amount(value: object, *, above_zero: bool) -> str | None:
    if isinstance(value, float):
        return "must not be a float, which cannot hold cents exactly; use Decimal('1.23')"
    if not isinstance(value, Decimal) or not value.is_finite():
        return "must be an amount such as Decimal('1640.94'), without thousands separators"
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -2:  # noqa: PLR2004 - cents
        return "must have at most two decimals; round it to cents first"
    if value.adjusted() >= _MOST_DIGITS:
        return f"must have at most {_MOST_DIGITS} digits before the decimal point"
    if value < 0 or (above_zero and value == 0):
        return "must be more than 0" if above_zero else "must be 0 or more"
    return None


def count(value: object) -> str | None:
    """Accept a whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool):
        return f"must be an int, not {type(value).__name__}"
    if value < 1:
        return "must be 1 or more"
    return None if value <= _MOST_PIECES else f"must be at most {_MOST_PIECES}"


def boolean(value: object) -> str | None:
    """Accept True or False, and nothing that merely counts as one."""
    return None if isinstance(value, bool) else f"must be True or False, not {type(value).__name__}"


def day(value: object) -> str | None:
    """Accept a date without a time, since the wire carries none."""
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
    """Accept a list or tuple, which the field's converter has made a tuple."""
    return None if isinstance(value, tuple) else f"must be a list, not {type(value).__name__}"


def _an(kind: type) -> str:
    return f"an {kind.__name__}" if kind.__name__[0] in "AEIOU" else f"a {kind.__name__}"


def to_decimal(value: Decimal | int | str) -> Decimal:
    """Turn an amount into Decimal where that is exact; anything else stays, for the rule to name."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and _PLAIN_AMOUNT.fullmatch(value):
        return Decimal(value)
    return value  # type: ignore[return-value] # the rule on the field refuses what is no Decimal


def to_tuple(value: Sequence[_Item] | None) -> Sequence[_Item]:
    """Freeze a list, None being an empty one; anything else stays, for the rule to name."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else value


def to_member(kind: type[_Enum], value: _Enum | str) -> _Enum:
    """Turn the wire's text into the enum's member; anything else stays, for the rule to name."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value  # type: ignore[return-value] # the rule on the field refuses what is no member


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is this machine: ``localhost``, ``127.0.0.0/8`` or ``::1``."""
    if host == "localhost":
        return True
    import ipaddress  # noqa: PLC0415 - for plain http only

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_finite_number(value: object) -> TypeGuard[float]:
    """Tell whether a setting is a number that fits a float; an int may be larger than any."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(cast("float", value)) <= sys.float_info.max


def is_async(link: object) -> bool:
    """Tell whether calling ``link`` gives something to await: ``async def``, or an object like it."""
    while isinstance(link, functools.partial):
        link = link.func
    call = type(link).__call__ if callable(link) else None
    return inspect.iscoroutinefunction(link) or inspect.iscoroutinefunction(call)
