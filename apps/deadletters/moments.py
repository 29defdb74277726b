"""The timeline's part of dead letters: minutes in which many came."""

from datetime import timedelta
from typing import Any

from django.db.models import Count
from django.db.models.functions import TruncMinute
from django.utils.translation import gettext as _

from apps.core.moments import READ, Moment, Told, Wanted
from apps.deadletters.models import DeadLetter

SPIKE = 10  # letters of one group within a minute


def spikes(wanted: Wanted) -> Told:
    """Minutes in which a group grew by `SPIKE` letters or more; minutes in a row are one spike."""
    rows = DeadLetter.objects.filter(
        environment=wanted.environment_id,
        captured_at__gte=wanted.since,
        captured_at__lt=wanted.until,
    )
    if wanted.own_service is not None:
        rows = rows.filter(service=wanted.own_service)
    if wanted.service:
        rows = rows.filter(service__slug=wanted.service)
    if wanted.dependency:
        rows = rows.filter(dependency=wanted.dependency)
    minutes = (
        rows.annotate(minute=TruncMinute("captured_at"))
        .values("minute", "group", "group__title", "service__slug", "dependency")
        .annotate(letters=Count("pk"))
        .filter(letters__gte=SPIKE)
        .order_by("-minute")[:READ]
    )
    found = list(minutes)
    horizon = found[-1]["minute"] if len(found) == READ else None
    return Told(_joined(found), horizon)


def _joined(newest_first: list[dict[str, Any]]) -> list[Moment]:
    spikes: dict[Any, list[dict[str, Any]]] = {}
    done: list[list[dict[str, Any]]] = []
    for row in newest_first:
        name = (row["group"], row["dependency"])
        spike = spikes.get(name)
        if spike is None or spike[-1]["minute"] - row["minute"] > timedelta(minutes=1):
            spike = spikes[name] = []
            done.append(spike)
        spike.append(row)
    return [_spiked(spike) for spike in done]


def _spiked(spike: list[dict[str, Any]]) -> Moment:
    first, letters = spike[-1], sum(row["letters"] for row in spike)
    what = {"count": letters, "service": first["service__slug"], "title": first["group__title"]}
    return Moment(
        at=first["minute"],
        kind="dead_letters",
        text=_("%(count)d dead letters of %(service)s: %(title)s.") % what,
        service=first["service__slug"],
        dependency=first["dependency"],
        count=letters,
        lasted=60.0 * len(spike),
        target=("deadletters_group", first["group"]),
        data={"letters": letters, "minutes": len(spike)},
    )
