"""One attempt to apply: what was sent, and whether its intent has reached its caller."""

import threading
import time

import attrs

from .._loan import Application, Loan
from ..errors import DeadlineExceededError, Outcome, TransportError, outcome_of_status
from ..http import Request, Response
from .intents import ApplicationLedger
from .transport import Transport


@attrs.define(eq=False, repr=False)
class WatchedTransport:
    """A transport around the client's: it knows whether anything was sent, and checks the wall clock.

    The monotonic clock stands still while a machine is suspended, so that a deadline on it alone could pass
    hours late, when the order was resolved long ago. ``until`` is the call's, in seconds of ``time.time()``.
    """

    _transport: Transport
    _until: float
    outcome: Outcome = attrs.field(default=Outcome.NOT_SENT, init=False)

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


@attrs.define(eq=False, repr=False)
class Intent:
    """An intent to apply, as the thread that writes it down and the caller who waits for that both see it.

    Whatever the order of events, a given-up intent is undone at least once after it was committed: by the
    caller if it gives up later, by the thread if it finds that the caller has.
    """

    application: Application
    _ledger: ApplicationLedger
    given_up: bool = attrs.field(default=False, init=False)
    started: bool = attrs.field(default=False, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def start(self) -> bool:
        """Return whether to write it down: not if nobody waits any more."""
        with self._lock:
            self.started = not self.given_up
            return self.started

    def give_up(self) -> bool:
        """Return whether it may be written down, so that the caller has to undo it."""
        with self._lock:
            self.given_up = True
            return self.started

    def undo(self, timeout: float) -> Loan | None:
        """Record that nothing was sent, which is harmless where nothing was written down."""
        return self._ledger.record_failure(self.application, Outcome.NOT_SENT, timeout=timeout)
