"""What an environment looks like from its instances' reports; few queries, whatever its size."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db.models import Exists, Min, OuterRef, QuerySet, Sum, TextField
from django.db.models.functions import Cast

from apps.core import clock
from apps.fleet.selectors import shown_since
from apps.telemetry import rules
from apps.telemetry.models import BreakerEvent, BreakerState, InstanceState, Total, Window
from apps.telemetry.selectors.columns import LATENCY, Gathered, merged, sums

Name = tuple[str, str]  # slugs of service and dependency


@dataclass(frozen=True)
class InstanceStatus:
    """An instance and what it last said of itself."""

    id: UUID
    service: str
    name: str
    sdk: str
    started_at: datetime
    heard_at: datetime
    is_stopping: bool
    epoch: UUID | None
    applied_revision: int | None
    applied_at: datetime | None
    refused: list[dict[str, Any]]
    breakers: dict[str, dict[str, Any]]
    in_flight: dict[str, int]
    resources: dict[str, float]
    silent_at: datetime

    @property
    def is_silent(self) -> bool:
        return self.silent_at < clock.now()

    @property
    def label(self) -> str:
        return self.name or str(self.id)

    @property
    def is_live(self) -> bool:
        return not self.is_silent and not self.is_stopping


def instances_of(
    environment_id: int,
    ids: Collection[UUID] | None = None,
    *,
    service_id: int | None = None,
    most: int | None = None,
) -> list[InstanceStatus]:
    """Instances heard within a day, by service and name; of these ids or one service, if given."""
    shown = InstanceState.objects.of_environment(environment_id)
    if ids is not None:
        shown = shown.filter(pk__in=ids)
    if service_id is not None:
        shown = shown.filter(instance__service=service_id)
    rows = (
        shown.filter(instance__heard_at__gte=shown_since())
        .order_by("instance__service__slug", "instance__name", "instance_id")
        .values_list(*_STATUS)
    )
    return [InstanceStatus(*row) for row in rows[:most]]


_STATUS = (  # what an InstanceStatus holds, in its order
    "instance_id",
    "instance__service__slug",
    "instance__name",
    "instance__sdk",
    "instance__started_at",
    "instance__heard_at",
    "instance__stopping",
    "epoch",
    "applied_revision",
    "applied_at",
    "refused",
    "breakers",
    "in_flight",
    "resources",
    "instance__silent_at",
)


def counted(environment_id: int, *, seconds: int) -> dict[Name, rules.Counts]:
    """Everything counted over the last `seconds` (10 to 7,200), in whole windows of 10 s.

    By slugs of service and dependency; the dependency of a service's own requests is "". One query.
    """
    start = rules.floor(clock.now() - timedelta(seconds=seconds), Window.Span.SHORT)
    windows = Window.objects.of_environment(environment_id).filter(
        span=Window.Span.SHORT, start__gte=start
    )
    return {
        (service, dependency): counts for service, dependency, counts in _counts(_gathered(windows))
    }


def _gathered(windows: QuerySet[Window]) -> QuerySet[Any]:
    """A row for each service and dependency: slugs, histograms, sums of the counters."""
    rows: QuerySet[Any] = windows.values_list("service__slug", "dependency").order_by()
    gathered: QuerySet[Any] = rows.annotate(latencies=Gathered("latency"), **sums(rules.COUNTERS))
    return gathered


def _counts(rows: QuerySet[Any]) -> Iterator[tuple[str, str, rules.Counts]]:
    for service, dependency, latencies, *numbers in rows.iterator(chunk_size=2000):
        counted = zip(rules.COUNTERS, numbers, strict=True)
        numbers_of = {name: number for name, number in counted if number}
        yield service, dependency, rules.Counts(numbers_of, merged(latencies))


def opened(environment_id: int, *, seconds: int) -> dict[Name, int]:
    """How many instances' breakers opened in the last `seconds`, whatever they do by now."""
    events = BreakerEvent.objects.of_environment(environment_id).filter(
        received_at__gte=clock.now() - timedelta(seconds=seconds), to_state=BreakerState.OPEN
    )
    found: dict[Name, set[UUID]] = defaultdict(set)
    rows = events.values_list("service__slug", "dependency", "instance_id")
    for service, dependency, instance_id in rows:
        found[service, dependency].add(instance_id)
    return {name: len(instances) for name, instances in found.items()}


def windows(
    environment_id: int, names: Collection[Name], *, start: datetime, end: datetime
) -> dict[Name, list[tuple[datetime, int, int]]]:
    """(start, calls, failures) of each window of 10 s in [start, end) of these cells. One query.

    Spans without calls are left out, cells without any too.
    """
    span = timedelta(seconds=Window.Span.SHORT)
    first = rules.floor(start, Window.Span.SHORT)
    # Each start by its name: the index then leads to the few cells of each, past all others.
    starts = [first + number * span for number in range(math.ceil((end - first) / span))]
    rows = (
        Window.objects.of_environment(environment_id)
        .filter(
            span=Window.Span.SHORT,
            start__in=starts,
            service__slug__in={service for service, _dependency in names},
            dependency__in={dependency for _service, dependency in names},
        )
        .values_list("service__slug", "dependency", "start")
        .annotate(Sum("calls"), Sum("failures"))
        .order_by()
    )
    found: dict[Name, list[tuple[datetime, int, int]]] = defaultdict(list)
    for service, dependency, at, calls, failures in rows.iterator(chunk_size=2000):
        if (service, dependency) in names:
            found[service, dependency].append((at, calls, failures))
    return dict(found)


def totals(environment_id: int) -> dict[Name, rules.Counts]:
    """Everything ever counted, by name; "" as the dependency: the service's own requests.

    Totals and the windows that are not in them yet are read by one statement, so that every
    process finds the same and a number never shrinks, whatever is folded or pruned meanwhile.
    """
    folded = Total.objects.of_environment(environment_id)
    windows = Window.objects.of_environment(environment_id).filter(span=Window.Span.SHORT)
    if oldest := folded.aggregate(at=Min("through"))["at"]:
        windows = windows.filter(start__gte=oldest)
    inside = Total.objects.filter(
        service=OuterRef("service"),
        dependency=OuterRef("dependency"),
        through__gt=OuterRef("start"),
    )
    name = ("service__slug", "dependency")
    rows = folded.values_list(*name, LATENCY, *rules.COUNTERS).union(
        _gathered(windows.filter(~Exists(inside))), all=True
    )
    found: dict[Name, rules.Counts] = {}
    for service, dependency, counts in _counts(rows):
        if (service, dependency) in found:
            found[service, dependency].add(counts)
        else:
            found[service, dependency] = counts
    return found


def breaker_states(environment_id: int) -> dict[Name, dict[str, int]]:
    """How many live instances have their breaker in which state, by name. One query."""
    said = InstanceState.objects.of_environment(environment_id).filter(
        instance__silent_at__gte=clock.now(), instance__stopping=False
    )
    found: dict[Name, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    rows = said.values_list("instance__service__slug", Cast("breakers", TextField()))
    for service, breakers in rows.iterator(chunk_size=2000):
        for dependency, breaker in msgspec.json.decode(breakers).items():
            found[service, dependency][breaker["state"]] += 1
    return dict(found)
