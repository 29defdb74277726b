"""How what services depend on is, how Holdfast's own host is, and the history of a check."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.core import clock
from apps.health import own, rules
from apps.health.models import Check, Hour, Pulse, Result
from apps.health.own import Answer, answer_of
from apps.health.services.history import floor, sums_of

__all__ = [
    "Answer",
    "CheckState",
    "CutOff",
    "Host",
    "Point",
    "answer_of",
    "cut_off",
    "history",
    "host",
    "hosts",
    "parts",
    "state_of",
    "states",
]

HOST_STALE = timedelta(seconds=60)
CUT_OFF_STALE = timedelta(seconds=20)
FINE_HOURS = 6  # up to so many, history is made of results; beyond, of hours
POINTS = 240  # of a chart, at most


@dataclass(frozen=True)
class CheckState:
    """How the server that a check asks is; texts hold no secret."""

    id: int
    name: str
    kind: str
    dependency: str  # slug, or empty
    critical: bool  # services that call it cannot do without
    status: str  # up, degraded, down, unknown
    since: datetime | None
    observed_at: datetime | None
    is_stale: bool  # not looked at for two intervals: it may be otherwise by now
    latency_seconds: float | None
    success_rate: float | None  # share of the newest results
    results: int  # it was taken of
    detail: str
    flapping_share: float | None = None  # while it flaps, and its status is held; else None
    because_of: str = ""  # the check above it that is down, so that it is unknown


@dataclass(frozen=True)
class Host:
    """A machine that Holdfast runs on, as last measured: shares, and bytes a second."""

    name: str
    measured_at: datetime
    is_stale: bool
    cpu: float
    memory: float
    disk_free: float
    received: float | None
    sent: float | None
    load: float


def states(environment_id: int) -> list[CheckState]:
    """The state of every check of an environment that is enabled, by name. One query."""
    rows = Check.objects.filter(environment=environment_id, enabled=True)
    return [state_of(check) for check in rows.select_related("dependency").order_by("name")]


def state_of(check: Check) -> CheckState:
    return CheckState(
        id=check.pk,
        name=check.name,
        kind=check.kind,
        dependency=check.dependency.slug if check.dependency else "",
        critical=check.dependency is None or check.dependency.critical,
        status=check.status,
        since=check.since,
        observed_at=check.observed_at,
        is_stale=check.is_stale,
        latency_seconds=check.latency_seconds,
        success_rate=check.success_rate,
        results=len(check.recent),
        detail=check.detail,
        flapping_share=check.flapping_share if check.is_flapping else None,
        because_of=check.because_of,
    )


@dataclass(frozen=True)
class CutOff:
    """A web process whose every place fails, nearly: nobody is called down on its word."""

    name: str
    at: datetime
    since: datetime
    failing: int
    places: int


def cut_off() -> list[CutOff]:
    """Probers that say so themselves, as of now. One query."""
    rows = Pulse.objects.filter(name__startswith="prober ", at__gte=clock.now() - CUT_OFF_STALE)
    return [
        CutOff(
            name=row.name.removeprefix("prober "),
            at=row.at,
            since=datetime.fromisoformat(row.data["since"]),
            failing=row.data["failing"],
            places=row.data["places"],
        )
        for row in rows.order_by("name")
    ]


def hosts() -> list[Host]:
    """Every machine measured within a day, by name. One query."""
    rows = Pulse.objects.filter(name__startswith="host ").order_by("name")
    return [_host(row) for row in rows]


def host() -> Host | None:
    """The machine measured last; None before the first measurement."""
    row = Pulse.objects.filter(name__startswith="host ").order_by("-at").first()
    return None if row is None else _host(row)


def _host(row: Pulse) -> Host:
    return Host(
        name=row.name.removeprefix("host "),
        measured_at=row.at,
        is_stale=clock.now() - row.at > HOST_STALE,
        **row.data,
    )


def parts() -> tuple[str, ...]:
    """Names of what Holdfast itself needs, for `answer_of`."""
    return tuple(own.PARTS)


@dataclass
class Point:
    """What came of the runs of a check in one span of time; latencies in seconds."""

    at: datetime
    runs: int = 0
    failures: int = 0
    latency_mean: float | None = None
    latency_max: float | None = None


def history(check: Check, *, hours: int) -> list[Point]:
    """What came of its runs, oldest first: up to `POINTS` spans of the last 6 hours, else hours."""
    since = clock.now() - timedelta(hours=hours)
    if hours <= FINE_HOURS:
        return _fine(check, since, timedelta(hours=hours) / POINTS)
    rows = Hour.objects.filter(subject=check, start__gte=floor(since)).order_by("start")
    points = [
        Point(row.start, row.runs, row.failures, row.latency_mean, row.latency_max) for row in rows
    ]
    start = points[-1].at + timedelta(hours=1) if points else floor(since)
    recent = Result.objects.filter(subject=check, at__gte=start)
    return points + [Point(at=start, **_of_one(sums)) for sums in sums_of(recent)]


def _of_one(sums: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sums.items() if name != "subject_id"}


def _fine(check: Check, since: datetime, span: timedelta) -> list[Point]:
    rows = Result.objects.filter(subject=check, at__gte=since).order_by("at")
    spans: dict[int, list[tuple[str, float | None]]] = {}
    for at, mark, latency in rows.values_list("at", "mark", "latency_seconds"):
        spans.setdefault(int((at - since) / span), []).append((mark, latency))
    return [_point(since + number * span, found) for number, found in sorted(spans.items())]


def _point(at: datetime, found: Iterable[tuple[str, float | None]]) -> Point:
    marks, latencies = zip(*found, strict=True)
    known = [each for each in latencies if each is not None]
    return Point(
        at=at,
        runs=len(marks),
        failures=marks.count(rules.FAILED),
        latency_mean=sum(known) / len(known) if known else None,
        latency_max=max(known, default=None),
    )
