"""An environment as its instances' reports show it, for who looks again every second.

What was read is kept, and of the database only what may be new is read again. Whoever begins anew
finds the same: nothing here depends on news, or is known to nobody else.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Max
from django.utils.dateparse import parse_datetime

from apps.core import clock
from apps.fleet.models import Dependency, Service, Usage
from apps.fleet.selectors import shown_since
from apps.publication.models import Revision
from apps.telemetry import rules
from apps.telemetry.models import InstanceState
from apps.telemetry.selectors import InstanceStatus, Name, instances_of
from apps.telemetry.selectors.convergence import (
    Convergence,
    Targets,
    convergence_of,
    targets,
)
from apps.telemetry.selectors.figures import NOTHING, Figures, Key, Sums, share


@dataclass(frozen=True)
class Structure:
    """What exists: ids by slug, and which dependencies each service is known to call."""

    services: Mapping[str, int]
    dependencies: Mapping[str, int]
    used: Mapping[str, frozenset[str]]


@dataclass(slots=True)
class Cell:
    """How one service's calls of one dependency go, all its live instances together."""

    key: Key
    service: str
    sums: Sums
    figures: Figures
    states: dict[str, int] = field(default_factory=dict)  # how many live instances are in each
    state: str = "closed"  # the worst of them
    since_by_state: dict[str, str] = field(default_factory=dict)  # when the first got there
    override: str | None = None

    def add(self, breaker: Mapping[str, Any]) -> None:
        """One more live instance's breaker."""
        state, since, mode = breaker["state"], breaker["since"], breaker["override"]
        self.states[state] = self.states.get(state, 0) + 1
        if state != self.state:
            self.state = rules.worst((state, self.state))
        if since and since < self.since_by_state.get(state, "~"):  # beyond every instant
            self.since_by_state[state] = since
        if mode:
            self.override = min(self.override or mode, mode)

    @property
    def dependency(self) -> str:
        return self.key[1]

    @property
    def since(self) -> datetime | None:
        found = self.since_by_state.get(self.state)
        return parse_datetime(found) if found else None

    @property
    def calls(self) -> int:
        return self.sums.calls

    @property
    def calls_per_second(self) -> float:
        return self.sums.calls / self.figures.elapsed

    @property
    def samples(self) -> int:
        return self.sums.judged

    @property
    def error_rate(self) -> float | None:
        failures = self.sums.failures
        return share(failures, self.sums.successes + failures)

    @property
    def p95(self) -> float | None:
        return self.figures.p95(self.key)


@dataclass(frozen=True)
class Requests:
    """A service's own traffic."""

    per_second: float
    error_rate: float | None  # share of 5xx
    p95: float | None  # seconds


