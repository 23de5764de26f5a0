"""The Django app."""

from django.apps import AppConfig
from django.core import checks as django_checks

from .checks import check_settings


class WeGetFinancingConfig(AppConfig):
    """``wegetfinancing.contrib.django`` in ``INSTALLED_APPS``."""

    name = "wegetfinancing.contrib.django"
    label = "wegetfinancing"
    verbose_name = "WeGetFinancing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have ``manage.py check`` look at the settings."""
        django_checks.register(check_settings)
