"""HTTP Basic authentication."""

import binascii

from ..credentials import Credentials


def basic_authorization(credentials: Credentials) -> str:
    """Encode credentials for the ``Authorization`` header, UTF-8 before base64 (RFC 7617)."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + binascii.b2a_base64(pair, newline=False).decode("ascii")
