"""``manage.py wegetfinancing_worker``: handle the decisions that wait."""

import argparse
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, cast

import anyio
from asgiref.sync import sync_to_async
from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections

from ....._checks import is_async
from .....errors import ConfigurationError
from .....postbacks.decisions import Decision, DecisionHandler, SyncDecisionHandler
from .....postbacks.worker import run_worker
from ...conf import get_handler, get_ledger
from ...threads import in_any_thread


class Command(BaseCommand):
    """Handles every decision that waits, and tries again what has failed."""

    help = (
        "Handles the decisions that wait, with 'APPLY' or 'HANDLER' of settings.WEGETFINANCING, until it is"
        " stopped."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add ``--until-idle``."""
        parser.add_argument(
            "--until-idle", action="store_true", help="end when nothing is due, for cron and Celery beat"
        )

    def handle(self, *_: Any, until_idle: bool, **__: Any) -> None:  # noqa: ANN401 - as BaseCommand declares it
        """Run the worker. It closes each connection that it has opened."""
        try:
            work = partial(run_worker, get_ledger(), handler=_in_a_worker(get_handler()))
            anyio.run(partial(work, until_idle=True) if until_idle else partial(_until_stopped, work))
        except ConfigurationError as error:
            raise CommandError(str(error)) from None


def _in_a_worker(handler: DecisionHandler | SyncDecisionHandler | None) -> Any:  # noqa: ANN401 - one of them
    """Do for a handler what Django does for each request: no broken connection is used again."""
    if not is_async(handler):
        return in_any_thread(handler)

    async def handle(decision: Decision) -> None:
        await sync_to_async(close_old_connections)()
        await cast("DecisionHandler", handler)(decision)

    return handle


async def _until_stopped(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Work until Ctrl-C or SIGTERM, and say then that no worker is alive any more."""
    # Received until it has ended, so that a second Ctrl-C does not cut that short.
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await anext(signals)
            tasks.cancel_scope.cancel()
