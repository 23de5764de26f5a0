"""One line for each call and each delivery of a served emulator, as they happen."""

from collections.abc import Iterable
from typing import Any, Final, Self

from .._json import from_json
from .core import Application, Emulator

_MAX_CHARACTERS: Final = 200


class ReportLine(str):
    """A line for people, and in ``data`` the same for programs."""

    __slots__ = ("data",)

    data: dict[str, Any]

    @classmethod
    def of(cls, words: Iterable[str], data: dict[str, Any]) -> Self:
        """Make the line of words."""
        # What a caller sends must not control the terminal.
        printable = "".join(each if each.isprintable() else "?" for each in " ".join(words))
        line = cls(printable[:_MAX_CHARACTERS])
        line.data = data
        return line


def call_line(method: str, path: str, result: str, application: Application | None) -> ReportLine:
    """Describe a call: ``POST /merchant/1234/requests HTTP 200 ORDER-7 $499.00``."""
    words = [method, path, result]
    data: dict[str, Any] = {"event": "call", "method": method, "path": path, "result": result}
    if application is not None:
        words += [order_of(application), f"${application.amount:,.2f}"]
        data |= {
            "order": application.request.merchant_transaction_id,
            "inv_id": application.inv_id,
            "amount": f"{application.amount:.2f}",
        }
    return ReportLine.of(words, data)


def delivery_line(status: str, order: str, answer: str, seconds: float, how: str) -> ReportLine:
    """Describe a delivery: ``-> approved ORDER-7 HTTP 200 12 ms``."""
    milliseconds = round(seconds * 1000)
    words = ["->", status, order, answer, f"{milliseconds} ms", *([f"({how})"] if how else [])]
    data = {"event": "delivery", "status": status, "order": order, "answer": answer, "how": how}
    return ReportLine.of(words, data | {"milliseconds": milliseconds})


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
