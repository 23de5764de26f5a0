"""Decisions handed to the shop: in order per loan, until the handler has succeeded."""

import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar, cast

import anyio

from .._checks import is_async
from .._threads import Threads
from ..errors import ConfigurationError, LedgerError
from .decisions import (
    ClaimedDecision,
    DecisionHandler,
    DecisionLedger,
    SyncDecisionHandler,
    log_failed_attempt,
)
from .events import Postback
from .leases import RENEWALS, hand_over
from .recording import RecordingRules, check_handler
from .steps import run_async

_Result = TypeVar("_Result")

POLL_SECONDS: Final = 1.0
_BEAT_SECONDS: Final = 10.0
_PLACES: Final = 16
_ENDING_SECONDS: Final = 2.0

_LOGGER: Final = logging.getLogger("wegetfinancing")


class LedgerHandling:
    """Awaits a ledger, whose methods block, in threads of its own; hands decisions to the handler.

    Raises:
        ConfigurationError: not a ledger, one with both an ``apply`` and a handler or with neither, or a plain
            handler without ``may_be_plain``.

    """

    def __init__(
        self,
        ledger: DecisionLedger,
        handler: DecisionHandler | SyncDecisionHandler | None,
        patience: float = 0.0,
        *,
        may_be_plain: bool = False,
    ) -> None:
        """``handler``: ``None`` where the ledger applies. ``patience``: seconds to try to store."""
        check_handler(ledger, handler)
        self._handler: DecisionHandler | None = None
        self._threads = Threads(_PLACES, "decisions")
        # Of its own, since handlers that hang must not keep postbacks from being stored.
        self._apply_threads = Threads(_PLACES, "handlers")
        self._apply = ledger.apply  # blocks
        if is_async(handler):
            self._handler = cast("DecisionHandler", handler)
        elif handler is not None and may_be_plain:
            self._apply = partial(hand_over, ledger, handler)
        elif handler is not None:
            msg = "handler must be 'async def (decision)'; a plain function is the ledger's apply="
            raise ConfigurationError(msg)
        self.ledger = ledger
        self._claim = self._awaited(ledger.claim)
        self._rules = RecordingRules(
            record=self._awaited(ledger.record),
            claim=self._claim,
            handle=self.handle,
            has_worker=self._awaited(ledger.has_worker),
            patience=patience,
        )

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()
        self._apply_threads.close()

    async def __call__(self, postback: Postback) -> None:
        """Store a postback and have it handled, as ``RecordingRules.steps`` says."""
        await run_async(self._rules.steps(postback, anyio.current_time))

    def _awaited(self, function: Callable[..., _Result]) -> Callable[..., Awaitable[_Result]]:
        async def call(*args: object) -> _Result:
            return await self._threads.run(partial(function, *args))

        return call

    async def handle(self, claim: ClaimedDecision) -> bool:
        """Hand a claimed decision over, and say whether that has succeeded."""
        if self._handler is None:
            return await self._apply_threads.run(partial(self._call_apply, claim))
        try:
            error = await self._call_handler(claim, self._handler)
        except BaseException:
            self._threads.submit(partial(self._fail, claim, "Cancelled"))
            raise
        if error is not None:
            # Noted before the vendor is answered, so that a delivery that follows can be handled at once.
            await self._threads.run(partial(self._fail, claim, error))
            return False
        return await self._threads.run(partial(self.ledger.complete, claim))

    def _call_apply(self, claim: ClaimedDecision) -> bool:
        """Run in a thread: asyncio's CancelledError of something of the shop's must not pass for our own."""
        try:
            return self._apply(claim)
        except (Exception, SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            _LOGGER.exception(
                "the handler of decision %d was cancelled; it is tried again", claim.decision.id
            )
            return False

    def _fail(self, claim: ClaimedDecision, error: str) -> None:
        with contextlib.suppress(LedgerError):  # the lease ends by itself
            self.ledger.fail(claim, error)

    async def _call_handler(self, claim: ClaimedDecision, handler: DecisionHandler) -> str | None:
        """Run the handler under a lease that is renewed; return what it failed with, by name."""
        error: str | None = "Cancelled"

        async def call() -> None:
            nonlocal error
            # Long before the lease ends, so that nobody else can have begun meanwhile.
            with anyio.move_on_after(claim.seconds / 2) as limit:
                try:
                    await handler(claim.decision)
                    error = None
                except Exception as failure:  # noqa: BLE001 - the border to the shop's code
                    log_failed_attempt(claim, failure)
                    error = type(failure).__name__
            if limit.cancelled_caught:
                error = "TimeoutError"
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_lease, claim, tasks.cancel_scope)
            # In a task of its own: asyncio's CancelledError of something that the handler has awaited, and
            # somebody else has cancelled, would end the worker, and nobody would hear of it.
            tasks.start_soon(call)
        return error

    async def _keep_lease(self, claim: ClaimedDecision, scope: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(claim.seconds / RENEWALS)
            try:
                is_kept = await self._threads.run(partial(self.ledger.renew, claim))
            except LedgerError:
                continue
            if not is_kept:
                scope.cancel()

    async def work_once(self) -> bool:
        """Match what can be matched and handle what is due; return whether there was anything."""
        matched = await self._threads.run(self.ledger.match_again)
        claim = await self._claim()
        if claim is None:
            return matched > 0
        await self.handle(claim)
        return True

    async def work(self) -> None:
        """Handle what waits until cancelled, and say meanwhile that a worker is alive."""
        worker = secrets.token_hex(8)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_beating, worker)
                while True:
                    is_busy = False
                    try:
                        is_busy = await self.work_once()
                    except LedgerError as error:
                        _LOGGER.warning("the worker waits: %s", error)
                    except ConfigurationError:
                        raise
                    except Exception:  # such as no thread to be had: nobody would start it again
                        _LOGGER.exception("the worker waits, and then goes on")
                    if not is_busy:
                        await anyio.sleep(POLL_SECONDS)
        finally:
            with anyio.CancelScope(deadline=anyio.current_time() + _ENDING_SECONDS, shield=True):
                with contextlib.suppress(LedgerError):
                    await self._threads.run(partial(self.ledger.end_beat, worker))

    async def _keep_beating(self, worker: str) -> None:
        while True:
            with contextlib.suppress(Exception):  # what is wrong is said where decisions are claimed
                await self._threads.run(partial(self.ledger.beat, worker))
            await anyio.sleep(_BEAT_SECONDS)


async def run_worker(
    ledger: DecisionLedger,
    *,
    handler: DecisionHandler | SyncDecisionHandler | None = None,
    until_idle: bool = False,
) -> None:
    """Handle every decision that waits, and try again what has failed. Run it in any number of processes.

    Args:
        ledger: its ``apply`` handles decisions, exactly once.
        handler: ``async def (decision)`` or ``def (decision)`` where the ledger has no ``apply``. It runs at
            least once. One that is ``async`` is cut off after half a lease, 30 seconds by default. A plain
            one runs in a thread, where nothing can interrupt it: the worker waits for it.
        until_idle: return when nothing is due, for cron jobs and tests; by default run until cancelled.

    Raises:
        ConfigurationError: the ledger has an ``apply`` and a handler was passed, or neither.
        LedgerError: the database failed, with ``until_idle``; otherwise it is tried again.

    """
    handling = LedgerHandling(ledger, handler, may_be_plain=True)
    try:
        if until_idle:
            while await handling.work_once():
                pass
        else:
            await handling.work()
    finally:
        handling.close()
