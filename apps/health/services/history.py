"""What is kept of results, and signs of life."""

from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import Avg, Count, Max, Q

from apps.core import clock
from apps.core.db import delete_in_batches
from apps.health import rules
from apps.health.models import Hour, Pulse, Result, Transition

RESULTS_KEPT = timedelta(days=2)
HOURS_KEPT = timedelta(days=400)
TRANSITIONS_KEPT = timedelta(days=400)
PULSES_KEPT = timedelta(days=1)
SETTLED = timedelta(seconds=60)  # after its end nobody adds to an hour any more
HOUR = timedelta(hours=1)
BATCH = 500  # rows of one transaction


def take_pulse(name: str, **data: Any) -> None:
    """Note that something of ours is alive now."""
    Pulse.objects.bulk_create(
        [Pulse(name=name, at=clock.now(), data=data)],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["at", "data"],
    )


def end_pulse(name: str) -> None:
    """Note that there is nothing more to be said of it."""
    Pulse.objects.filter(name=name).delete()


def roll_up() -> None:
    """Sum results up by the hour, as far as hours are over.

    Safe to run twice or in parallel: sums are computed anew and written over what was there.
    """
    for start in _due():
        _roll_up_one(start)


def _due() -> list[datetime]:
    """Starts of the hours that are over and still to be summed up, oldest first.

    An hour is written whole, so nothing before the newest one is missing.
    """
    over = Result.objects.filter(at__lt=floor(clock.now() - SETTLED))
    if newest := Hour.objects.aggregate(at=Max("start"))["at"]:
        over = over.filter(at__gte=newest + HOUR)
    return list(over.datetimes("at", "hour"))


def floor(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)


@transaction.atomic
def _roll_up_one(start: datetime) -> None:
    hours = [
        Hour(start=start, **sums)
        for sums in sums_of(Result.objects.filter(at__gte=start, at__lt=start + HOUR))
    ]
    for first in range(0, len(hours), BATCH):
        Hour.objects.bulk_create(
            hours[first : first + BATCH],
            update_conflicts=True,
            unique_fields=["subject", "start"],
            update_fields=["runs", "failures", "latency_mean", "latency_max"],
        )


def sums_of(results: models.QuerySet[Result]) -> list[dict[str, Any]]:
    """The columns of `Hour` for these results, a row per check."""
    sums = results.values("subject_id").annotate(
        runs=Count("pk"),
        failures=Count("pk", filter=Q(mark=rules.FAILED)),
        latency_mean=Avg("latency_seconds"),
        latency_max=Max("latency_seconds"),
    )
    return [{**each} for each in sums.order_by("subject_id")]


def prune() -> None:
    """Let go of what is too old, in batches; results not yet summed up stay.

    Safe to run twice or in parallel.
    """
    now = clock.now()
    delete_in_batches(Result.objects.filter(at__lt=min([now - RESULTS_KEPT, *_due()])))
    delete_in_batches(Hour.objects.filter(start__lt=now - HOURS_KEPT))
    delete_in_batches(Transition.objects.filter(at__lt=now - TRANSITIONS_KEPT))
    Pulse.objects.filter(at__lt=now - PULSES_KEPT).delete()
