"""Handle each decision once: claim it, call the shop's handler, settle it; try again while patience lasts."""

import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, cast

import anyio
import attrs

from .._checks import is_async
from ..errors import ConfigurationError
from .deliveries import Claim, DeliveryStore, SyncDeliveryStore
from .events import Postback
from .receiving import NotYet, SettlingError
from .steps import Call, Pause, Steps, run, run_async

__all__ = ["PostbackHandler", "SingleHandling", "SyncPostbackHandler", "SyncSingleHandling"]

PostbackHandler: TypeAlias = Callable[[Postback], Awaitable[object]]
"""What a shop does with a postback. It returns when the decision is safely recorded."""

SyncPostbackHandler: TypeAlias = Callable[[Postback], object]
"""The same as a plain function, which runs in the request's own thread."""

_LOGGER: Final = logging.getLogger("wegetfinancing")
_STORE_SECONDS: Final = 5.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


@attrs.frozen
class _Rules:
    """Calls ``handler`` for the first delivery of a decision and ``repeat_handler`` for every later one."""

    handler: Callable[[Postback], object]
    repeat_handler: Callable[[Postback], object] | None
    store: DeliveryStore | SyncDeliveryStore
    patience: float

    def steps(self, postback: Postback, clock: Callable[[], float]) -> Steps[None]:
        """Claim, handle and settle; again while the shop is not ready and patience lasts."""
        give_up = clock() + self.patience
        pause = _FIRST_PAUSE
        while not (yield from self._try_to_handle(postback)):
            if clock() + pause > give_up:
                raise NotYet
            yield Pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _try_to_handle(self, postback: Postback) -> Steps[bool]:
        names = (postback.key, secrets.token_hex(8))
        try:
            claim = yield Call(self.store.claim, names, _STORE_SECONDS)
            if claim is Claim.SETTLED and self.repeat_handler is not None:
                yield Call(self.repeat_handler, (postback,))
            elif claim is Claim.SETTLED:
                # Nobody else would hear of a second rejection after an approval.
                _LOGGER.warning("%s was handled before, and is taken for a repeat", postback.key)
            if claim is not Claim.GRANTED:
                return claim is Claim.SETTLED
            yield Call(self.handler, (postback,))
        except BaseException as error:
            # Even when cancelled, and even where the claim may not have been granted. If it fails, the
            # claim expires by itself, and what went wrong first is what counts.
            with contextlib.suppress(Exception):
                yield Call(self.store.release, names, _STORE_SECONDS, is_shielded=True)
            if isinstance(error, NotYet):
                return False
            raise
        try:
            yield Call(self.store.settle, names, _STORE_SECONDS, is_shielded=True)
        except Exception as error:
            msg = "the decision was handled, and the store could not record it"
            raise SettlingError(msg) from error
        return True


class SingleHandling:
    """Has each decision handled once, and awaits handlers and store.

    Raises:
        ConfigurationError: a handler or the store is not ``async``.

    """

    __slots__ = ("_rules",)

    def __init__(
        self,
        handler: PostbackHandler,
        repeat_handler: PostbackHandler | None,
        store: DeliveryStore,
        patience: float,
    ) -> None:
        """Check the handlers and the store."""
        for name, each in (("handler", handler), ("repeat_handler", repeat_handler or handler)):
            if not is_async(each):
                msg = f"{name} must be 'async def (postback)'"
                raise ConfigurationError(msg)
        if not is_async(getattr(store, "claim", None)):
            msg = "store must be one whose methods are 'async def', such as MemoryDeliveryStore"
            raise ConfigurationError(msg)
        self._rules = _Rules(handler, repeat_handler, store, patience)

    async def __call__(self, postback: Postback) -> None:
        """Claim, handle and settle; again while the shop is not ready and patience lasts.

        Raises:
            NotYet: patience has ended.
            SettlingError: it was handled, but the store could not record it.
            Exception: what a handler or the store raised.

        """
        await run_async(self._rules.steps(postback, anyio.current_time))


class SyncSingleHandling:
    """Has each decision handled once, and calls handlers and store in the caller's thread.

    Raises:
        ConfigurationError: a handler or the store is ``async``.

    """

    __slots__ = ("_rules",)

    def __init__(
        self,
        handler: SyncPostbackHandler | None,
        repeat_handler: SyncPostbackHandler | None,
        store: SyncDeliveryStore,
        patience: float,
    ) -> None:
        """Check the handlers and the store."""
        for name, each in (("handler", handler), ("repeat_handler", repeat_handler or handler)):
            if not _is_plain(each):
                msg = f"{name} must be a plain 'def (postback)' over WSGI; 'async def' needs ASGI"
                raise ConfigurationError(msg)
        if not _is_plain(getattr(store, "claim", None)):
            msg = "store must be one that does not await, such as SyncMemoryDeliveryStore"
            raise ConfigurationError(msg)
        self._rules = _Rules(cast("SyncPostbackHandler", handler), repeat_handler, store, patience)

    def __call__(self, postback: Postback) -> None:
        """Do what ``SingleHandling`` does, in this thread.

        Raises:
            NotYet: patience has ended.
            SettlingError: it was handled, but the store could not record it.
            Exception: what a handler or the store raised.

        """
        run(self._rules.steps(postback, time.monotonic))


def _is_plain(function: Any) -> bool:  # noqa: ANN401 - whatever a caller passes
    return callable(function) and not is_async(function)
