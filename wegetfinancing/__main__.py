"""The command ``wegetfinancing``: an emulator, a postback to one's own endpoint, a ledger's operations."""

import argparse
import contextlib
import errno
import json
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio

from . import _ledger_command
from ._rules import is_loopback, url
from ._version import __version__
from .client.client import AsyncClient
from .client.httpx_transport import HttpxTransport
from .credentials import Credentials
from .emulator.env_file import read_merchants, read_settings, write_merchants, write_settings
from .emulator.postbacks import STATUSES, SignedPostback, delivery, forged, signed_postback
from .enums import PostbackVersion
from .errors import CallError, ConfigurationError, TransportError
from .http import Request
from .models import Address, FinancingRequest
from .postbacks.events import Approved, Refunded

_PORT: Final = 8200
_MERCHANT_ID: Final = "1234"
_USERNAME: Final = "emulator-user"
_LAST_PORT: Final = 65535
_PORT_DIGITS: Final = 5
_POSTBACK_SECONDS: Final = 30.0
_AMOUNT: Final = "499.00"
_SHOWN_CHARACTERS: Final = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    chosen = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int | None] = chosen.run
    try:
        return run(chosen) or 0
    except (ConfigurationError, OSError, ValueError) as error:
        print(f"wegetfinancing: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wegetfinancing",
        description="An emulator of the vendor's API, postbacks to your endpoint, and a ledger's operations.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    emulator = commands.add_parser(
        "emulator", help="serve the vendor's API, its pages and a dashboard locally"
    )
    emulator.add_argument("--port", type=_port, help=f"default: {_PORT}; 0 for a free one")
    emulator.add_argument("--merchant-id", help=f"default: {_MERCHANT_ID}")
    emulator.add_argument(
        "--merchant",
        action="append",
        default=[],
        metavar="ID",
        help="serve this merchant too, with credentials of its own; repeatable",
    )
    emulator.add_argument("--username", help=f"default: {_USERNAME}")
    emulator.add_argument(
        "--env-file",
        type=Path,
        metavar="FILE",
        help="keep address and credentials in this file, such as .env, and use them again at the next start; "
        "without it there is a new password each time",
    )
    emulator.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="deliver postbacks to this host too; by default to loopback addresses only",
    )
    emulator.set_defaults(run=_emulator)

    trigger = commands.add_parser(
        "trigger",
        help="create an application at a running emulator and decide it",
        description="Create an application at the emulator of WEGETFINANCING_BASE_URL and decide it. "
        "The emulator sends your endpoint the signed postback.",
    )
    trigger.add_argument("status", choices=STATUSES, help="a refund follows an approval")
    trigger.add_argument("--postback-url", help="your endpoint, such as http://127.0.0.1:8000/postbacks")
    trigger.add_argument("--order", help="your order ID; default: a new one, which is printed")
    trigger.add_argument("--amount", default=_AMOUNT, help="USD, to finance; default: %(default)s")
    trigger.set_defaults(run=_trigger)

    postback = commands.add_parser(
        "postback",
        help="send a signed postback to your endpoint and print its answer",
        description="Send a postback, signed with the credentials of WEGETFINANCING_*, and print the answer.",
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
    postback.add_argument("--amount", help="USD, for a refund")
    postback.add_argument(
        "--version",
        choices=[version.value for version in PostbackVersion],
        default=PostbackVersion.V1_9.value,
        help="the dialect; default: %(default)s",
    )
    postback.add_argument("--wrong-signature", action="store_true", help="as a forger would")
    postback.set_defaults(run=_postback)

    _ledger_command.add_parser(commands)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _PORT_DIGITS and int(text) <= _LAST_PORT):
        msg = f"must be a number from 0 to {_LAST_PORT}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _emulator(chosen: argparse.Namespace) -> None:
    try:
        from .emulator.server import emulator_server  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = (
            f"{error.name} is missing; python -m pip install 'wegetfinancing[emulator]', "
            "or '.[emulator]' in a checkout"
        )
        raise ConfigurationError(msg) from None
    stored = read_settings(chosen.env_file) if chosen.env_file else {}
    credentials = Credentials(
        merchant_id=chosen.merchant_id or stored.get("WEGETFINANCING_MERCHANT_ID", _MERCHANT_ID),
        username=chosen.username or stored.get("WEGETFINANCING_USERNAME", _USERNAME),
        password=stored.get("WEGETFINANCING_PASSWORD") or secrets.token_urlsafe(12),
    )
    merchants = [
        each
        for each in read_merchants(stored.get("WEGETFINANCING_MERCHANTS", ""))
        if each.merchant_id != credentials.merchant_id
    ]
    known = {each.merchant_id for each in (credentials, *merchants)}
    merchants += [
        Credentials(merchant_id=each, username=f"{each}-user", password=secrets.token_urlsafe(12))
        for each in dict.fromkeys(chosen.merchant)
        if each not in known
    ]
    stored_port = urlsplit(stored.get("WEGETFINANCING_BASE_URL", "")).port
    port = (stored_port or _PORT) if chosen.port is None else chosen.port
    with contextlib.suppress(KeyboardInterrupt), _listen(port) as listening:
        base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        settings = {
            "WEGETFINANCING_BASE_URL": base_url,
            "WEGETFINANCING_MERCHANT_ID": credentials.merchant_id,
            "WEGETFINANCING_USERNAME": credentials.username,
            "WEGETFINANCING_PASSWORD": credentials.password,
        }
        if merchants:
            settings["WEGETFINANCING_MERCHANTS"] = write_merchants(merchants)
        if chosen.env_file:
            write_settings(chosen.env_file, settings)
        exports = "".join(f"  export {name}={shlex.quote(value)}\n" for name, value in settings.items())
        print(
            f"The emulator and its dashboard: {base_url}\n\n{exports}\n"
            "Everything is forgotten when it stops (Ctrl-C).",
            flush=True,
        )
        server = emulator_server(
            [credentials, *merchants], listening, hosts=chosen.allow_host, report=_report
        )
        server.run(sockets=[listening])


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        msg = f"127.0.0.1:{port}: {os.strerror(error.errno)}; choose another --port, such as 0 for a free one"
        raise ConfigurationError(msg) from None


