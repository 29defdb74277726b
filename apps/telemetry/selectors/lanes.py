"""How breakers stood over time, from what they said of their moves."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime

from apps.core import clock
from apps.fleet.models import Instance
from apps.telemetry.models import BreakerEvent, InstanceState
from apps.telemetry.rows import MOVED

MOST_EVENTS = 5_000  # read for one chart, the newest
MOST_LANES = 20  # shown, those that were longest not closed

TOLD = ("open", "half_open")  # states that are told, the worst first

Name = tuple[str, str]  # slugs of service and dependency
Key = tuple[Name, UUID]  # and an instance


@dataclass(frozen=True)
class Interval:
    """For how long the worst of a lane's breakers was in one state, closed left out."""

    state: str
    start: datetime
    end: datetime
    instances: int  # at most in that state at a time

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True)
class Lane:
    service: str
    dependency: str
    intervals: list[Interval]

    @property
    def seconds(self) -> float:
        """For how long it was not closed."""
        return sum(each.seconds for each in self.intervals)


@dataclass(frozen=True)
class Lanes:
    """Those of an environment that were not closed all the time, the worst first."""

    lanes: list[Lane]
    more: int  # lanes left out
    is_cut: bool  # older moves were left out: there were too many


@dataclass(frozen=True)
class Where:
    """An environment from one instant to another; of one service or dependency, where named."""

    environment_id: int
    since: datetime
    until: datetime
    service: str = ""
    dependency: str = ""

    def moves(self) -> QuerySet[BreakerEvent]:
        rows = BreakerEvent.objects.of_environment(self.environment_id).filter(type=MOVED)
        if self.service:
            rows = rows.filter(service__slug=self.service)
        if self.dependency:
            rows = rows.filter(dependency=self.dependency)
        return rows.exclude(to_state="").select_related("service")


def lanes_of(where: Where) -> Lanes:
    """How breakers stood.

    An instance's breaker stays as it was last heard of until the instance falls silent.
    """
    newest = list(_within(where)[: MOST_EVENTS + 1])
    moves: dict[Key, list[BreakerEvent]] = defaultdict(list)
    for event in reversed(newest[:MOST_EVENTS]):
        moves[_key(event)].append(event)
    held: dict[Name, list[Interval]] = defaultdict(list)
    ends = _ends({instance for _name, instance in moves})
    for (name, instance), events in moves.items():
        end = min(where.until, ends.get(instance, events[-1].at))
        held[name] += _held(events, where.since, end)
    for (name, _instance), interval in _unmoved(where, moves.keys()).items():
        held[name].append(interval)
    found = [Lane(*name, list(_worst(each))) for name, each in held.items()]
    worst = sorted((lane for lane in found if lane.intervals), key=lambda lane: -lane.seconds)
    return Lanes(worst[:MOST_LANES], len(worst[MOST_LANES:]), len(newest) > MOST_EVENTS)


def _key(event: BreakerEvent) -> Key:
    return (event.service.slug, event.dependency), event.instance_id


def _within(where: Where) -> QuerySet[BreakerEvent]:
    rows = where.moves().filter(at__gte=where.since, at__lt=where.until)
    return rows.order_by("-at", "-pk")


def _ends(instances: set[UUID]) -> dict[UUID, datetime]:
    """Until when what an instance said of itself holds."""
    rows = Instance.objects.filter(pk__in=instances)
    return {
        instance: heard_at if stopping else min(silent_at, clock.now())
        for instance, heard_at, silent_at, stopping in rows.values_list(
            "pk", "heard_at", "silent_at", "stopping"
        )
    }


def _held(events: list[BreakerEvent], since: datetime, end: datetime) -> Iterator[Interval]:
    """What one instance's moves, oldest first, tell of the time from `since` to `end`."""
    state, at = events[0].from_state, since
    for event in events:
        if state in TOLD and event.at > at:
            yield Interval(state, at, event.at, 1)
        state, at = event.to_state, max(at, event.at)
    if state in TOLD and end > at:
        yield Interval(state, at, end, 1)


def _unmoved(where: Where, moved: Set[Key]) -> dict[Key, Interval]:
    """Breakers that stood in one state all the time, as a later move or their present tells."""
    found: dict[Key, Interval | None] = {}
    later = where.moves().filter(at__gte=where.until).order_by("at", "pk")[:MOST_EVENTS]
    for event in later:
        if (key := _key(event)) not in moved and key not in found:
            is_told = event.from_state in TOLD
            found[key] = (
                Interval(event.from_state, where.since, where.until, 1) if is_told else None
            )
    for key, interval in _present(where):
        if key not in moved and key not in found:
            found[key] = interval
    return {key: interval for key, interval in found.items() if interval is not None}


def _present(where: Where) -> Iterator[tuple[Key, Interval]]:
    """Breakers that are not closed now, and were not before `until` either."""
    rows = InstanceState.objects.of_environment(where.environment_id).filter(
        instance__silent_at__gt=where.since
    )
    if where.service:
        rows = rows.filter(instance__service__slug=where.service)
    columns = ("instance_id", "instance__service__slug", "instance__silent_at", "breakers")
    for instance, service, silent_at, breakers in rows.values_list(*columns):
        for dependency, breaker in breakers.items():
            began = breaker["since"] and parse_datetime(breaker["since"])
            interval = Interval(
                breaker["state"],
                max(where.since, began or where.since),
                min(where.until, silent_at),
                1,
            )
            is_asked = where.dependency in ("", dependency)
            if is_asked and interval.state in TOLD and interval.seconds > 0:
                yield ((service, dependency), instance), interval


def _worst(intervals: Iterable[Interval]) -> Iterator[Interval]:
    """The worst state at every instant, of intervals that overlap; closed is left out."""
    changes: dict[datetime, Counter[str]] = defaultdict(Counter)
    for each in intervals:
        changes[each.start][each.state] += 1
        changes[each.end][each.state] -= 1
    standing: Counter[str] = Counter()
    current: Interval | None = None
    for at, change in sorted(changes.items()):
        standing.update(change)  # adds what is negative too
        state = next((name for name in TOLD if standing[name] > 0), "")
        if current is not None and current.state == state:
            most = max(current.instances, standing[state])
            current = replace(current, instances=most)
            continue
        if current is not None:
            yield replace(current, end=at)
        current = Interval(state, at, at, standing[state]) if state else None
