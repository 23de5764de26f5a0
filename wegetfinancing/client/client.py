"""The client: three operations, what they need, and its life from the first call to the end."""

import functools
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn, Self, Unpack

import anyio

from .._loan import Application
from .._tracebacks import capture, clears_locals
from ..credentials import Credentials, Environment
from ..errors import ConfigurationError
from ..http import Request
from ..models import CreatedRequest, FinancingRequest, ShippingEvent, ShippingReceipt
from .applications import Applications
from .authentication import basic_authorization
from .defaults import default_middleware, default_transport
from .from_env import ClientSettings, EnvironmentText, make_from_env
from .hooks import Hook, check_hooks
from .intents import ApplicationLedger, application_of
from .middleware import Middleware, check_middleware
from .operations import (
    CREATE_REQUEST,
    CREATE_TEST_POSTBACK,
    UPDATE_SHIPPING,
    Operation,
    create_request_body,
    create_test_postback_body,
    update_shipping_body,
)
from .sending import Sender
from .settings import PRECONNECT_SECONDS, Endpoint, check_credentials, check_timeout
from .shared import Shared
from .transport import Transport, check_transport

_log = logging.getLogger("wegetfinancing")


class AsyncClient:
    """A client of the merchants v1 API, on asyncio or trio. Create one per application.

    Args:
        credentials: of one merchant in ``environment``.
        environment: the sandbox by default, so that nobody goes live by accident; a member of
            ``Environment`` or its text.
        base_url: another address, such as a local emulator; plain ``http`` on loopback only.
        transport: sends the requests, such as ``wegetfinancing.testing.FakeTransport()``; by default
            an ``HttpxTransport`` of its own. A transport that you pass is not closed with the client.
        middleware: outermost first; by default ``default_middleware()``, and ``[]`` for none.
        hooks: functions that watch each call and its attempts, such as
            ``wegetfinancing.contrib.opentelemetry.OpenTelemetry()``.
        ledger: remembers each order's application in the shop's database, so that an order is applied
            for at most once, across calls, workers and crashes; see ``wegetfinancing.ledger``.
        timeout: seconds for a whole call: waiting for a connection, every attempt, every pause.

    Raises:
        ConfigurationError: a setting is invalid.

    """

    __slots__ = ("__weakref__", "_closed", "_parent", "_sender", "_shared")

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
        endpoint = Endpoint.of(environment, base_url)
        self._closed = False
        self._parent: Self | None = None
        self._sender = Sender(
            authorization=basic_authorization(check_credentials(credentials)),
            merchant_id=credentials.merchant_id,
            endpoint=endpoint,
            middleware=check_middleware(default_middleware() if middleware is None else middleware),
            hooks=check_hooks(hooks),
        )
        self._shared = Shared(
            timeout=check_timeout(timeout),
            applications=None if ledger is None else Applications(ledger, endpoint.environment),
            owns_transport=transport is None,
            transport=default_transport() if transport is None else check_transport(transport),
        )

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
        """Return a client of another merchant, which shares the connections of this one.

        It has the same environment, transport, hooks, ledger, timeout and middleware, except that each
        ``Retry`` in the list is replaced by one with the same settings and a quota of its own, so that an
        outage of one merchant's calls does not use up another's repeats. Any other middleware serves all
        merchants.

        Making one costs microseconds and less than 1 kB, and opens nothing. Keep one for each merchant, since
        a new one starts with a full retry quota. Closing it closes nothing that is shared; closing the
        client it was made from closes all.

        Args:
            credentials: of the other merchant, in the environment of this client.

        Raises:
            ConfigurationError: no credentials, or the client is closed.

        """
        self._check_open()
        sender = self._sender.for_merchant(check_credentials(credentials))
        client = object.__new__(type(self))
        if hasattr(self, "__dict__"):  # of a subclass
            vars(client).update(vars(self))
        client._closed = False
        client._parent = self._parent or self  # kept, since what is shared is closed with it
        client._sender = sender
        client._shared = self._shared
        return client

    async def create_request(
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
            ConfigurationError: the client cannot be used (closed, other event loop, forked).

        """
        prepared = capture(self._prepare_create, timeout, expected_amount, request)
        del request, expected_amount, timeout  # customer data: a traceback with locals must not show it
        sending, application = prepared.unwrap()
        applications, transport = self._shared.applications, self._shared.transport
        if applications is None or application is None:
            return await self._sender.send(CREATE_REQUEST, transport, sending)
        send = functools.partial(self._sender.send, CREATE_REQUEST)
        return await applications.create(application, sending, transport, send)

    async def update_shipping(
        self, inv_id: str, event: ShippingEvent, *, timeout: float | None = None
    ) -> ShippingReceipt:
        """Tell the vendor what happened to the goods. Repeated when that may help.

        Updates do not commute: a late repeat of an old state may land after a newer one. Await one
        before you send the next for the same loan.

        Args:
            inv_id: as in ``CreatedRequest.inv_id`` or the postback.
            event: what happened.
            timeout: overrides the client's timeout, in seconds.

        Raises:
            InvalidRequestError: ``event.problems()`` is not empty (nothing was sent), or 400.
            CallError: any other failure, after the last attempt.
            ConfigurationError: the client cannot be used (closed, other event loop, forked).

        """
        prepared = capture(self._prepare, UPDATE_SHIPPING, timeout, update_shipping_body, inv_id, event)
        del inv_id, event, timeout  # as in create_request
        return await self._sender.send(UPDATE_SHIPPING, self._shared.transport, prepared.unwrap())

    async def create_test_postback(self, payload: Mapping[str, Any], *, timeout: float | None = None) -> Any:  # noqa: ANN401 - the vendor does not say what comes back
        """Ask the vendor's sandbox for a test postback. Sent at most once per call.

        The vendor documents that this exists, and neither its body nor its answer: ``payload`` goes
        out as it is, and the decoded answer comes back as it is.

        Args:
            payload: what to send, as JSON.
            timeout: overrides the client's timeout, in seconds.

        Raises:
            ConfigurationError: the environment is live, which has no such operation; or the client cannot
                be used (closed, other event loop, forked).
            InvalidRequestError: ``payload`` has no JSON form (nothing was sent), or 400.
            CallError: any other failure.

        """
        prepared = capture(self._prepare, CREATE_TEST_POSTBACK, timeout, create_test_postback_body, payload)
        del payload, timeout  # as in create_request
        return await self._sender.send(CREATE_TEST_POSTBACK, self._shared.transport, prepared.unwrap())

    async def preconnect(self, *, timeout: float | None = None) -> None:
        """Open the connection that the next create will use, so that its customer waits one round trip.

        Call it when a create may follow within seconds, such as when the checkout page is shown. Nothing
        is sent. A connection that cannot be opened is not an error: the create will open one, and say
        what is wrong. Nor does it harm if no create follows, or if the transport cannot do it.

        Args:
            timeout: seconds after which it is given up, so that a page waits no longer for it while the
                vendor cannot be reached; by default 2, or the client's timeout if that is shorter.

        Raises:
            ConfigurationError: the client cannot be used (closed, other event loop, forked), or the
                timeout is invalid.

        """
        deadline = self._begin(min(self._shared.timeout, PRECONNECT_SECONDS) if timeout is None else timeout)
        preconnect = getattr(self._shared.transport, "preconnect", None)
        if preconnect is not None:
            with anyio.CancelScope(deadline=deadline):
                try:
                    await preconnect(self._sender.endpoint.base_url, deadline=deadline)
                except Exception as error:  # noqa: BLE001 - a transport of anyone's, and nothing was sent
                    _log.debug("the transport could not preconnect (%s)", type(error).__name__)

    async def aclose(self) -> None:
        """Close the connections, unless they are another client's, see ``for_merchant``.

        Calls in flight end by themselves; closing twice is harmless.
        """
        self._closed = True
        if self._parent is None:
            await self._shared.aclose()

    async def __aenter__(self) -> Self:
        """Open the client in this event loop."""
        self._enter_event_loop()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the client."""
        await self.aclose()

    def __del__(self) -> None:
        """Warn when a client was opened and not closed. No I/O: the event loop may be gone."""
        shared = getattr(self, "_shared", None)  # none if its settings were refused
        if shared is not None and self._parent is None and shared.event_loop is not None and not self._closed:
            warnings.warn(
                "an AsyncClient was dropped without being closed; use 'async with' or await aclose()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        """Show where it calls, and no credentials."""
        if not hasattr(self, "_shared"):
            return "<AsyncClient whose settings were refused>"
        return f"<AsyncClient {self._sender.endpoint.base_url}{' closed' if self._is_closed() else ''}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        msg = "an AsyncClient cannot be copied or pickled: it holds connections; make one per process"
        raise TypeError(msg)

    def _is_closed(self) -> bool:
        return self._closed or self._shared.is_closed

    def _check_open(self) -> None:
        if self._is_closed():
            msg = "this AsyncClient is closed; make a new one"
            raise ConfigurationError(msg)

    def _enter_event_loop(self) -> None:
        self._check_open()
        self._shared.enter_event_loop()

    def _begin(self, timeout: float | None) -> float:
        """Return the deadline of a call that begins in this event loop now."""
        self._enter_event_loop()
        return anyio.current_time() + (self._shared.timeout if timeout is None else check_timeout(timeout))

    def _prepare(
        self,
        operation: Operation[Any],
        timeout: float | None,
        write_body: Callable[..., bytes],
        *values: object,
    ) -> Request:
        body = write_body(*values)
        endpoint = self._sender.endpoint
        if operation.sandbox_only and endpoint.environment is Environment.LIVE:
            msg = f"{operation.name} exists in the sandbox only; use a client with environment='sandbox'"
            raise ConfigurationError(msg)
        return operation.request(endpoint.base_url, self._sender.merchant_id, body, self._begin(timeout))

    def _prepare_create(
        self, timeout: float | None, expected_amount: Decimal | int | str | None, request: FinancingRequest
    ) -> tuple[Request, Application | None]:
        has_ledger = self._shared.applications is not None
        if expected_amount is not None and not has_ledger:
            msg = "expected_amount is what a ledger compares with the answer; this client has none"
            raise ConfigurationError(msg)
        sending = self._prepare(CREATE_REQUEST, timeout, create_request_body, request)
        if not has_ledger:
            return sending, None
        seconds = sending.deadline - anyio.current_time()
        return sending, application_of(request, self._sender.merchant_id, expected_amount, seconds)
