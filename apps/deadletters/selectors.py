"""How many letters wait, since when, and why they came."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Min
from django.db.models.functions import TruncHour

from apps.core import clock
from apps.deadletters import rules
from apps.deadletters.models import DeadLetter, Redrive, RedriveItem


@dataclass(frozen=True)
class Depth:
    """The dead letters of one service."""

    service: str  # slug
    unresolved: int
    arrived: int  # captured in the last seconds, whatever became of them
    oldest_at: datetime | None  # when the oldest unresolved one first failed


def depths(environment_id: int, *, seconds: float = 300) -> list[Depth]:
    """Depth of every service of the environment with dead letters, by name; two queries."""
    letters = DeadLetter.objects.filter(environment=environment_id)
    waiting = {
        row["service__slug"]: row
        for row in letters.filter(status__in=rules.UNRESOLVED)
        .values("service__slug")
        .annotate(unresolved=Count("pk"), oldest_at=Min("first_failed_at"))
    }
    since = clock.now() - timedelta(seconds=seconds)
    lately = letters.filter(captured_at__gte=since).values("service__slug")
    arrived = dict(lately.annotate(count=Count("pk")).values_list("service__slug", "count"))
    return [
        Depth(
            service=service,
            unresolved=waiting[service]["unresolved"] if service in waiting else 0,
            arrived=arrived.get(service, 0),
            oldest_at=waiting[service]["oldest_at"] if service in waiting else None,
        )
        for service in sorted(waiting.keys() | arrived.keys())
    ]


@dataclass(frozen=True)
class Cause:
    """How many letters of one error class came, hour by hour."""

    error_class: str
    total: int
    by_hour: Sequence[int]  # oldest first

    @property
    def bars(self) -> list[dict[str, float]]:
        """The hours as bars of a chart 20 units high."""
        most = max(self.by_hour)
        heights = [round(20 * number / most, 1) for number in self.by_hour]
        return [{"top": 20 - height, "height": height} for height in heights]


def causes(environment_ids: frozenset[int], *, hours: int = 24, most: int = 10) -> list[Cause]:
    """Why letters of the last `hours` came, this hour included, most frequent first; one query."""
    newest = clock.now().replace(minute=0, second=0, microsecond=0)
    oldest = newest - timedelta(hours=hours - 1)
    rows = DeadLetter.objects.filter(environment__in=environment_ids, captured_at__gte=oldest)
    counted = rows.annotate(hour=TruncHour("captured_at", tzinfo=UTC)).values("error_class", "hour")
    counts: dict[str, list[int]] = {}
    for row in counted.annotate(count=Count("pk")).order_by("error_class"):
        hour = int((row["hour"] - oldest).total_seconds() // 3600)
        counts.setdefault(row["error_class"], [0] * hours)[min(hour, hours - 1)] = row["count"]
    found = [Cause(name, sum(numbers), numbers) for name, numbers in counts.items()]
    return sorted(found, key=lambda cause: (-cause.total, cause.error_class))[:most]


def with_work(environment_ids: Iterable[int]) -> set[tuple[int, str]]:
    """Environments and services with letters that could be handed out now; one query."""
    waiting = RedriveItem.objects.filter(
        state=RedriveItem.State.PENDING,
        redrive__state=Redrive.State.RUNNING,
        redrive__environment__in=environment_ids,
    )
    found = waiting.values_list("redrive__environment", "service__slug").distinct()
    return {(environment_id, service) for environment_id, service in found}
