"""One attempt to apply: what was sent, and whether its intent has reached its caller."""

import threading
import time

import attrs

from ..errors import DeadlineExceededError, Outcome, TransportError, outcome_of_status
from ..http import Request, Response
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


class Handover:
    """Whether an intent has a caller who waits for it, as the thread and the caller both see it.

    Whatever the order of events, a given-up intent is undone at least once after it was committed: by the
    caller if it gives up later, by the thread if it finds that the caller has.
    """

    def __init__(self) -> None:
        """Nobody has come yet."""
        self._lock = threading.Lock()
        self.given_up: bool = False
        self.started: bool = False

    def start(self) -> bool:
        """Return whether to write the intent down: not if nobody waits any more."""
        with self._lock:
            self.started = not self.given_up
            return self.started

    def give_up(self) -> bool:
        """Return whether the intent may be written down, so that the caller has to undo it."""
        with self._lock:
            self.given_up = True
            return self.started
