"""One line for each call and each delivery of a served emulator, as they happen."""

from typing import Any, Final

from .._json import from_json
from .core import Application, Emulator

_MAX_CHARACTERS: Final = 200


def call_line(method: str, path: str, result: str, application: Application | None) -> str:
    """Describe a call: ``POST /merchant/1234/requests 200 ORDER-7 $499.00``."""
    if application is None:
        return _line(method, path, result)
    return _line(method, path, result, order_of(application), f"${application.amount:,.2f}")


def delivery_line(status: str, order: str, answer: str, seconds: float, how: str) -> str:
    """Describe a delivery: ``-> approved ORDER-7 HTTP 200 12 ms``."""
    return _line("->", status, order, answer, f"{seconds * 1000:.0f} ms", *([f"({how})"] if how else []))


def order_of(application: Application) -> str:
    """Name the order of an application; by its own ID if the shop sent none."""
    return application.request.merchant_transaction_id or application.inv_id


def loan_of(body: bytes, emulator: Emulator) -> Application | None:
    """Return the application that a shipping update names."""
    try:
        wire: Any = from_json(body)
    except ValueError:
        return None
    loan_id = wire.get("loan_id") if isinstance(wire, dict) else None
    return emulator.applications.get(loan_id) if isinstance(loan_id, str) else None


def _line(*words: str) -> str:
    # What a caller sends must not control the terminal.
    printable = "".join(each if each.isprintable() else "?" for each in " ".join(words))
    return printable[:_MAX_CHARACTERS]
