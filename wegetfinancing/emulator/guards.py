"""What keeps other web sites and oversized bodies away from a served emulator."""

import contextlib
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request as HTTPRequest

from .._checks import is_loopback
from ..models import FinancingRequest

BODY_LIMIT: Final = 1024 * 1024
"""Bytes; a request with a thousand items has a fifth of it."""

_HOST: Final = re.compile(r"[A-Za-z0-9.-]+")
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost")


async def read_body(request: HTTPRequest) -> bytes:
    """Read the body up to ``BODY_LIMIT``, whatever ``Content-Length`` says or leaves out.

    Raises:
        HTTPException: 413, it is larger. The rest is not read.

    """
    body = bytearray()
    async with contextlib.aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > BODY_LIMIT:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is over 1 MiB")
    return bytes(body)


def refuse_other_sites(request: HTTPRequest) -> None:
    """Refuse a form that a page of another origin sends; a shop's own page on another port is one, too.

    Browsers name the origin in ``Origin`` or ``Sec-Fetch-Site``, and no page can change either. What sends
    neither is not a browser, such as curl.

    Raises:
        HTTPException: 403.

    """
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    is_foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
    if is_foreign or site not in {"same-origin", "none"}:
        raise HTTPException(HTTPStatus.FORBIDDEN, "cross-site posts are rejected")


def frame_ancestors(request: FinancingRequest | None = None) -> str:
    """Return the directive that says who may frame a page.

    The lightbox frames the application from a page of the shop, so the origins of the addresses that the
    request names may: nobody else, and nobody at all for other pages.
    """
    urls = () if request is None else (request.success_url, request.failure_url, request.postback_url)
    return " ".join(["frame-ancestors", *(_origins(urls) or ["'none'"])])


def _origins(urls: Iterable[str | None]) -> list[str]:
    origins: dict[str, None] = {}
    for url in urls:
        parts = urlsplit(url or "")
        host = parts.hostname or ""
        # A developer may open the shop under the other name of this machine.
        for name in _LOOPBACK_NAMES if is_loopback(host) else (host,):
            if _HOST.fullmatch(name):
                port = "" if parts.port is None else f":{parts.port}"
                origins[f"{parts.scheme}://{name}{port}"] = None
    return list(origins)
