"""How Holdfast and what services depend on are, as `application/health+json`.

Nothing here can hang: Holdfast's own parts are asked with a deadline on an event loop elsewhere, a
token is known from memory, and what is in the database is read only after the database answered.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from apps.core import clock, loops, pace
from apps.core.actor import Actor
from apps.core.permissions import actor_of, requires
from apps.delivery import scores, state
from apps.delivery.answers import STALE_AFTER
from apps.delivery.api import HealthJSON, WhateverTheyAccept
from apps.delivery.authentication import RememberedToken
from apps.health import rules
from apps.health.selectors import Answer, CheckState, answer_of, cut_off, hosts, parts, states
from apps.health.selectors.scores import Scores

LATE_ROUNDS = 3  # a loop without a good round for so many of its intervals is late
LATE_SECONDS = 10.0  # and for at least so long
SCHEMA = {
    "type": "object",
    "required": ["status", "checks"],
    "properties": {
        "status": {"type": "string", "enum": ["pass", "warn", "fail"]},
        "version": {"type": "string"},
        "description": {"type": "string"},
        "output": {"type": "string"},
        "score": {"type": "string", "enum": ["healthy", "degraded", "unhealthy"]},
        "health": scores.HEALTH,
        "checks": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "object"}},
        },
    },
}
ANSWERS = {
    200: OpenApiResponse(SCHEMA, "pass or warn."),
    503: OpenApiResponse(SCHEMA, "fail: `checks` says what."),
}
AUTH: list[str] = [{"token": []}, {"session": []}]  # type: ignore[list-item]  # OpenAPI wants what the stubs forbid
Checks = dict[str, list[dict[str, Any]]]


def part_of(name: str, found: Answer) -> Checks:
    """One of Holdfast's own parts, as the draft writes it."""
    entry: dict[str, Any] = {
        "componentId": name,
        "componentType": found.kind,
        "status": found.status,
        "time": clock.rfc3339(found.at),
    }
    if found.output:
        entry["output"] = found.output
    if found.latency is not None:
        entry |= {"observedValue": round(1000 * found.latency, 3), "observedUnit": "ms"}
    if found.facts:
        entry["facts"] = dict(found.facts)
    return {f"{name}:responseTime": [entry]}


def dependency_of(found: CheckState) -> Checks:
    """What a check says of a server that services depend on."""
    entry: dict[str, Any] = {
        "componentId": found.dependency or found.name,
        "componentType": "system" if found.kind == "host" else "component",
        "status": "warn" if found.is_stale else rules.HEALTH_OF[found.status],
        "state": found.status,
        "time": clock.rfc3339_or_none(found.observed_at),
        "since": clock.rfc3339_or_none(found.since),
        "stale": found.is_stale,
        "successRate": found.success_rate,
        "critical": found.critical,
    }
    if found.flapping_share is not None:
        entry["flapping"] = found.flapping_share
    if found.because_of:
        entry["becauseOf"] = found.because_of
    if found.detail:
        entry["output"] = found.detail
    if found.latency_seconds is not None:
        entry |= {"observedValue": round(1000 * found.latency_seconds, 3), "observedUnit": "ms"}
    return {f"{found.name}:responseTime": [entry]}


def respond(checks: Checks, *, worst: str | None = None, **members: Any) -> Response:
    """The document, and the status code that its status asks for."""
    entries = (entry for found in checks.values() for entry in found)
    status = worst or rules.health_of(scores.deciding(entries))
    body: Mapping[str, Any] = {
        "status": status,
        "version": settings.VERSION,
        "description": "Holdfast",
        "score": rules.SCORE_OF[status],
        **members,
        "checks": checks,
    }
    response = Response(body, 503 if status == "fail" else 200)
    response["Cache-Control"] = "no-store"
    return response


class HealthView(APIView):
    """What the addresses below have in common: the scope, the form, the token from memory."""

    authentication_classes = [
        RememberedToken,
        *api_settings.DEFAULT_AUTHENTICATION_CLASSES,  # type: ignore[list-item]  # by then classes
    ]
    permission_classes = [requires("health:read")]
    renderer_classes = [HealthJSON]
    content_negotiation_class = WhateverTheyAccept


class PartView(HealthView):
    """GET /api/v1/health/{db,redis,rabbitmq,celery} → 200, 503; 401, 403."""

    part = ""

    @extend_schema(responses=ANSWERS, auth=AUTH)
    def get(self, request: Request) -> Response:
        """How one part of Holdfast's own is, asked now."""
        return respond(part_of(self.part, answer_of(self.part)))


class DependenciesView(HealthView):
    """GET /api/v1/health/dependencies → 200, 503; 400 no environment named, 401, 403."""

    @extend_schema(responses=ANSWERS, auth=AUTH)
    def get(self, request: Request) -> Response:
        """How what services of the environment depend on is: what checks last saw, and scores.

        One that is down is a warning at most if services can do without it.
        """
        return _scored(
            actor_of(request),
            lambda actor, found: _dependencies(actor.environment_id) | scores.dependencies(found),
        )


class ServicesView(HealthView):
    """GET /api/v1/health/services → 200, 503; 400 no environment named, 401, 403."""

    @extend_schema(responses=ANSWERS, auth=AUTH)
    def get(self, request: Request) -> Response:
        """Status and score of each service of the environment, the worst first.

        A token of one service is told of that alone.
        """
        return _scored(
            actor_of(request), lambda actor, found: scores.services(found, scores.own_name(actor))
        )


