"""Silences over HTTP."""

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.alerts import services
from apps.alerts.models import Silence
from apps.alerts.rules import bounds
from apps.alerts.rules.matching import MOST_MATCHERS, NAMES
from apps.core import clock
from apps.core.api import Strict, Whole, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.leases import LONGEST_REASON
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE


class Matcher(Strict):
    name = serializers.ChoiceField(NAMES)
    value = serializers.CharField(max_length=200, allow_blank=True, trim_whitespace=False)
    is_equal = serializers.BooleanField(default=True, help_text="false: everything but this.")


class SilenceOut(serializers.ModelSerializer[Silence]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    matchers = Matcher(many=True, read_only=True)
    state = serializers.ChoiceField(["pending", "active", "expired"], read_only=True)

    class Meta:
        model = Silence
        fields = (
            *("id", "environment", "matchers", "starts_at", "ends_at", "state", "reason"),
            *("author", "created_at", "version"),
        )
        read_only_fields = fields


class SilenceIn(Strict):
    matchers = serializers.ListField(
        child=Matcher(), min_length=1, max_length=MOST_MATCHERS, help_text="All must hold."
    )
    starts_at = serializers.DateTimeField(
        required=False, allow_null=True, default=None, help_text="null: now."
    )
    lease_seconds = Whole(
        min_value=bounds.SHORTEST_SILENCE,
        max_value=bounds.LONGEST_SILENCE,
        help_text="How long it holds: from a minute to 30 days.",
    )
    reason = serializers.CharField(max_length=LONGEST_REASON)


class SilenceEndIn(Strict):
    reason = serializers.CharField(max_length=LONGEST_REASON)


class SilenceQuery(Strict):
    active = serializers.BooleanField(required=False, help_text="Whether it holds now.")


class SilencesView(APIView):
    """GET and POST /api/v1/silences → 200 page, 201 silence; 400, 403."""

    permission_classes = [requires("config:read", write="alerts:write")]

    @extend_schema(parameters=[SilenceQuery, *PAGE], responses=listed(SilenceOut))
    def get(self, request: Request) -> Response:
        """Of which alerts nobody is told for a time."""
        wanted = query(SilenceQuery, request)
        rows = Silence.objects.visible_to(actor_of(request)).select_related("environment")
        if "active" in wanted:
            active = Silence.objects.active(clock.now()).values("pk")
            rows = rows.filter(pk__in=active) if wanted["active"] else rows.exclude(pk__in=active)
        return page_of(rows, SilenceOut, request, self)

    @extend_schema(request=SilenceIn, responses={201: SilenceOut})
    def post(self, request: Request) -> Response:
        """Hold messages about matching alerts back; they are evaluated and resolved as ever."""
        body = valid(SilenceIn, request.data)
        silence = services.create_silence(
            body["matchers"],
            starts_at=body["starts_at"],
            lease=timedelta(seconds=body["lease_seconds"]),
            reason=body["reason"],
            actor=actor_of(request),
        )
        location = f"/api/v1/silences/{silence.pk}"
        return respond(SilenceOut(silence), version=silence.version, status=201, location=location)


class SilenceView(APIView):
    """GET /api/v1/silences/{id} → 200; 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=SilenceOut)
    def get(self, request: Request, silence_id: int) -> Response:
        """One silence, with its ETag."""
        rows = Silence.objects.select_related("environment")
        silence = get_visible(rows, actor=actor_of(request), pk=silence_id)
        return respond(SilenceOut(silence), version=silence.version)


class SilenceEndView(APIView):
    """POST /api/v1/silences/{id}/end → 200; 400, 403, 404, 409 ended, 412, 428."""

    permission_classes = [requires("alerts:write")]
    representation = SilenceOut

    @extend_schema(request=SilenceEndIn, responses=SilenceOut, parameters=[IF_MATCH])
    def post(self, request: Request, silence_id: int) -> Response:
        """End it now; what it held back and is still so is told."""
        body = valid(SilenceEndIn, request.data)
        silence = services.end_silence(
            silence_id, version=if_match(request), reason=body["reason"], actor=actor_of(request)
        )
        return respond(SilenceOut(silence), version=silence.version)
