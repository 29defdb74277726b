"""What is measured of a fleet: all from the database, so that every process finds the same."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from apps.alerts import selectors as alerts
from apps.audit.models import Chain
from apps.core import clock
from apps.deadletters import selectors as deadletters
from apps.degradation.models import Flag
from apps.fleet.models import Dependency, Environment, Usage
from apps.health import selectors as health
from apps.health.selectors import CheckState
from apps.health.selectors.scores import Scores, scores
from apps.policies.models import Override
from apps.publication.models import Head
from apps.telemetry import rules as telemetry_rules
from apps.telemetry import selectors as telemetry
from apps.telemetry.selectors import Name
from apps.telemetry.selectors.convergence import Convergence, convergence


@dataclass(frozen=True)
class FlagMeasured:
    service: str  # slug; "" for a flag of the whole environment
    key: str
    kind: str
    is_engaged: bool


@dataclass(frozen=True)
class OverrideMeasured:
    service: str  # slug; "" for every service
    dependency: str
    mode: str


@dataclass(frozen=True)
class Fleet:
    """One environment at one moment."""

    environment: str
    dependencies: int
    revision: int
    audit_entries: int  # sequence of the newest entry in its chain
    services: list[Convergence]
    totals: dict[Name, telemetry_rules.Counts]  # of every service and dependency
    breakers: dict[Name, dict[str, int]]  # live instances by state
    flags: list[FlagMeasured]
    overrides: list[OverrideMeasured]
    dead_letters: dict[str, int]  # unresolved ones, by service; none: 0
    scores: Scores
    alerts: dict[tuple[str, str, str], int]  # that fire or miss data, by rule, severity and state
    checks: list[CheckState]  # that are enabled


def fleets(environment_ids: Iterable[int]) -> list[Fleet]:
    """The environments by name; some twenty queries each, whatever their size."""
    found = Environment.objects.filter(pk__in=environment_ids).order_by("slug")
    return [_fleet(environment) for environment in found]


def _fleet(environment: Environment) -> Fleet:
    here = environment.pk
    totals = telemetry.totals(here)
    breakers = telemetry.breaker_states(here)
    used = Usage.objects.filter(service__environment_id=here)
    for name in {*used.values_list("service__slug", "dependency__slug"), *breakers}:
        totals.setdefault(name, telemetry_rules.Counts())
    chain = Chain.objects.filter(environment_id=here).values_list("sequence", flat=True)
    letters = {each.service: each.unresolved for each in deadletters.depths(here)}
    head = Head.objects.filter(environment_id=here).values_list("revision", flat=True)
    return Fleet(
        environment=environment.slug,
        dependencies=Dependency.objects.filter(environment_id=here).count(),
        revision=head.first() or 0,
        audit_entries=chain.first() or 0,
        services=convergence(here),
        totals=totals,
        breakers=breakers,
        flags=_flags(here),
        overrides=_overrides(here),
        dead_letters=letters,
        scores=scores(here, letters),
        alerts=Counter((each.rule, each.severity, each.state) for each in alerts.firing(here)),
        checks=health.states(here),
    )


def _flags(environment_id: int) -> list[FlagMeasured]:
    flags = Flag.objects.filter(environment_id=environment_id).select_related("service")
    engaged = set(flags.engaged(clock.now()).values_list("pk", flat=True))
    return [
        FlagMeasured(
            service=flag.service.slug if flag.service else "",
            key=flag.key,
            kind=flag.kind,
            is_engaged=flag.pk in engaged,
        )
        for flag in flags.order_by("service__slug", "key")
    ]


def _overrides(environment_id: int) -> list[OverrideMeasured]:
    rows = Override.objects.in_force(clock.now()).filter(environment_id=environment_id)
    names = rows.values_list("service__slug", "dependency__slug", "mode").order_by("pk")
    return [OverrideMeasured(service or "", *rest) for service, *rest in names]
