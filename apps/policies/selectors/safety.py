"""What is dangerous about settings that are published, or would be; in few queries, whatever the
size of the environment, and none of them where the settings give no cause to ask.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from apps.core import clock
from apps.fleet.models import Dependency, Service, Usage
from apps.policies import rules
from apps.policies.models import Config, Scope
from apps.policies.rules import Calls, Finding, Pace, Policy, SettingsPiece, Surroundings
from apps.policies.rules.amplification import Hop
from apps.policies.selectors.traffic import paces
from apps.publication.models import Fragment, Part
from apps.telemetry import selectors as telemetry

Bodies = Mapping[tuple[str, str, str], Mapping[str, Any]]  # by service, dependency and pattern


def published(environment_id: int, *, dependencies: Collection[str] | None = None) -> Bodies:
    """The settings in force; those of some dependencies and the defaults alone if given."""
    pieces = Fragment.objects.current().filter(
        environment_id=environment_id, part=Part.SETTING, body__isnull=False
    )
    if dependencies is not None:
        pieces = pieces.filter(Q(dependency="") | Q(dependency__in=dependencies))
    rows = pieces.values_list("service", "dependency", "name", "body")
    return {(service, dependency, name): body or {} for service, dependency, name, body in rows}


def warnings_of(rows: Sequence[Config]) -> list[Finding]:
    """What is dangerous about the settings of these rows' patterns where they have an effect.

    They are of one scope, and at least one.
    """
    scope = rows[0].holds_in
    place = Calls(**scope.slugs)
    bodies = published(
        scope.environment_id, dependencies={place.dependency} if place.dependency else None
    )
    return findings_where(scope, bodies, patterns={row.pattern for row in rows})


def findings_of_service(service: Service) -> list[Finding]:
    """What is dangerous about what `service` must do now."""
    used = Usage.objects.filter(service=service).values_list("dependency__slug", flat=True)
    called = frozenset(used)
    bodies = published(service.environment_id)
    policies = _policies(bodies)
    held = {Calls(service.slug, each): _holding(service.slug, each, policies) for each in called}
    hops = _hops(service.environment_id)
    mine = {(service.slug, each) for each in called}
    around = Surroundings(
        traffic=_traffic(service.environment_id, held, service=service.slug),
        degraded=_degraded(service.environment_id, held),
        hops=hops | (mine if hops else set()),
        watched=mine if hops else (),
        retries=policies,
    )
    return rules.analyse(held, around)


def findings_where(
    scope: Scope, bodies: Bodies, *, patterns: Collection[str], extra: Iterable[Hop] = ()
) -> list[Finding]:
    """What is dangerous, with these settings, about the calls that settings in `scope` reach.

    Only that in which a setting of `patterns` takes part. `bodies` are those that reach them, as
    `published` gives them; `extra` are calls nobody has declared yet.
    """
    place = Calls(**scope.slugs)
    # Where the last of a scope's settings went, what it inherits is what is looked at.
    policies = {
        calls: policy
        for calls, policy in _policies({(*place, ""): {}, **bodies}).items()
        if _reaches(place, calls)
    }
    around = Surroundings(
        traffic=_traffic(scope.environment_id, policies, **scope.slugs)
        if {"breaker", "rate_limit"} & set(patterns)
        else {},
        degraded=_degraded(scope.environment_id, policies) if "fallback" in patterns else {},
        **(_ways(scope, bodies, extra) if "retry" in patterns else {}),
    )
    return rules.concerns(rules.analyse(policies, around), patterns)


def _policies(bodies: Bodies) -> dict[Calls, Policy]:
    return rules.effective_policies(SettingsPiece(*where, body) for where, body in bodies.items())


def _holding(service: str, dependency: str, policies: Mapping[Calls, Policy]) -> Policy:
    levels = (Calls(service, dependency), Calls("", dependency), Calls("", ""))
    return next(policies[level] for level in levels if level in policies)


def _reaches(place: Calls, calls: Calls) -> bool:
    """Whether settings at `place` have an effect on `calls`."""
    return place.dependency in ("", calls.dependency) and place.service in ("", calls.service)


def _traffic(
    environment_id: int, policies: Mapping[Calls, Policy], *, service: str, dependency: str = ""
) -> dict[Calls, Pace]:
    if not rules.is_judged_by_traffic(policies):
        return {}
    return paces(environment_id, service=service, dependency=dependency)


def _degraded(environment_id: int, policies: Mapping[Calls, Policy]) -> dict[tuple[str, str], str]:
    """Why a name that some chain falls back on should not be, by caller and name."""
    names = rules.fallback_names(policies)
    if not names:
        return {}
    found = {
        (service, _slug(dependency)): _("a breaker of its calls is open")
        for (service, dependency), states in telemetry.breaker_states(environment_id).items()
        if states.get("open")
    }
    switches = Fragment.objects.current().filter(
        environment_id=environment_id, part__in=(Part.FLAG, Part.OVERRIDE), body__isnull=False
    )
    for switch in switches:
        found |= _switched(switch, names)
    return found


def _switched(switch: Fragment, names: Collection[str]) -> dict[tuple[str, str], str]:
    """What an override or a flag takes away, of the names that are asked about."""
    body = switch.body or {}
    if not _is_in_force(body, clock.now()):
        return {}
    if switch.part == Part.OVERRIDE:
        forced = body.get("mode") == "force_open"
        why = _("its breaker is forced open")
        return {(switch.service, _slug(switch.dependency)): why} if forced else {}
    why = _("the flag %(flag)s is engaged") % {"flag": switch.name}
    if body.get("kind") == "fallback":
        hit = body["dependencies"]
        return {(switch.service, name): why for name in _slugs(names if hit is None else hit)}
    is_of_service = switch.service and body.get("kind") in ("read_only", "feature_off")
    return {("", _slug(switch.service)): why} if is_of_service else {}


def _is_in_force(body: Mapping[str, Any], now: datetime) -> bool:
    end = body.get("expires_at")
    ends_at = parse_datetime(end) if end else None
    return bool(body.get("enabled", True)) and (ends_at is None or ends_at > now)


def _slug(name: str) -> str:
    """A name as `rules.fallback_names` spells it."""
    return name.replace("_", "-")


def _slugs(names: Iterable[str]) -> list[str]:
    return [_slug(name) for name in names]


def _ways(scope: Scope, bodies: Bodies, extra: Iterable[Hop]) -> dict[str, Any]:
    """The calls along which retries multiply, those that the scope reaches, and their policies."""
    hops = _hops(scope.environment_id) | set(extra)
    between = {dependency for _service, dependency in hops} & {service for service, _name in hops}
    if not between:
        return {}
    reached = Usage.objects.filter(service__environment=scope.environment_id)
    if scope.dependency is None:
        watched = {hop for hop in hops if hop[1] in between}
    else:
        reached = reached.filter(dependency=scope.dependency)
        if scope.service is not None:
            reached = reached.filter(service=scope.service)
        watched = set(reached.values_list("service__slug", "dependency__slug")) | set(extra)
    others = published(scope.environment_id) if scope.dependency is not None else {}
    return {
        "hops": hops | watched,
        "watched": watched,
        "retries": _policies({**others, **bodies}),
    }


def _hops(environment_id: int) -> set[Hop]:
    """Calls of services to services, and what the services called call in turn."""
    uses = Usage.objects.filter(service__environment=environment_id).order_by()
    services = Service.objects.filter(environment=environment_id).values("slug")
    between = set(
        uses.filter(dependency__slug__in=services).values_list("service__slug", "dependency__slug")
    )
    if not between:
        return between
    called = Dependency.objects.filter(
        environment=environment_id, slug__in={dependency for _service, dependency in between}
    )
    further = uses.filter(service__slug__in=called.values("slug"))
    return between | set(further.values_list("service__slug", "dependency__slug"))
