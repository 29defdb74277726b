"""How breakers stood over time, from what they said of their moves."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.dateparse import parse_datetime

from apps.core import clock
from apps.fleet.models import Instance
from apps.telemetry.models import BreakerEvent, InstanceState
from apps.telemetry.rules import MOVED

MOST_EVENTS = 5_000  # read for one chart, the newest
JUST_NOW = timedelta(seconds=5)
MOST_LANES = 20  # shown, those that were longest not closed

TOLD = ("open", "half_open")  # states that are told, the worst first

Name = tuple[str, str]  # slugs of service and dependency
Key = tuple[Name, UUID]  # and an instance


class Move(NamedTuple):
    """A breaker of one instance went from one state to another; attributes are columns."""

    service__slug: str
    dependency: str
    instance_id: UUID
    at: datetime
    from_state: str
    to_state: str

    @property
    def key(self) -> Key:
        return (self.service__slug, self.dependency), self.instance_id


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

    def moves(self) -> QuerySet[Any, Any]:
        """Rows of `Move`'s columns, in no order."""
        rows = BreakerEvent.objects.of_environment(self.environment_id).filter(type=MOVED)
        if self.service:
            rows = rows.filter(service__slug=self.service)
        if self.dependency:
            rows = rows.filter(dependency=self.dependency)
        return rows.exclude(to_state="").values_list(*Move._fields)


def lanes_of(where: Where) -> Lanes:
    """How breakers stood.

    An instance's breaker stays as it was last heard of until the instance falls silent.
    """
    within = where.moves().filter(at__gte=where.since, at__lt=where.until)
    newest = list(map(Move._make, within.order_by("-at", "-pk")[: MOST_EVENTS + 1]))
    moves: dict[Key, list[Move]] = defaultdict(list)
    for move in reversed(newest[:MOST_EVENTS]):
        moves[move.key].append(move)
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


def _ends(instances: set[UUID]) -> dict[UUID, datetime]:
    """Until when what an instance said of itself holds."""
    rows = Instance.objects.filter(pk__in=instances)
    return {
        instance: heard_at if stopping else min(silent_at, clock.now())
        for instance, heard_at, silent_at, stopping in rows.values_list(
            "pk", "heard_at", "silent_at", "stopping"
        )
    }


def _held(events: list[Move], since: datetime, end: datetime) -> Iterator[Interval]:
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
    for move in _later(where):
        if (key := move.key) not in moved and key not in found:
            whole = Interval(move.from_state, where.since, where.until, 1)
            found[key] = whole if whole.state in TOLD else None
    for key, interval in _present(where):
        if key not in moved and key not in found:
            found[key] = interval
    return {key: interval for key, interval in found.items() if interval is not None}


def _later(where: Where) -> Iterator[Move]:
    """What breakers did after a time that is past, oldest first."""
    if where.until < clock.now() - JUST_NOW:
        later = where.moves().filter(at__gte=where.until).order_by("at", "pk")
        yield from map(Move._make, later[:MOST_EVENTS])


def _present(where: Where) -> Iterator[tuple[Key, Interval]]:
    """Breakers that are not closed now, and were not before `until` either."""
    said = InstanceState.objects.of_environment(where.environment_id)
    # As text that is searched first: nearly all breakers are closed, and none of those is decoded.
    rows = said.annotate(text=Cast("breakers", TextField())).filter(
        instance__silent_at__gt=where.since, text__contains='open"'
    )
    if where.service:
        rows = rows.filter(instance__service__slug=where.service)
    columns = ("instance_id", "instance__service__slug", "instance__silent_at", "text")
    for instance, service, silent_at, text in rows.values_list(*columns):
        for dependency, breaker in msgspec.json.decode(text).items():
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
