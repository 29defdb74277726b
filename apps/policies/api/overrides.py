"""Overrides: an operator's word on a breaker, for a time."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core import clock
from apps.core.api import Strict, Whole, if_match, lease_field, query, respond, valid
from apps.core.db import get_visible
from apps.core.leases import DEFAULT_LEASE, LONGEST_REASON, lease_of
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.policies import services
from apps.policies.api.shapes import REASON, ScopeIn, scope_of
from apps.policies.models import Override


class OverrideOut(serializers.ModelSerializer[Override]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    dependency = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    in_force = serializers.BooleanField(source="is_in_force", read_only=True)

    class Meta:
        model = Override
        fields = (
            *("id", "environment", "service", "dependency", "mode", "in_force", "reason"),
            *("set_by", "set_at", "expires_at", "ended_at", "ended_by", "end_reason", "version"),
        )
        read_only_fields = fields


def _lease_field() -> Whole:
    return lease_field(
        default=int(DEFAULT_LEASE.total_seconds()),
        help_text="From now on; null: until somebody ends it.",
    )


class OverrideIn(ScopeIn):
    dependency = serializers.CharField(max_length=80, help_text="Slug.")
    mode = serializers.ChoiceField(Override.Mode.choices)
    reason = serializers.CharField(max_length=LONGEST_REASON)
    lease_seconds = _lease_field()


class OverrideExtendIn(Strict):
    reason = REASON
    lease_seconds = _lease_field()


class OverrideEndIn(Strict):
    reason = serializers.CharField(max_length=LONGEST_REASON)


class OverrideQuery(Strict):
    in_force = serializers.BooleanField(required=False, help_text="Whether it holds now.")
    mode = serializers.ChoiceField(Override.Mode.choices, required=False)
    service = serializers.CharField(max_length=80, required=False)
    dependency = serializers.CharField(max_length=80, required=False)


class OverridesView(APIView):
    """GET and POST /api/v1/overrides → 200 page, 201 override; 400, 403, 409 one is in force."""

    permission_classes = [requires("config:read", write="overrides:write")]

    @extend_schema(parameters=[OverrideQuery, *PAGE], responses=listed(OverrideOut))
    def get(self, request: Request) -> Response:
        """The overrides in force and those that were."""
        wanted = query(OverrideQuery, request)
        rows = Override.objects.visible_to(actor_of(request))
        if "in_force" in wanted:
            now = Override.objects.in_force(clock.now()).values("pk")
            rows = rows.filter(pk__in=now) if wanted["in_force"] else rows.exclude(pk__in=now)
        if "mode" in wanted:
            rows = rows.filter(mode=wanted["mode"])
        names = {"service", "dependency"} & wanted.keys()
        rows = rows.filter(**{f"{name}__slug": wanted[name] for name in names})
        return page_of(rows, OverrideOut, request, self)

    @extend_schema(request=OverrideIn, responses={201: OverrideOut})
    def post(self, request: Request) -> Response:
        """Override the breakers of a dependency, everywhere or for one service's calls."""
        body = valid(OverrideIn, request.data)
        actor = actor_of(request)
        override = services.engage_override(
            body["mode"],
            scope=scope_of(body, actor),
            lease=lease_of(body),
            reason=body["reason"],
            actor=actor,
        )
        location = f"/api/v1/overrides/{override.pk}"
        return respond(
            OverrideOut(override), version=override.version, status=201, location=location
        )


class OverrideView(APIView):
    """GET /api/v1/overrides/{id} → 200; 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=OverrideOut)
    def get(self, request: Request, override_id: int) -> Response:
        """One override, with its ETag."""
        row = get_visible(Override.objects, actor=actor_of(request), pk=override_id)
        return respond(OverrideOut(row), version=row.version)


class OverrideExtendView(APIView):
    """POST /api/v1/overrides/{id}/extend → 200 override; 400, 403, 404, 409 ended, 412, 428."""

    permission_classes = [requires("overrides:write")]
    representation = OverrideOut

    @extend_schema(request=OverrideExtendIn, responses=OverrideOut, parameters=[IF_MATCH])
    def post(self, request: Request, override_id: int) -> Response:
        """Let it end that much time from now instead."""
        body = valid(OverrideExtendIn, request.data)
        override = services.extend_override(
            override_id,
            version=if_match(request),
            lease=lease_of(body),
            reason=body["reason"],
            actor=actor_of(request),
        )
        return respond(OverrideOut(override), version=override.version)


class OverrideEndView(APIView):
    """POST /api/v1/overrides/{id}/end → 200 override; 400, 403, 404, 409 ended, 412, 428."""

    permission_classes = [requires("overrides:write")]
    representation = OverrideOut

    @extend_schema(request=OverrideEndIn, responses=OverrideOut, parameters=[IF_MATCH])
    def post(self, request: Request, override_id: int) -> Response:
        """Let the breakers go on by themselves."""
        body = valid(OverrideEndIn, request.data)
        override = services.end_override(
            override_id, version=if_match(request), reason=body["reason"], actor=actor_of(request)
        )
        return respond(OverrideOut(override), version=override.version)
