"""The rows that a counted report becomes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from apps.core.bulk import Row
from apps.fleet.models import Instance
from apps.telemetry import rules
from apps.telemetry.models import BreakerEvent
from apps.telemetry.reports import MOST_REFUSED, Breaker, Event, Refused, Report

NO_PAST = timedelta(days=3650)  # a process or a breaker's state may be this old


@dataclass(frozen=True)
class Arrival:
    """A report that was accepted, and whose it is."""

    environment_id: int
    service_id: int
    report: Report
    size: int  # bytes
    received_at: datetime
    silent_at: datetime  # when its instance is silent unless it reports again
    # The sequence of the report before it, where that said the same of policy and breakers, of all
    # that this one speaks of and of nothing else.
    follows: int | None = None

    @property
    def is_routine(self) -> bool:
        """Whether it may be that only counts, load and time are new in it."""
        return self.follows is not None and not self.report.events


class Before(NamedTuple):
    """What an instance had said of itself, and whose it is; attributes are columns."""

    instance_id: UUID
    instance__service_id: int
    sequence: int
    epoch: UUID | None
    applied_revision: int | None
    applied_at: datetime | None
    refused: list[dict[str, Any]]
    breakers: dict[str, dict[str, Any]]
    in_flight: dict[str, int]
    resources: dict[str, float]


@dataclass(frozen=True)
class Claimed:
    """A report that is being counted, and what its instance had said before."""

    arrival: Arrival
    before: Before

    @property
    def report(self) -> Report:
        return self.arrival.report


def instance_of(arrival: Arrival) -> Instance:
    """The instance as its first report tells of it."""
    report, now = arrival.report, arrival.received_at
    return Instance(
        pk=report.instance,
        service_id=arrival.service_id,
        name=report.name[:120],
        sdk=report.sdk[:60],
        started_at=rules.clamp(report.started_at or now, now, past=NO_PAST),
        first_heard_at=now,
        heard_at=now,
        silent_at=arrival.silent_at,
        stopping=report.stopping,
    )


def heard_of(arrival: Arrival) -> Row:
    """What changes of the instance as it is known."""
    report = arrival.report
    return {
        "id": report.instance,
        "name": report.name[:120],
        "sdk": report.sdk[:60],
        "heard_at": arrival.received_at,
        "silent_at": arrival.silent_at,
        "stopping": report.stopping,
    }


def load_of(arrival: Arrival, known: frozenset[str]) -> Row:
    """What is new of an instance's state in a report that is routine."""
    report = arrival.report
    row = {
        "instance_id": report.instance,
        "sequence": report.sequence,
        "in_flight": in_flight_of(report, known),
        "reported_at": arrival.received_at,
    }
    if report.resources is not None:
        row["resources"] = msgspec.to_builtins(report.resources)
    return row


def in_flight_of(report: Report, known: frozenset[str]) -> dict[str, int]:
    return {name: calls.in_flight for name, calls in report.dependencies.items() if name in known}


def state_of(claimed: Claimed, known: frozenset[str]) -> Row:
    """What the instance says of itself; what it does not mention stays as it was."""
    report, before, now = claimed.report, claimed.before, claimed.arrival.received_at
    reported = {name: calls for name, calls in report.dependencies.items() if name in known}
    breakers = {
        name: _breaker(calls.breaker, now)
        for name, calls in reported.items()
        if calls.breaker is not None
    }
    resources = before.resources
    if report.resources is not None:
        resources = msgspec.to_builtins(report.resources)
    return {
        "instance_id": report.instance,
        "sequence": report.sequence,
        "epoch": report.epoch,
        "applied_revision": report.applied_revision,
        "applied_at": _applied_at(claimed),
        "refused": [_refused(entry) for entry in report.refused[:MOST_REFUSED]],
        "breakers": before.breakers | breakers,
        "in_flight": before.in_flight | in_flight_of(report, known),
        "resources": resources,
        "reported_at": now,
    }


def _applied_at(claimed: Claimed) -> datetime | None:
    """When it applied what it runs, by its clock; by ours, never after it first said so."""
    report, before, now = claimed.report, claimed.before, claimed.arrival.received_at
    if (report.epoch, report.applied_revision) == (before.epoch, before.applied_revision):
        return before.applied_at
    return report.applied_at and min(rules.clamp(report.applied_at, now, past=NO_PAST), now)


def _refused(entry: Refused) -> dict[str, Any]:
    return {
        "path": entry.path[:200],
        "revision": entry.revision,
        "code": entry.code[:60],
        "detail": entry.detail[:300],
    }


def _breaker(breaker: Breaker, now: datetime) -> dict[str, Any]:
    since = breaker.since and rules.clamp(breaker.since, now, past=NO_PAST).isoformat()
    return {
        "state": breaker.state,
        "since": since,
        "generation": breaker.generation,
        "override": breaker.mode,
    }


def events_of(claimed: Claimed, known: frozenset[str]) -> list[BreakerEvent]:
    """What happened to its breakers.

    A breaker found in another state than before has moved, even where no event says so.
    """
    events = [
        event
        for event in claimed.report.events
        if event.type.startswith("breaker.") and event.dependency in known
    ]
    told = {event.dependency for event in events if event.type == rules.MOVED}
    said = [_event(claimed, event) for event in events]
    return said + [_unsaid(claimed, name, *move) for name, move in _moves(claimed, known - told)]


def _moves(claimed: Claimed, names: Iterable[str]) -> list[tuple[str, tuple[str, str]]]:
    before = {name: breaker["state"] for name, breaker in claimed.before.breakers.items()}
    after = {
        name: calls.breaker.state
        for name in names
        if (calls := claimed.report.dependencies.get(name)) and calls.breaker
    }
    return sorted(rules.moved(before, after).items())


def _event(claimed: Claimed, event: Event) -> BreakerEvent:
    row = _blank_event(claimed, event.dependency or "", event.type)
    row.from_state = _state_in(event.data, "from")
    row.to_state = _state_in(event.data, "to")
    row.cause = str(event.data.get("cause") or "")[:60]
    row.at = rules.clamp(event.at, claimed.arrival.received_at)
    row.data = event.data
    return row


def _unsaid(claimed: Claimed, dependency: str, before: str, after: str) -> BreakerEvent:
    row = _blank_event(claimed, dependency, rules.MOVED)
    row.from_state, row.to_state = before, after
    breaker = claimed.report.dependencies[dependency].breaker
    if breaker is not None and breaker.since is not None:
        row.at = rules.clamp(breaker.since, row.received_at)
    return row


def _blank_event(claimed: Claimed, dependency: str, kind: str) -> BreakerEvent:
    arrival = claimed.arrival
    return BreakerEvent(
        service_id=arrival.service_id,
        dependency=dependency,
        instance_id=arrival.report.instance,
        instance_name=arrival.report.name[:120],
        type=kind,
        at=arrival.received_at,
        received_at=arrival.received_at,
    )


def _state_in(data: Mapping[str, Any], name: str) -> str:
    state = data.get(name)
    return state if state in rules.WORST_FIRST else ""
