"""Markers: deployments and other instants to be found again."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.api import Strict, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.fleet.selectors import named_service
from apps.telemetry import markers
from apps.telemetry.models import Marker


class MarkerIn(Strict):
    title = serializers.CharField(max_length=200, help_text="In one line.")
    kind = serializers.ChoiceField(Marker.Kind.choices, default=Marker.Kind.DEPLOY)
    service = serializers.CharField(
        max_length=80, allow_null=True, default=None, help_text="Slug; null: the environment."
    )
    version = serializers.CharField(max_length=80, default="", allow_blank=True)
    url = serializers.URLField(max_length=500, default="", allow_blank=True)
    at = serializers.DateTimeField(required=False, help_text="Now, if left out.")
    key = serializers.CharField(
        max_length=100,
        default="",
        allow_blank=True,
        help_text="Of your choice: a request repeated with it marks once.",
    )

    def validate_url(self, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise serializers.ValidationError(_("It begins with http:// or https://."))
        return url


class MarkerOut(serializers.ModelSerializer[Marker]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    version = serializers.CharField(source="release")
    url = serializers.CharField(help_text="May be empty.")

    class Meta:
        model = Marker
        fields = (
            *("id", "environment", "service", "kind", "title", "version", "url", "at"),
            *("created_at", "created_by", "key"),
        )
        read_only_fields = fields


class MarkersView(APIView):
    """GET and POST /api/v1/markers → 200 page, 201, 200 marked before; 400, 403, 404, 409."""

    permission_classes = [requires("config:read", write="markers:write")]

    @extend_schema(parameters=PAGE, responses=listed(MarkerOut))
    def get(self, request: Request) -> Response:
        """Every marker, the one made last first."""
        query(Strict, request)
        rows = Marker.objects.visible_to(actor_of(request))
        return page_of(rows.select_related("environment", "service"), MarkerOut, request, self)

    @extend_schema(request=MarkerIn, responses={201: MarkerOut, 200: MarkerOut})
    def post(self, request: Request) -> Response:
        """Mark an instant on the time axis."""
        body, actor = valid(MarkerIn, request.data), actor_of(request)
        service = named_service(body.pop("service"), actor=actor)
        mark = markers.Mark(service=service, release=body.pop("version"), **body)
        row, is_new = markers.add_marker(mark, actor=actor)
        if not is_new:
            return respond(MarkerOut(row), version=row.version)
        location = f"/api/v1/markers/{row.pk}"
        return respond(MarkerOut(row), version=row.version, status=201, location=location)


class MarkerView(APIView):
    """GET and DELETE /api/v1/markers/{id} → 200, 204; 400, 403, 404, 412, 428."""

    permission_classes = [requires("config:read", write="markers:write")]

    @extend_schema(responses=MarkerOut)
    def get(self, request: Request, marker_id: int) -> Response:
        """One marker."""
        rows = Marker.objects.select_related("environment", "service")
        row = get_visible(rows, actor=actor_of(request), pk=marker_id)
        return respond(MarkerOut(row), version=row.version)

    @extend_schema(request=None, responses={204: None}, parameters=[IF_MATCH])
    def delete(self, request: Request, marker_id: int) -> Response:
        """Take a marker off the time axis."""
        markers.remove_marker(marker_id, version=if_match(request), actor=actor_of(request))
        return Response(status=204)
