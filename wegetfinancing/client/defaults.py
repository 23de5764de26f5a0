"""What a client uses by default."""

from .middleware import Middleware
from .retry import Retry
from .transport import Transport


def default_middleware() -> list[Middleware]:
    """Return the default middleware: ``[Retry()]``, new for each client.

    To add one: ``middleware=[*default_middleware(), mine]`` runs ``mine`` once per attempt,
    ``[mine, *default_middleware()]`` once per call.
    """
    return [Retry()]


def default_transport() -> Transport:
    """Return a new ``HttpxTransport``."""
    from .httpx_transport import HttpxTransport  # noqa: PLC0415 - a fake in its place needs no httpx

    return HttpxTransport()
