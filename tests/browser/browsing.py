"""How the tests of this folder start a browser, the shop and the emulator."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import attrs
from playwright.sync_api import BrowserContext, ConsoleMessage, Page

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
CHROMIUM = "/usr/bin/chromium"
SWITCHES = [
    "--no-sandbox",  # it runs as root on machines that test
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = (1100, 800)
PHONE = (390, 780)
CREATE_SECONDS = 3
"""How long the shop waits for the vendor."""

Photograph: TypeAlias = Callable[[Page, str], None]


@attrs.frozen
class Addresses:
    shop: str
    emulator: str
    staff: tuple[str, str] = "", ""  # who may log in to the admin pages


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def watch(context: BrowserContext, complaints: list[str]) -> None:
    """Note every error and warning of the console, failed request and error status."""

    def note(complaint: str, *, unless: bool = False) -> None:
        if not unless:
            complaints.append(complaint)

    def is_harmless(said: ConsoleMessage) -> bool:
        # The icon that a browser asks for by itself; Django's admin pages have none.
        is_icon = said.location["url"].endswith("/favicon.ico")
        return is_icon or said.type not in {"error", "warning"}

    context.on("console", lambda said: note(said.text, unless=is_harmless(said)))
    context.on("weberror", lambda error: note(str(error.error)))
    context.on("response", lambda answer: note(f"{answer.url} {answer.status}", unless=answer.status < 400))
    # A page that is left while it asks for news aborts that request.
    context.on(
        "requestfailed",
        lambda request: note(
            f"{request.url} {request.failure}", unless=request.failure == "net::ERR_ABORTED"
        ),
    )
