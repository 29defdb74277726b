"""Counting reports exactly once.

The row of an instance holds the newest sequence that was counted. It is raised in the transaction
that writes down what the report counted, so that a repeated report finds it raised, whichever
process gets it. On PostgreSQL the rows are locked in the order of their ids; on SQLite the
transaction holds the only write lock from its beginning.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from django.db import transaction

from apps.core import bulk, bus, clock
from apps.fleet import services as fleet
from apps.fleet.models import SLUG
from apps.telemetry import rules, services
from apps.telemetry.models import BreakerEvent, InstanceState, Window
from apps.telemetry.reports import Calls, OwnRequests, Report
from apps.telemetry.rows import (
    SELDOM_NEW,
    Arrival,
    Before,
    Claimed,
    events_of,
    heard_of,
    instance_of,
    is_as_before,
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
            found = claim(arrivals)
            claimed = [each for each in found if _is_new(each)]
            totals = added_up(held, claimed, uses)
            services.write_windows(self._boot, Window.Span.SHORT, start, totals)
            write_states(claimed, uses)
            write_events(claimed, uses)
        self._start, self._totals = start, held | totals
        known = {each.before.instance_id for each in found}
        return [arrival for arrival in arrivals if arrival.report.instance not in known]

    def _discover(self, arrivals: list[Arrival]) -> Uses:
        """Which dependencies the services use, after adding those nobody declared."""
        reported: dict[int, set[str]] = defaultdict(set)
        for arrival in arrivals:
            reported[arrival.service_id].update(filter(SLUG.match, arrival.report.dependencies))
        uses = services.uses(reported)
        now = clock.now()
        for service_id, names in sorted(reported.items()):
            unknown = names - uses[service_id]
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


def claim(arrivals: Iterable[Arrival]) -> list[Claimed]:
    """The reports of known instances, and what those said before; locked until the commit."""
    by_id = {arrival.report.instance: arrival for arrival in arrivals}
    states = InstanceState.objects.select_for_update(of=("self",)).filter(pk__in=by_id)
    found = map(Before._make, states.order_by("pk").values_list(*Before._fields))
    return [Claimed(by_id[before.instance_id], before) for before in found]


def _is_new(claimed: Claimed) -> bool:
    if claimed.before.instance__service_id != claimed.arrival.service_id:
        log.warning("report.of_another_service", instance=str(claimed.report.instance))
        return False
    return claimed.report.sequence > claimed.before.sequence


def added_up(
    held: Mapping[Key, rules.Counts], claimed: Iterable[Claimed], uses: Uses
) -> dict[Key, rules.Counts]:
    """The new totals of every window the reports add to; `held` stays as it is."""
    totals: dict[Key, rules.Counts] = {}
    for each in claimed:
        service_id = each.arrival.service_id
        for name, counted in _counted(each.report, uses[service_id]):
            key = (service_id, name)
            if key not in totals:
                totals[key] = held[key].copy() if key in held else rules.Counts()
            counted.add_to(totals[key])
    return {key: counts for key, counts in totals.items() if counts}


def _counted(report: Report, known: frozenset[str]) -> Iterator[tuple[str, Calls | OwnRequests]]:
    for name, calls in report.dependencies.items():
        if name in known:
            yield name, calls
    if report.requests is not None:
        yield "", report.requests


def write_states(claimed: Sequence[Claimed], uses: Uses) -> None:
    """Raise the sequences and keep what the instances said of themselves; tell of news."""
    rows = [state_of(each, uses[each.arrival.service_id]) for each in claimed]
    usual, other = [], []
    for each, row in zip(claimed, rows, strict=True):
        if is_as_before(each, row):  # nearly all: what is large in it need not be written again
            usual.append({name: row[name] for name in row if name not in SELDOM_NEW})
        else:
            other.append(row)
    bulk.update(InstanceState, usual, key="instance_id")
    bulk.update(InstanceState, other, key="instance_id")
    fleet.hear([heard_of(each) for each in claimed])
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
