"""The metrics of a fleet in Prometheus' text format 0.0.4. No Django.

Written line by line, because a large fleet has tens of thousands of them and the library takes
eight times as long. Label values are slugs and words, in which nothing has to be escaped.

Labels are names that operators or reports gave (environment, service, dependency, flag) and words
of fixed lists; never an instance, a message or a reason. Their number is bounded by what an
environment may hold.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from apps.telemetry.rules import WORST_FIRST, Counts
from holdfast import histogram
from holdfast.spec import OVERRIDE_MODES

if TYPE_CHECKING:
    from apps.metrics.selectors import Fleet

# Seconds. Each is an edge of the histograms that instances report, so the counts are exact.
BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CHECK_STATUSES = ("up", "degraded", "down", "unknown")
HEALTH_STATUSES = ("healthy", "degraded", "unhealthy", "unknown")
_REFUSALS = ("open", "forced", "bulkhead", "rate_limit", "throttle", "budget", "degraded")
_INSIDE = [histogram.EDGES.index(edge) for edge in BUCKETS]  # highest index up to each edge

Cells = list[tuple[str, Counts]]  # labels and what was counted of them
# Family, its help, the label that tells its series apart, and which column each of them is.
CALLS: list[tuple[str, str, str, dict[str, str]]] = [
    ("holdfast_calls_total", "Calls of a dependency, rejected ones included.", "", {"": "calls"}),
    (
        "holdfast_call_results_total",
        "Calls of a dependency by how they ended.",
        "result",
        {"success": "successes", "failure": "failures", "cancelled": "cancelled"},
    ),
    ("holdfast_call_timeouts_total", "Calls that failed by their deadline.", "", {"": "timeouts"}),
    ("holdfast_slow_calls_total", "Calls above the breaker's slow_call_seconds.", "", {"": "slow"}),
    (
        "holdfast_rejections_total",
        "Calls a guard did not let through, by which one.",
        "reason",
        {reason: f"rejected_{reason}" for reason in _REFUSALS},
    ),
    ("holdfast_retries_total", "Attempts after the first.", "", {"": "retries"}),
    (
        "holdfast_recoveries_attempted_total",
        "Error recoveries that were attempted.",
        "",
        {"": "recoveries_attempted"},
    ),
    (
        "holdfast_recoveries_succeeded_total",
        "Error recoveries that succeeded.",
        "",
        {"": "recoveries_succeeded"},
    ),
    (
        "holdfast_fallbacks_total",
        "Answers from a fallback, by its kind.",
        "kind",
        {kind: f"fallbacks_{kind}" for kind in ("value", "function", "cached", "queue")},
    ),
]
REQUESTS: list[tuple[str, str, str, dict[str, str]]] = [
    ("holdfast_service_requests_total", "Requests a service answered itself.", "", {"": "calls"}),
    (
        "holdfast_service_request_errors_total",
        "Requests a service answered with an error, by class of status.",
        "class",
        {"4xx": "client_errors", "5xx": "server_errors"},
    ),
]


def exposition(fleets: list["Fleet"]) -> Iterator[str]:
    """Everything that is measured of these environments, line by line."""
    yield from _environments(fleets)
    yield from _services(fleets)
    yield from _scores(fleets)
    yield from _flags(fleets)
    yield from _overrides(fleets)
    yield from _breakers(fleets)
    yield from _alerts(fleets)
    yield from _checks(fleets)
    calls, requests = _cells(fleets)
    for family in CALLS:
        yield from _counter(*family, calls)
    yield from _durations("holdfast_call_duration_seconds", "Durations of calls", calls)
    for family in REQUESTS:
        yield from _counter(*family, requests)
    about = "Durations of requests a service answered itself"
    yield from _durations("holdfast_service_request_duration_seconds", about, requests)


def labels(**values: str) -> str:
    """Labels as they stand between the braces."""
    return ",".join(f'{name}="{value}"' for name, value in values.items())


def _family(name: str, kind: str, about: str) -> str:
    return f"# HELP {name} {about}\n# TYPE {name} {kind}"


def _gauge(name: str, about: str, values: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield _family(name, "gauge", about)
    for where, value in values:
        yield f"{name}{{{where}}} {value}"


def _cells(fleets: list["Fleet"]) -> tuple[Cells, Cells]:
    """What was counted of each service and dependency, and of each service's own requests."""
    calls: Cells = []
    requests: Cells = []
    for fleet in fleets:
        for (service, dependency), counts in sorted(fleet.totals.items(), key=lambda item: item[0]):
            where = labels(environment=fleet.environment, service=service)
            if dependency:
                calls.append((f'{where},dependency="{dependency}"', counts))
            else:
                requests.append((where, counts))
    return calls, requests


