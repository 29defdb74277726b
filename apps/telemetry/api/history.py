"""Any span of time of a service, a dependency or an environment: for charts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core import clock
from apps.core.actor import Actor
from apps.core.api import Strict, query
from apps.core.db import get_visible
from apps.core.errors import RuleBroken
from apps.core.permissions import actor_of, requires
from apps.fleet.models import Dependency, Service
from apps.telemetry import rules
from apps.telemetry.models import Sum
from apps.telemetry.selectors import instances_of
from apps.telemetry.selectors.history import LONGEST, Axis, Cell, Many, Series, axis_of, series
from apps.telemetry.selectors.lanes import Lanes, Where, lanes_of

USUAL = timedelta(hours=1)  # shown of whoever names no beginning
EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)  # before that nothing can have been counted
MOST_INSTANCES = 200  # told of one service
Figures = Callable[[rules.Counts, float], dict[str, float | None]]

NO_TIME = rules.Counts()
UNITS = {
    "per_second": "Calls a second.",
    "error_rate": "Share of failures among `judged`, 0 to 1; null below 5.",
    "availability": "Share of successes among `wanted` (of requests: of those without a 5xx, among"
    " `count`), 0 to 1; null below 5.",
    "client_error_rate": "Share of 4xx among `count`, 0 to 1; null below 5.",
    "server_error_rate": "Share of 5xx among `count`, 0 to 1; null below 5.",
    "judged": "n: calls that succeeded or failed.",
    "wanted": "n: calls that succeeded, failed or were rejected.",
    "timed": "n: durations that were measured.",
    "p50": "Seconds, at most 4.8 % off; null below 5 in `timed`.",
    "p95": "Seconds, at most 4.8 % off; null below 5 in `timed`.",
    "p99": "Seconds, at most 4.8 % off; null below 5 in `timed`.",
}
FRACTIONS = {"per_second", "p50", "p95", "p99", *(name for name in UNITS if name.endswith("rate"))}
FRACTIONS.add("availability")


class TrafficHistoryQuery(Strict):
    service = serializers.CharField(
        max_length=80, required=False, help_text="Slug; without it, of all services."
    )
    dependency = serializers.CharField(
        max_length=80, required=False, help_text="Slug; without it, of all dependencies."
    )
    since = serializers.DateTimeField(
        required=False, help_text="An hour before `until` without it; 90 days before it at most."
    )
    until = serializers.DateTimeField(required=False, help_text="Exclusive; now without it.")


def _shape(name: str, figures: Figures, *, many: bool) -> type[serializers.Serializer[Any]]:
    """The figures as columns: one number for each step, or one for all of them."""

    def field(column: str) -> serializers.Field[Any, Any, Any, Any]:
        kind = serializers.FloatField if column in FRACTIONS else serializers.IntegerField
        text = UNITS.get(column)
        if many:
            return serializers.ListField(child=kind(allow_null=True), help_text=text)
        return kind(allow_null=True, help_text=text)

    columns = {column: field(column) for column in figures(NO_TIME, 0)}
    return type(name, (serializers.Serializer,), columns)


CallPointsOut = _shape("CallPointsOut", rules.call_figures, many=True)
CallTotalOut = _shape("CallTotalOut", rules.call_figures, many=False)
RequestPointsOut = _shape("RequestPointsOut", rules.request_figures, many=True)
RequestTotalOut = _shape("RequestTotalOut", rules.request_figures, many=False)


class RequestsOut(serializers.Serializer[Any]):
    points = RequestPointsOut()
    total = RequestTotalOut()


class IntervalOut(serializers.Serializer[Any]):
    state = serializers.ChoiceField(["open", "half_open"])
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    instances = serializers.IntegerField(help_text="In that state at a time, at most.")


class LaneOut(serializers.Serializer[Any]):
    service = serializers.CharField()
    dependency = serializers.CharField()
    intervals = IntervalOut(many=True)


class InstanceResourcesOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    heard_at = serializers.DateTimeField()
    is_live = serializers.BooleanField()
    resources = serializers.DictField(
        child=serializers.FloatField(allow_null=True), help_text="Shares of its host, 0 to 1."
    )


class TrafficHistoryOut(serializers.Serializer[Any]):
    start = serializers.DateTimeField(help_text="Of the first step; a multiple of its length.")
    end = serializers.DateTimeField(help_text="What is told ends there; the last step maybe later.")
    step_seconds = serializers.IntegerField(help_text="From one point to the next.")
    least_samples = serializers.IntegerField(help_text="Fewer than that say nothing: null.")
    points = CallPointsOut(help_text="Guarded calls, a number for each step; null: none counted.")
    total = CallTotalOut(help_text="The same of the whole time.")
    requests = RequestsOut(
        allow_null=True, help_text="Services' own requests; null where a dependency is named."
    )
    lanes = LaneOut(many=True, help_text="When breakers were not closed, the longest first.")
    more_lanes = serializers.IntegerField(help_text="Lanes left out.")
    lanes_cut = serializers.BooleanField(help_text="Breakers moved too often for all to be told.")
    instances = InstanceResourcesOut(
        many=True, help_text="Of the service named, as they are now; 200 at most."
    )


class HistoryView(APIView):
    """GET /api/v1/history → 200; 400, 401, 403, 404."""

    permission_classes = [requires("health:read")]

    @extend_schema(parameters=[TrafficHistoryQuery], responses=TrafficHistoryOut)
    def get(self, request: Request) -> Response:
        """How calls and requests went over any span, in at most 300 steps, oldest first.

        Steps are 10 s for the last two hours, minutes for seven days, hours beyond, or several of
        them. A token of a service is told of that service.
        """
        actor = actor_of(request)
        wanted = query(TrafficHistoryQuery, request)
        axis = _axis(wanted)
        service = _service(wanted, actor)
        dependency = wanted.get("dependency", "")
        if dependency:
            get_visible(
                Dependency.objects, actor=actor, environment=actor.environment_id, slug=dependency
            )
        return Response(_told(actor.environment_id, service, dependency, axis))


def _axis(wanted: dict[str, Any]) -> Axis:
    now = clock.now()
    until = min(wanted.get("until", now), now)
    since = wanted.get("since", until - USUAL if until > EARLIEST else until)
    text = None
    if since >= until or since < EARLIEST:
        text = _("Must be before until, and in the past; not before 1970.")
    elif until - since > LONGEST:
        text = _("At most 90 days are told at a time.")
    if text is not None:
        raise RuleBroken(text, errors={"since": [text]})
    return axis_of(since, until)


def _service(wanted: dict[str, Any], actor: Actor) -> Service | None:
    """The service named; a service's token means its own."""
    here = Service.objects.filter(environment=actor.environment_id)
    if "service" in wanted:
        return get_visible(here, actor=actor, slug=wanted["service"])
    return None if actor.service_id is None else get_visible(here, actor=actor, pk=actor.service_id)


