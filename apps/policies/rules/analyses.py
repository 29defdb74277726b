"""What is dangerous about policies where they hold: together with traffic, switches and callers."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from apps.policies.rules.amplification import Hop, Way, explore
from apps.policies.rules.hazards import (
    CONTRADICTION,
    Hazard,
    attempts_of,
    hazards,
    needs_calls,
)
from apps.policies.rules.settings import Calls, Place, Policy
from holdfast.spec import effective_pattern

NOTHING_SET: Policy = {}
MOST_CIRCLES = 5  # told at once, the shortest first: mending them mends longer ones
PATIENCE = 3_600.0  # seconds a breaker may take to have seen enough calls


@dataclass(frozen=True)
class Finding:
    """One danger, and whose calls it concerns, sorted."""

    hazard: Hazard
    calls: tuple[Calls, ...]
    is_new: bool = False  # of what a change would do: some of these calls are not in it already

    @property
    def severity(self) -> str:
        """refusal: the settings contradict each other, and are not published; else warning."""
        return "refusal" if self.hazard.code == CONTRADICTION else "warning"


class Pace(NamedTuple):
    """How often one process of a service called a dependency lately."""

    per_second: float
    processes: int


@dataclass(frozen=True)
class Surroundings:
    """What the analyses look at beside the policies themselves.

    Attributes:
        traffic: What was observed, of one service's calls to one dependency each.
        degraded: Why a name should not be fallen back on now, by caller ("" is any) and name.
        hops: Calls along which retries can multiply; a dependency may be a service.
        watched: Those of them that findings are wanted of.
        retries: The merged settings of the whole environment that `hops` are judged by.
    """

    traffic: Mapping[Calls, Pace] = field(default_factory=dict)
    degraded: Mapping[tuple[str, str], str] = field(default_factory=dict)
    hops: Collection[Hop] = ()
    watched: Collection[Hop] = ()
    retries: Mapping[Calls, Policy] = field(default_factory=dict)


Concern = tuple[Hazard, Calls]


def analyse(policies: Mapping[Calls, Policy], around: Surroundings) -> list[Finding]:
    """Every danger in the policies, refusals first, each once with all calls it concerns."""
    concerned: dict[Hazard, list[Calls]] = defaultdict(list)
    for calls, policy in sorted(policies.items()):
        for hazard in hazards(policy):
            concerned[hazard].append(calls)
    for hazard, calls in (
        *_fallbacks(policies, around.degraded),
        *_too_little_traffic(policies, around.traffic),
        *_amplified(around),
    ):
        concerned[hazard].append(calls)
    found = [
        Finding(hazard, tuple(sorted(set(calls)))) for hazard, calls in sorted(concerned.items())
    ]
    return sorted(found, key=lambda finding: finding.severity)


def fallback_names(policies: Mapping[Calls, Policy]) -> frozenset[str]:
    """Names of functions that fallback chains ask, as slugs are written."""
    return frozenset(
        name for policy in policies.values() for name in _named_functions(policy) if name
    )


def is_judged_by_traffic(policies: Mapping[Calls, Policy]) -> bool:
    """Whether any breaker waits for calls because somebody set it to."""
    return any(
        policy.get("breaker", {}).keys() & {"minimum_calls", "window", "window_seconds"}
        and needs_calls(effective_pattern(policy, "breaker"))
        for policy in policies.values()
    )


def _named_functions(policy: Policy) -> Iterator[str]:
    for link in policy.get("fallback", {}).get("chain") or ():
        if link["kind"] == "function":
            yield link.get("name", "").strip().lower().replace("_", "-")


def _fallbacks(
    policies: Mapping[Calls, Policy], degraded: Mapping[tuple[str, str], str]
) -> Iterator[Concern]:
    """Fallbacks that ask what has just failed, or what is degraded itself."""
    for calls, policy in policies.items():
        for name in _named_functions(policy):
            if name and name == calls.dependency.replace("_", "-"):
                yield _fallback_hazard("fallback_onto_itself", name), calls
            elif why := degraded.get((calls.service, name)) or degraded.get(("", name)):
                yield _fallback_hazard("fallback_onto_degraded", name, why), calls


def _fallback_hazard(code: str, name: str, why: str = "") -> Hazard:
    return Hazard(code, ("fallback.chain",), (("name", name), ("why", why)))


def _too_little_traffic(
    policies: Mapping[Calls, Policy], traffic: Mapping[Calls, Pace]
) -> Iterator[Concern]:
    """Breakers that see too few calls to judge by; what nobody calls says nothing."""
    for calls, pace in traffic.items():
        policy = _holding_for(calls, policies)
        if policy is not None and pace.per_second > 0:
            breaker = effective_pattern(policy, "breaker")
            if needs_calls(breaker):
                yield from ((hazard, calls) for hazard in _starved(breaker, pace))


def _starved(breaker: Mapping[str, Any], pace: Pace) -> Iterator[Hazard]:
    minimum = breaker["minimum_calls"]
    seen = pace.per_second * breaker["window_seconds"]
    wait = minimum / pace.per_second
    figures = {"minimum": minimum, "per_minute": pace.per_second * 60, "count": pace.processes}
    if breaker["window"] == "time" and seen < minimum:
        paths = ("breaker.minimum_calls", "breaker.window_seconds")
        more = {"window": breaker["window_seconds"], "seen": seen}
        yield Hazard("minimum_calls_unreachable", paths, _rounded(figures | more))
    elif breaker["window"] == "count" and wait > PATIENCE:
        more = {"hours": wait / 3_600}
        yield Hazard("minimum_calls_slow", ("breaker.minimum_calls",), _rounded(figures | more))


def _rounded(figures: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Two digits, so that services much alike are one finding."""
    return tuple(
        (name, value if isinstance(value, int) else float(f"{value:.2g}"))
        for name, value in figures.items()
    )


