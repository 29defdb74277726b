"""What is dangerous in one policy whose values are each allowed; nothing outside it is looked at.

A hazard says what by its code and its figures; `apps.policies.wording` has the words.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from holdfast.spec import ERROR_CLASSES, Problem, check_effective, effective_pattern

RETRIED = ("transient", "unknown")  # classes that are retried unless somebody says otherwise
UNKNOWN_ATTEMPTS = 2  # an error nobody classified is retried once at most
CONTRADICTION = "contradiction"  # the one that is refused, all others are warnings

Policy = Mapping[str, Mapping[str, Any]]


class Hazard(NamedTuple):
    """One danger: `settings` are full names, the one to look at first; `figures` fill its words."""

    code: str
    settings: tuple[str, ...]
    figures: tuple[tuple[str, Any], ...] = ()

    @property
    def patterns(self) -> frozenset[str]:
        return frozenset(name.partition(".")[0] for name in self.settings)


class Effective(NamedTuple):
    """Every setting of the patterns the analyses look at, defaults filled in."""

    breaker: dict[str, Any]
    retry: dict[str, Any]
    timeout: dict[str, Any]
    bulkhead: dict[str, Any]
    rate_limit: dict[str, Any]
    fallback: dict[str, Any]

    @classmethod
    def of(cls, policy: Policy) -> "Effective":
        return cls(*(effective_pattern(policy, pattern) for pattern in cls._fields))


def hazards(policy: Policy) -> list[Hazard]:
    """Everything dangerous in the policy as it is; contradictions first."""
    effective = Effective.of(policy)
    refused = [
        Hazard(CONTRADICTION, (problem.path,), (("detail", problem.detail),))
        for problem in contradictions(policy)
    ]
    return refused + [hazard for analysis in _ANALYSES for hazard in analysis(effective)]


def contradictions(policy: Policy) -> list[Problem]:
    """Settings that cannot all be meant: such a policy is not published."""
    return check_effective(policy) + _starved_window(Effective.of(policy))


def attempts_of(policy: Policy) -> int:
    """How often one call is made at most, whatever its errors; 1 if nothing is sent twice."""
    retry = effective_pattern(policy, "retry")
    return most_attempts(retry) if retry["enabled"] and retry["idempotent"] else 1


def most_attempts(retry: Mapping[str, Any]) -> int:
    """The most attempts errors of any class get, by effective settings; 1: never retried."""
    return max(_attempts(name, retry) for name in ERROR_CLASSES) if retry["enabled"] else 1


def _attempts(name: str, retry: Mapping[str, Any]) -> int:
    own = retry["per_class"].get(name, {})
    if not own.get("retry", name in RETRIED or "attempts" in own):
        return 1
    if "attempts" in own:
        return int(own["attempts"])
    attempts = int(retry["attempts"])
    return min(attempts, UNKNOWN_ATTEMPTS) if name == "unknown" else attempts


def needs_calls(breaker: Mapping[str, Any]) -> bool:
    """Whether nothing but a rate, and so enough calls, can open the breaker."""
    return bool(breaker["enabled"]) and not breaker["consecutive_failures"]


def _starved_window(effective: Effective) -> list[Problem]:
    """A rate limit that lets fewer calls begin than the breaker waits for."""
    breaker, limit = effective.breaker, effective.rate_limit
    if not (limit["enabled"] and needs_calls(breaker) and breaker["window"] == "time"):
        return []
    burst, per_second = limit["burst"] or limit["calls"], limit["calls"] / limit["per_seconds"]
    attempts = most_attempts(effective.retry) if limit["scope"] == "call" else 1
    most = math.floor((burst + per_second * breaker["window_seconds"]) * attempts)
    if most >= breaker["minimum_calls"]:
        return []
    detail = (
        f"can never be reached: the rate limit lets {most} calls begin in a window "
        f"of {breaker['window_seconds']:g} s"
    )
    return [Problem("breaker.minimum_calls", "inconsistent", detail)]


def _attempts_over_deadline(effective: Effective) -> Iterator[Hazard]:
    """Source: gRPC A6 and Envoy both let the deadline win, and the last attempts never happen."""
    attempt, total = effective.timeout["attempt_seconds"], effective.timeout["total_seconds"]
    attempts = most_attempts(effective.retry)
    if not total or not attempt or attempts * attempt <= total:
        return
    figures = {
        "attempts": attempts,
        "attempt": attempt,
        "product": attempts * attempt,
        "total": total,
        "begun": min(attempts, math.ceil(total / attempt)),
    }
    paths = ("timeout.total_seconds", "timeout.attempt_seconds", "retry.attempts")
    code = "attempt_over_deadline" if attempts == 1 else "attempts_over_deadline"
    yield Hazard(code, paths, tuple(figures.items()))


def _slow_over_timeout(effective: Effective) -> Iterator[Hazard]:
    attempt = effective.timeout["attempt_seconds"]
    for key in ("slow_call_seconds", "hung_call_seconds"):
        limit = effective.breaker[key]
        if effective.breaker["enabled"] and 0 < attempt < limit:
            paths = (f"breaker.{key}", "timeout.attempt_seconds")
            figures = (("setting", key), ("slow", limit), ("attempt", attempt))
            yield Hazard("slow_over_timeout", paths, figures)


def _trials_over_bulkhead(effective: Effective) -> Iterator[Hazard]:
    trials, places = effective.breaker["half_open_concurrent"], effective.bulkhead["max_concurrent"]
    if effective.breaker["enabled"] and effective.bulkhead["enabled"] and trials > places:
        paths = ("breaker.half_open_concurrent", "bulkhead.max_concurrent")
        figures = (("trials", trials), ("places", places))
        yield Hazard("trials_over_bulkhead", paths, figures)


def _links_never_asked(effective: Effective) -> Iterator[Hazard]:
    """Links after a fixed value, which always answers."""
    kinds = [link["kind"] for link in effective.fallback["chain"]]
    if "value" in kinds[:-1]:
        place = kinds.index("value") + 1
        figures = (("place", place), ("rest", len(kinds) - place))
        yield Hazard("fallback_never_asked", ("fallback.chain",), figures)


_ANALYSES: tuple[Callable[[Effective], Iterator[Hazard]], ...] = (
    _attempts_over_deadline,
    _slow_over_timeout,
    _trials_over_bulkhead,
    _links_never_asked,
)
