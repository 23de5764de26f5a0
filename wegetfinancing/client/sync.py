"""The client for code that does not await: a façade over ``AsyncClient``."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, NoReturn, Self, Unpack, cast

from ..credentials import Credentials, Environment
from ..models import CreatedRequest, FinancingRequest, ShippingEvent, ShippingReceipt
from .client import AsyncClient, ClientSettings, EnvironmentText, make_from_env
from .client_call import ClientCall
from .client_thread import ClientThread
from .hooks import Hook
from .intents import ApplicationLedger
from .middleware import Middleware
from .settings import Endpoint
from .transport import Transport


class Client:
    """A client of the merchants v1 API for code that does not await. Make one per application.

    It has the operations, settings, errors and outcomes of ``AsyncClient``, which does the work in an event
    loop (asyncio) in a thread of its own. Any number of threads may call at once. That thread starts with
    the first call, and again with the first call in each forked process; ``close()``, ``with`` or the exit
    of the interpreter ends it.

    When a call is interrupted, by Ctrl-C or another exception that a signal handler raises, it is cancelled,
    and the exception carries a note (``__notes__``) that says whether it may have been carried out.

    Args:
        credentials: of one merchant in ``environment``.
        environment: the sandbox by default, so that nobody goes live by accident.
        base_url: another address, such as a local emulator; plain ``http`` on loopback only.
        transport: how requests travel, such as ``wegetfinancing.testing.FakeTransport``; by default an
            ``HttpxTransport``. It is closed with the client, since only the client's thread can close it.
        middleware: the middleware, outermost first, each ``async def``; ``default_middleware()`` by default,
            ``[]`` for none.
        hooks: functions that watch each call and its attempts; they run in the client's thread.
        ledger: remembers each order's application in the shop's database, so that an order is applied
            for at most once, across calls, workers and crashes; see ``wegetfinancing.ledger``. Its methods
            run in the thread that calls, only the sending in the client's: connections may belong to threads.
        timeout: seconds for a whole call: waiting for a connection, every attempt, every pause.

    Raises:
        ConfigurationError: an invalid setting.

    """

    __slots__ = ("__weakref__", "_base_url", "_thread")

    def __init__(  # noqa: PLR0913 - keyword-only settings
        self,
        credentials: Credentials,
        *,
        environment: Environment | EnvironmentText = Environment.SANDBOX,
        base_url: str | None = None,
        transport: Transport | None = None,
        middleware: Sequence[Middleware] | None = None,
        hooks: Sequence[Hook] = (),
        ledger: ApplicationLedger | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Check the settings; nothing is opened before the first call."""
        make_client = functools.partial(
            AsyncClient,
            credentials,
            environment=environment,
            base_url=base_url,
            transport=transport,
            middleware=middleware,
            hooks=hooks,
            ledger=ledger,
            timeout=timeout,
        )
        self._thread = ClientThread(make_client, transport)
        self._base_url = Endpoint.of(environment, base_url).base_url

    @classmethod
    def from_env(cls, **overrides: Unpack[ClientSettings]) -> Self:
        """Make a client from ``WEGETFINANCING_MERCHANT_ID``, ``_USERNAME``, ``_PASSWORD``.

        ``WEGETFINANCING_ENVIRONMENT`` (``sandbox`` or ``live``) and ``_BASE_URL`` are read too, if
        set. Keywords are those of the constructor and override the environment.

        Raises:
            ConfigurationError: a variable is missing or invalid.
            TypeError: the constructor has no such keyword.

        """
        return make_from_env(cls, cast("dict[str, Any]", overrides))

    def create_request(
        self,
        request: FinancingRequest,
        *,
        expected_amount: Decimal | int | str | None = None,
        timeout: float | None = None,
    ) -> CreatedRequest:
        """Create a financing request: send the customer's browser to the answer's ``href``.

        It is put on the wire **at most once per call**, whatever fails. Save your order before you call:
        when the outcome of a failure is ``UNKNOWN`` the application may exist, and only the postback will
        tell, by ``merchant_transaction_id``.

        With a ledger it is put on the wire **at most once per order**: a second call for the same
        ``merchant_transaction_id`` returns what the first one was answered, without its ``raw``, waits for
        the one that is sending, or raises with ``error.loan``. Commit your order first, then create.

        Args:
            request: the customer, the cart and your order ID, which a ledger requires.
            expected_amount: what is expected to be financed, in USD, for the ledger to compare with the
                answer; by default ``request.expected_amount``, with or without the request's taxes.
            timeout: overrides the client's timeout, in seconds.

        Raises:
            InvalidRequestError: ``request.problems()`` is not empty (nothing was sent), or 400.
            OrderConflictError: the ledger has an application of this order with other contents.
            CallError: any other failure; its ``outcome`` says whether it may have happened.
            ConfigurationError: the client cannot be used (closed, or in the thread of an event loop).

        """
        call = ClientCall(
            AsyncClient.create_request, request, expected_amount=expected_amount, timeout=timeout
        )
        return self._thread.run(call)

    def update_shipping(
        self, inv_id: str, event: ShippingEvent, *, timeout: float | None = None
    ) -> ShippingReceipt:
        """Tell the vendor what happened to the goods. Repeated when that may help.

        Updates do not commute: a late repeat of an old state may land after a newer one. Let one end
        before you send the next for the same loan.

        Args:
            inv_id: as in ``CreatedRequest.inv_id`` or the postback.
            event: what happened.
            timeout: overrides the client's timeout, in seconds.

        Raises:
            InvalidRequestError: ``event.problems()`` is not empty (nothing was sent), or 400.
            CallError: any other failure, after the last attempt.
            ConfigurationError: the client cannot be used (closed, or in the thread of an event loop).

        """
        return self._thread.run(ClientCall(AsyncClient.update_shipping, inv_id, event, timeout=timeout))

    def create_test_postback(self, payload: Mapping[str, Any], *, timeout: float | None = None) -> Any:  # noqa: ANN401 - the vendor does not say what comes back
        """Ask the vendor's sandbox for a test postback. Sent at most once per call.

        The vendor documents that this exists, and neither its body nor its answer: ``payload`` goes
        out as it is, and the decoded answer comes back as it is.

        Raises:
            ConfigurationError: the environment is live, which has no such operation; or the client cannot
                be used (closed, or in the thread of an event loop).
            InvalidRequestError: ``payload`` has no JSON form (nothing was sent), or 400.
            CallError: any other failure.

        """
        call = ClientCall(AsyncClient.create_test_postback, payload, timeout=timeout)
        del payload  # may hold personal data: a traceback with local variables must not show it
        return self._thread.run(call)

    def close(self) -> None:
        """Wait until calls in flight have ended, then close the connections and end the thread.

        Closing twice is harmless. In a forked process it leaves what belongs to the other process alone.
        """
        self._thread.close()

    def __enter__(self) -> Self:
        """Return the client; its thread starts with the first call."""
        self._thread.check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the client."""
        self.close()

    def __del__(self) -> None:
        """Warn when a client was used and not closed, and let its thread end."""
        thread = getattr(self, "_thread", None)
        if thread is not None and thread.close_soon() is not None:
            warnings.warn(
                "a Client was dropped without being closed; use 'with' or close()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        """Show where it calls, and no credentials."""
        return f"<Client {self._base_url}{' closed' if self._thread.closed else ''}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        msg = "a Client cannot be copied or pickled: it holds connections; make one per process"
        raise TypeError(msg)
