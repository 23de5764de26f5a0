"""Handle each decision once: claim it, call the shop's handler, settle it; try again while patience lasts."""

import contextlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio

from .._rules import is_async
from ..errors import ConfigurationError
from .deliveries import Claim, DeliveryStore
from .events import Postback
from .receiving import NotYet, SettlingError

__all__ = ["PostbackHandler", "SingleHandling"]

PostbackHandler: TypeAlias = Callable[[Postback], Awaitable[object]]
"""What a shop does with a postback. It returns when the decision is safely recorded."""

_STORE_SECONDS: Final = 5.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class SingleHandling:
    """Calls ``handler`` for the first delivery of a decision and ``repeat_handler`` for every later one.

    Raises:
        ConfigurationError: a handler is not ``async def (postback)``.

    """

    __slots__ = ("_handler", "_patience", "_repeat_handler", "_store")

    def __init__(
        self,
        handler: PostbackHandler,
        repeat_handler: PostbackHandler | None,
        store: DeliveryStore,
        patience: float,
    ) -> None:
        """Check the handlers."""
        for name, each in (("handler", handler), ("repeat_handler", repeat_handler or handler)):
            if not is_async(each):
                msg = f"{name} must be 'async def (postback)'"
                raise ConfigurationError(msg)
        self._handler = handler
        self._repeat_handler = repeat_handler
        self._store = store
        self._patience = patience

    async def __call__(self, postback: Postback) -> None:
        """Claim, handle and settle; again while the shop is not ready and patience lasts.

        Raises:
            NotYet: patience has ended.
            SettlingError: it was handled, but the store could not record it.
            Exception: what a handler or the store raised.

        """
        give_up = anyio.current_time() + self._patience
        pause = _FIRST_PAUSE
        while not await self._try_to_handle(postback):
            if anyio.current_time() + pause > give_up:
                raise NotYet
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _try_to_handle(self, postback: Postback) -> bool:
        key, owner = postback.key, secrets.token_hex(8)
        try:
            with anyio.fail_after(_STORE_SECONDS):
                claim = await self._store.claim(key, owner)
            if claim is Claim.SETTLED and self._repeat_handler is not None:
                await self._repeat_handler(postback)
            if claim is not Claim.GRANTED:
                return claim is Claim.SETTLED
            await self._handler(postback)
        except BaseException as error:
            # Even when cancelled, and even where the claim may not have been granted. If it fails, the
            # claim expires by itself, and what went wrong first is what counts.
            with contextlib.suppress(Exception), anyio.move_on_after(_STORE_SECONDS, shield=True):
                await self._store.release(key, owner)
            if isinstance(error, NotYet):
                return False
            raise
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(_STORE_SECONDS):
                await self._store.settle(key, owner)
        except Exception as error:
            msg = "the decision was handled, and the store could not record it"
            raise SettlingError(msg) from error
        return True
