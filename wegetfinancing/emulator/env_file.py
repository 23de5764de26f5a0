"""The file in which a served emulator keeps its address and credentials between starts.

It holds ``NAME=value`` lines that a shell and the usual ``.env`` readers understand. Other lines are kept.
"""

import os
import re
import secrets
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .._rules import is_loopback
from ..credentials import Credentials
from ..errors import ConfigurationError

_LINE: Final = re.compile(r"\s*(?:export\s+)?(WEGETFINANCING_[A-Z_]+)=(.*)")

_PARTS: Final = 3  # of a merchant's credentials


def read_settings(path: Path) -> dict[str, str]:
    """Read the variables whose names begin with ``WEGETFINANCING_``; a missing file holds none.

    Raises:
        ConfigurationError: a line cannot be read, or the file holds credentials of something other than an
            emulator, which must not sign postbacks on this machine.
        OSError: the file cannot be read.

    """
    settings: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        if found := _LINE.fullmatch(line):
            try:
                settings[found[1]] = "".join(shlex.split(found[2], comments=True))
            except ValueError as error:
                msg = f"{path}: line {number}: {error}"
                raise ConfigurationError(msg) from None
    address = urlsplit(settings.get("WEGETFINANCING_BASE_URL", ""))
    is_used = address.hostname is not None or "WEGETFINANCING_PASSWORD" in settings
    if is_used and not is_loopback(address.hostname or ""):
        msg = (
            f"{path} holds settings of something other than an emulator, since its WEGETFINANCING_BASE_URL "
            "is not on this machine; name another file with --env-file"
        )
        raise ConfigurationError(msg)
    return settings


def write_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Write the variables into the file, which only its owner may read afterwards.

    Raises:
        OSError: the file cannot be written; what it held is still there.

    """
    kept = [line for line in _lines(path) if not ((found := _LINE.fullmatch(line)) and found[1] in settings)]
    lines = [*kept, *(f"{name}={shlex.quote(value)}" for name, value in settings.items())]
    written = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    written.replace(path)


def read_merchants(text: str) -> list[Credentials]:
    """Read ``ID:USERNAME:PASSWORD`` of each merchant, separated by spaces.

    Raises:
        ConfigurationError: a part is missing or invalid.

    """
    found = []
    for each in text.split():
        parts = each.split(":", 2)
        if len(parts) < _PARTS:
            msg = "WEGETFINANCING_MERCHANTS must hold ID:USERNAME:PASSWORD of each merchant"
            raise ConfigurationError(msg)
        found.append(Credentials(*parts))
    return found


def write_merchants(merchants: Iterable[Credentials]) -> str:
    """Write what ``read_merchants`` reads."""
    return " ".join(f"{each.merchant_id}:{each.username}:{each.password}" for each in merchants)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
