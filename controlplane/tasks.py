"""The proof that background work is done: a task that beat sends and a worker runs."""

import time

from celery import shared_task

_ran_at = time.monotonic()


@shared_task(ignore_result=True)
def pulse() -> None:
    """Remember that beat, broker and worker brought a task here just now."""
    restart_age()


def restart_age() -> None:
    """Count the age from now."""
    global _ran_at
    _ran_at = time.monotonic()


def age() -> float:
    """Seconds since this process last ran the pulse, or since it started."""
    return time.monotonic() - _ran_at
