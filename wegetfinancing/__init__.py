"""WeGetFinancing's merchants v1 API: create a financing request, update shipping, hear the decision."""

from ._version import __version__
from .client.client import AsyncClient, default_middleware
from .client.httpx_transport import HttpxTransport
from .client.middleware import Middleware
from .client.retry import Retry, RetryPolicy
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
from .http import Handler, Headers, Request, Response, Transport
from .models import (
    Address,
    CartItem,
    CreatedRequest,
    FinancingRequest,
    ShippingEvent,
    ShippingReceipt,
)
from .postbacks.dialects import (
    Approved,
    Postback,
    Preapproved,
    Refunded,
    Rejected,
    UnknownPostback,
    parse_postback,
    parse_unverified_postback,
)
from .postbacks.signatures import sign_postback, verify_postback

__all__ = [
    "APIError",
    "Address",
    "Approved",
    "AsyncClient",
    "AuthenticationError",
    "CallError",
    "CartItem",
    "ConfigurationError",
    "Country",
    "CreatedRequest",
    "Credentials",
    "Currency",
    "DeadlineExceededError",
    "DecodingError",
    "Environment",
    "FinancingRequest",
    "Handler",
    "Headers",
    "HttpxTransport",
    "InvalidRequestError",
    "MalformedPostbackError",
    "Middleware",
    "NotFoundError",
    "Outcome",
    "PermissionDeniedError",
    "Postback",
    "PostbackError",
    "PostbackVersion",
    "Preapproved",
    "RateLimitError",
    "Refunded",
    "Rejected",
    "Request",
    "Response",
    "Retry",
    "RetryPolicy",
    "ServerError",
    "ShippingEvent",
    "ShippingReceipt",
    "ShippingState",
    "SignatureError",
    "Transport",
    "TransportError",
    "UnknownPostback",
    "WeGetFinancingError",
    "__version__",
    "default_middleware",
    "parse_postback",
    "parse_unverified_postback",
    "sign_postback",
    "verify_postback",
]
