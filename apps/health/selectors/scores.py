"""How healthy an environment, its services and what they depend on are: status apart from score.

The status is the worst there is; the score says how much is wrong, and what it was lost to. Both
are derived from the last `SECONDS` of traffic and from checks whenever they are asked for.

Dead letters belong to a sibling of this app, which it cannot see. Whoever asks stands above both
and hands the figure in, mostly one that it has read for itself anyway.

One look costs six queries, whatever the size, but reads every window of `SECONDS`: a process that
shows scores again and again, as the wall does, keeps one for ten seconds, in which no window ends.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from django.conf import settings

from apps.fleet.models import Dependency, Service, Usage
from apps.health.rules import score as rules
from apps.health.selectors import CheckState, states
from apps.health.wording import lost_to
from apps.telemetry import selectors as telemetry
from apps.telemetry.rules import Counts
from holdfast import histogram

SECONDS = 300  # of traffic that scores are made of
NOTHING = Counts()


@dataclass(frozen=True)
class Health:
    """How something is: a dependency, a service, or an environment."""

    name: str  # slug
    status: str  # healthy, degraded, unhealthy; unknown: nothing is known
    score: int | None  # 0 to 100; None: not enough data
    coverage: float  # share of what the score could be made of that is known
    deductions: tuple[rules.Deduction, ...]  # the three largest
    samples: int = 0  # calls that succeeded or failed, which the error rate was taken of
    error_rate: float | None = None
    p95: float | None = None  # seconds
    critical: bool = True  # of a dependency
    checked_at: datetime | None = None  # of a dependency: when a check last looked

    @property
    def percent_known(self) -> int:
        return round(100 * self.coverage)

    @property
    def losses(self) -> list[dict[str, Any]]:
        """The deductions, each also in words."""
        return [
            {
                "points": round(each.points, 1),
                "kind": each.kind,
                "subject": each.subject,
                "text": lost_to(each),
            }
            for each in self.deductions
        ]


@dataclass(frozen=True)
class Scores:
    """One environment at one moment."""

    environment: Health
    services: list[Health]  # by name
    dependencies: list[Health]  # by name

    @property
    def worst_first(self) -> list[Health]:
        """Services, those that need attention first."""
        order = {status: rank for rank, status in enumerate(rules.WORST_FIRST)}
        return sorted(
            self.services,
            key=lambda one: (
                order.get(one.status, len(order)),
                101 if one.score is None else one.score,
                one.name,
            ),
        )


def scores(environment_id: int, letters: Mapping[str, int]) -> Scores:
    """Status and score of everything in an environment; six queries, whatever its size.

    `letters` says how many dead letters wait for somebody, by service: `unresolved` of
    `deadletters.selectors.depths`.
    """
    counted = telemetry.counted(environment_id, seconds=SECONDS)
    breakers = telemetry.breaker_states(environment_id)
    known = _dependencies(environment_id)
    cells: dict[str, list[_Cell]] = defaultdict(list)
    for service, slug in sorted({*_used(environment_id), *counted, *breakers}):
        if not slug:
            continue  # the service's own requests
        of = known.setdefault(slug, _Dependency(slug))
        cell = _Cell(of, counted.get((service, slug), NOTHING), breakers.get((service, slug), {}))
        of.add(cell)
        cells[service].append(cell)
    slugs = Service.objects.filter(environment=environment_id).values_list("slug", flat=True)
    services = [
        _service(slug, counted.get((slug, "")), cells[slug], letters.get(slug, 0))
        for slug in sorted(slugs)
    ]
    dependencies = [known[slug].health for slug in sorted(known)]
    return Scores(_environment(services, dependencies), services, dependencies)


# -- dependencies ---------------------------------------------------------------------------------
@dataclass
class _Dependency:
    """What is known of a dependency, all services that call it together."""

    slug: str
    critical: bool = True
    target: float = 1.0  # seconds
    checks: list[CheckState] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    breakers: Counter[str] = field(default_factory=Counter)

    def add(self, cell: "_Cell") -> None:
        self.counts.add(cell.counts)
        self.breakers.update(cell.breakers)

    @cached_property
    def fresh(self) -> list[CheckState]:
        """Checks that say how it is now."""
        return [check for check in self.checks if not check.is_stale]

    @cached_property
    def checked(self) -> str:
        """Its status, by its checks alone."""
        return rules.worst(rules.OF_CHECK[check.status] for check in self.fresh)

    @cached_property
    def health(self) -> Health:
        status = _status(self, self.counts, self.breakers)
        found = rules.score(_terms(self, self.counts, self.breakers), _caps(self.slug, status))
        return Health(
            **_figures(self.slug, status, found, self.counts),
            critical=self.critical,
            checked_at=max((c.observed_at for c in self.checks if c.observed_at), default=None),
        )


@dataclass(frozen=True)
class _Cell:
    """How one service's calls of a dependency go."""

    of: _Dependency
    counts: Counts
    breakers: Mapping[str, int]  # how many live instances are in each state


def _used(environment_id: int) -> Iterable[telemetry.Name]:
    used = Usage.objects.filter(service__environment_id=environment_id)
    return used.values_list("service__slug", "dependency__slug")


