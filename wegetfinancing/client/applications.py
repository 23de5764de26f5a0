"""With a ledger: at most one application per order. The intent first, then the call, then its result."""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import attrs

from .._loan import Application, ApplicationState, Begun, Loan, Verdict
from ..credentials import Environment
from ..errors import (
    CallError,
    ConfigurationError,
    DeadlineExceededError,
    LedgerError,
    OrderConflictError,
    Outcome,
)
from ..http import Request
from ..models import CreatedRequest
from .attempts import Intent, WatchedTransport
from .intents import ApplicationLedger, check_ledger
from .operations import CREATE_REQUEST
from .steps import StepInterruptedError, Steps, caller
from .transport import Transport

_Recorded = TypeVar("_Recorded")

_ASKING_PLACES: Final = 24
_RECORDING_PLACES: Final = 8
_FIRST_PAUSE: Final = 0.05
_MAX_PAUSE: Final = 1.0
_RECORD_SECONDS: Final = 1.0
_RECORD_PAUSE: Final = 0.05
# What the database may take of the time left: its own error, NOT_SENT, has to come before the deadline.
_SHARE_OF_DATABASE: Final = 0.7
_MAY_EXIST: Final = (ApplicationState.CREATED, ApplicationState.UNKNOWN)
_LOGGER: Final = logging.getLogger("wegetfinancing")


