"""With a ledger: at most one application per order. The intent first, then the call, then its result."""

import hashlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Final, NoReturn, Protocol, TypeVar

import anyio
import attrs

from .._loan import Application, Begun, Loan, Verdict
from .._rules import money, to_decimal
from .._threads import Threads
from ..credentials import Environment
from ..errors import (
    CallError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    LedgerError,
    OrderConflictError,
    Outcome,
    TransportError,
    outcome_of_status,
)
from ..http import Request, Response
from ..models import CreatedRequest, FinancingRequest
from .transport import Transport

_Recorded = TypeVar("_Recorded")

_CREATE: Final = "create_request"
_ASKING_PLACES: Final = 24
_RECORDING_PLACES: Final = 8
_FIRST_PAUSE: Final = 0.05
_MAX_PAUSE: Final = 1.0
_RECORD_SECONDS: Final = 1.0
_RECORD_PAUSE: Final = 0.05
# What the database may take of the time left: its own error, NOT_SENT, has to come before the deadline.
_SHARE_OF_DATABASE: Final = 0.7
_LOGGER: Final = logging.getLogger("wegetfinancing")


class ApplicationLedger(Protocol):
    """The part of a ledger that creates need. Each method blocks, and is one transaction."""

    @property
    def environment(self) -> Environment:
        """The environment whose orders are kept."""
        ...

    def begin(self, application: Application, *, timeout: float | None = None) -> Begun:
        """Commit the intent to apply, or say why nothing may be sent.

        Raises:
            LedgerError: the database failed, and no intent is there unless the error is ``uncertain``.
            ConfigurationError: called where it would wait for itself.

        """
        ...

    def record_answer(
        self, application: Application, created: CreatedRequest, *, timeout: float | None = None
    ) -> Loan:
        """Record that the vendor has accepted an application. Recording it twice is harmless."""
        ...

    def record_failure(
        self, application: Application, outcome: Outcome, *, timeout: float | None = None
    ) -> Loan | None:
        """Record how an attempt failed, if it is still the one that is sending."""
        ...


def check_ledger(ledger: ApplicationLedger, environment: Environment) -> ApplicationLedger:
    """Return the ledger, or say why it cannot be that of this client.

    Raises:
        ConfigurationError: not a ledger, or one of the other environment.

    """
    if isinstance(ledger, type) or not all(
        callable(getattr(ledger, name, None)) for name in ("begin", "record_answer", "record_failure")
    ):
        msg = "ledger must be a ledger, such as SQLLedger(...) of wegetfinancing.contrib.sqlalchemy"
        raise ConfigurationError(msg)
    if ledger.environment is not environment:
        msg = (
            f"the ledger is of the environment {ledger.environment.value}, the client of {environment.value}"
        )
        raise ConfigurationError(msg)
    return ledger


def fingerprint(request: FinancingRequest) -> str:
    """Return a hash of amount and items, and of nothing else: no personal data, no software version."""
    items = [
        [item.display_name, f"{item.unit_price:.2f}", item.quantity, item.sku] for item in request.cart_items
    ]
    contents = [f"{request.expected_amount:.2f}", f"{_taxes(request):.2f}", items]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def _taxes(request: FinancingRequest) -> Decimal:
    """Return what ``expected_amount`` leaves out, in USD."""
    if request.amount is not None:
        return Decimal(0)
    if request.tax_amount is not None:
        return request.tax_amount
    return sum((item.quantity * (item.unit_tax or 0) for item in request.cart_items), Decimal(0))


def application_of(
    request: FinancingRequest, merchant_id: str, expected_amount: Decimal | int | str | None, seconds: float
) -> Application:
    """Make the intent to apply.

    Raises:
        InvalidRequestError: the request names no order, or the amount cannot be one.

    """
    problems: dict[str, str] = {}
    if request.merchant_transaction_id is None:
        problems["merchant_transaction_id"] = "is required with a ledger: it names your order"
    expected = None if expected_amount is None else to_decimal(expected_amount)
    if expected is not None and (problem := money()(expected)):
        problems["expected_amount"] = problem
    if problems or request.merchant_transaction_id is None:
        raise InvalidRequestError(
            "; ".join(f"{path} {text}" for path, text in problems.items()),
            operation=_CREATE,
            outcome=Outcome.NOT_SENT,
            error="invalid_parameters",
            subjects=tuple(problems),
            reasons=problems,
        )
    return Application(
        merchant_id=merchant_id,
        order_id=request.merchant_transaction_id,
        token=secrets.token_hex(16),
        fingerprint=fingerprint(request),
        expected_amount=request.expected_amount if expected is None else expected,
        taxes=_taxes(request) if expected is None else Decimal(0),
        seconds=seconds,
    )


