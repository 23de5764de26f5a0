"""A Django app: a ledger in the shop's database, a view for postbacks, admin pages, a worker.

Needs ``wegetfinancing[django]``, and ``"wegetfinancing.contrib.django"`` in ``INSTALLED_APPS``.
"""

from .conf import get_client, get_ledger
from .ledger import DjangoLedger

__all__ = ["DjangoLedger", "get_client", "get_ledger"]
