"""Work of the timetable."""

from celery import shared_task

from apps.alerts import services


@shared_task(ignore_result=True)
def prune() -> None:
    """Let go of alerts and messages that are long over. Safe to run twice or in parallel."""
    services.prune()