class Attempt:
    """A transport around the client's: it knows whether anything was sent, and checks the wall clock.

    The monotonic clock stands still while a machine is suspended, so that a deadline on it alone could pass
    hours late, when the order was resolved long ago.
    """

    def __init__(self, transport: Transport, until: float) -> None:
        """``until``: the call's deadline in seconds of ``time.time()``."""
        self._transport = transport
        self._until = until
        self.outcome = Outcome.NOT_SENT

    async def send(self, request: Request) -> Response:
        """Send the request unless it is late."""
        if time.time() > self._until:
            msg = "the deadline has passed on the wall clock, as after a suspend"
            raise DeadlineExceededError(msg, outcome=Outcome.NOT_SENT)
        self.outcome = Outcome.UNKNOWN
        try:
            response = await self._transport.send(request)
        except TransportError as error:
            self.outcome = error.outcome
            raise
        if isinstance(response, Response):
            self.outcome = outcome_of_status(response.status)
        return response

    async def aclose(self) -> None:
        """Close nothing: the client does."""


class _Handover:
    """Whether an intent has reached its caller or was given up; whoever comes second knows it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given_up = False
        self._taken = False
        self.started = False

    def start(self) -> bool:
        with self._lock:
            self.started = not self._given_up
            return self.started

    def take(self) -> bool:
        with self._lock:
            self._taken = not self._given_up
            return self._taken

    def give_up(self) -> bool:
        """Return whether the intent was taken already, so that the caller has to undo it."""
        with self._lock:
            self._given_up = True
            return self._taken


class Applications:
    """Creates of one merchant, each written down in the ledger before it is sent."""

    def __init__(self, ledger: ApplicationLedger, merchant_id: str) -> None:
        """Start no thread yet."""
        self._ledger = ledger
        self._merchant_id = merchant_id
        self._asking = Threads(_ASKING_PLACES, "ledger")
        # Of their own: an answer must not wait for those who want to ask.
        self._recording = Threads(_RECORDING_PLACES, "ledger-answers")
        self._unrecorded: list[Callable[[float], object]] = []

    def close(self) -> None:
        """Let the threads end when they have finished."""
        self._asking.close()
        self._recording.close()

    async def create(
        self,
        request: FinancingRequest,
        transport: Transport,
        send: Callable[[Transport, float], Awaitable[CreatedRequest]],
        *,
        expected_amount: Decimal | int | str | None,
        timeout: float,
    ) -> CreatedRequest:
        """Apply for an order unless it was applied for.

        Args:
            request: without problems.
            transport: the client's.
            send: makes the call over the transport that it is handed, by a deadline.
            expected_amount: USD; the request's own by default.
            timeout: seconds for everything.

        """
        application = application_of(request, self._merchant_id, expected_amount, timeout)
        deadline, until = anyio.current_time() + timeout, time.time() + timeout
        begun = await self._begin(application, deadline)
        if begun.verdict is not Verdict.SEND:
            return _stored(begun)
        attempt = Attempt(transport, until)
        try:
            created = await send(attempt, deadline)
        except CallError as error:
            await self._record_failure(application, error, error.outcome, deadline)
            raise
        except BaseException as error:
            await self._record_failure(application, error, attempt.outcome, deadline)
            raise
        await self._record_answer(application, created, deadline)
        return created

    async def _begin(self, application: Application, deadline: float) -> Begun:
        pause, waited = _FIRST_PAUSE, False
        while True:
            left = deadline - anyio.current_time()
            begun = await self._begin_once(attrs.evolve(application, seconds=max(left, 0)), deadline, waited)
            if begun.verdict is not Verdict.WAIT:
                return begun
            waited = True
            if anyio.current_time() + pause >= deadline:
                msg = "another call is still sending the application of this order"
                _raise(CallError(msg), begun.loan)
            await anyio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)

    async def _begin_once(self, application: Application, deadline: float, waited: bool) -> Begun:  # noqa: FBT001 - private
        handover = _Handover()

        def undo(timeout: float) -> Loan | None:
            return self._ledger.record_failure(application, Outcome.NOT_SENT, timeout=timeout)

        begun: Begun | None = None
        with anyio.CancelScope(deadline=deadline):
            try:
                begun = await self._asking.run(lambda: self._begin_or_undo(application, handover, undo))
            except LedgerError as error:
                outcome = Outcome.UNKNOWN if waited or error.uncertain else Outcome.NOT_SENT
                if error.uncertain:
                    self._unrecorded.append(undo)
                failure = CallError(str(error), outcome=outcome, operation=_CREATE)
            except BaseException:
                if handover.give_up():
                    self._recording.submit(lambda: self._persist(undo, _RECORD_SECONDS))
                raise
            else:
                failure = None
        if begun is not None:
            return begun
        if failure is None:
            outcome = Outcome.UNKNOWN if waited or handover.started else Outcome.NOT_SENT
            msg = "the deadline passed while the order was being written down"
            failure = DeadlineExceededError(msg, outcome=outcome, operation=_CREATE)
        raise failure

    def _begin_or_undo(
        self, application: Application, handover: _Handover, undo: Callable[[float], object]
    ) -> Begun | None:
        """Run in a thread: leave no intent behind that nobody waits for."""
        self._record_leftovers()
        if not handover.start():
            return None
        timeout = application.seconds * _SHARE_OF_DATABASE
        begun = self._ledger.begin(application, timeout=timeout)
        if begun.verdict is Verdict.SEND and not handover.take():
            self._persist(undo, _RECORD_SECONDS)
        return begun

    async def _record_answer(
        self, application: Application, created: CreatedRequest, deadline: float
    ) -> None:
        def record(timeout: float) -> Loan:
            return self._ledger.record_answer(application, created, timeout=timeout)

        loan = await self._record(record, deadline)
        if loan is None:
            _LOGGER.error(
                "the application of order %s exists as %s, and the ledger could not record it;"
                " adopt it, or wait for its postback",
                application.order_id,
                created.inv_id,
            )
        elif loan.inv_id != created.inv_id or loan.state.value == "absent":
            _LOGGER.error("order %s was answered with %s; review it", application.order_id, created.inv_id)

    async def _record_failure(
        self, application: Application, error: BaseException, outcome: Outcome, deadline: float
    ) -> None:
        def record(timeout: float) -> tuple[Loan | None]:
            return (self._ledger.record_failure(application, outcome, timeout=timeout),)

        recorded = await self._record(record, deadline)
        if recorded is None:
            _LOGGER.error(
                "the application of order %s failed (%s), and the ledger could not record it;"
                " it stays as sending until someone resolves it",
                application.order_id,
                outcome.value,
            )
        if isinstance(error, CallError):
            if recorded is None and outcome is Outcome.NOT_SENT:
                # Nothing was sent, but the order is blocked: who calls again would only be told so.
                error.outcome = Outcome.UNKNOWN
            error.loan = None if recorded is None else recorded[0]

    async def _record(self, record: Callable[[float], _Recorded], deadline: float) -> _Recorded | None:
        """Run to the end although the caller is cancelled; retry while the call has time."""
        seconds = max(deadline - anyio.current_time(), _RECORD_SECONDS)
        # Even a database that never answers ends this; the thread then goes on by itself.
        with anyio.CancelScope(deadline=anyio.current_time() + 2 * seconds, shield=True):
            return await self._recording.run(lambda: self._persist(record, seconds))
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
        while self._unrecorded:
            record = self._unrecorded.pop(0)
            try:
                record(_RECORD_SECONDS)
            except LedgerError:
                self._unrecorded.append(record)
                return


def _stored(begun: Begun) -> CreatedRequest:
    """Return what was answered before, or raise what speaks against a new application."""
    loan = begun.loan
    if begun.verdict is Verdict.STORED and loan.inv_id is not None and begun.href is not None:
        return CreatedRequest(inv_id=loan.inv_id, href=begun.href, amount=loan.amount, raw={})
    if begun.verdict is Verdict.CONFLICT:
        msg = "this order was applied for with other contents; another cart needs another order ID"
        _raise(OrderConflictError(msg), loan)
    if begun.verdict is Verdict.CLOSED:
        msg = "this order was resolved as absent, and its ID is closed; use a new order ID"
        _raise(CallError(msg, outcome=Outcome.NOT_SENT), loan)
    if begun.verdict is Verdict.UNKNOWN:
        msg = "this order's application may exist; a postback or an operator will tell"
    else:
        msg = "this order's application exists, and the address of its page is not known any more"
    _raise(CallError(msg), loan)


def _raise(error: CallError, loan: Loan) -> NoReturn:
    error.operation = _CREATE
    error.loan = loan
    raise error