def _environments(fleets: list["Fleet"]) -> Iterator[str]:
    named = [(labels(environment=fleet.environment), fleet) for fleet in fleets]
    sizes = [(where, len(fleet.services)) for where, fleet in named]
    yield from _gauge("holdfast_services", "Services of an environment.", sizes)
    known = [(where, fleet.dependencies) for where, fleet in named]
    yield from _gauge("holdfast_dependencies", "Dependencies of an environment.", known)
    about = "Number of the newest published revision."
    yield from _gauge("holdfast_revision", about, [(w, fleet.revision) for w, fleet in named])
    name = "holdfast_audit_entries_total"
    yield _family(name, "counter", "Entries of the audit chain: the sequence of its head.")
    for where, fleet in named:
        yield f"{name}{{{where}}} {fleet.audit_entries}"


def _services(fleets: list["Fleet"]) -> Iterator[str]:
    told = [
        (labels(environment=fleet.environment, service=one.service), one)
        for fleet in fleets
        for one in fleet.services
    ]
    states = [
        (f'{where},state="{state}"', count)
        for where, one in told
        for state, count in (
            ("live", one.total),
            ("silent", one.silent),
            ("stopping", one.stopping),
        )
    ]
    about = "Processes of a service: heard lately, silent, or gone with a goodbye."
    yield from _gauge("holdfast_instances", about, states)
    about = "Live processes of a service that run what was published for it."
    applied = [(where, one.applied) for where, one in told]
    yield from _gauge("holdfast_instances_applied", about, applied)
    about = "Live processes of a service that would not apply some of it."
    refusing = [(where, len({each.instance for each in one.refused})) for where, one in told]
    yield from _gauge("holdfast_instances_refusing", about, refusing)
    about = "Seconds from publishing until 95 % of a service's processes ran its newest revision."
    delays = [(where, one.p95_delay) for where, one in told if one.p95_delay is not None]
    yield from _gauge("holdfast_convergence_p95_seconds", about, delays)
    about = "Since when a live process has lacked something published; none: none does."
    behind = [(where, one.behind_since.timestamp()) for where, one in told if one.behind_since]
    yield from _gauge("holdfast_convergence_behind_since_timestamp_seconds", about, behind)
    about = "The newest revision that changed a service's document."
    targets = [(where, one.target_revision) for where, one in told]
    yield from _gauge("holdfast_service_revision", about, targets)
    about = "Dead letters that wait for somebody."
    waiting = [
        (labels(environment=fleet.environment, service=one.service), number)
        for fleet in fleets
        for one in fleet.services
        for number in [fleet.dead_letters.get(one.service, 0)]
    ]
    yield from _gauge("holdfast_dead_letters_unresolved", about, waiting)


def _scores(fleets: list["Fleet"]) -> Iterator[str]:
    """Scores where there is enough data for one; every status of every service, as a state set."""
    told = [
        (labels(environment=fleet.environment, service=one.name), one)
        for fleet in fleets
        for one in fleet.scores.services
    ]
    about = "Health score of a service, 0 to 100; none: not enough data."
    points = [(where, one.score) for where, one in told if one.score is not None]
    yield from _gauge("holdfast_health_score", about, points)
    about = "Share of what a service's health score could be made of that is known."
    coverage = [(where, round(one.coverage, 3)) for where, one in told]
    yield from _gauge("holdfast_health_coverage", about, coverage)
    statuses = (
        (f'{where},status="{status}"', int(status == one.status))
        for where, one in told
        for status in HEALTH_STATUSES
    )
    yield from _gauge("holdfast_health_status", "1 for the status a service has.", statuses)
    whole = [
        (labels(environment=fleet.environment), fleet.scores.environment.score)
        for fleet in fleets
        if fleet.scores.environment.score is not None
    ]
    about = "Health score of an environment: the mean of its services'."
    yield from _gauge("holdfast_environment_health_score", about, whole)


