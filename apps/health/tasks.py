"""Keeping the history of checks short."""

from celery import shared_task

from apps.health import services


@shared_task(ignore_result=True)
def roll_up() -> None:
    """Sum results up by the hour; safe to run twice or in parallel."""
    services.roll_up()


@shared_task(ignore_result=True)
def prune() -> None:
    """Delete what is older than it is kept; safe to run twice or in parallel."""
    services.prune()
