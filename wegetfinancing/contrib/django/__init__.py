"""A Django app: a ledger in the shop's database, views for postbacks, admin pages, a worker.

Needs ``wegetfinancing[django]``, and ``"wegetfinancing.contrib.django"`` in ``INSTALLED_APPS``.
"""

from .conf import get_client, get_ledger
from .ledger import DjangoLedger
from .views import async_postback_view, postback_view

__all__ = [
    "DjangoLedger",
    "async_postback_view",
    "get_client",
    "get_ledger",
    "postback_view",
]
