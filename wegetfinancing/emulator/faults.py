"""Faults that the emulator can simulate, to test one's own checkout with."""

import enum
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import attrs

from .._json import from_json, to_json
from ..http import Response
from .responses import error_response

SLOW_SECONDS: Final = 5.0
"""How long the emulator waits before a slow answer."""


class Effect(enum.Enum):
    """What happens to an answer on its way to the caller."""

    ANSWER = "answer"
    """It arrives."""

    SLOW = "slow"
    """It arrives after ``SLOW_SECONDS``."""

    SILENCE = "silence"
    """It never comes."""

    RESET = "reset"
    """The connection is reset instead."""


@attrs.frozen(kw_only=True)
class Fault:
    """One way to fail.

    Attributes:
        name: identifies it, such as ``fault-502``.
        description: what the caller sees, in a sentence.
        carried_out: whether the request is carried out before it fails.
        effect: what happens to the answer.
        answer: makes the answer from the good one, whose body is empty if nothing was carried out.

    """

    name: str
    description: str
    carried_out: bool
    effect: Effect = Effect.ANSWER
    answer: Callable[[Response], Response] = lambda good: good

    @property
    def status(self) -> str:
        """What the caller sees of it: ``HTTP 502``, ``no answer`` or ``reset``."""
        if self.effect in {Effect.SILENCE, Effect.RESET}:
            return "no answer" if self.effect is Effect.SILENCE else "reset"
        return f"HTTP {self.answer(Response(200, body=b'{}')).status}"


def _proxy_page(status: int, text: str, **headers: str) -> Callable[[Response], Response]:
    page = f"<html><body><h1>{status} {text}</h1></body></html>".encode()
    return lambda _: Response(status, {"content-type": "text/html", **headers}, page)


def _rewritten(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Response], Response]:
    return lambda good: attrs.evolve(good, body=to_json(change(from_json(good.body))))


def _dollar_more(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"amount": f"{Decimal(answer['amount']) + 1:.2f}"} if "amount" in answer else answer


def _as_in_the_guide(answer: dict[str, Any]) -> dict[str, Any]:
    """One of the vendor's guides shows ``request_token`` instead of ``inv_id``, and omits the amount."""
    renamed = {"inv_id": "request_token"}
    return {renamed.get(name, name): value for name, value in answer.items() if name != "amount"}


_FAULTS: Final = (
    Fault(
        name="fault-timeout-after-commit",
        description="no answer ever comes",
        carried_out=True,
        effect=Effect.SILENCE,
    ),
    Fault(
        name="fault-timeout-before-commit",
        description="no answer ever comes",
        carried_out=False,
        effect=Effect.SILENCE,
    ),
    Fault(
        name="fault-reset-after-commit",
        description="the connection is reset without an answer",
        carried_out=True,
        effect=Effect.RESET,
    ),
    Fault(
        name="fault-reset",
        description="the connection is reset without an answer",
        carried_out=False,
        effect=Effect.RESET,
    ),
    Fault(
        name="fault-slow",
        description=f"the answer arrives after {SLOW_SECONDS:.0f} seconds",
        carried_out=True,
        effect=Effect.SLOW,
    ),
    Fault(
        name="fault-malformed-json",
        description="200 with JSON that breaks off in the middle",
        carried_out=True,
        answer=lambda good: attrs.evolve(good, body=good.body[: len(good.body) // 2]),
    ),
    Fault(
        name="fault-html",
        description="200 with an HTML page instead of JSON",
        carried_out=True,
        answer=_proxy_page(200, "Welcome"),
    ),
    Fault(
        name="fault-502-after-commit",
        description="502 with a proxy's page",
        carried_out=True,
        answer=_proxy_page(502, "Bad Gateway"),
    ),
    Fault(
        name="fault-502",
        description="502 with a proxy's page",
        carried_out=False,
        answer=_proxy_page(502, "Bad Gateway"),
    ),
    Fault(
        name="fault-503",
        description="503 with Retry-After: 1",
        carried_out=False,
        answer=_proxy_page(503, "Service Unavailable", **{"retry-after": "1"}),
    ),
    Fault(
        name="fault-429",
        description="429 with Retry-After: 2",
        carried_out=False,
        answer=_proxy_page(429, "Too Many Requests", **{"retry-after": "2"}),
    ),
    Fault(
        name="fault-500",
        description="500 in the vendor's form, as for a business refusal",
        carried_out=False,
        answer=lambda _: error_response(500, message="InternalServerError"),
    ),
    Fault(
        name="fault-400",
        description="400 that names billing_address.zipcode",
        carried_out=False,
        answer=lambda _: error_response(
            400,
            "invalid_parameters",
            message="InvalidParameters",
            reasons={"billing_address.zipcode": "is not served"},
        ),
    ),
    Fault(
        name="fault-wrong-amount",
        description="the answer finances one dollar more than was asked for",
        carried_out=True,
        answer=_rewritten(_dollar_more),
    ),
    Fault(
        name="fault-no-amount",
        description="the answer has request_token instead of inv_id, and lacks the amount",
        carried_out=True,
        answer=_rewritten(_as_in_the_guide),
    ),
)

FAULTS: Final[Mapping[str, Fault]] = MappingProxyType({fault.name: fault for fault in _FAULTS})
"""Every fault by its name."""

_LONGEST_FIRST: Final = sorted(FAULTS, key=len, reverse=True)


def named_fault(name: str) -> Fault:
    """Return the fault of that name.

    Raises:
        ValueError: the name is unknown.

    """
    if name not in FAULTS:
        msg = f"unknown fault; the faults are {', '.join(FAULTS)}"
        raise ValueError(msg)
    return FAULTS[name]


def fault_of_order(merchant_transaction_id: object) -> Fault | None:
    """Return the fault that an order ID asks for: ``fault-502``, or ``fault-502-`` and anything after it."""
    text = f"{merchant_transaction_id}-"
    return next((FAULTS[name] for name in _LONGEST_FIRST if text.startswith(f"{name}-")), None)