class Applications:
    """Creates, each written down in the ledger before it is sent."""

    def __init__(self, ledger: ApplicationLedger, environment: Environment) -> None:
        """Start no thread yet.

        Raises:
            ConfigurationError: not a ledger, or one of the other environment.

        """
        self._ledger = check_ledger(ledger, environment)
        self._asking = Steps(_ASKING_PLACES, "ledger")
        # Of their own: an answer must not wait for those who want to ask.
        self._recording = Steps(_RECORDING_PLACES, "ledger-answers")
        self._unrecorded: list[Callable[[float], object]] = []

    def close(self) -> None:
        """Let the threads end when they have finished."""
        self._asking.close()
        self._recording.close()

    async def create(
        self,
        application: Application,
        request: Request,
        transport: Transport,
        send: Callable[[Transport, Request], Awaitable[CreatedRequest]],
    ) -> CreatedRequest:
        """Apply for an order unless it was applied for.

        Args:
            application: the intent.
            request: ready to send, until its deadline.
            transport: the client's.
            send: sends the request over the transport that it is handed.

        """
        deadline, until = request.deadline, time.time() + application.seconds
        begun = await self._begin(application, deadline)
        if begun.verdict is not Verdict.SEND:
            return _stored(begun)
        watched = WatchedTransport(transport, until)
        try:
            created = await send(watched, request)
        except CallError as error:
            await self._record_failure(application, error, error.outcome, deadline)
            raise
        except BaseException as error:
            await self._record_failure(application, error, watched.outcome, deadline)
            raise
        await self._record_answer(application, created, deadline)
        return created

    async def _begin(self, application: Application, deadline: float) -> Begun:
        """Write the intent down; while another call sends the same order, look again until that has ended."""
        waited = False
        pause = _FIRST_PAUSE
        try:
            while True:
                left = max(deadline - anyio.current_time(), 0)
                begun = await self._begin_once(attrs.evolve(application, seconds=left), deadline, waited)
                if begun.verdict is not Verdict.WAIT:
                    return begun
                waited = True
                if anyio.current_time() + pause >= deadline:
                    break
                await anyio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE)
        except anyio.get_cancelled_exc_class() as cancellation:
            outcome = Outcome.UNKNOWN if waited else Outcome.NOT_SENT
            cancellation.add_note(f"{CREATE_REQUEST.name} was interrupted. {outcome.description}")
            raise
        msg = "another call is still sending the application of this order"
        raise _about(CallError(msg), begun.loan)

    async def _begin_once(self, application: Application, deadline: float, waited: bool) -> Begun:  # noqa: FBT001 - private
        intent = Intent(application, self._ledger)
        begun: Begun | None = None
        failure: CallError | None = None
        with anyio.CancelScope(deadline=deadline):
            try:
                # Signal handlers run in callers' threads only.
                interruptible = caller.get() is not None
                begun = await self._asking.run(
                    lambda: self._begin_or_undo(intent, interruptible=interruptible)
                )
            except LedgerError as error:
                outcome = Outcome.UNKNOWN if waited or error.uncertain else Outcome.NOT_SENT
                failure = CallError(str(error), outcome=outcome, operation=CREATE_REQUEST.name)
            except BaseException:
                if intent.give_up():
                    self._recording.start(lambda: self._persist(intent.undo, _RECORD_SECONDS))
                raise
        if begun is not None:
            return begun
        if failure is None:
            outcome = Outcome.UNKNOWN if waited or intent.started else Outcome.NOT_SENT
            msg = "the deadline passed while the order was being written down"
            failure = DeadlineExceededError(msg, outcome=outcome, operation=CREATE_REQUEST.name)
        raise failure

    def _begin_or_undo(self, intent: Intent, *, interruptible: bool) -> Begun | None:
        """Run in a thread: leave no intent behind that nobody waits for."""
        self._record_leftovers()
        if not intent.start():
            return None
        timeout = intent.application.seconds * _SHARE_OF_DATABASE
        try:
            begun = self._ledger.begin(intent.application, timeout=timeout)
        except (LedgerError, ConfigurationError) as error:
            if isinstance(error, LedgerError) and error.uncertain:
                self._unrecorded.append(intent.undo)
            else:
                intent.started = False  # nothing was written down
            raise
        except BaseException:
            if interruptible:
                # A signal handler may raise after the commit; to undo what was not committed is harmless.
                try:
                    self._persist(intent.undo, _RECORD_SECONDS)
                except Exception:  # noqa: BLE001 - what has interrupted is what counts; tried again later
                    self._unrecorded.append(intent.undo)
            intent.started = False  # undone, kept for the next call, or never written down
            raise
        if begun.verdict is Verdict.SEND and intent.given_up:
            self._persist(intent.undo, _RECORD_SECONDS)
        return begun

    async def _record_answer(
        self, application: Application, created: CreatedRequest, deadline: float
    ) -> None:
        def record(timeout: float) -> Loan:
            return self._ledger.record_answer(application, created, timeout=timeout)

        loan = await self._record(record, deadline)
        if loan is None:
            _LOGGER.error(
                "the application of order %s of merchant %s exists as %s, and the ledger could not record it;"
                " adopt it, or wait for its postback",
                application.order_id,
                application.merchant_id,
                created.inv_id,
            )
        elif loan.inv_id != created.inv_id or loan.state is ApplicationState.ABSENT:
            _LOGGER.error(
                "order %s of merchant %s was answered with %s; review it",
                application.order_id,
                application.merchant_id,
                created.inv_id,
            )

    async def _record_failure(
        self, application: Application, error: BaseException, outcome: Outcome, deadline: float
    ) -> None:
        def record(timeout: float) -> tuple[Loan | None]:
            return (self._ledger.record_failure(application, outcome, timeout=timeout),)

        recorded = await self._record(record, deadline)
        if recorded is None:
            _LOGGER.error(
                "the application of order %s of merchant %s failed (%s), and the ledger could not record it;"
                " it stays as sending until someone resolves it",
                application.order_id,
                application.merchant_id,
                outcome.value,
            )
        if isinstance(error, CallError):
            loan = error.loan = None if recorded is None else recorded[0]
            # Nothing was sent, but the order is blocked: who calls again would only be told so.
            is_blocked = recorded is None and outcome is Outcome.NOT_SENT
            # A postback has named the order, so that an earlier attempt was not refused, or was sent.
            if is_blocked or (loan is not None and loan.state in _MAY_EXIST):
                error.outcome = Outcome.UNKNOWN

    async def _record(self, record: Callable[[float], _Recorded], deadline: float) -> _Recorded | None:
        """Run to the end although the caller is cancelled; retry while the call has time."""
        seconds = max(deadline - anyio.current_time(), _RECORD_SECONDS)
        # Even a database that never answers ends this; the thread then goes on by itself.
        give_up = anyio.current_time() + seconds + _RECORD_SECONDS
        with anyio.CancelScope(deadline=give_up, shield=True):
            while True:  # an interruption in the middle rolls the transaction back
                try:
                    return await self._recording.run(lambda: self._persist(record, seconds))
                except StepInterruptedError:
                    continue
                except Exception:  # such as no thread to be had: what the vendor has said must not be lost
                    _LOGGER.exception("the ledger failed with an error that is not a LedgerError")
                    break
        return None

    def _persist(self, record: Callable[[float], _Recorded], seconds: float) -> _Recorded | None:
        """Run in a thread: try until the time is over, and keep for later what could not be recorded."""
        until = time.monotonic() + seconds
        pause = _RECORD_PAUSE
        while True:
            try:
                return record(max(until - time.monotonic(), _RECORD_SECONDS))
            except LedgerError:
                if time.monotonic() + pause > until:
                    self._unrecorded.append(record)
                    return None
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)

    def _record_leftovers(self) -> None:
        with contextlib.suppress(IndexError):  # none is left: threads that run this at once share the list
            while True:
                record = self._unrecorded.pop(0)
                try:
                    record(_RECORD_SECONDS)
                except LedgerError:
                    self._unrecorded.append(record)
                    return
                except BaseException:  # a signal handler's, in the caller's thread
                    self._unrecorded.append(record)
                    raise


def _stored(begun: Begun) -> CreatedRequest:
    """Return what was answered before, or raise what speaks against a new application."""
    loan = begun.loan
    if begun.verdict is Verdict.STORED and loan.inv_id is not None and begun.href is not None:
        return CreatedRequest(inv_id=loan.inv_id, href=begun.href, amount=loan.amount, raw={})
    error: CallError
    if begun.verdict is Verdict.CONFLICT:
        msg = "this order was applied for with other contents; another cart needs another order ID"
        error = OrderConflictError(msg)
    elif begun.verdict is Verdict.CLOSED:
        msg = "this order was resolved as absent, and its ID is closed; use a new order ID"
        error = CallError(msg, outcome=Outcome.NOT_SENT)
    elif begun.verdict is Verdict.UNKNOWN:
        msg = "this order's application may exist; wait for its postback, or ask the vendor"
        error = CallError(msg)
    elif loan.status is not None:
        error = CallError(f"this order was applied for before, and the decision is {loan.status}")
    else:
        msg = (
            "this order's application exists, but the address of its page is not stored: see the back-office"
        )
        error = CallError(msg)
    raise _about(error, loan)


def _about(error: CallError, loan: Loan) -> CallError:
    error.operation = CREATE_REQUEST.name
    error.loan = loan
    return error
