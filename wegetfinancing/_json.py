"""Strict JSON: written in ASCII only, and read only if every reader understands it in the same way."""

import json
import math
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

_AMOUNT: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
# Neither UTF-8 nor a header can carry these, and PostgreSQL stores no NUL.
NO_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def to_json(value: object, *, sort_keys: bool = False) -> bytes:
    """Write compact, ASCII-only JSON.

    Raises:
        TypeError, ValueError: the value cannot be written as JSON; NaN cannot.

    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)
    return text.encode("ascii")


def from_json(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Read JSON, unless two readers could understand it differently.

    Raises:
        ValueError: not UTF-8, not JSON, NaN or Infinity, a name twice in one object, or nested too deeply.

    """
    try:
        value = _DECODER.decode(data.decode("utf-8"))
        if _depth(value) <= _MAX_DEPTH:
            return value
        msg = _TOO_DEEP
    except RecursionError:
        msg = _TOO_DEEP
    except UnicodeDecodeError:
        msg = "is not UTF-8"
    except json.JSONDecodeError:
        msg = "is not JSON"
    # Raised outside the except clauses: an exception that quotes the data must not be its context.
    raise ValueError(msg)


# Real bodies are three deep. The interpreter's own limit depends on its version and on the caller's depth.
_MAX_DEPTH: Final = 100
_TOO_DEEP: Final = "is nested too deeply"


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while containers := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        level = [
            inner for each in containers for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def _refuse_constant(_: str) -> NoReturn:
    msg = "holds NaN or Infinity"
    raise ValueError(msg)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse_constant(digits)


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        msg = "names a member twice"
        raise ValueError(msg)
    return value


_DECODER: Final = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_refuse_repeats
)


def read_text(value: object, name: str) -> str:
    """Return ``value`` if it is a text that is not blank and can be stored anywhere.

    Raises:
        ValueError: it is something else; the message says ``name``.

    """
    if not isinstance(value, str) or not value.strip():
        msg = f"has no text as {name}"
        raise ValueError(msg)
    if NO_TEXT.search(value):
        msg = f"has control characters or half of a surrogate pair in {name}"
        raise ValueError(msg)
    return value


def read_amount(value: object, name: str) -> Decimal:
    """Return an amount of money; a JSON number counts as its shortest decimal form.

    Raises:
        ValueError: not a plain decimal number of 0 or more; the message says ``name``.

    """
    if not isinstance(value, bool) and _AMOUNT.fullmatch(str(value)):
        return Decimal(str(value))
    msg = f"has no amount of money as {name}"
    raise ValueError(msg)
