"""The Django app, and what ``manage.py check`` says of its settings."""

from typing import Any, Final

from django.apps import AppConfig
from django.core import checks

from ...errors import ConfigurationError
from .conf import get_credentials, get_handler, get_ledger, problems

_INCOMPLETE: Final = "wegetfinancing.E001"
_REFUSED: Final = "wegetfinancing.E002"
_UNHANDLED: Final = "wegetfinancing.W001"
_NOTHING_HANDLES: Final = (
    "settings.WEGETFINANCING has neither 'APPLY' nor 'HANDLER': wegetfinancing_worker cannot run, and a"
    " postback_view() without a handler of its own answers 500 and stores nothing."
)


class WeGetFinancingConfig(AppConfig):
    """``wegetfinancing.contrib.django`` in ``INSTALLED_APPS``."""

    name = "wegetfinancing.contrib.django"
    label = "wegetfinancing"
    verbose_name = "WeGetFinancing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have ``manage.py check`` look at the settings."""
        checks.register(_check_settings)


def _check_settings(**_: Any) -> list[checks.CheckMessage]:  # noqa: ANN401 - what Django passes to every check
    """Name each setting that is missing or wrong."""
    found: list[checks.CheckMessage] = [checks.Error(text, id=_INCOMPLETE) for text in problems()]
    if not found:
        try:
            get_credentials()
            get_ledger().check()
            if not get_ledger().applies and get_handler() is None:
                found.append(checks.Warning(_NOTHING_HANDLES, id=_UNHANDLED))
        except ConfigurationError as error:
            found.append(checks.Error(str(error), id=_REFUSED))
    return found
