"""The values that the API accepts in a field, from https://docs.wegetfinancing.com.

Each is accepted as text too: ``currency="USD"``.
"""

import enum


class Currency(enum.Enum):
    """Loans are in US dollars, for customers in the US and in Canada alike."""

    USD = "USD"
    """The server's default."""

    CAD = "CAD"
    """Reserved by the vendor and rejected today, so ``problems()`` refuses it."""


class Country(enum.Enum):
    """The country of an address. The billing address decides the loan's country."""

    US = "US"
    """The United States."""

    CA = "CA"
    """Canada."""


class PostbackVersion(enum.Enum):
    """The dialect of the postbacks about a request."""

    V0_2 = "0.2"
    """Form-encoded. The server's default if a request has no version."""

    V1_0 = "1.0"
    """JSON with the field names of 0.2."""

    V1_9 = "1.9"
    """JSON, recommended by the vendor. The default of this package."""


class ShippingState(enum.Enum):
    """Where the goods are on their way to the customer."""

    ACCEPTED = "accepted"
    """Stock confirmed, ready to ship."""

    PARTIAL = "partial"
    """Some items confirmed and shipped."""

    DISPATCHED = "dispatched"
    """All items shipped or ready for pickup."""

    DELIVERED = "delivered"
    """Delivered to the customer."""

    RECALLED = "recalled"
    """Shipment cancelled or recalled."""

    OTHER = "other"
    """Other or unexpected."""
