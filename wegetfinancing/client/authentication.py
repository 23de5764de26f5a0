"""HTTP Basic authentication."""

import binascii
from typing import (
    NoReturn,
)

from ..credentials import Credentials
from ..http import Handler, Headers, Request, Response


def basic_authorization(credentials: Credentials) -> str:
    """Encode credentials for the ``Authorization`` header, UTF-8 before base64 (RFC 7617)."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + binascii.b2a_base64(pair, newline=False).decode("ascii")


class BasicAuthentication:
    """Adds HTTP Basic credentials to each request."""

    __slots__ = ("_header", "_last")

    def __init__(self, credentials: Credentials) -> None:
        """Encode the header once."""
        self._header = basic_authorization(credentials)
        self._last = (Headers(), Headers())

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Pass the request on with its ``Authorization``."""
        plain, headers = self._last
        if request.headers is not plain:  # those of an operation are the same value on every call
            headers = Headers({**request.headers, "authorization": self._header})
            self._last = request.headers, headers
        authenticated = Request(
            operation=request.operation,
            method=request.method,
            url=request.url,
            headers=headers,
            body=request.body,
            repeatable=request.repeatable,
            deadline=request.deadline,
        )
        return await call_next(authenticated)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, as the credentials do: a pickle is a plain-text copy of the password."""
        msg = "BasicAuthentication holds a password and is not pickled"
        raise TypeError(msg)
