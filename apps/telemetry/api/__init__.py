"""Reports in; convergence and breaker events out."""

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.api import Strict, query
from apps.core.errors import RuleBroken
from apps.core.paging import listed, page_of
from apps.core.parsers import StrictJSONParser
from apps.core.permissions import actor_of, requires
from apps.core.schema import PAGE, PROBLEM
from apps.fleet.models import Service
from apps.telemetry import ingest, reports, services
from apps.telemetry.models import BreakerEvent
from apps.telemetry.selectors.convergence import converged, convergence


@dataclass(frozen=True)
class Received:
    """A report and how many bytes it came to."""

    report: reports.Report
    size: int


class ReportParser(StrictJSONParser):
    """Read a report straight from its bytes; what is wrong is refused by the member's name."""

    def read(self, body: bytes) -> Received:
        return Received(reports.read(body), len(body))


class AcceptedOut(serializers.Serializer[Any]):
    report_seconds = serializers.FloatField(help_text="Seconds between reports from now on.")


class ReportsView(APIView):
    """POST /api/v1/reports → 202 {report_seconds}; 400, 401, 403, 404, 409, 413, 415, 429."""

    permission_classes = [requires("reports:write")]
    parser_classes = [ReportParser]

    @extend_schema(
        request={"application/json": reports.schema()},
        responses={202: AcceptedOut, (429, "application/problem+json"): PROBLEM},
        description=(
            "What an instance counted since its last report. Counted once per instance and "
            "sequence. Acknowledgements are accepted when there is no room for other reports."
        ),
    )
    def post(self, request: Request) -> Response:
        received = request.data
        if not isinstance(received, Received):
            raise RuleBroken(_("The body is empty."), errors={"body": [_("A report is required.")]})
        service = services.reporting_service(received.report.service, actor=actor_of(request))
        environment_id = service.environment_id
        ingest.current.services[environment_id, service.slug] = service.pk
        seconds = ingest.current.accept(environment_id, service.pk, received.report, received.size)
        if seconds is None:
            raise Throttled(wait=ingest.RETRY_AFTER_SECONDS)
        return Response({"report_seconds": seconds}, 202)


class RefusalOut(serializers.Serializer[Any]):
    instance = serializers.CharField()
    path = serializers.CharField()
    revision = serializers.IntegerField(allow_null=True)
    code = serializers.CharField()
    detail = serializers.CharField()


class SharesOut(serializers.Serializer[Any]):
    """What is told of a service and of a whole environment alike."""

    applied = serializers.IntegerField(help_text="N: live instances that run the target.")
    total = serializers.IntegerField(help_text="M: live instances.")
    share = serializers.FloatField(allow_null=True, help_text="N / M; null without any.")
    silent = serializers.IntegerField(help_text="Not heard within three report intervals.")
    stopping = serializers.IntegerField()
    p95_delay = serializers.FloatField(
        allow_null=True,
        help_text="Seconds from publishing within which 95 % of the instances that waited for the"
        " target applied it; null of none.",
    )
    measured = serializers.SerializerMethodField(help_text="How many instances that is of.")
    behind_seconds = serializers.FloatField(
        allow_null=True,
        help_text="For how long a live instance has lacked something published; null: none does.",
    )

    def get_measured(self, told: Any) -> int:
        return len(told.delays)


class ConvergenceOut(SharesOut):
    service = serializers.CharField()
    target_revision = serializers.IntegerField()
    published_at = serializers.DateTimeField(allow_null=True, help_text="When the target was.")
    laggards = serializers.ListField(child=serializers.CharField())
    silent_names = serializers.ListField(child=serializers.CharField())
    refused = RefusalOut(many=True)


class ConvergenceView(APIView):
    """GET /api/v1/convergence → 200 page of services by name; 400, 401, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=PAGE, responses=listed(ConvergenceOut))
    def get(self, request: Request) -> Response:
        """How many of each service's processes run its newest revision, and which do not."""
        actor = actor_of(request)
        query(Strict, request)
        return page_of(
            Service.objects.visible_to(actor).filter(environment=actor.environment_id),
            ConvergenceOut,
            request,
            self,
            order="slug",
            of=lambda found: convergence(actor.environment_id, found),
        )


class ConvergedOut(SharesOut):
    services = serializers.IntegerField()
    converged = serializers.IntegerField(help_text="Services none of whose instances lags.")
    refusing = serializers.IntegerField(help_text="Live instances that refuse something.")


class ConvergedView(APIView):
    """GET /api/v1/convergence/environment → 200; 400, 401, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=ConvergedOut)
    def get(self, request: Request) -> Response:
        """The same of the whole environment; of its own service only, for a service's token."""
        actor = actor_of(request)
        query(Strict, request)
        here = Service.objects.visible_to(actor).filter(environment=actor.environment_id)
        told = convergence(actor.environment_id, here.order_by("slug"))
        return Response(ConvergedOut(converged(told)).data)


class EventsQuery(Strict):
    service = serializers.CharField(max_length=80, required=False)
    dependency = serializers.CharField(max_length=80, required=False)


class EventOut(serializers.ModelSerializer[BreakerEvent]):
    service = serializers.CharField(source="service.slug")
    from_state = serializers.CharField(help_text="closed, open, half_open or empty.")
    to_state = serializers.CharField(help_text="closed, open, half_open or empty.")

    class Meta:
        model = BreakerEvent
        fields = [
            "id",
            "service",
            "dependency",
            "instance_id",
            "instance_name",
            "type",
            "from_state",
            "to_state",
            "cause",
            "at",
            "received_at",
            "data",
        ]


class EventsView(APIView):
    """GET /api/v1/events → 200 page of breaker events, newest first; 400, 401, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[*PAGE, EventsQuery], responses=listed(EventOut))
    def get(self, request: Request) -> Response:
        """What breakers did, newest first."""
        actor = actor_of(request)
        wanted = query(EventsQuery, request)
        events = BreakerEvent.objects.visible_to(actor).of_environment(actor.environment_id)
        if "service" in wanted:
            events = events.filter(service__slug=wanted["service"])
        if "dependency" in wanted:
            events = events.filter(dependency=wanted["dependency"])
        return page_of(events.select_related("service"), EventOut, request, self)
