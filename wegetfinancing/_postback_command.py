"""The command ``wegetfinancing postback``: one signed postback to one's own endpoint."""

import argparse
import contextlib
import json
import secrets
import sys
import time
from typing import Any, Final
from urllib.parse import urlsplit

import anyio

from ._arguments import dollars
from ._checks import is_loopback
from ._rules import url
from .client.httpx_transport import HttpxTransport
from .client.settings import settings_from_env
from .credentials import Credentials, Environment
from .emulator.postbacks import STATUSES, SignedPostback, delivery, forged, signed_postback
from .enums import PostbackVersion
from .errors import ConfigurationError, TransportError
from .http import Response

_POSTBACK_SECONDS: Final = 30.0
_SHOWN_CHARACTERS: Final = 1000


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the command to the subparsers of ``wegetfinancing``."""
    postback = commands.add_parser(
        "postback",
        help="send a signed postback to your endpoint and print its answer",
        description="Send a postback, signed with the credentials of WEGETFINANCING_*, and print the answer. "
        "Where WEGETFINANCING_ENVIRONMENT is live, only one with --wrong-signature is sent.",
    )
    postback.add_argument("url", help="your endpoint, such as http://127.0.0.1:8000/postbacks")
    postback.add_argument("--status", choices=STATUSES, default=STATUSES[0], help="default: %(default)s")
    postback.add_argument("--inv-id", help="default: a new one, which is printed")
    postback.add_argument(
        "--order",
        "--merchant-transaction-id",
        dest="order",
        help="your order ID; default: none",
    )
    postback.add_argument("--amount", type=dollars, help="USD, for a refund")
    postback.add_argument(
        "--version",
        choices=[version.value for version in PostbackVersion],
        default=PostbackVersion.V1_9.value,
        help="the dialect; default: %(default)s",
    )
    postback.add_argument("--wrong-signature", action="store_true", help="as a forger would")
    postback.add_argument("--json", action="store_true", help="print one JSON object, at the end")
    postback.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    require_postback_url(chosen.url)
    if settings_from_env({}).get("environment") is Environment.LIVE and not chosen.wrong_signature:
        msg = (
            "WEGETFINANCING_ENVIRONMENT is live, where the shop would take this for the vendor's decision;"
            " 'wegetfinancing check --postback-url' tries the endpoint with what changes nothing"
        )
        raise ConfigurationError(msg)
    inv_id = chosen.inv_id or secrets.token_hex(16)
    signed = signed_postback(
        chosen.status,
        Credentials.from_env(),
        inv_id=inv_id,
        merchant_transaction_id=chosen.order,
        amount=chosen.amount,
        version=PostbackVersion(chosen.version),
        timestamp=str(int(time.time())),
    )
    told: dict[str, Any] = {"inv_id": inv_id, "order": chosen.order, "status": chosen.status}
    if not chosen.json:
        print(f"inv_id {inv_id}", flush=True)
    sent = forged(signed) if chosen.wrong_signature else signed
    return _tell(anyio.run(_deliver, chosen.url, sent), told, as_json=chosen.json)


def _tell(answer: Response | TransportError, told: dict[str, Any], *, as_json: bool) -> int:
    """Print what became of the delivery, and return the exit status."""
    if isinstance(answer, TransportError):
        told["error"] = str(answer)
        print(answer, file=sys.stderr)
    else:
        text = answer.body.decode("utf-8", "replace")[:_SHOWN_CHARACTERS]
        told |= {"http_status": answer.status, "answer": text}
        if not as_json:
            print(f"HTTP {answer.status}\n{text}")
    if as_json:
        print(json.dumps(told, indent=2))
    return 0 if isinstance(answer, Response) and answer.is_success else 1


def require_postback_url(address: str) -> None:
    """Require the URL of an endpoint to which a signed postback may be sent.

    Raises:
        ConfigurationError: not an absolute URL, or plain http to another machine.

    """
    if problem := url(address):
        msg = f"the URL {problem}"
        raise ConfigurationError(msg)
    parts = urlsplit(address)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        msg = "a signed postback could be read on its way; plain http is for loopback addresses only"
        raise ConfigurationError(msg)


async def _deliver(address: str, signed: SignedPostback) -> Response | TransportError:
    async with contextlib.aclosing(HttpxTransport(ready_connections=0)) as transport:
        try:
            return await transport.send(delivery(signed, address, anyio.current_time() + _POSTBACK_SECONDS))
        except TransportError as error:
            return error
