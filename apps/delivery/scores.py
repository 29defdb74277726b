"""Health scores as `application/health+json`: an entry for each service and each dependency.

An entry of which nothing is known has no status of its own, and does not decide the document's.
"""

from collections.abc import Iterable
from typing import Any

from apps.core import clock
from apps.core.actor import Actor
from apps.deadletters.selectors import depths
from apps.fleet.models import Service
from apps.health.rules import score as rules
from apps.health.selectors.scores import Health, Scores, scores

STATUS_OF = {rules.HEALTHY: "pass", rules.DEGRADED: "warn", rules.UNHEALTHY: "fail"}
HEALTH = {
    "type": "object",
    "description": "Status, apart from a score and what it was lost to.",
    "required": ["status", "score", "coverage", "deductions"],
    "properties": {
        "status": {"type": "string", "enum": [*rules.WORST_FIRST, rules.UNKNOWN]},
        "score": {
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": 100,
            "description": "null: not enough data.",
        },
        "coverage": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "Share of what the score could be made of that is known.",
        },
        "error_rate": {"type": ["number", "null"], "description": "Of `samples`; null: too few."},
        "samples": {"type": "integer", "description": "Calls of the last five minutes."},
        "p95_seconds": {"type": ["number", "null"]},
        "deductions": {
            "type": "array",
            "maxItems": rules.MOST_DEDUCTIONS,
            "description": "What cost most points, the largest first.",
            "items": {
                "type": "object",
                "properties": {
                    "points": {"type": "number"},
                    "kind": {"type": "string"},
                    "subject": {"type": "string"},
                    "text": {"type": "string"},
                },
            },
        },
    },
}
Checks = dict[str, list[dict[str, Any]]]


def scores_of(environment_id: int) -> Scores:
    """Of everything in an environment; nine queries."""
    waiting = {each.service: each.unresolved for each in depths(environment_id)}
    return scores(environment_id, waiting)


def own_name(actor: Actor) -> str | None:
    """The service that a token is bound to; None if it may see every one."""
    if actor.service_id is None:
        return None
    return Service.objects.filter(pk=actor.service_id).values_list("slug", flat=True).first()


def health_of(found: Health) -> dict[str, Any]:
    """The member `health`: of the environment, of a service or of a dependency."""
    return {
        "status": found.status,
        "score": found.score,
        "coverage": round(found.coverage, 3),
        "error_rate": found.error_rate,
        "samples": found.samples,
        "p95_seconds": found.p95,
        "deductions": found.losses,
    }


def environments(found: Scores, actor: Actor) -> dict[str, Any]:
    """The member of the whole; not for one service, as it names the others."""
    return {} if actor.service_id is not None else {"health": health_of(found.environment)}


def services(found: Scores, only: str | None) -> Checks:
    """An entry for each service, those that need attention first; of one, where named."""
    return {
        f"service {one.name}:score": [_entry(one, "system")]
        for one in found.worst_first
        if only in (None, one.name)
    }


def dependencies(found: Scores) -> Checks:
    """An entry for each dependency, by name."""
    return {
        f"dependency {one.name}:score": [
            _entry(one, "component")
            | {"critical": one.critical, "lastChecked": clock.rfc3339_or_none(one.checked_at)}
        ]
        for one in found.dependencies
    }


def _entry(found: Health, kind: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"componentId": found.name, "componentType": kind}
    if found.status in STATUS_OF:
        entry["status"] = STATUS_OF[found.status]
    if found.score is not None:
        entry |= {"observedValue": found.score, "observedUnit": "points of 100"}
    if found.losses:
        entry["output"] = "; ".join(each["text"] for each in found.losses)
    return entry | {"health": health_of(found)}


def deciding(entries: Iterable[dict[str, Any]]) -> Iterable[str]:
    """The statuses that decide a document's: what services can do without warns at most."""
    for entry in entries:
        if "status" in entry:
            is_mild = entry["status"] == "fail" and not entry.get("critical", True)
            yield "warn" if is_mild else entry["status"]
