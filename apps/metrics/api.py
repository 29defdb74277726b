"""Metrics for Prometheus: of the fleet, and of the process that is asked."""

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.actor import Actor
from apps.core.api import Strict, query
from apps.core.errors import Forbidden
from apps.core.permissions import actor_of, requires
from apps.metrics import own, rules, selectors


class PrometheusText(BaseRenderer):
    """Prometheus' text format 0.0.4."""

    media_type = "text/plain"
    format = "txt"
    charset = "utf-8"

    def render(self, data: bytes, *args: object, **kwargs: object) -> bytes:
        return data


class MetricsView(APIView):
    """GET /metrics and /api/v1/metrics → 200 text; 400, 401, 403, 404."""

    permission_classes = [requires("metrics:read")]
    renderer_classes = [PrometheusText]

    @extend_schema(
        responses={
            (200, "text/plain"): OpenApiResponse(
                {"type": "string"}, "Prometheus' text format, version 0.0.4."
            )
        }
    )
    def get(self, request: Request) -> Response:
        """Metrics of the environment's fleet, the same from every process, and of this process."""
        actor = actor_of(request)
        query(Strict, request)
        refuse_services(actor)
        fleet = "\n".join(rules.exposition(selectors.fleets(actor.environment_ids)))
        mine = own.exposition(own.process_name(request._request))
        return Response(
            f"{fleet}\n".encode() + mine, content_type="text/plain; version=0.0.4; charset=utf-8"
        )


def refuse_services(actor: Actor) -> None:
    """Raises Forbidden: what is measured is the environment's, not one service's."""
    if actor.service_id is not None:
        raise Forbidden(_("A token of one service cannot read the environment's metrics."))
