"""Postbacks in Starlette. Needs ``wegetfinancing[starlette]``."""

from collections.abc import Iterable
from typing import Any

from starlette.routing import Route

from ..credentials import Credentials
from ..postbacks.app import PostbackApp
from ..postbacks.handling import PostbackHandler

__all__ = ["postback_route"]


def postback_route(
    path: str,
    credentials: Credentials | Iterable[Credentials],
    handler: PostbackHandler,
    **settings: Any,  # noqa: ANN401 - those of PostbackApp
) -> Route:
    """Make a route that receives postbacks under exactly this path, without a redirect to a slash.

    Args:
        path: such as ``"/postbacks"``.
        credentials: one, or several while a password is being rotated.
        handler: ``async def (postback) -> None``.
        **settings: the keywords of ``PostbackApp``, such as ``store`` and ``max_age``.

    """
    return Route(path, PostbackApp(credentials, handler, **settings))