def _dependencies(environment_id: int) -> dict[str, _Dependency]:
    rows = Dependency.objects.filter(environment=environment_id)
    found = {
        slug: _Dependency(slug, critical, target)
        for slug, critical, target in rows.values_list("slug", "critical", "latency_target_seconds")
    }
    for check in states(environment_id):
        if check.dependency in found:
            found[check.dependency].checks.append(check)
    return found


def _status(of: _Dependency, counts: Counts, breakers: Mapping[str, int]) -> str:
    """Of a dependency, as these calls and these breakers see it, and its checks."""
    succeeded = rules.part(counts.get("successes"), counts.judged)
    by_calls = rules.of_successes(succeeded, settings.HEALTH_ALERT_THRESHOLD)
    return rules.worst((of.checked, by_calls, rules.of_states(breakers)))


def _terms(of: _Dependency, counts: Counts, breakers: Mapping[str, int]) -> Iterator[rules.Term]:
    """What these calls and these breakers say of a dependency; its checks where calls are few."""
    factor = 1.0 if of.critical else rules.OPTIONAL

    def term(kind: str, share: float | None, samples: int) -> rules.Term:
        return rules.Term(kind, of.slug, share, samples, factor * rules.WEIGHTS[kind])

    results = sum(check.results for check in of.fresh)
    passed = sum((check.success_rate or 0.0) * check.results for check in of.fresh)
    succeeded = rules.part(counts.get("successes"), counts.judged)
    if succeeded is None and results >= rules.LEAST_RESULTS:
        yield term(rules.CHECKS, passed / results, results)
    else:
        yield term(rules.AVAILABILITY, succeeded, counts.judged)
    timed = histogram.total(counts.latency)
    yield term(rules.LATENCY, rules.part(rules.apdex(counts.latency, of.target), timed), timed)
    admitted = counts.judged + _refused(counts)
    yield term(rules.SATURATION, rules.part(counts.judged, admitted), admitted)
    yield term(rules.BREAKER, rules.of_breakers(breakers), sum(breakers.values()))


def _refused(counts: Counts) -> int:
    """Calls that there was no room for."""
    names = ("rejected_bulkhead", "rejected_rate_limit", "rejected_throttle")
    return sum(counts.get(name) for name in names)


# -- services and environments --------------------------------------------------------------------
def _service(slug: str, own: Counts | None, cells: Iterable[_Cell], letters: int) -> Health:
    """A service: its own requests, its calls of each dependency, its dead letters."""
    counts, terms, caps = Counts(), list(_own_terms(own)), []
    statuses = [_own_status(own)]
    for cell in cells:
        of = cell.of
        status = _status(of, cell.counts, cell.breakers)
        statuses.append(status if of.critical else rules.at_most_degraded(status))
        caps += _caps(of.slug, status) if of.critical else []
        terms += _terms(of, cell.counts, cell.breakers)
        counts.add(cell.counts)
    if terms or letters:
        share, weight = rules.of_letters(letters), rules.WEIGHTS[rules.DEAD_LETTERS]
        terms.append(rules.Term(rules.DEAD_LETTERS, "", share, letters, weight))
    found = rules.score(terms, caps)
    return Health(**_figures(slug, rules.worst(statuses), found, counts))


def _own_terms(own: Counts | None) -> Iterator[rules.Term]:
    """Of the requests it answers; not every service answers any."""
    if own is None:
        return
    requests = own.get("calls")
    yield rules.Term(
        rules.AVAILABILITY, "", _answered(own), requests, rules.WEIGHTS[rules.AVAILABILITY]
    )
    timed = histogram.total(own.latency)
    share = rules.part(rules.apdex(own.latency, _Dependency.target), timed)
    yield rules.Term(rules.LATENCY, "", share, timed, rules.WEIGHTS[rules.LATENCY])


def _own_status(own: Counts | None) -> str:
    if own is None:
        return rules.UNKNOWN
    return rules.of_successes(_answered(own), settings.HEALTH_ALERT_THRESHOLD)


def _answered(own: Counts) -> float | None:
    """Share of the requests that were no error of the service."""
    requests = own.get("calls")
    return rules.part(requests - own.get("server_errors"), requests)


def _environment(services: list[Health], dependencies: list[Health]) -> Health:
    """Every service weighs the same; what its score was lost to is lost here in proportion."""
    scored = [one for one in services if one.score is not None]
    lost = [
        rules.Deduction(rules.SERVICE, one.name, (100 - one.score) / len(scored), 0.0, one.score)
        for one in scored
        if one.score is not None and one.score < 100
    ]
    statuses = [one.status for one in services]
    statuses += [
        one.status if one.critical else rules.at_most_degraded(one.status) for one in dependencies
    ]
    total = sum(one.score for one in scored if one.score is not None)
    return Health(
        name="",
        status=rules.worst(statuses),
        score=round(total / len(scored)) if scored else None,
        coverage=sum(one.coverage for one in services) / len(services) if services else 0.0,
        deductions=rules.largest(lost),
    )


def _caps(slug: str, status: str) -> list[rules.Cap]:
    return [rules.Cap(slug, status)] if status in rules.CAPS else []


def _figures(slug: str, status: str, found: rules.Score, counts: Counts) -> dict[str, Any]:
    return {
        "name": slug,
        "status": status,
        "score": found.points,
        "coverage": found.coverage,
        "deductions": found.deductions,
        "samples": counts.judged,
        "error_rate": rules.part(counts.get("failures"), counts.judged),
        "p95": counts.quantile(0.95),
    }
