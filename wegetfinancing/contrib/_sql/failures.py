"""What a ledger says of a failing database. Without SQLAlchemy, so that the Django app can use it."""

import sqlite3
from typing import Final

# Most often the shop's own, in the same thread: the order was not committed before the create.
_LOCKED: Final = "database is locked"
_WAY_OUT: Final = "; if a transaction of your own is open, commit it before this call"
_NO_TABLE: Final = "no such table: wgf_"
_UNDEFINED_TABLE: Final = "42P01"  # PostgreSQL's
_MIGRATE: Final = "; have the migrations been applied?"


def description(error: Exception) -> str:
    """Describe a database's failure without the values of any statement."""
    original = error.__cause__ or error  # the driver's, of which SQLAlchemy's and Django's are made
    name = type(original).__name__
    if isinstance(original, sqlite3.Error):  # its texts are fixed ones, such as "database is locked"
        text = str(original)
        way_out = _WAY_OUT if text == _LOCKED else _MIGRATE if text.startswith(_NO_TABLE) else ""
        return f"the ledger's database failed: {name}: {text}{way_out}"
    state = getattr(original, "sqlstate", None)
    way_out = _MIGRATE if state == _UNDEFINED_TABLE else ""
    return f"the ledger's database failed: {name}{f' (SQLSTATE {state})' if state else ''}{way_out}"
