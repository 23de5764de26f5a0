"""What tells the postbacks of ``wegetfinancing check`` from the vendor's."""

from typing import Final

from .events import Postback, UnknownPostback

CHECK_INV_ID: Final = "wegetfinancing-check"
"""The ID that they name, which belongs to no request; their status has the same name."""


def is_of_a_check(postback: Postback) -> bool:
    """Tell whether nobody has to act upon a postback, since it only checks the endpoint."""
    return isinstance(postback, UnknownPostback) and postback.inv_id == CHECK_INV_ID