def _flags(fleets: list["Fleet"]) -> Iterator[str]:
    about = "1 while a flag is engaged; an empty service: for the whole environment."
    values = [
        (
            labels(
                environment=fleet.environment, service=flag.service, flag=flag.key, kind=flag.kind
            ),
            int(flag.is_engaged),
        )
        for fleet in fleets
        for flag in fleet.flags
    ]
    yield from _gauge("holdfast_flag_engaged", about, values)


def _overrides(fleets: list["Fleet"]) -> Iterator[str]:
    about = "1 while an override holds; an empty service: for every service."
    values = [
        (
            labels(
                environment=fleet.environment,
                service=one.service,
                dependency=one.dependency,
                mode=one.mode,
            ),
            1,
        )
        for fleet in fleets
        for one in fleet.overrides
    ]
    yield from _gauge("holdfast_override_in_force", about, values)
    counts = [
        (
            labels(environment=fleet.environment, mode=mode),
            sum(one.mode == mode for one in fleet.overrides),
        )
        for fleet in fleets
        for mode in OVERRIDE_MODES
    ]
    yield from _gauge("holdfast_overrides", "Overrides in force, by mode.", counts)


def _breakers(fleets: list["Fleet"]) -> Iterator[str]:
    values = (
        (
            labels(environment=fleet.environment, service=name[0], dependency=name[1], state=state),
            fleet.breakers.get(name, {}).get(state, 0),
        )
        for fleet in fleets
        for name in sorted(name for name in fleet.totals if name[1])
        for state in WORST_FIRST
    )
    about = "Live processes by the state of their breaker."
    yield from _gauge("holdfast_breaker_instances", about, values)


def _alerts(fleets: list["Fleet"]) -> Iterator[str]:
    values = (
        (
            labels(environment=fleet.environment, rule=rule, severity=severity, state=state),
            number,
        )
        for fleet in fleets
        for (rule, severity, state), number in sorted(fleet.alerts.items())
    )
    yield from _gauge("holdfast_alerts", "Alerts that fire or miss their data, by rule.", values)


def _checks(fleets: list["Fleet"]) -> Iterator[str]:
    """Every status of every check, as state sets are written in this format."""
    values = (
        (
            labels(
                environment=fleet.environment,
                check=check.name,
                kind=check.kind,
                dependency=check.dependency,
                status=status,
            ),
            int(status == ("unknown" if check.is_stale else check.status)),
        )
        for fleet in fleets
        for check in fleet.checks
        for status in CHECK_STATUSES
    )
    yield from _gauge("holdfast_check_status", "1 for the status a check has.", values)


def _counter(
    name: str, about: str, by: str, columns: Mapping[str, str], cells: Cells
) -> Iterator[str]:
    yield _family(name, "counter", about)
    for word, column in columns.items():
        told_apart = f',{by}="{word}"' if by else ""
        for where, counts in cells:
            yield f"{name}{{{where}{told_apart}}} {counts.get(column)}"


def _durations(name: str, about: str, cells: Cells) -> Iterator[str]:
    """A histogram without a sum: instances report buckets only, and a guess would not be exact."""
    yield _family(name, "histogram", f"{about}. Buckets and count are exact; there is no sum.")
    edges = [*map(str, BUCKETS), "+Inf"]
    for where, counts in cells:
        numbers = cumulative(counts.latency)
        for edge, number in zip(edges, numbers, strict=True):
            yield f'{name}_bucket{{{where},le="{edge}"}} {number}'
        yield f"{name}_count{{{where}}} {numbers[-1]}"


def cumulative(latency: Mapping[str, int]) -> list[int]:
    """How many durations were at most each edge of `BUCKETS`, and how many there are in all."""
    full = [0] * histogram.SIZE
    for index, count in latency.items():
        full[int(index)] += count
    below = list(accumulate(full))
    return [*(below[index] for index in _INSIDE), below[-1]]
