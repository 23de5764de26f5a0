"""The built documentation, as a reader sees it from disk."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as BrowserTimeoutError

from .browsing import PHONE

ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "docs" / "site"
SMALL_DESKTOP = (1280, 800)


@pytest.fixture(scope="session")
def site() -> list[Path]:
    """Build the pages and return them."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    command.append("--config-file=docs/mkdocs.yml")
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own pages
    return sorted(set(SITE.rglob("*.html")) - {SITE / "404.html"})


@pytest.mark.parametrize("page", [SMALL_DESKTOP, PHONE], ids=["desktop", "phone"], indirect=True)
def test_no_code_is_clipped_and_nothing_comes_from_elsewhere(page: Page, site: list[Path]) -> None:
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url))
    clipped: dict[str, list[str]] = {}
    blocks = 0
    for each in site:
        page.goto(each.as_uri())
        codes = page.eval_on_selector_all(
            "pre > code", "codes => codes.map(each => [each.scrollWidth > each.clientWidth, each.innerText])"
        )
        blocks += len(codes)
        if found := [text[:60] for too_wide, text in codes if too_wide]:
            clipped[each.name] = found
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            clipped.setdefault(each.name, []).append("the page")
    assert clipped == {}
    assert blocks > 100
    assert {url for url in asked if not url.startswith(("file:", "data:", "blob:"))} == set()


def test_the_home_page_shows_code_the_installation_and_the_flow(page: Page, site: list[Path]) -> None:
    page.goto((SITE / "index.html").as_uri())
    assert SITE / "index.html" in site
    flow = page.locator("pre", has_text="create_request ──>")
    lines = flow.inner_text().splitlines()
    height = flow.evaluate("pre => parseFloat(getComputedStyle(pre.querySelector('code')).lineHeight)")
    assert flow.locator("code").bounding_box()["height"] < (len(lines) + 3) * height  # type: ignore[index]
    assert page.locator("code", has_text="python -m pip install").count() > 0
    assert page.get_by_role("link", name="PyPI").count() == 1


@pytest.fixture(params=["disk", "http"])
def address(request: pytest.FixtureRequest, site: list[Path]) -> Iterator[str]:
    """Where the site is read: from disk, or from a server."""
    assert site
    if request.param == "disk":
        yield SITE.as_uri()
        return
    silent = type("Silent", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(silent, directory=SITE)) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def test_the_search_finds_a_page(page: Page, address: str) -> None:
    page.goto(f"{address}/index.html")
    found = page.locator("[role=option][href*='create-request.html#call-preconnect']")

    def search() -> None:
        """Open it and search; the page answers the keyboard once its scripts have run."""
        if not page.get_by_role("combobox").is_visible():
            page.keyboard.press("Control+k")
        page.get_by_role("combobox").fill("", timeout=2_000)
        page.get_by_role("combobox").fill("preconnect", timeout=2_000)
        expect(found).to_be_visible(timeout=3_000)

    for _ in range(5):
        with contextlib.suppress(AssertionError, BrowserTimeoutError):
            search()
            break
    found.press("Enter")
    page.wait_for_url("**/create-request.html**")
