"""The client for code that does not await: a façade over ``AsyncClient``."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn, Self, TypeVar, Unpack

from .._tracebacks import clears_locals
from ..credentials import Credentials, Environment
from ..models import CreatedRequest, FinancingRequest, ShippingEvent, ShippingReceipt
from .client import AsyncClient
from .client_call import ClientCall
from .client_thread import ClientThread
from .from_env import ClientSettings, EnvironmentText, make_from_env
from .hooks import Hook
from .intents import ApplicationLedger
from .middleware import Middleware
from .settings import Endpoint, check_credentials
from .transport import Transport

_Answer = TypeVar("_Answer")


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
        transport: sends the requests, such as ``wegetfinancing.testing.FakeTransport()``; by default an
            ``HttpxTransport``. It is closed with the client, since only the client's thread can close it.
        middleware: outermost first, each ``async def``; by default ``default_middleware()``, and ``[]`` for
            none.
        hooks: functions that watch each call and its attempts; they run in the client's thread.
        ledger: remembers each order's application in the shop's database, so that an order is applied
            for at most once, across calls, workers and crashes; see ``wegetfinancing.ledger``. Its methods
            run in the thread that calls, only the sending in the client's: connections may belong to threads.
        timeout: seconds for a whole call: waiting for a connection, every attempt, every pause.

    Raises:
        ConfigurationError: a setting is invalid.

    """

    __slots__ = ("__weakref__", "_base_url", "_closed", "_merchant", "_parent", "_thread")

    @clears_locals  # what is refused may hold a password
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
        self._parent: Self | None = None
        self._merchant: _Merchant | None = None
        self._closed = False  # apart from its thread
        self._thread = ClientThread(make_client, transport)
        self._base_url = Endpoint.of(environment, base_url).base_url

    @classmethod
    @clears_locals  # an override may hold a password
    def from_env(cls, **overrides: Unpack[ClientSettings]) -> Self:
        """Make a client from ``WEGETFINANCING_MERCHANT_ID``, ``_USERNAME``, ``_PASSWORD``.

        ``WEGETFINANCING_ENVIRONMENT`` (``sandbox`` or ``live``) and ``_BASE_URL`` are read too, if
        set. Keywords are those of the constructor and override the environment.

        Raises:
            ConfigurationError: a variable is missing or invalid.
            TypeError: the constructor has no such keyword.

        """
        return make_from_env(cls, overrides)

    @clears_locals  # what was passed in place of credentials may be a password
    def for_merchant(self, credentials: Credentials) -> Self:
        """Return a client of another merchant, which shares thread and connections of this one.

        It has the same environment, transport, hooks, ledger, timeout and middleware, except that each
        ``Retry`` in the list is replaced by one with the same settings and a quota of its own. Any other
        middleware serves all merchants.

        Making one costs microseconds and less than 1 kB, and opens nothing. Closing it closes nothing that is
        shared; closing the client it was made from closes all.

        Args:
            credentials: of the other merchant, in the environment of this client.

        Raises:
            ConfigurationError: no credentials, or the client is closed.

        """
        self._check_open()
        merchant = _Merchant(check_credentials(credentials))
        client = object.__new__(type(self))
        client._parent = self._parent or self  # first of all: it says whose the thread is
        client._base_url = self._base_url
        client._thread = self._thread
        client._closed = False
        client._merchant = merchant
        if hasattr(self, "__dict__"):  # of a subclass
            vars(client).update(vars(self))
        return client

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
        del request, expected_amount, timeout  # customer data: a traceback with locals must not show it
        return self._run(call)

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
        call = ClientCall(AsyncClient.update_shipping, inv_id, event, timeout=timeout)
        del inv_id, event, timeout  # as in create_request
        return self._run(call)

    def create_test_postback(self, payload: Mapping[str, Any], *, timeout: float | None = None) -> Any:  # noqa: ANN401 - the vendor does not say what comes back
        """Ask the vendor's sandbox for a test postback. Sent at most once per call.

        The vendor documents that this exists, and neither its body nor its answer: ``payload`` goes
        out as it is, and the decoded answer comes back as it is.

        Args:
            payload: what to send, as JSON.
            timeout: overrides the client's timeout, in seconds.

        Raises:
            ConfigurationError: the environment is live, which has no such operation; or the client cannot
                be used (closed, or in the thread of an event loop).
            InvalidRequestError: ``payload`` has no JSON form (nothing was sent), or 400.
            CallError: any other failure.

        """
        call = ClientCall(AsyncClient.create_test_postback, payload, timeout=timeout)
        del payload, timeout  # as in create_request
        return self._run(call)

    def preconnect(self, *, timeout: float | None = None) -> None:
        """Open the connection that the next create will use, so that its customer waits one round trip.

        Call it when a create may follow within seconds, such as when the checkout page is shown. Nothing
        is sent. A connection that cannot be opened is not an error: the create will open one, and say
        what is wrong. Nor does it harm if no create follows, or if the transport cannot do it.

        Args:
            timeout: seconds after which it is given up, so that a page waits no longer for it while the
                vendor cannot be reached; by default 2, or the client's timeout if that is shorter.

        Raises:
            ConfigurationError: the client cannot be used (closed, or in the thread of an event loop), or
                the timeout is invalid.

        """
        return self._run(ClientCall(AsyncClient.preconnect, timeout=timeout))

    def close(self) -> None:
        """Wait until calls in flight have ended, then close the connections and end the thread.

        A client that ``for_merchant`` has returned accepts no more calls, and closes nothing shared. Closing
        twice is harmless. In a forked process it leaves what belongs to the other process alone. A signal
        handler whose own thread is in a call does not wait: the connections close when that call has ended.
        """
        self._closed = True
        if self._parent is None:
            self._thread.close()

    def __enter__(self) -> Self:
        """Return the client; its thread starts with the first call."""
        self._check_open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the client."""
        self.close()

    def __del__(self) -> None:
        """Warn when a client was used and not closed, and let its thread end."""
        thread = getattr(self, "_thread", None)
        if getattr(self, "_parent", None) is not None:
            return
        if thread is not None and thread.close_soon() is not None:
            warnings.warn(
                "a Client was dropped without being closed; use 'with' or close()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        """Show where it calls, and no credentials."""
        if not hasattr(self, "_base_url"):
            return "<Client whose settings were refused>"
        return f"<Client {self._base_url}{' closed' if self._closed or self._thread.closed else ''}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        msg = "a Client cannot be copied or pickled: it holds connections; make one per process"
        raise TypeError(msg)

    def _check_open(self) -> None:
        self._thread.check_open(closed=self._closed)

    def _run(self, call: ClientCall[_Answer]) -> _Answer:
        self._check_open()
        return self._thread.run(call, None if self._merchant is None else self._merchant.client)


class _Merchant:
    """The ``AsyncClient`` of one merchant. A forked process has another one to make it from."""

    __slots__ = ("_client", "_credentials", "_parent")

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._parent: AsyncClient | None = None
        self._client: AsyncClient

    def client(self, parent: AsyncClient) -> AsyncClient:
        """Return the merchant's client; always the same one, since it holds the retry quota."""
        if self._parent is not parent:
            self._client = parent.for_merchant(self._credentials)
            self._parent = parent
        return self._client
