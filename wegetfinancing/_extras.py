"""How to install what an extra of this package needs."""

import sys
from importlib.metadata import PackageNotFoundError, requires


def install_command(extra: str) -> str:
    """Return the command that installs an extra's requirements into this Python, in quotes of every shell.

    It names the requirements themselves, so that it works wherever the package came from.
    """
    try:
        stated = requires("wegetfinancing") or []
    except PackageNotFoundError:  # the package is only on sys.path, as in a checkout
        stated = []
    endings = (f"extra == '{extra}'", f'extra == "{extra}"')
    named = [each.partition(";")[0].strip() for each in stated if each.endswith(endings)] or [f".[{extra}]"]
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return " ".join([python, "-m", "pip", "install", *(f'"{each}"' for each in named)])
