"""What each rule measures now, by subject; few queries, whatever the number of rules."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from apps.alerts.models import Rule
from apps.alerts.rules.kinds import Reading
from apps.core import clock
from apps.deadletters import selectors as deadletters
from apps.deadletters.selectors import Depth
from apps.fleet.models import Usage
from apps.health import selectors as health
from apps.health.selectors import CheckState, Host
from apps.telemetry import selectors as telemetry
from apps.telemetry.rules import Counts
from apps.telemetry.selectors import InstanceStatus, Name
from apps.telemetry.selectors.convergence import Convergence, convergence
from holdfast import histogram

NOTHING = Counts()
LOOK_BACK = 10  # seconds in which a breaker that opened and closed again is still seen


@dataclass(frozen=True)
class Subject:
    """What an alert is about. `name` tells it from every other subject of the same rule."""

    name: str
    service: str = ""
    dependency: str = ""
    check: str = ""
    instance: str = ""


Readings = dict[Subject, Reading]


class Sources:
    """What is known of one environment at one moment, each thing read once and when asked for."""

    def __init__(self, environment_id: int) -> None:
        self.environment_id = environment_id
        self._calls: dict[int, list[tuple[Name, Counts]]] = {}
        self._subjects: dict[Name, Subject] = {}
        self._depths: dict[int, list[Depth]] = {}

    def calls(self, seconds: int) -> list[tuple[Name, Counts]]:
        """Counts of every use, and of services' own requests where there were any; by name."""
        if seconds not in self._calls:
            counted = telemetry.counted(self.environment_id, seconds=seconds)
            names = sorted(self.uses | counted.keys())
            self._calls[seconds] = [(name, counted.get(name, NOTHING)) for name in names]
        return self._calls[seconds]

    def subject(self, name: Name) -> Subject:
        """These calls, or these requests of a service's own."""
        if name not in self._subjects:
            service, dependency = name
            text = f"{service} → {dependency}" if dependency else service
            self._subjects[name] = Subject(text, service=service, dependency=dependency)
        return self._subjects[name]

    def depths(self, seconds: int) -> list[Depth]:
        if seconds not in self._depths:
            self._depths[seconds] = deadletters.depths(self.environment_id, seconds=seconds)
        return self._depths[seconds]

    @cached_property
    def instances(self) -> list[InstanceStatus]:
        """Those heard within a day."""
        return telemetry.instances_of(self.environment_id)

    @cached_property
    def live(self) -> list[InstanceStatus]:
        return [instance for instance in self.instances if instance.is_live]

    @cached_property
    def known_services(self) -> frozenset[str]:
        return frozenset(instance.service for instance in self.instances)

    @cached_property
    def live_services(self) -> frozenset[str]:
        return frozenset(instance.service for instance in self.live)

    @cached_property
    def ended_services(self) -> frozenset[str]:
        """Those whose every instance has said goodbye, so that none of them has a breaker."""
        return self.known_services - {one.service for one in self.instances if not one.is_stopping}

    @cached_property
    def uses(self) -> set[Name]:
        """Who calls what, of the services that were heard within a day."""
        rows = Usage.objects.filter(service__environment_id=self.environment_id)
        names = rows.values_list("service__slug", "dependency__slug")
        return {name for name in names if name[0] in self.known_services}

    @cached_property
    def checks(self) -> list[CheckState]:
        return health.states(self.environment_id)

    @cached_property
    def hosts(self) -> list[Host]:
        """Machines Holdfast runs on, as measured a moment ago."""
        return [host for host in health.hosts() if not host.is_stale]

    @cached_property
    def convergence(self) -> list[Convergence]:
        return convergence(self.environment_id)

    @cached_property
    def opened(self) -> dict[Name, int]:
        return telemetry.opened(self.environment_id, seconds=LOOK_BACK)


def readings(rule: Rule, sources: Sources) -> Readings:
    """The rule's subjects and what is measured of each."""
    service = None if rule.service is None else rule.service.slug
    dependency = None if rule.dependency is None else rule.dependency.slug
    return {
        subject: reading
        for subject, reading in _READERS[rule.kind](rule, sources)
        if service in (None, subject.service) and dependency in (None, subject.dependency)
    }


Found = Iterator[tuple[Subject, Reading]]


def _latency(rule: Rule, sources: Sources) -> Found:
    for name, counts in sources.calls(rule.window_seconds):
        samples = histogram.total(counts.latency)
        p95 = histogram.quantile(counts.latency, 0.95)
        yield sources.subject(name), Reading(p95, samples, counts.latency)


def _error_rate(rule: Rule, sources: Sources) -> Found:
    for name, counts in sources.calls(rule.window_seconds):
        failed, of = (
            ("failures", counts.judged) if name[1] else ("server_errors", counts.get("calls"))
        )
        yield sources.subject(name), Reading(counts.get(failed) / of if of else None, of)


def _counter(count: Callable[[Counts], int]) -> Callable[[Rule, Sources], Found]:
    """A reader of something that is counted: none of it is a value too, unless nobody reports."""

    def read(rule: Rule, sources: Sources) -> Found:
        for name, counts in sources.calls(rule.window_seconds):
            if name[1]:
                number = count(counts)
                is_known = number or name[0] in sources.live_services
                yield sources.subject(name), Reading(float(number) if is_known else None, number)

    return read


def _exhausted(counts: Counts) -> int:
    """Calls that were retried and failed all the same."""
    return max(0, counts.get("recoveries_attempted") - counts.get("recoveries_succeeded"))


