"""Keeping the windows few: they are summed up, added to totals and, in time, let go."""

from celery import shared_task

from apps.telemetry import services


@shared_task
def roll_up() -> None:
    """Sum settled windows up to minutes and hours; safe to run twice or in parallel."""
    services.roll_up()


@shared_task
def sum_up() -> None:
    """Sum the newest windows up over many cells; safe to run twice or in parallel."""
    services.sum_up()


@shared_task
def fold_totals() -> None:
    """Add settled windows to the totals of all time; safe to run twice or in parallel."""
    services.fold_totals()


@shared_task
def prune() -> None:
    """Delete what is older than it is kept; safe to run twice or in parallel."""
    services.prune()