def _told(
    environment_id: int, service: Service | None, dependency: str, axis: Axis
) -> dict[str, Any]:
    calls = series(_calls_of(environment_id, service, dependency), axis)
    slug = "" if service is None else service.slug
    lanes = lanes_of(Where(environment_id, axis.start, axis.end, slug, dependency))
    return {
        "start": clock.rfc3339(axis.start),
        "end": clock.rfc3339(axis.end),
        "step_seconds": axis.step,
        "least_samples": rules.LEAST_SAMPLES,
        **_figures(calls, axis, rules.call_figures),
        "requests": None if dependency else _requests(environment_id, service, axis),
        **_lanes(lanes),
        "instances": [] if service is None else _instances(service),
    }


def _calls_of(environment_id: int, service: Service | None, dependency: str) -> Cell | Many:
    if service is not None and dependency:
        return Cell(service.pk, dependency)
    if service is not None:
        return Many(environment_id, Sum.Of.SERVICE, service.slug)
    of = Sum.Of.DEPENDENCY if dependency else Sum.Of.CALLS
    return Many(environment_id, of, dependency)


def _requests(environment_id: int, service: Service | None, axis: Axis) -> dict[str, Any]:
    everybody = Many(environment_id, Sum.Of.REQUESTS)
    told = series(everybody if service is None else Cell(service.pk, ""), axis)
    return _figures(told, axis, rules.request_figures)


def _figures(told: Series, axis: Axis, figures: Figures) -> dict[str, Any]:
    """`{points: {column: [a number or null for each step]}, total: {column: number or null}}`."""
    names = list(figures(NO_TIME, 0))
    rows = [
        figures(counts, axis.seconds(start)) if counts is not None else dict.fromkeys(names)
        for start, counts in zip(axis.starts, told.steps, strict=True)
    ]
    seconds = (axis.end - axis.start).total_seconds()
    return {
        "points": {name: [row[name] for row in rows] for name in names},
        "total": figures(told.total, seconds),
    }


def _lanes(told: Lanes) -> dict[str, Any]:
    lanes = LaneOut(told.lanes, many=True).data
    return {"lanes": lanes, "more_lanes": told.more, "lanes_cut": told.is_cut}


def _instances(service: Service) -> list[dict[str, Any]]:
    shown = instances_of(service.environment_id, service_id=service.pk, most=MOST_INSTANCES)
    return [
        {
            "id": str(each.id),
            "name": each.name,
            "heard_at": clock.rfc3339(each.heard_at),
            "is_live": each.is_live,
            "resources": each.resources,
        }
        for each in shown
    ]
