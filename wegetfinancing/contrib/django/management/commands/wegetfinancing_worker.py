"""``manage.py wegetfinancing_worker``: handle the decisions that wait."""

import argparse
import signal
from functools import partial
from typing import Any

import anyio
from django.core.management.base import BaseCommand, CommandError

from .....errors import ConfigurationError
from .....postbacks.decisions import DecisionLedger
from .....postbacks.worker import run_worker
from ...conf import get_ledger


class Command(BaseCommand):
    """Handles every decision that waits, and tries again what has failed."""

    help = "Handles the decisions that wait, with 'APPLY' of settings.WEGETFINANCING, until it is stopped."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add ``--until-idle``."""
        parser.add_argument(
            "--until-idle", action="store_true", help="end when nothing is due, for cron and Celery beat"
        )

    def handle(self, *_: Any, until_idle: bool, **__: Any) -> None:  # noqa: ANN401 - as BaseCommand declares it
        """Run the worker. It closes each connection that it has opened."""
        try:
            ledger = get_ledger()
            anyio.run(partial(run_worker, ledger, until_idle=True) if until_idle else partial(_work, ledger))
        except ConfigurationError as error:
            raise CommandError(str(error)) from None


async def _work(ledger: DecisionLedger) -> None:
    """Work until Ctrl-C or SIGTERM, and say then that no worker is alive any more."""
    # Received until it has ended, so that a second Ctrl-C does not cut that short.
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(run_worker, ledger))
            await anext(signals)
            tasks.cancel_scope.cancel()