def _breakers(rule: Rule, sources: Sources) -> Found:
    """Instances whose breaker is open or half-open, or opened a moment ago."""
    not_closed = _not_closed(sources.live)
    known = sources.live_services | sources.ended_services
    for name in sorted(sources.uses | sources.opened.keys() | not_closed.keys()):
        number = max(not_closed.get(name, 0), sources.opened.get(name, 0))
        is_known = number or name[0] in known
        yield sources.subject(name), Reading(float(number) if is_known else None, number)


def _not_closed(instances: Iterable[InstanceStatus]) -> dict[Name, int]:
    """How many of them have a breaker that is not closed, by every name they have one of."""
    found: dict[Name, int] = defaultdict(int)
    for one in instances:
        for dependency, breaker in one.breakers.items():
            found[one.service, dependency] += breaker["state"] != "closed"
    return found


def _hosts(*names: str) -> Callable[[Rule, Sources], Found]:
    """A reader of shares of hosts: instances', by the first of `names` they report, and ours.

    Processes of one name are taken for one, at its worst. Of ours the last name is meant.
    """

    def read(rule: Rule, sources: Sources) -> Found:
        found: dict[Subject, list[float]] = {}
        for one in sources.live:
            value = next((one.resources[name] for name in names if name in one.resources), None)
            if value is not None:
                subject = Subject(
                    f"{one.service} on {one.label}", service=one.service, instance=one.label
                )
                found.setdefault(subject, []).append(value)
        for host in sources.hosts:
            subject = Subject(f"Holdfast on {host.name}", instance=host.name)
            found[subject] = [getattr(host, names[-1])]
        worst = min if rule.kind == Rule.Kind.DISK_LOW else max
        for subject, values in found.items():
            yield subject, Reading(worst(values), len(values))

    return read


def _checks(rule: Rule, sources: Sources) -> Found:
    """Whether a check is down, which its runner has confirmed; one that never ran has no word."""
    for check in sources.checks:
        if check.observed_at is None or (rule.check_kinds and check.kind not in rule.check_kinds):
            continue
        if check.because_of:  # the one above it has the alert
            continue
        is_known = check.status != "unknown" and not check.is_stale
        value = float(check.status == "down") if is_known else None
        yield Subject(check.name, dependency=check.dependency, check=check.name), Reading(value, 1)


def _flapping(rule: Rule, sources: Sources) -> Found:
    """Whether a check goes up and down, and its status is held: one notice in place of many."""
    for check in sources.checks:
        if check.observed_at is not None:
            subject = Subject(check.name, dependency=check.dependency, check=check.name)
            yield subject, Reading(float(check.flapping_share is not None), 1)


def _converging(rule: Rule, sources: Sources) -> Found:
    """For how long a live instance has lacked something published; 0 where none does."""
    for told in sources.convergence:
        yield (
            Subject(told.service, service=told.service),
            Reading(told.behind_seconds or 0.0, told.total),
        )


def _letters(measure: Callable[[Depth], float]) -> Callable[[Rule, Sources], Found]:
    """A reader of dead letters by service; of one without any nothing is the matter."""

    def read(rule: Rule, sources: Sources) -> Found:
        for depth in sources.depths(rule.window_seconds):
            subject = Subject(depth.service, service=depth.service)
            yield subject, Reading(measure(depth), depth.unresolved)

    return read


def _age(depth: Depth) -> float:
    """Seconds since the oldest unresolved letter first failed."""
    return 0.0 if depth.oldest_at is None else (clock.now() - depth.oldest_at).total_seconds()


_READERS: Mapping[str, Callable[[Rule, Sources], Found]] = {
    Rule.Kind.LATENCY: _latency,
    Rule.Kind.ERROR_RATE: _error_rate,
    Rule.Kind.BREAKER_OPEN: _breakers,
    Rule.Kind.BULKHEAD_FULL: _counter(lambda counts: counts.get("rejected_bulkhead")),
    Rule.Kind.RETRIES_EXHAUSTED: _counter(_exhausted),
    Rule.Kind.CHECK_DOWN: _checks,
    Rule.Kind.CHECK_FLAPPING: _flapping,
    Rule.Kind.MEMORY_HIGH: _hosts("memory_host", "memory"),
    Rule.Kind.DISK_LOW: _hosts("disk_free"),
    Rule.Kind.CPU_HIGH: _hosts("cpu"),
    Rule.Kind.NOT_CONVERGED: _converging,
    Rule.Kind.DEAD_LETTERS_GROWING: _letters(lambda depth: float(depth.arrived)),
    Rule.Kind.DEAD_LETTERS_MANY: _letters(lambda depth: float(depth.unresolved)),
    Rule.Kind.DEAD_LETTERS_OLD: _letters(_age),
}


def expected(rule: Rule, subject: Subject, sources: Sources) -> bool:
    """Whether something is still to be heard of a subject nothing was measured of.

    Of a service nobody heard of for a day, and of a host whose processes are gone, it is not; a
    service without dead letters has none.
    """
    return rule.kind in _OF_CALLS and subject.service in sources.known_services


_OF_CALLS = frozenset(
    {
        Rule.Kind.LATENCY,
        Rule.Kind.ERROR_RATE,
        Rule.Kind.BREAKER_OPEN,
        Rule.Kind.BULKHEAD_FULL,
        Rule.Kind.RETRIES_EXHAUSTED,
    }
)
