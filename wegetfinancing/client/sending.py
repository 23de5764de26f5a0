"""The layers that a call passes through: hooks, one deadline, the middleware, and the call itself."""

from typing import Self, TypeVar

import anyio
import attrs

from ..credentials import Credentials
from ..errors import CallError, DeadlineExceededError, Outcome, TransportError, worst_outcome
from ..http import Request, Response
from .authentication import basic_authorization
from .call import Call
from .hooks import CallStarted, Hook, Watch
from .middleware import Middleware, compose
from .operations import Operation
from .retry import Retry
from .settings import Endpoint
from .transport import Transport

_Answer = TypeVar("_Answer")


@attrs.frozen(repr=False, kw_only=True)
class Sender:
    """Sends the calls of one merchant."""

    endpoint: Endpoint
    merchant_id: str
    authorization: str
    middleware: tuple[Middleware, ...]
    hooks: tuple[Hook, ...]

    def for_merchant(self, credentials: Credentials) -> Self:
        """Return that of another merchant, whose retry quota is its own."""
        return attrs.evolve(
            self,
            merchant_id=credentials.merchant_id,
            authorization=basic_authorization(credentials),
            middleware=tuple(
                each.with_full_quota() if isinstance(each, Retry) else each for each in self.middleware
            ),
        )

    async def send(self, operation: Operation[_Answer], transport: Transport, request: Request) -> _Answer:
        """Send ``request`` until its deadline, and read the answer.

        Raises:
            CallError: it failed; its outcome is that of all attempts together.
            Exception: what a middleware raised, with a note of the outcome.

        """
        call = Call(request, transport, authorization=self.authorization, merchant_id=self.merchant_id)
        started = CallStarted(
            operation=operation.name, merchant_id=self.merchant_id, base_url=self.endpoint.base_url
        )
        with Watch(self.hooks, started, attempts=call.attempts, outcome=lambda: call.outcome):
            with anyio.CancelScope(deadline=request.deadline):
                chain = compose(self.middleware, call.attempt)
                try:
                    return operation.read(_require_response(await chain(request)))
                except CallError as error:
                    error.operation = operation.name
                    # An earlier attempt may have been carried out, however the last one ended.
                    error.outcome = worst_outcome(error.outcome, call.outcome)
                    raise
                except Exception as error:
                    error.add_note(f"raised by a middleware of {operation.name}. {call.outcome.description}")
                    raise
                except BaseException as cancellation:
                    cancellation.add_note(f"{operation.name} was interrupted. {call.outcome.description}")
                    raise
                finally:
                    call.end()
            msg = "the call did not end before its deadline"
            raise DeadlineExceededError(msg, outcome=call.outcome, operation=operation.name)


def _require_response(response: object) -> Response:
    if isinstance(response, Response):
        return response
    msg = f"a middleware returned {type(response).__name__}, not a Response"
    raise TransportError(msg, outcome=Outcome.NOT_SENT)
