"""WeGetFinancing's merchants v1 API: create a financing request, update shipping, hear the decision."""

from ._version import __version__
from .client.client import AsyncClient
from .client.defaults import default_middleware
from .client.hooks import Attempt, CallEnded, CallStarted, Hook
from .client.httpx_transport import HttpxTransport
from .client.middleware import Middleware
from .client.retry import Retry
from .client.sync import Client
from .client.transport import Transport
from .credentials import Credentials, Environment
from .enums import Country, Currency, PostbackVersion, ShippingState
from .errors import (
    APIError,
    AuthenticationError,
    CallError,
    ConfigurationError,
    DeadlineExceededError,
    DecodingError,
    InvalidRequestError,
    LedgerError,
    MalformedDictError,
    MalformedPostbackError,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    PostbackError,
    RateLimitError,
    ServerError,
    SignatureError,
    TransportError,
    WeGetFinancingError,
)
from .models import (
    Address,
    CartItem,
    CreatedRequest,
    FinancingRequest,
    ShippingEvent,
    ShippingReceipt,
)
from .postbacks.dialects import parse_postback, parse_unverified_postback
from .postbacks.events import (
    Approved,
    Postback,
    Preapproved,
    Refunded,
    Rejected,
    UnknownPostback,
    postback_from_dict,
)
from .postbacks.signatures import sign_postback, verify_postback

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # The client
    "AsyncClient",
    "Client",
    "Credentials",
    "Environment",
    # Models
    "Address",
    "CartItem",
    "Country",
    "CreatedRequest",
    "Currency",
    "FinancingRequest",
    "PostbackVersion",
    "ShippingEvent",
    "ShippingReceipt",
    "ShippingState",
    # When a call fails
    "APIError",
    "AuthenticationError",
    "CallError",
    "ConfigurationError",
    "DeadlineExceededError",
    "DecodingError",
    "InvalidRequestError",
    "LedgerError",
    "MalformedDictError",
    "NotFoundError",
    "Outcome",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerError",
    "TransportError",
    "WeGetFinancingError",
    # The vendor's decisions
    "Approved",
    "MalformedPostbackError",
    "Postback",
    "PostbackError",
    "Preapproved",
    "Refunded",
    "Rejected",
    "SignatureError",
    "UnknownPostback",
    "parse_postback",
    "parse_unverified_postback",
    "postback_from_dict",
    "sign_postback",
    "verify_postback",
    # Watching calls
    "Attempt",
    "CallEnded",
    "CallStarted",
    "Hook",
    # How requests travel; their values are in wegetfinancing.http
    "HttpxTransport",
    "Middleware",
    "Retry",
    "Transport",
    "default_middleware",
    "__version__",
]
