"""The shop's part of the tests' Django project."""

import threading
from typing import Any

import anyio.lowlevel
from django.db import connection, connections

from wegetfinancing.ledger import Decision

told: list[str] = []
failures: list[Exception] = []
opened: list[Any] = []
threads: list[int] = []


def apply(_: Any, decision: Decision) -> None:
    if failures:
        raise failures.pop()
    told.append(decision.postback.status)


def handle(decision: Decision) -> None:
    """Do the same as a handler that the ledger knows nothing of, and leave a connection open."""
    threads.append(threading.get_ident())
    connection.ensure_connection()
    opened.append(connections["default"])
    apply(None, decision)


async def handle_async(decision: Decision) -> None:
    await anyio.lowlevel.checkpoint()
    apply(None, decision)