def _holding_for(calls: Calls, policies: Mapping[Calls, Policy]) -> Policy | None:
    """The policy of one service's calls to one dependency, wherever it is set."""
    return next((policies[level] for level in calls.levels if level in policies), None)


def _amplified(around: Surroundings) -> Iterator[Concern]:
    """Ways on which retries multiply, and circles, through the hops that are watched."""
    if not around.watched:
        return
    watched = set(around.watched)
    tried: dict[int, int] = {}  # by policy: many hops share one

    def attempts(hop: Hop) -> int:
        policy = _holding_for(Calls(*hop), around.retries) or NOTHING_SET
        if id(policy) not in tried:
            tried[id(policy)] = attempts_of(policy)
        return tried[id(policy)]

    ways, circles = explore(around.hops, attempts)
    found = {hop: ways[hop] for hop in watched & ways.keys() if ways[hop].is_amplified}
    for hop, way in _without_lone_beginnings(found):
        yield _way_hazard("retries_multiply", way), Calls(*hop)
    for circle in sorted(circles, key=lambda circle: (len(circle.names), circle))[:MOST_CIRCLES]:
        yield from _round_hazards(circle, watched)


def _without_lone_beginnings(found: Mapping[Hop, Way]) -> Iterator[tuple[Hop, Way]]:
    """Ways that differ in nothing but who begins them are one: a thousand may call a service."""
    beginnings: dict[Way, set[str]] = defaultdict(set)
    for way in found.values():
        beginnings[way.from_any()].add(way.names[0])
    for hop, way in found.items():
        shared = way.from_any()
        yield hop, way if len(beginnings[shared]) == 1 else shared


def _round_hazards(circle: Way, watched: set[Hop]) -> Iterator[Concern]:
    """A circle concerns the hops it is made of, if any of them is watched and any retries."""
    hops = list(pairwise(circle.names))
    if circle.product > 1 and watched.intersection(hops):
        for hop in hops:
            yield _way_hazard("retries_in_a_circle", circle), Calls(*hop)


def _way_hazard(code: str, way: Way) -> Hazard:
    figures = (("names", way.names), ("attempts", way.attempts), ("product", way.product))
    return Hazard(code, ("retry.attempts",), figures)


def concerns(findings: Iterable[Finding], touched: Collection[Place]) -> list[Finding]:
    """Those findings that settings in one of these places take part in."""
    patterns: dict[Calls, set[str]] = defaultdict(set)
    for service, dependency, pattern in touched:
        patterns[Calls(service, dependency)].add(pattern)
    return [
        finding
        for finding in findings
        if any(
            finding.hazard.patterns & patterns.get(level, set())
            for calls in finding.calls
            for level in calls.levels
        )
    ]
