"""What is in effect for a service, where each value comes from, and the way back."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.api import Strict, respond, valid
from apps.core.db import get_visible
from apps.core.errors import NotFound
from apps.core.leases import LONGEST_REASON
from apps.core.permissions import actor_of, requires
from apps.fleet.models import SLUG, Service
from apps.policies import selectors, services
from apps.policies.api.findings import MOST_FINDINGS, DryRunOut, FindingOut, planned, told
from apps.policies.models import Override
from apps.publication.models import Revision
from holdfast.spec import json_schema


class EffectiveValueOut(serializers.Serializer[selectors.EffectiveValue]):
    pattern = serializers.CharField(source="setting.pattern")
    key = serializers.CharField(source="setting.key")
    value = serializers.JSONField()
    unit = serializers.CharField(source="setting.unit")
    source = serializers.ChoiceField(  # type: ignore[assignment]  # a member, not DRF's argument
        ["default", "environment", "dependency", "service"],
        help_text="default: nobody set it, the SDK's own value holds.",
    )
    revision = serializers.IntegerField(allow_null=True)
    by = serializers.CharField()
    at = serializers.CharField(help_text="RFC 3339; empty: nobody set it.")


class OverrideInForceOut(serializers.Serializer[Any]):
    id = serializers.CharField()
    mode = serializers.ChoiceField(Override.Mode.choices)
    reason = serializers.CharField()
    set_by = serializers.CharField()
    set_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)


class EffectivePolicyOut(serializers.Serializer[selectors.EffectivePolicy]):
    dependency = serializers.CharField()
    override = OverrideInForceOut(allow_null=True)
    values = EffectiveValueOut(many=True)


class EffectiveOut(serializers.Serializer[Any]):
    service = serializers.CharField()
    dependencies = EffectivePolicyOut(many=True)
    findings = FindingOut(
        many=True, help_text=f"What is dangerous about it; at most {MOST_FINDINGS}."
    )


class RollbackIn(Strict):
    reason = serializers.CharField(max_length=LONGEST_REASON)


class RollbackPlanIn(Strict):
    """An empty object."""


class RestoredOut(serializers.Serializer[Revision]):
    number = serializers.IntegerField()
    restores = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField(source="actor_label")
    reason = serializers.CharField()
    warnings = serializers.SerializerMethodField(
        help_text=f"What is dangerous about what it changed; at most {MOST_FINDINGS}."
    )

    @extend_schema_field(FindingOut(many=True))
    def get_warnings(self, revision: Revision) -> Any:
        return told(selectors.warnings_of_revision(revision))


class EffectiveView(APIView):
    """GET /api/v1/effective/{service} → 200; 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=EffectiveOut)
    def get(self, request: Request, service: str) -> Response:
        """What a service must do about each dependency, and where each value comes from."""
        if not SLUG.fullmatch(service):
            raise NotFound(_("There is no such service in this environment."))
        actor = actor_of(request)
        row = get_visible(
            Service.objects, actor=actor, environment_id=actor.environment_id, slug=service
        )
        found = {
            "service": row.slug,
            "dependencies": selectors.effective(row),
            "findings": selectors.findings_of_service(row)[:MOST_FINDINGS],
        }
        return Response(EffectiveOut(found).data)


class RollbackView(APIView):
    """POST /api/v1/revisions/{number}/rollback → 201 new revision; 400, 403, 404, 409 same."""

    permission_classes = [requires("config:write")]

    @extend_schema(request=RollbackIn, responses={201: RestoredOut})
    def post(self, request: Request, number: int) -> Response:
        """Restore the settings as that revision had them; flags and overrides stay."""
        body = valid(RollbackIn, request.data)
        revision = services.rollback(number, reason=body["reason"], actor=actor_of(request))
        location = f"/api/v1/revisions/{revision.number}"
        return respond(RestoredOut(revision), status=201, location=location)


class RollbackPlanView(APIView):
    """POST /api/v1/revisions/{number}/rollback/plan → 200 what would be dangerous; 403, 404."""

    permission_classes = [requires("config:write")]

    @extend_schema(request=RollbackPlanIn, responses={200: DryRunOut})
    def post(self, request: Request, number: int) -> Response:
        """What would be dangerous about the settings as they were then; nothing is written."""
        valid(RollbackPlanIn, request.data)
        return planned(services.plan_rollback(number, actor=actor_of(request)))


class PolicySchemaView(APIView):
    """GET /api/v1/schema/policy.json → 200; open to everybody."""

    permission_classes = [AllowAny]
    authentication_classes = []

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """JSON Schema of the document services fetch."""
        return Response(json_schema())
