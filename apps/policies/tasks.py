"""Work of the timetable."""

from celery import shared_task

from apps.policies import services


@shared_task(ignore_result=True)
def end_due_overrides() -> None:
    """End overrides whose lease is over. Safe to run twice or in parallel."""
    services.end_due_overrides()
