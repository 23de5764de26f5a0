"""A real browser, the example shop and the emulator, each as its users start it."""

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, sync_playwright

from .browsing import (
    CHROMIUM,
    CREATE_SECONDS,
    DESKTOP,
    EXAMPLES,
    PHONE,
    SWITCHES,
    Addresses,
    Photograph,
    free_port,
    watch,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", help="a folder to keep a picture of each page in")


@contextlib.contextmanager
def serving(name: str) -> Iterator[tuple["subprocess.Popen[str]", Addresses]]:
    """Run one of the example shops beside an emulator."""
    shop, emulator = free_port(), free_port()
    command = [sys.executable, "-m", name, f"--port={shop}", f"--emulator-port={emulator}"]
    command.append(f"--timeout={CREATE_SECONDS}")
    with subprocess.Popen(  # noqa: S603 - our own example
        command, cwd=EXAMPLES, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"The shop: http://127.0.0.1:{shop}\n"
            yield process, Addresses(f"http://127.0.0.1:{shop}", f"http://127.0.0.1:{emulator}")
        finally:
            process.terminate()
    with pytest.raises(ConnectionRefusedError):  # the emulator has ended with the shop
        socket.create_connection(("127.0.0.1", emulator)).close()


@pytest.fixture(scope="session")
def addresses() -> Iterator[Addresses]:
    with serving("shop") as (_, addresses):
        yield addresses


@pytest.fixture(scope="session")
def django_shop() -> Iterator[Addresses]:
    with serving("django_shop") as (process, addresses):
        assert process.stdout is not None
        found = re.search(r"\((\w+), (\w+)\)", process.stdout.readline())
        assert found is not None
        yield attrs.evolve(addresses, staff=(found[1], found[2]))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the browser complained of; anything at all fails the test."""
    said: list[str] = []
    yield said
    assert said == []


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser, complaints: list[str]) -> Iterator[Page]:
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(15_000)
    watch(context, complaints)
    yield context.new_page()
    context.close()


@pytest.fixture
def photograph(request: pytest.FixtureRequest) -> Photograph:
    """Check that a page fits this width, and with axe in light and dark; keep a picture if asked to."""
    folder = request.config.getoption("--pictures")

    def take(page: Page, name: str) -> None:
        page.wait_for_load_state()  # a click returns while the new page has no document yet
        width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert width <= 0, f"{name} is {width} pixels too wide"
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            found = Axe().run(page, options={"iframes": False}).response["violations"]
            assert [each["id"] for each in found] == [], f"axe finds fault with {name}, {scheme}"
        device = "phone" if page.viewport_size == {"width": PHONE[0], "height": PHONE[1]} else "desktop"
        if folder:
            page.evaluate("window.scrollTo(0, 0)")
            page.screenshot(path=Path(folder) / f"{name}-{device}.jpg", type="jpeg", quality=60)

    return take
