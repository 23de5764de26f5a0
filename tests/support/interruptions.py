"""What a signal handler raises in the middle of a call."""

import signal
import threading


class InterruptionError(Exception):
    """As Celery's SoftTimeLimitExceeded."""


def interrupt_the_main_thread() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
