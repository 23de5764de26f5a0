"""One line for each call and each delivery of a served emulator, as they happen."""

from typing import Final

from .core import Application

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


def _line(*words: str) -> str:
    # What a caller sends must not control the terminal.
    printable = "".join(each if each.isprintable() else "?" for each in " ".join(words))
    return printable[:_MAX_CHARACTERS]
