"""The keywords of a client of either kind, and making one from the environment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from ..credentials import Credentials, Environment
from .hooks import Hook
from .intents import ApplicationLedger
from .middleware import Middleware
from .settings import settings_from_env
from .transport import Transport

_Client = TypeVar("_Client")

EnvironmentText: TypeAlias = Literal["sandbox", "live"]


class ClientSettings(TypedDict, total=False):
    """The keywords of ``AsyncClient``, which describes them."""

    credentials: Credentials | None
    environment: Environment | EnvironmentText
    base_url: str | None
    transport: Transport | None
    middleware: Sequence[Middleware] | None
    hooks: Sequence[Hook]
    ledger: ApplicationLedger | None
    timeout: float


def make_from_env(make_client: Callable[..., _Client], overrides: Mapping[str, Any]) -> _Client:
    """Make a client of either kind from the environment, and from ``overrides`` where they say otherwise.

    Raises:
        ConfigurationError: a variable is missing or invalid.
        TypeError: the constructor has no such keyword.

    """
    unknown = sorted(overrides.keys() - ClientSettings.__annotations__.keys())
    if unknown:
        msg = f"from_env() got an unexpected keyword argument {unknown[0]!r}"
        raise TypeError(msg)
    settings = settings_from_env(overrides)
    settings["credentials"] = settings.get("credentials") or Credentials.from_env()
    return make_client(**settings)
