"""What a ledger says of a failing database. Without SQLAlchemy, so that the Django app can use it."""

import sqlite3


def description(error: Exception) -> str:
    """Describe a database's failure without the values of any statement."""
    original = error.__cause__ or error  # the driver's, of which SQLAlchemy's and Django's are made
    name = type(original).__name__
    if isinstance(original, sqlite3.Error):  # its texts are fixed ones, such as "database is locked"
        return f"the ledger's database failed: {name}: {original}"
    state = getattr(original, "sqlstate", None)
    return f"the ledger's database failed: {name}{f' (SQLSTATE {state})' if state else ''}"
