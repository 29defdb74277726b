"""What an environment looks like from its instances' reports; few queries, whatever its size."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db.models import BigIntegerField, Exists, Min, OuterRef, Sum, TextField
from django.db.models.functions import Cast
from django.utils.dateparse import parse_datetime

from apps.core import clock
from apps.fleet.models import Usage
from apps.fleet.selectors import shown_since
from apps.telemetry import rules
from apps.telemetry.models import BreakerEvent, BreakerState, InstanceState, Total, Window
from holdfast import histogram

Name = tuple[str, str]  # slugs of service and dependency


@dataclass(frozen=True)
class Cell:
    """How one service's calls of one dependency go, all its live instances together."""

    service: str
    dependency: str
    state: str  # the worst: open, then half_open, then closed
    states: dict[str, int]  # how many live instances are in each
    since: datetime | None  # when the first of the instances in the worst state got there
    override: str | None  # mode that instances say is in force
    calls: int
    calls_per_second: float
    samples: int  # calls the error rate was taken of
    error_rate: float | None  # None: too few samples to say
    p95: float | None  # seconds; None: too few samples
    counts: rules.Counts  # everything counted, rejections and retries included


@dataclass(frozen=True)
class Requests:
    """A service's own traffic, as its middlewares counted it."""

    service: str
    count: int
    per_second: float
    client_errors: int  # 4xx
    server_errors: int  # 5xx
    error_rate: float | None  # share of 5xx; None: too few requests
    p95: float | None
    latency: dict[str, int]  # the histogram it was taken of


@dataclass(frozen=True)
class Traffic:
    """What an environment's services called, and what they were asked, over the same seconds."""

    cells: list[Cell]
    requests: list[Requests]


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


def traffic(environment_id: int, *, seconds: int = 60) -> Traffic:
    """Calls and own requests over the last `seconds` (10 to 7,200), in whole windows of 10 s.

    A cell for every service and dependency that calls, is declared, or has a breaker; requests of
    the services that report any. Both sorted by name. The windows are read once.
    """
    counted, elapsed = _counted(environment_id, seconds)
    return Traffic(_cells(environment_id, counted, elapsed), _own_requests(counted, elapsed))


def counted(environment_id: int, *, seconds: int) -> dict[Name, rules.Counts]:
    """Everything counted over the last `seconds` (10 to 7,200), in whole windows of 10 s.

    By slugs of service and dependency; the dependency of a service's own requests is "".
    """
    return _counted(environment_id, seconds)[0]


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


def _cells(environment_id: int, counted: dict[Name, rules.Counts], elapsed: float) -> list[Cell]:
    breakers = _breakers(environment_id)
    used = Usage.objects.filter(service__environment_id=environment_id)
    names = set(used.values_list("service__slug", "dependency__slug"))
    names |= {name for name in counted if name[1]} | breakers.keys()
    nothing = rules.Counts()
    return [
        _cell(name, breakers.get(name, []), counted.get(name, nothing), elapsed)
        for name in sorted(names)
    ]


def _own_requests(counted: dict[Name, rules.Counts], elapsed: float) -> list[Requests]:
    return [
        _requests(service, counts, elapsed)
        for (service, dependency), counts in sorted(counted.items(), key=lambda item: item[0])
        if not dependency
    ]


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
    columns = ("service__slug", "dependency", "latency", *rules.COUNTERS)
    rows = folded.values_list(*columns).union(
        windows.filter(~Exists(inside)).values_list(*columns), all=True
    )
    counted: dict[Name, rules.Counts] = defaultdict(rules.Counts)
    for service, dependency, latency, *numbers in rows.iterator(chunk_size=2000):
        counts = rules.Counts(dict(zip(rules.COUNTERS, numbers, strict=True)), latency)
        counted[service, dependency].add(counts)
    return dict(counted)


def breaker_states(environment_id: int) -> dict[Name, dict[str, int]]:
    """How many live instances have their breaker in which state, by name."""
    return {
        name: dict(Counter(breaker["state"] for breaker in breakers))
        for name, breakers in _breakers(environment_id).items()
    }


def _counted(environment_id: int, seconds: int) -> tuple[dict[Name, rules.Counts], float]:
    """Counts of the last `seconds` by name, and how many seconds they cover."""
    now = clock.now()
    start = rules.floor(now - timedelta(seconds=seconds), Window.Span.SHORT)
    windows = Window.objects.of_environment(environment_id).filter(
        span=Window.Span.SHORT, start__gte=start
    )
    counted: dict[Name, rules.Counts] = {}
    # PostgreSQL would add up to decimals, which take longer to read than to add.
    sums = {f"sum_{name}": Cast(Sum(name), BigIntegerField()) for name in rules.COUNTERS}
    summed = windows.values_list("service__slug", "dependency").order_by().annotate(**sums)
    for service, dependency, *numbers in summed.iterator(chunk_size=2000):
        counted[service, dependency] = rules.Counts(dict(zip(rules.COUNTERS, numbers, strict=True)))
    # As text: Django's own decoder of JSON takes longer than all the rest.
    latencies = windows.values_list("service__slug", "dependency", Cast("latency", TextField()))
    for service, dependency, latency in latencies.iterator(chunk_size=5000):
        if (service, dependency) in counted:
            histogram.merge(counted[service, dependency].latency, msgspec.json.decode(latency))
    return counted, (now - start).total_seconds()


def _breakers(environment_id: int) -> dict[Name, list[dict[str, Any]]]:
    """What each live instance says of its breakers, by name."""
    said = InstanceState.objects.of_environment(environment_id).filter(
        instance__silent_at__gte=clock.now(), instance__stopping=False
    )
    found: dict[Name, list[dict[str, Any]]] = defaultdict(list)
    for service, breakers in said.values_list("instance__service__slug", "breakers"):
        for dependency, breaker in breakers.items():
            found[service, dependency].append(breaker)
    return found


def _cell(name: Name, breakers: list[dict[str, Any]], counts: rules.Counts, elapsed: float) -> Cell:
    states: dict[str, int] = defaultdict(int)
    for breaker in breakers:
        states[breaker["state"]] += 1
    worst = rules.worst(states)
    since = [
        breaker["since"] for breaker in breakers if breaker["state"] == worst and breaker["since"]
    ]
    overrides = sorted(filter(None, (breaker["override"] for breaker in breakers)))
    return Cell(
        service=name[0],
        dependency=name[1],
        state=worst,
        states=dict(states),
        since=parse_datetime(min(since)) if since else None,
        override=overrides[0] if overrides else None,
        calls=counts.get("calls"),
        calls_per_second=counts.get("calls") / elapsed,
        samples=counts.judged,
        error_rate=counts.error_rate(),
        p95=counts.quantile(0.95),
        counts=counts,
    )


def _requests(service: str, counts: rules.Counts, elapsed: float) -> Requests:
    count = counts.get("calls")
    is_enough = count >= rules.LEAST_SAMPLES
    return Requests(
        service=service,
        count=count,
        per_second=count / elapsed,
        client_errors=counts.get("client_errors"),
        server_errors=counts.get("server_errors"),
        error_rate=counts.get("server_errors") / count if is_enough else None,
        p95=counts.quantile(0.95),
        latency=counts.latency,
    )