class Recent:
    """One environment; for one thread at a time."""

    def __init__(self, environment_id: int) -> None:
        self.environment_id = environment_id
        self._looked_at = float("-inf")  # by the monotonic clock
        self._begin_anew(())

    def _begin_anew(self, signature: tuple[Any, ...]) -> None:
        self._signature = signature
        self._structure: Structure | None = None
        self._published: tuple[Any, ...] | None = None
        self._targets: Targets = {}
        self._instances: dict[UUID, tuple[int, InstanceStatus]] = {}  # with their sequence
        self._old: set[str] = set()
        self.figures = Figures(self.environment_id)

    def look(self, *, unless_within: float = 0.0) -> None:
        """Read what is new, unless somebody did within so many seconds.

        Seven queries while nothing is made, published or said.
        """
        signature = _signature(self.environment_id)
        is_same = signature == self._signature and self._structure is not None
        if is_same and time.monotonic() - self._looked_at < unless_within:
            return
        if not is_same:
            self._begin_anew(signature)
            self._structure = _structure(self.environment_id)
        self._look_for_targets()
        self._look_at_instances()
        self._look_for_old()
        self.figures.look()
        self._looked_at = time.monotonic()

    @property
    def structure(self) -> Structure:
        assert self._structure is not None  # for those who have looked
        return self._structure

    def _look_for_targets(self) -> None:
        newest = Revision.objects.filter(environment_id=self.environment_id)
        published = newest.order_by("-number").values_list("number", "epoch_id", "at").first()
        if published != self._published or not self._targets:
            self._targets = targets(self.environment_id, sorted(self.structure.services))
            self._published = published

    def _look_at_instances(self) -> None:
        rows = InstanceState.objects.of_environment(self.environment_id)
        shown = rows.filter(instance__heard_at__gte=shown_since())
        sequences = dict(shown.values_list("pk", "sequence"))
        kept = {pk: known for pk, known in self._instances.items() if sequences.get(pk) == known[0]}
        new = sequences.keys() - kept.keys()
        if new:
            # Most of them at the beginning: then it is less to read all than to name them.
            chosen = new if len(new) < len(sequences) / 2 else None
            for status in instances_of(self.environment_id, chosen):
                if status.id in sequences:
                    kept[status.id] = (sequences[status.id], status)
        self._instances = kept

    def instances(self, only: str | None = None) -> list[InstanceStatus]:
        """Instances heard within a day, by service and name; of all services, or of one."""
        statuses = (status for _sequence, status in self._instances.values())
        mine = (each for each in statuses if only in (None, each.service))
        return sorted(mine, key=lambda each: (each.service, each.name, each.id.hex))

    def convergence(self, only: str | None = None) -> list[Convergence]:
        """Of all services, or of one."""
        targets = self._targets
        if only is not None:
            targets = {only: targets[only]} if only in targets else {}
        return convergence_of(self.environment_id, targets, self.instances(only))

    def cells(self, only: str | None = None) -> dict[str, list[Cell]]:
        """By service, one for every dependency it calls, is said to call, or has a breaker for.

        Of all services, or of one.
        """
        ids = self.structure.services
        wanted = ids if only is None else {only: ids[only]} if only in ids else {}
        counted: dict[int, list[str]] = defaultdict(list)
        for service_id, dependency in self.figures.sums:
            if dependency:
                counted[service_id].append(dependency)
        by_service: dict[str, dict[str, Cell]] = {}
        for slug, service_id in wanted.items():
            names = self.structure.used.get(slug, frozenset()).union(counted[service_id])
            by_service[slug] = {name: self._cell(slug, name) for name in names}
        for slug, name, breaker in self._breakers(wanted):
            cells = by_service[slug]
            if name not in cells:
                cells[name] = self._cell(slug, name)
            cells[name].add(breaker)
        return {slug: list(cells.values()) for slug, cells in by_service.items()}

    def _look_for_old(self) -> None:
        """A silent instance missed three reports, so two are that share of its patience."""
        now = clock.now()
        live = [each for _sequence, each in self._instances.values() if each.is_live]
        fresh = {
            each.service
            for each in live
            if now - each.heard_at <= (each.silent_at - each.heard_at) * 2 / 3
        }
        self._old = {each.service for each in live} - fresh

    def _breakers(self, services: Collection[str]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for _sequence, status in self._instances.values():
            if status.service in services and status.is_live:
                for name, breaker in status.breakers.items():
                    yield status.service, name, breaker

    def _cell(self, service: str, dependency: str) -> Cell:
        key = (self.structure.services[service], dependency)
        return Cell(key, service, self.figures.sums.get(key, NOTHING), self.figures)

    def time(self, cells: Iterable[Name], services: Iterable[str]) -> None:
        """Read the latencies of these cells and of these services' own requests."""
        names = [*cells, *((service, "") for service in services)]
        self.figures.time({(self.structure.services[slug], name) for slug, name in names})

    def is_old(self, service: str) -> bool:
        """Whether what is known of it is older than twice the pace its instances report at.

        False without a live instance: then nothing is claimed of it.
        """
        return service in self._old

    def requests(self, service: str) -> Requests | None:
        """The service's own traffic; None if it reports none."""
        key = (self.structure.services[service], "")
        sums = self.figures.sums.get(key)
        if sums is None:
            return None
        return Requests(
            per_second=sums.calls / self.figures.elapsed,
            error_rate=share(sums.server_errors, sums.calls),
            p95=self.figures.p95(key),
        )


def _signature(environment_id: int) -> tuple[Any, ...]:
    """Is another one as soon as a service, a dependency, or a use of one comes or goes."""
    services = Service.objects.filter(environment_id=environment_id)
    dependencies = Dependency.objects.filter(environment_id=environment_id)
    used = Usage.objects.filter(service__environment_id=environment_id)
    return (
        *services.aggregate(n=Count("pk"), at=Max("created_at")).values(),
        *dependencies.aggregate(n=Count("pk"), at=Max("created_at")).values(),
        *used.aggregate(n=Count("pk"), at=Max("since")).values(),
    )


def _structure(environment_id: int) -> Structure:
    services, dependencies = (
        dict(table.objects.filter(environment=environment_id).values_list("slug", "pk"))
        for table in (Service, Dependency)
    )
    used = defaultdict(set)
    uses = Usage.objects.filter(service__environment_id=environment_id)
    for service, dependency in uses.values_list("service__slug", "dependency__slug"):
        used[service].add(dependency)
    return Structure(
        services, dependencies, {slug: frozenset(names) for slug, names in used.items()}
    )
