"""Work of the timetable."""

from celery import shared_task

from apps.deadletters import services


@shared_task(ignore_result=True)
def return_expired() -> None:
    """Take back letters whose worker died or hangs. Safe to run twice or in parallel."""
    services.return_expired()


@shared_task(ignore_result=True)
def prune() -> None:
    """Let go of letters that are over. Safe to run twice or in parallel."""
    services.prune()
