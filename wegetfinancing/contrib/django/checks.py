"""What ``manage.py check`` says of the settings."""

from typing import Any, Final

from django.core.checks import CheckMessage, Error

from ...errors import ConfigurationError
from .conf import get_credentials, get_ledger, problems

__all__ = ["check_settings"]

_INCOMPLETE: Final = "wegetfinancing.E001"
_REFUSED: Final = "wegetfinancing.E002"


def check_settings(**_: Any) -> list[CheckMessage]:  # noqa: ANN401 - what Django passes to every check
    """Name each setting that is missing or wrong."""
    found: list[CheckMessage] = [Error(text, id=_INCOMPLETE) for text in problems()]
    if not found:
        try:
            get_credentials()
            get_ledger().check()
        except ConfigurationError as error:
            found.append(Error(str(error), id=_REFUSED))
    return found
