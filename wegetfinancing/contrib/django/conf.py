"""``settings.WEGETFINANCING``, and the ledger and the client of this process that are made from it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.conf import settings
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

from ...client.sync import Client
from ...credentials import Credentials, Environment
from ...errors import ConfigurationError
from ...postbacks.decisions import DecisionHandler, SyncDecisionHandler
from .ledger import DjangoLedger
from .shipments import RecordingClient

NAME: Final = "WEGETFINANCING"
_REQUIRED: Final = ("MERCHANT_ID", "USERNAME", "PASSWORD", "ENVIRONMENT")
_FUNCTIONS: Final = {
    "APPLY": "def apply(connection, decision)",
    "HANDLER": "def handle(decision)",
}
_OPTIONAL: Final = (*_FUNCTIONS, "BASE_URL", "DATABASE", "TIMEOUT")
_ENVIRONMENTS: Final = tuple(each.value for each in Environment)


def _settings() -> Mapping[str, Any]:
    found = getattr(settings, NAME, None)
    return found if isinstance(found, Mapping) else {}


def problems() -> list[str]:
    """Say what is missing from ``settings.WEGETFINANCING`` or wrong in it, a sentence each; no values."""
    if not isinstance(getattr(settings, NAME, None), Mapping):
        return [f"settings.{NAME} is missing: a dictionary with {', '.join(_REQUIRED)}."]
    found = _settings()
    texts = [f"settings.{NAME} has no {name!r}." for name in _REQUIRED if not found.get(name)]
    known = (*_REQUIRED, *_OPTIONAL)
    texts += [
        f"settings.{NAME} has {name!r}, which is not one of {', '.join(known)}."
        for name in found
        if name not in known
    ]
    if found.get("ENVIRONMENT") and found["ENVIRONMENT"] not in (*_ENVIRONMENTS, *Environment):
        texts.append(f"settings.{NAME}['ENVIRONMENT'] is neither of {', '.join(_ENVIRONMENTS)}.")
    if found.get("DATABASE", DEFAULT_DB_ALIAS) not in settings.DATABASES:
        texts.append(f"settings.{NAME}['DATABASE'] is not one of DATABASES.")
    for name in _FUNCTIONS:
        try:
            _function(found, name)
        except (ConfigurationError, ImportError) as error:
            texts.append(f"settings.{NAME}[{name!r}] cannot be used: {error}.")
    if all(found.get(name) for name in _FUNCTIONS):
        texts.append(f"settings.{NAME} has both 'APPLY' and 'HANDLER': decisions need one of them.")
    return texts


def _function(found: Mapping[str, Any], name: str) -> Callable[..., object] | None:
    value = found.get(name)
    if value is None:
        return None
    function = import_string(value) if isinstance(value, str) else value
    if not callable(function):
        msg = f"it is not a function {_FUNCTIONS[name]!r}, or the dotted path of one"
        raise ConfigurationError(msg)
    checked: Callable[..., object] = function
    return checked


def _require_settings() -> Mapping[str, Any]:
    if texts := problems():
        raise ConfigurationError(" ".join(texts))
    return _settings()


@functools.cache
def get_credentials() -> Credentials:
    """Return the credentials of ``settings.WEGETFINANCING``.

    Raises:
        ConfigurationError: a setting is missing or wrong.

    """
    found = _require_settings()
    return Credentials(
        merchant_id=str(found["MERCHANT_ID"]), username=found["USERNAME"], password=found["PASSWORD"]
    )


@functools.cache
def get_ledger() -> DjangoLedger:
    """Return this process's ledger, made from ``settings.WEGETFINANCING``.

    Raises:
        ConfigurationError: a setting is missing or wrong.

    """
    found = _require_settings()
    return DjangoLedger(
        environment=found["ENVIRONMENT"],
        apply=_function(found, "APPLY"),
        using=found.get("DATABASE", DEFAULT_DB_ALIAS),
    )


@functools.cache
def get_handler() -> DecisionHandler | SyncDecisionHandler | None:
    """Return the ``"HANDLER"`` of ``settings.WEGETFINANCING``, plain or ``async``, if there is one.

    Raises:
        ConfigurationError: a setting is missing or wrong.

    """
    return _function(_require_settings(), "HANDLER")


@functools.cache
def get_client() -> Client:
    """Return this process's client, with its ledger, made from ``settings.WEGETFINANCING``.

    What its ``update_shipping`` tells the vendor is listed in the admin pages.

    Raises:
        ConfigurationError: a setting is missing or wrong.

    """
    found = _require_settings()
    others = {"base_url": found.get("BASE_URL"), "timeout": found.get("TIMEOUT")}
    client = RecordingClient(
        get_credentials(),
        environment=found["ENVIRONMENT"],
        ledger=get_ledger(),
        **{name: value for name, value in others.items() if value is not None},
    )
    client.using = get_ledger().using
    return client


def _forget(*, setting: str, **_: object) -> None:
    """Begin anew after ``override_settings`` in a test."""
    if setting == NAME:
        if get_client.cache_info().currsize:
            get_client().close()
        for each in (get_client, get_handler, get_ledger, get_credentials):
            each.cache_clear()


setting_changed.connect(_forget)
