"""The command ``wegetfinancing emulator``: the vendor's API, its pages and a dashboard on this machine."""

import argparse
import contextlib
import errno
import json
import os
import secrets
import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from ._extras import install_command
from .credentials import Credentials
from .emulator.env_file import read_merchants, read_settings, write_merchants, write_settings
from .emulator.report import ReportLine
from .errors import ConfigurationError

_PORT: Final = 8200
_MERCHANT_ID: Final = "1234"
_USERNAME: Final = "emulator-user"
_LAST_PORT: Final = 65535
_PORT_DIGITS: Final = 5


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the command to the subparsers of ``wegetfinancing``."""
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
    emulator.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object on a line for the start, with the settings, and for each call and delivery",
    )
    emulator.set_defaults(run=_run)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _PORT_DIGITS and int(text) <= _LAST_PORT):
        msg = f"must be a number from 0 to {_LAST_PORT}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _run(chosen: argparse.Namespace) -> None:
    try:
        from .emulator.server import emulator_server  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = f"{error.name} is missing; {install_command('emulator')}"
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
        announce, report = (_announce_as_json, _report_as_json) if chosen.json else (_announce, _report)
        server = emulator_server(
            [credentials, *merchants],
            listening,
            hosts=chosen.allow_host,
            report=report,
            ready=lambda: announce(base_url, settings),
        )
        server.run(sockets=[listening])


def _announce(base_url: str, settings: Mapping[str, str]) -> None:
    exports = "".join(f"  export {name}={shlex.quote(value)}\n" for name, value in settings.items())
    print(
        f"The emulator and its dashboard: {base_url}\n\n{exports}\n"
        "Everything is forgotten when it stops (Ctrl-C).",
        flush=True,
    )


def _announce_as_json(base_url: str, settings: Mapping[str, str]) -> None:
    _print_json({"event": "started", "base_url": base_url, "settings": settings})


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _report_as_json(line: str) -> None:
    _print_json(cast("ReportLine", line).data)  # each line of an emulator is one


def _print_json(data: Mapping[str, Any]) -> None:
    print(json.dumps(data), flush=True)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        msg = f"127.0.0.1:{port}: {os.strerror(error.errno)}; choose another --port, such as 0 for a free one"
        raise ConfigurationError(msg) from None
