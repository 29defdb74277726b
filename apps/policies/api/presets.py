"""Settings known to suit well-known dependencies."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.api import respond, valid
from apps.core.permissions import actor_of, requires
from apps.policies import rules, selectors, services
from apps.policies.api.findings import MOST_FINDINGS, DryRunOut, FindingOut, planned, told
from apps.policies.api.shapes import REASON, ScopeIn, scope_of
from apps.policies.models import CONFIGS
from holdfast.spec import CHECK_KINDS, PRESETS, Preset

LEFT_OUT = "Settings this version cannot hold yet: applying the preset does not set them."


class PresetCheckOut(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text=", ".join(CHECK_KINDS))
    write_probe = serializers.BooleanField()


class PresetOut(serializers.Serializer[Any]):
    key = serializers.CharField()
    title = serializers.CharField()
    settings = serializers.DictField(child=serializers.DictField())
    check = PresetCheckOut()
    left_out = serializers.SerializerMethodField(help_text=LEFT_OUT)

    def get_left_out(self, preset: Preset) -> list[str]:
        return rules.left_out_of(preset.settings, CONFIGS)


class PresetPageOut(serializers.Serializer[Any]):
    results = PresetOut(many=True)
    next = serializers.URLField(allow_null=True)


class ApplyIn(ScopeIn):
    dependency = serializers.CharField(max_length=80, help_text="Slug.")
    reason = REASON
    check_address = serializers.CharField(
        max_length=500,
        default="",
        allow_blank=True,
        help_text="Where the check that comes with it asks; empty: not enabled yet.",
    )


class PresetPlanIn(ScopeIn):
    dependency = serializers.CharField(max_length=80, help_text="Slug.")


class AppliedConfigOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    pattern = serializers.CharField()
    settings = serializers.DictField(source="values")
    version = serializers.IntegerField()


class AppliedOut(serializers.Serializer[services.Applied]):
    preset = serializers.CharField(source="preset.key")
    configs = AppliedConfigOut(many=True)
    revision = serializers.IntegerField(
        allow_null=True, help_text="null: everything was set already."
    )
    has_new_check = serializers.BooleanField(help_text="Whether a check was added.")
    left_out = serializers.ListField(child=serializers.CharField(), help_text=LEFT_OUT)
    warnings = serializers.SerializerMethodField(
        help_text=f"What is dangerous about what it set; at most {MOST_FINDINGS}."
    )

    @extend_schema_field(FindingOut(many=True))
    def get_warnings(self, applied: services.Applied) -> Any:
        rows = applied.configs
        places = {row.place for row in rows}
        return told(selectors.warnings_of(rows[0].environment_id, places))


class PresetsView(APIView):
    """GET /api/v1/presets → 200; 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=PresetPageOut)
    def get(self, request: Request) -> Response:
        """Every preset, with what it sets."""
        return Response({"results": PresetOut(PRESETS.values(), many=True).data, "next": None})


class PresetApplyView(APIView):
    """POST /api/v1/presets/{name}/apply → 200; 400, 403, 404."""

    permission_classes = [requires("config:write")]

    @extend_schema(request=ApplyIn, responses=AppliedOut)
    def post(self, request: Request, name: str) -> Response:
        """Set a preset's settings for a dependency, or for one service's calls to it."""
        body = valid(ApplyIn, request.data)
        actor = actor_of(request)
        applied = services.apply_preset(
            name,
            scope=scope_of(body, actor),
            reason=body["reason"],
            check_address=body["check_address"],
            actor=actor,
        )
        return respond(AppliedOut(applied))


class PresetPlanView(APIView):
    """POST /api/v1/presets/{name}/plan → 200 what would be dangerous; 400, 403, 404."""

    permission_classes = [requires("config:write")]

    @extend_schema(request=PresetPlanIn, responses={200: DryRunOut})
    def post(self, request: Request, name: str) -> Response:
        """What would be dangerous about a preset's settings there; nothing is written."""
        body, actor = valid(PresetPlanIn, request.data), actor_of(request)
        return planned(services.plan_preset(name, scope=scope_of(body, actor), actor=actor))
