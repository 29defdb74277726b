"""The proof that background work is done: a task that beat sends and a worker runs."""

import time
from typing import Any

from celery import current_app, shared_task

from apps.health import canary, services

_ran_at = time.monotonic()


@shared_task(ignore_result=True)
def pulse() -> None:
    """Remember that beat, broker and worker brought a task here just now."""
    restart_age()
    services.take_pulse("celery")


@shared_task(bind=True, name=canary.TASK, ignore_result=True)
def answer_check(self: Any, reply_to: str) -> None:
    """Tell the check that sent this that a worker of ours ran it."""
    with current_app.connection_for_write() as connection:
        canary.reply(connection, task_id=self.request.id, reply_to=reply_to)


def restart_age() -> None:
    """Count the age from now."""
    global _ran_at
    _ran_at = time.monotonic()


def age() -> float:
    """Seconds since this process last ran the pulse, or since it started."""
    return time.monotonic() - _ran_at
