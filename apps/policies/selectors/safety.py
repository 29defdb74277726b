"""What is dangerous about settings that are published, or would be; in few queries, whatever the
size of the environment, and none of them where the settings give no cause to ask.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from apps.core import clock
from apps.fleet.models import Dependency, Service, Usage
from apps.policies import rules
from apps.policies.rules import Calls, Finding, Pace, Place, Policy, SettingsPiece, Surroundings
from apps.policies.rules.amplification import Hop
from apps.policies.selectors.traffic import paces
from apps.publication.models import Fragment, Part, Revision
from apps.telemetry import selectors as telemetry

Bodies = Mapping[Place, Mapping[str, Any]]


def published(environment_id: int, *, dependencies: Collection[str] | None = None) -> Bodies:
    """The settings in force; those of some dependencies and the defaults alone if given."""
    pieces = Fragment.objects.current().filter(
        environment_id=environment_id, part=Part.SETTING, body__isnull=False
    )
    if dependencies is not None:
        pieces = pieces.filter(Q(dependency="") | Q(dependency__in=dependencies))
    rows = pieces.values_list("service", "dependency", "name", "body")
    return {Place(*where): body or {} for *where, body in rows}


def published_around(environment_id: int, places: Collection[Place]) -> Bodies:
    """The settings in force that settings in these places can be dangerous together with."""
    named = {place.dependency for place in places}
    return published(environment_id, dependencies=None if "" in named else named)


def warnings_of(environment_id: int, places: Collection[Place]) -> list[Finding]:
    """What is dangerous about the settings in these places where they have an effect.

    Where nothing is set in one of them (any more) it is about what holds there instead.
    """
    return findings_where(environment_id, places, published_around(environment_id, places))


def warnings_of_revision(revision: Revision) -> list[Finding]:
    """What is dangerous about the settings that `revision` set or removed, as they are now."""
    written = Fragment.objects.filter(
        environment=revision.environment_id, revision=revision.number, part=Part.SETTING
    )
    places = written.values_list("service", "dependency", "name")
    return warnings_of(revision.environment_id, [Place(*place) for place in places])


def findings_of_service(service: Service) -> list[Finding]:
    """What is dangerous about what `service` must do now."""
    used = Usage.objects.filter(service=service).values_list("dependency__slug", flat=True)
    mine = {Calls(service.slug, dependency) for dependency in used}
    policies = _policies(published(service.environment_id))
    held = {calls: _holding(calls, policies) for calls in mine}
    hops = _hops(service.environment_id)
    around = Surroundings(
        traffic=_traffic(service.environment_id, held, service=service.slug),
        degraded=_degraded(service.environment_id, held),
        hops=hops | (mine if hops else set()),
        watched=mine if hops else (),
        retries=policies,
    )
    return rules.analyse(held, around)


def findings_where(
    environment_id: int, places: Collection[Place], bodies: Bodies, *, extra: Iterable[Hop] = ()
) -> list[Finding]:
    """What is dangerous, with these settings, about the calls that settings in `places` reach.

    Only that in which a setting in one of them takes part. `bodies` are those that reach the
    calls, as `published_around` gives them; `extra` are calls nobody has declared yet.
    """
    # Where the last of a scope's settings went, what it inherits is what is looked at.
    inheriting: Bodies = {Place(*place.calls, ""): {} for place in places}
    every = _policies({**inheriting, **bodies})
    policies = {calls: every[calls] for calls in _reached(every, places)}
    judged = {place.pattern for place in places}
    retried = [place for place in places if place.pattern == "retry"]
    around = Surroundings(
        traffic=_traffic(environment_id, policies, **_common(places))
        if {"breaker", "rate_limit"} & judged
        else {},
        degraded=_degraded(environment_id, policies) if "fallback" in judged else {},
        **(_ways(environment_id, retried, bodies, extra) if retried else {}),
    )
    return rules.concerns(rules.analyse(policies, around), places)


def _policies(bodies: Bodies) -> dict[Calls, Policy]:
    return rules.effective_policies(SettingsPiece(*where, body) for where, body in bodies.items())


def _holding(calls: Calls, policies: Mapping[Calls, Policy]) -> Policy:
    return next(policies[level] for level in calls.levels if level in policies)


def _reached(every: Iterable[Calls], places: Iterable[Place]) -> set[Calls]:
    """Those of the calls on which settings in one of the places have an effect."""
    levels = {place.calls for place in places}
    return {calls for calls in every if not levels.isdisjoint(calls.levels)}


def _common(places: Iterable[Place]) -> dict[str, str]:
    """The service and the dependency that all places name; empty where they name several."""
    every = list(places)
    services, dependencies = {each.service for each in every}, {each.dependency for each in every}
    return {
        "service": services.pop() if len(services) == 1 else "",
        "dependency": dependencies.pop() if len(dependencies) == 1 else "",
    }


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


def _ways(
    environment_id: int, places: Collection[Place], bodies: Bodies, extra: Iterable[Hop]
) -> dict[str, Any]:
    """The calls along which retries multiply, those that the places reach, and their policies."""
    hops = _hops(environment_id) | set(extra)
    between = {dependency for _service, dependency in hops} & {service for service, _name in hops}
    if not between:
        return {}
    names = {place.dependency for place in places}
    watched = _reached_uses(environment_id, places, names - {""}) | set(extra)
    if "" in names:
        watched |= {hop for hop in hops if hop[1] in between}
    others = {} if "" in names else published(environment_id)
    return {
        "hops": hops | watched,
        "watched": watched,
        "retries": _policies({**others, **bodies}),
    }


def _reached_uses(
    environment_id: int, places: Collection[Place], dependencies: Collection[str]
) -> set[Hop]:
    """The calls to some dependencies that settings in the places reach."""
    if not dependencies:
        return set()
    uses = Usage.objects.filter(
        service__environment=environment_id, dependency__slug__in=dependencies
    )
    pairs = uses.order_by().values_list("service__slug", "dependency__slug")
    return {*_reached((Calls(*pair) for pair in pairs), places)}


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