class OverallView(HealthView):
    """GET /api/v1/health → 200, 503; 401, 403."""

    @extend_schema(responses=ANSWERS, auth=AUTH)
    def get(self, request: Request) -> Response:
        """Holdfast's own parts, and the dependencies of the environment in one word each.

        A dependency that is down does not make Holdfast fail: the worst it does is a warning.
        """
        own = _own_parts()
        worst = rules.health_of(entry["status"] for found in own.values() for entry in found)
        theirs = _dependencies_if_known(actor_of(request), own)
        if worst == "pass" and _is_troubled(theirs):
            worst = "warn"
        return respond(own | theirs, worst=worst)


class DetailedView(HealthView):
    """GET /api/v1/health/detailed → 200, 503; 401, 403."""

    @extend_schema(responses=ANSWERS, auth=AUTH)
    def get(self, request: Request) -> Response:
        """The same with this process's background loops and their age, hosts and policies."""
        own = _own_parts()
        checks = own | _loops() | _pace() | _policies()
        worst = rules.health_of(entry["status"] for found in checks.values() for entry in found)
        theirs = _dependencies_if_known(actor_of(request), own)
        if own["db:responseTime"][0]["status"] != "fail":
            checks |= _hosts() | _cut_off()
            theirs |= _scores_if_known(actor_of(request))
        if worst == "pass" and _is_troubled(theirs):
            worst = "warn"
        return respond(checks | theirs, worst=worst)


def _scored(actor: Actor, told: Callable[[Actor, Scores], Checks]) -> Response:
    """What is known from the database of the actor's environment, once that has answered."""
    here = actor.environment_id
    database = answer_of("db")
    if database.status == "fail":
        return respond(part_of("db", database))
    found = scores.scores_of(here)
    return respond(told(actor, found), **scores.environments(found, actor))


def _own_parts() -> Checks:
    checks: Checks = {}
    for name in parts():
        checks |= part_of(name, answer_of(name))
    return checks


def _dependencies(environment_id: int) -> Checks:
    checks: Checks = {}
    for found in states(environment_id):
        checks |= dependency_of(found)
    return checks


def _dependencies_if_known(actor: Actor, own: Checks) -> Checks:
    """Those of the one environment that the caller acts in, if the database can be read."""
    if len(actor.environment_ids) != 1 or own["db:responseTime"][0]["status"] == "fail":
        return {}
    return _dependencies(actor.environment_id)


def _scores_if_known(actor: Actor) -> Checks:
    """Of the one environment that the caller acts in."""
    if len(actor.environment_ids) != 1:
        return {}
    found = scores.scores_of(actor.environment_id)
    return scores.services(found, scores.own_name(actor)) | scores.dependencies(found)


def _is_troubled(checks: Checks) -> bool:
    return any(
        entry.get("status", "pass") != "pass" for found in checks.values() for entry in found
    )


def _loops() -> Checks:
    """Of this process. One that has not ended a round well for long is late."""
    checks: Checks = {}
    for loop in loops.registered():
        is_late = loop.age > max(LATE_SECONDS, LATE_ROUNDS * loop.every)
        checks[f"{loop.name}:age"] = [
            {
                "componentId": f"loop {loop.name}",
                "componentType": "component",
                "status": "warn" if is_late and loop.is_alive else "pass",
                "observedValue": round(loop.age, 1),
                "observedUnit": "s",
                "running": loop.is_alive,
                "restarts": loop.restarts,
            }
        ]
    return checks


def _pace() -> Checks:
    pacer = pace.current
    return {
        "pace:factor": [
            {
                "componentId": "pace dictated to services",
                "componentType": "component",
                "status": "warn" if pacer.factor > 1 else "pass",
                "observedValue": pacer.factor,
                "observedUnit": "times slower than set",
                "loop_late_seconds": round(pacer.late_seconds, 3),
            }
        ]
    }


def _policies() -> Checks:
    snapshot = state.get().snapshot
    age = None if snapshot is None else time.monotonic() - snapshot.reached_at
    status = "pass" if age is not None and age < STALE_AFTER else "warn"
    entry: dict[str, Any] = {
        "componentId": "policies in memory",
        "componentType": "component",
        "status": status,
    }
    if age is not None:
        entry |= {"observedValue": round(age, 1), "observedUnit": "s"}
    else:
        entry["output"] = _("not read yet by this process")
    return {"policies:age": [entry]}


def _cut_off() -> Checks:
    """Of whole installation: processes whose own network is the likelier fault."""
    text = _("%(failing)d of %(places)d unrelated places fail: the prober itself is cut off")
    return {
        f"prober {found.name}:sight": [
            {
                "componentId": f"prober {found.name}",
                "componentType": "component",
                "status": "warn",
                "time": clock.rfc3339(found.at),
                "since": clock.rfc3339(found.since),
                "output": text % {"failing": found.failing, "places": found.places},
            }
        ]
        for found in cut_off()
    }


def _hosts() -> Checks:
    return {
        f"host {found.name}:utilization": [
            {
                "componentId": f"host {found.name}",
                "componentType": "system",
                "status": "warn" if found.is_stale else "pass",
                "time": clock.rfc3339(found.measured_at),
                "facts": {
                    "cpu_share": found.cpu,
                    "memory_share": found.memory,
                    "disk_free_share": found.disk_free,
                    "received_bytes_per_second": found.received,
                    "sent_bytes_per_second": found.sent,
                    "load": found.load,
                },
            }
        ]
        for found in hosts()
    }
