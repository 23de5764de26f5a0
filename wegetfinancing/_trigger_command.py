"""The command ``wegetfinancing trigger``: an application at a running emulator, created and decided."""

import argparse
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import anyio

from ._arguments import dollars
from ._checks import is_loopback
from .client.client import AsyncClient
from .client.httpx_transport import HttpxTransport
from .emulator.postbacks import STATUSES
from .errors import CallError, ConfigurationError, Outcome, TransportError
from .http import Request
from .models import Address, FinancingRequest
from .postbacks.events import Approved, Refunded

_AMOUNT: Final = "499.00"
_POSTBACK_SECONDS: Final = 30.0


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the command to the subparsers of ``wegetfinancing``."""
    trigger = commands.add_parser(
        "trigger",
        help="create an application at a running emulator and decide it",
        description="Create an application at the emulator of WEGETFINANCING_BASE_URL and decide it. "
        "The emulator sends your endpoint the signed postback.",
    )
    trigger.add_argument("status", choices=STATUSES, help="a refund follows an approval")
    trigger.add_argument("--postback-url", help="your endpoint, such as http://127.0.0.1:8000/postbacks")
    trigger.add_argument("--order", help="your order ID; default: a new one, which is printed")
    trigger.add_argument(
        "--amount", type=dollars, default=_AMOUNT, help="USD, to finance; default: %(default)s"
    )
    trigger.add_argument("--json", action="store_true", help="print one JSON object, at the end")
    trigger.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    base_url = os.environ.get("WEGETFINANCING_BASE_URL", "")
    if not is_loopback(urlsplit(base_url).hostname or ""):
        msg = "set WEGETFINANCING_BASE_URL to the address of an emulator on this machine"
        raise ConfigurationError(msg)
    request = FinancingRequest(
        first_name="Jane",
        last_name="Doe",
        email="jane@example.com",
        billing_address=Address(street1="123 Main St", city="New York", state="NY", zipcode="10001"),
        amount=chosen.amount,
        merchant_transaction_id=chosen.order or f"ORDER-{secrets.token_hex(4)}",
        postback_url=chosen.postback_url,
    )
    told: dict[str, Any] = {"order": request.merchant_transaction_id, "decisions": []}
    show: Callable[[str], object] = (lambda _: None) if chosen.json else print
    return _tell(anyio.run(_create_and_decide, request, chosen.status, told, show), told, as_json=chosen.json)


def _tell(result: bool | CallError, told: dict[str, Any], *, as_json: bool) -> int:  # noqa: FBT001 - it may be an error
    """Print what has failed, and all at once for programs; return the exit status."""
    if isinstance(result, CallError):
        told["error"] = str(result)
        print(result, file=sys.stderr)
        if result.outcome is Outcome.NOT_SENT and isinstance(result, TransportError):
            print(
                "is the emulator running? python -m wegetfinancing emulator --env-file .env", file=sys.stderr
            )
    if as_json:
        print(json.dumps(told, indent=2))
    return 0 if result is True else 1


async def _create_and_decide(
    request: FinancingRequest, status: str, told: dict[str, Any], show: Callable[[str], object]
) -> bool | CallError:
    async with contextlib.aclosing(HttpxTransport(ready_connections=0)) as transport:
        try:
            async with AsyncClient.from_env(transport=transport) as client:
                created = await client.create_request(request)
            told |= {"inv_id": created.inv_id, "page": created.href}
            show(f"order  {request.merchant_transaction_id}\ninv_id {created.inv_id}\npage   {created.href}")
            for decision in _decisions_to(status):
                answer = await transport.send(_decision(created.href, decision))
                answered = json.loads(answer.body)
                told["decisions"].append({"decision": decision, **answered})
                hint = "" if request.postback_url else "; pass --postback-url"
                show(f"{decision}: {answered.get('postback', answered)}{hint}")
                if not answer.is_success or answered["postback"] != "HTTP 200":
                    return False
        except CallError as error:
            return error
        return True


def _decisions_to(status: str) -> list[str]:
    return [Approved.status, status] if status == Refunded.status else [status]


def _decision(href: str, status: str) -> Request:
    return Request(
        operation="decide",
        method="POST",
        url=href,
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=f"decision={status}".encode("ascii"),
        deadline=anyio.current_time() + _POSTBACK_SECONDS,
    )
