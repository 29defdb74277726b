"""Counting reports exactly once.

The row of an instance holds the newest sequence that was counted. It is raised in the transaction
that writes down what the report counted, so that a repeated report finds it raised, whichever
process gets it. On PostgreSQL the rows are locked in the order of their ids; on SQLite the
transaction holds the only write lock from its beginning.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from django.db import transaction

from apps.core import bulk, bus, clock
from apps.fleet import services as fleet
from apps.fleet.models import SLUG
from apps.telemetry import applications, rules, services
from apps.telemetry.models import BreakerEvent, InstanceState, Window
from apps.telemetry.reports import Calls, OwnRequests
from apps.telemetry.rows import (
    Arrival,
    Before,
    Claimed,
    events_of,
    heard_of,
    instance_of,
    load_of,
    state_of,
)

log = structlog.get_logger(__name__)

TRY_AGAIN = timedelta(seconds=60)  # with names for which there was no room

Key = tuple[int, str]  # service, and slug of the dependency; "" for its own requests
Uses = Mapping[int, frozenset[str]]  # which dependencies a service is known to call


class Ledger:
    """The windows one process is adding reports up in; for one thread at a time."""

    def __init__(self) -> None:
        self._crowded: dict[int, datetime] = {}  # services that have no room for more names
        self._begin_anew()

    def count(self, arrivals: list[Arrival]) -> None:
        """Count reports, at most one per instance; those counted before change nothing.

        In one transaction, all or none; those of instances never heard of before in a second one.
        """
        try:
            uses = self._discover(arrivals)
            if new := self._count(arrivals, uses):
                introduce(new)
                self._count(new, uses)
        except BaseException:
            self._begin_anew()
            raise

    def _begin_anew(self) -> None:
        """Go on in rows of another boot: of a commit that failed nobody knows whether it did.

        If it did, its rows stay as they are and the reports' repetition changes nothing.
        """
        self._boot = uuid.uuid4()
        self._start = datetime.min.replace(tzinfo=UTC)
        self._totals: dict[Key, rules.Counts] = {}

    def _count(self, arrivals: list[Arrival], uses: Uses) -> list[Arrival]:
        """Count what is to be counted; returns the reports of instances nobody knows."""
        start = max(rules.floor(clock.now(), Window.Span.SHORT), self._start)
        held = self._totals if start == self._start else {}
        with transaction.atomic():
            counted = claim(arrivals)
            totals = added_up(held, counted.new, uses)
            services.write_windows(self._boot, Window.Span.SHORT, start, totals)
            write_routine(counted.routine, uses)
            if counted.others:
                claimed = with_before(counted.others)
                write_states(claimed, uses)
                write_events(claimed, uses)
            fleet.hear([heard_of(arrival) for arrival in counted.new])
        self._start, self._totals = start, held | totals
        return counted.unknown

    def _discover(self, arrivals: list[Arrival]) -> Uses:
        """Which dependencies the services use, after adding those nobody declared."""
        reported: dict[int, set[str]] = defaultdict(set)
        for arrival in arrivals:
            reported[arrival.service_id].update(arrival.report.dependencies)
        uses = services.uses(reported)
        now = clock.now()
        for service_id, names in sorted(reported.items()):
            unknown = set(filter(SLUG.match, names - uses[service_id]))
            if unknown and self._crowded.get(service_id, now) <= now:
                services.discover(service_id, unknown)
                uses |= services.uses([service_id])
                if left := unknown - uses[service_id]:
                    self._crowded[service_id] = now + TRY_AGAIN
                    log.warning("dependencies.ignored", service_id=service_id, count=len(left))
        return uses


def introduce(new: Iterable[Arrival]) -> None:
    """Make the rows of instances that were never heard of.

    In a transaction of its own, in which nothing is locked: rows that are made and rows that are
    locked in the same transaction could be waited for in a circle.
    """
    in_order = sorted(new, key=lambda arrival: arrival.report.instance)
    with transaction.atomic():
        fleet.introduce(instance_of(arrival) for arrival in in_order)
        InstanceState.objects.bulk_create(
            (
                InstanceState(pk=arrival.report.instance, reported_at=arrival.received_at)
                for arrival in in_order
            ),
            ignore_conflicts=True,
        )


@dataclass(frozen=True)
class Counted:
    """Reports by what is to be done with them; those counted before are in none but `unknown`."""

    routine: list[Arrival]  # nothing is new but counts, load and time
    others: list[Arrival]
    unknown: list[Arrival]  # of instances nobody knows

    @property
    def new(self) -> list[Arrival]:
        """Those that count now."""
        return self.routine + self.others


def claim(arrivals: Iterable[Arrival]) -> Counted:
    """Lock the instances of the reports until the commit, and see which were counted before."""
    by_id = {arrival.report.instance: arrival for arrival in arrivals}
    states = InstanceState.objects.select_for_update(of=("self",)).filter(pk__in=by_id)
    found = states.order_by("pk").values_list("pk", "instance__service_id", "sequence")
    counted = Counted([], [], [])
    for instance, service_id, sequence in found:
        arrival = by_id.pop(instance)
        if arrival.service_id != service_id:
            log.warning("report.of_another_service", instance=str(instance))
        elif arrival.report.sequence > sequence:
            is_routine = arrival.is_routine and arrival.follows == sequence
            (counted.routine if is_routine else counted.others).append(arrival)
    counted.unknown.extend(by_id.values())
    return counted


def with_before(arrivals: Sequence[Arrival]) -> list[Claimed]:
    """Each with what its instance, which is locked, had said before."""
    by_id = {arrival.report.instance: arrival for arrival in arrivals}
    rows = InstanceState.objects.filter(pk__in=by_id).order_by("pk").values_list(*Before._fields)
    return [Claimed(by_id[before.instance_id], before) for before in map(Before._make, rows)]


def added_up(
    held: Mapping[Key, rules.Counts], arrivals: Iterable[Arrival], uses: Uses
) -> dict[Key, rules.Counts]:
    """The new totals of every window the reports add to; `held` stays as it is."""
    calls: dict[Key, list[Calls]] = defaultdict(list)
    requests: dict[Key, list[OwnRequests]] = defaultdict(list)
    for arrival in arrivals:
        service_id, report = arrival.service_id, arrival.report
        for name, reported in report.dependencies.items():
            calls[service_id, name].append(reported)
        if report.requests is not None:
            requests[service_id, ""].append(report.requests)
    totals: dict[Key, rules.Counts] = {}
    for key, many in calls.items():
        if key[1] in uses[key[0]]:
            totals[key] = held[key].copy() if key in held else rules.Counts()
            Calls.add_up(totals[key], many)
    for key, own in requests.items():
        totals[key] = held[key].copy() if key in held else rules.Counts()
        OwnRequests.add_up(totals[key], own)
    return {key: counts for key, counts in totals.items() if counts}


def write_routine(arrivals: Iterable[Arrival], uses: Uses) -> None:
    """Raise the sequences, and keep how loaded the instances are."""
    rows: dict[bool, list[bulk.Row]] = {True: [], False: []}
    for arrival in arrivals:
        has_resources = arrival.report.resources is not None
        rows[has_resources].append(load_of(arrival, uses[arrival.service_id]))
    for some in rows.values():  # all of one statement have the same columns
        bulk.update(InstanceState, some, key="instance_id")


def write_states(claimed: Sequence[Claimed], uses: Uses) -> None:
    """Raise the sequences and keep what the instances said of themselves; tell of news."""
    rows = [state_of(each, uses[each.arrival.service_id]) for each in claimed]
    bulk.update(InstanceState, rows, key="instance_id")
    applications.note(claimed, rows)
    told = {
        each.arrival.environment_id
        for each, row in zip(claimed, rows, strict=True)
        if _is_acknowledgement(each, row)
    }
    for environment_id in sorted(told):
        bus.announce("telemetry", environment_id=environment_id, reason="acknowledged")


def _is_acknowledgement(claimed: Claimed, now: bulk.Row) -> bool:
    before = claimed.before
    if claimed.report.stopping or before.sequence == 0:
        return True
    policy = (before.epoch, before.applied_revision, before.refused)
    return policy != (now["epoch"], now["applied_revision"], now["refused"])


def write_events(claimed: Iterable[Claimed], uses: Uses) -> None:
    """Keep what happened to breakers, and tell that something did."""
    rows: list[BreakerEvent] = []
    told: set[int] = set()
    for each in claimed:
        found = events_of(each, uses[each.arrival.service_id])
        rows += found
        if found:
            told.add(each.arrival.environment_id)
    BreakerEvent.objects.bulk_create(rows)
    for environment_id in sorted(told):
        bus.announce("telemetry", environment_id=environment_id, reason="breaker")