def _trigger(chosen: argparse.Namespace) -> int:
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
    return anyio.run(_create_and_decide, request, chosen.status)


async def _create_and_decide(request: FinancingRequest, status: str) -> int:
    transport = HttpxTransport(ready_connections=0)
    try:
        async with AsyncClient.from_env(transport=transport) as client:
            created = await client.create_request(request)
        print(f"order  {request.merchant_transaction_id}\ninv_id {created.inv_id}\npage   {created.href}")
        for decision in _decisions_to(status):
            answer = await transport.send(_decision(created.href, decision))
            told = json.loads(answer.body)
            print(f"{decision}: {told.get('postback', told)}")
            if not answer.is_success or told["postback"] != "HTTP 200":
                return 1
    except CallError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        await transport.aclose()
    return 0


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


def _postback(chosen: argparse.Namespace) -> int:
    if problem := url(chosen.url):
        msg = f"the URL {problem}"
        raise ConfigurationError(msg)
    parts = urlsplit(chosen.url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        msg = "a signed postback could be read on its way; plain http is for loopback addresses only"
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
    print(f"inv_id {inv_id}")
    return anyio.run(_deliver, chosen.url, forged(signed) if chosen.wrong_signature else signed)


async def _deliver(url: str, signed: SignedPostback) -> int:
    request = delivery(signed, url, anyio.current_time() + _POSTBACK_SECONDS)
    transport = HttpxTransport(ready_connections=0)
    try:
        answer = await transport.send(request)
    except TransportError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        await transport.aclose()
    print(f"HTTP {answer.status}")
    print(answer.body.decode("utf-8", "replace")[:_SHOWN_CHARACTERS])
    return 0 if answer.is_success else 1


if __name__ == "__main__":
    sys.exit(main())
