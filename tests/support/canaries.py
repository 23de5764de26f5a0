"""Values that must not be seen where they do not belong, and a search for them in every disguise."""

import base64
import copy
import inspect
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import wegetfinancing
from wegetfinancing import CallError, Credentials, FinancingRequest
from wegetfinancing.testing import address, financing_request

PACKAGE: Final = Path(wegetfinancing.__file__).parent
# What an error answer may hold and errors.py tells to read on purpose.
MAY_HOLD_PERSONAL_DATA: Final = ("reasons", "debug", "message", "body", "error", "subjects")

CANARIES: Final = {
    "username": "canary user/1+",
    "password": "canary pass/2+&word",
    "first_name": "Canaryfirst",
    "last_name": "O'Canarylast",
    "email": "canary+mail@example.com",
    "phone": "6195550187",
    "street": "77 Canary & Street",
    "city": "Canarycity",
    "reasons": "canary? that is no name/reason",
}


def credentials_with_canaries() -> Credentials:
    return Credentials("1234", CANARIES["username"], CANARIES["password"])


def request_with_canaries(**changes: Any) -> FinancingRequest:
    fields: dict[str, Any] = {name: CANARIES[name] for name in ("first_name", "last_name", "email", "phone")}
    where = address(street1=CANARIES["street"], city=CANARIES["city"])
    return financing_request(**fields | {"billing_address": where, "shipping_address": where} | changes)


def disguises(value: str) -> set[str]:
    """Write the value plain, percent-encoded, in hexadecimal, and as it looks inside longer base64."""
    data = value.encode()
    found = {value, quote(value), quote(value, safe=""), data.hex(), data.hex(" "), repr(value)[1:-1]}
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + data).decode()
        # The first and the last characters also depend on what stands beside the value.
        inside = encoded[(0, 2, 3)[shift] :].rstrip("=")[:-1]
        found |= {inside, inside.replace("+", "-").replace("/", "_")}
    return found


_ALL: Final = sorted({each.lower() for value in CANARIES.values() for each in disguises(value)})


def canaries_in(text: str | bytes) -> list[str]:
    shown = text.decode("latin-1") if isinstance(text, bytes) else text
    lowered = shown.lower()
    return [each for each in _ALL if each in lowered]


class LogWatch(logging.Handler):
    """Looks at every record of every logger, down to DEBUG."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records = 0
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records += 1
        shown = f"{self.format(record)} {vars(record)!r}"
        self.found += [f"{record.name}: {each}" for each in canaries_in(shown)]

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._level_before = root.level
        root.setLevel(logging.DEBUG)
        root.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._level_before)


async def error_of(action: Callable[[], object]) -> BaseException:
    """Return what a function or a coroutine function raises, traceback included."""
    try:
        result = action()
        if inspect.isawaitable(result):
            await result
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        return error
    msg = "nothing was raised"
    raise AssertionError(msg)


def is_ours(filename: str) -> bool:
    """Tell whether a frame runs code of the package, or code that attrs made for it."""
    return PACKAGE in Path(filename).parents or filename.startswith("<attrs generated")


def canaries_in_error(error: BaseException) -> list[str]:
    """Look at an error in every way a crash reporter does."""
    found = canaries_in(str(error)) + canaries_in(repr(error)) + canaries_in(repr(error.args))
    found += canaries_in(repr(getattr(error, "__notes__", ())))
    if isinstance(error, CallError):
        plain = copy.copy(error)
        for name in MAY_HOLD_PERSONAL_DATA:
            if hasattr(plain, name):
                setattr(plain, name, None)
        found += canaries_in(pickle.dumps(plain)) + canaries_in(repr(vars(plain)))
    shown: traceback.TracebackException | None = traceback.TracebackException.from_exception(
        error, capture_locals=True, max_group_depth=0
    )
    while shown is not None:
        for frame in shown.stack:
            if is_ours(frame.filename):
                found += canaries_in(repr(frame.locals))
        shown = shown.__cause__ or shown.__context__
    return found
