"""Automatic actions over HTTP, and the switch that freezes them."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.alerts import services
from apps.alerts.models import Action, AlertEnvironmentSettings
from apps.alerts.rules import bounds
from apps.alerts.services.acting import blast_radius
from apps.alerts.services.actions import settings_of
from apps.core.actor import Actor
from apps.core.api import Strict, Whole, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.leases import LONGEST_REASON
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.fleet.selectors import named_service


class AlertActionOut(serializers.ModelSerializer[Action]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    rule = serializers.SlugRelatedField[Any](slug_field="key", read_only=True)
    rule_id = serializers.IntegerField(read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    dependencies = serializers.ListField(child=serializers.CharField(), allow_null=True)

    class Meta:
        model = Action
        fields = (
            *("id", "environment", "rule", "rule_id", "flag_key", "flag_kind", "service"),
            *("dependencies", "lease_seconds", "max_lease_seconds", "mode"),
            *("release_on_recovery", "version"),
        )
        read_only_fields = fields


class AlertActionDetailOut(AlertActionOut):
    hits = serializers.SerializerMethodField(help_text="Whom engaging it would hit now.")

    class Meta:
        model = Action
        fields = (*AlertActionOut.Meta.fields, "hits")
        read_only_fields = fields

    def get_hits(self, action: Action) -> str:
        return blast_radius(action)


def _lease(help_text: str, **options: Any) -> Whole:
    return Whole(
        min_value=bounds.SHORTEST_LEASE,
        max_value=bounds.LONGEST_LEASE,
        help_text=help_text,
        **options,
    )


class ActionFields(Strict):
    dependencies = serializers.ListField(
        child=serializers.CharField(max_length=80), allow_null=True, required=False, max_length=1000
    )
    mode = serializers.ChoiceField(
        Action.Mode.choices,
        required=False,
        help_text="shadow only says what would be done; arming needs a reason.",
    )
    release_on_recovery = serializers.BooleanField(required=False)
    reason = serializers.CharField(
        max_length=LONGEST_REASON, required=False, allow_blank=True, default=""
    )


class AlertActionIn(ActionFields):
    rule_id = Whole(min_value=1, max_value=2**53)
    flag_key = serializers.CharField(max_length=80)
    flag_kind = serializers.ChoiceField(Action.FlagKind.choices)
    service = serializers.CharField(max_length=80, allow_null=True, default=None)
    lease_seconds = _lease("Renewed while the alert fires.", default=900)
    max_lease_seconds = _lease("Since it was engaged; then people must.", default=3600)


class AlertActionPatch(ActionFields):
    lease_seconds = _lease("Renewed while the alert fires.", required=False)
    max_lease_seconds = _lease("Since it was engaged; then people must.", required=False)


class AlertActionQuery(Strict):
    mode = serializers.ChoiceField(Action.Mode.choices, required=False)


class AlertSettingsOut(serializers.ModelSerializer[AlertEnvironmentSettings]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)

    class Meta:
        model = AlertEnvironmentSettings
        fields = ("environment", "frozen", "reason", "set_by", "set_at", "version")
        read_only_fields = fields


class AlertSettingsPatch(Strict):
    frozen = serializers.BooleanField(help_text="Whether every automatic action is stopped.")
    reason = serializers.CharField(max_length=LONGEST_REASON)


def _visible(actor: Actor) -> QuerySet[Action]:
    return Action.objects.visible_to(actor).select_related("environment", "rule", "service")


class AlertActionsView(APIView):
    """GET and POST /api/v1/alert-actions → 200 page, 201 action; 400, 403, 404 no such rule."""

    permission_classes = [requires("config:read", write="alerts:write")]

    @extend_schema(parameters=[AlertActionQuery, *PAGE], responses=listed(AlertActionOut))
    def get(self, request: Request) -> Response:
        """What Holdfast may switch by itself."""
        rows = _visible(actor_of(request)).filter(**query(AlertActionQuery, request))
        return page_of(rows, AlertActionOut, request, self)

    @extend_schema(request=AlertActionIn, responses={201: AlertActionOut})
    def post(self, request: Request) -> Response:
        """Have a flag engaged while a rule's alert fires; in shadow unless armed."""
        body, actor = valid(AlertActionIn, request.data), actor_of(request)
        action = services.create_action(
            body.pop("rule_id"),
            service=named_service(body.pop("service"), actor=actor),
            reason=body.pop("reason"),
            settings=body,
            actor=actor,
        )
        location = f"/api/v1/alert-actions/{action.pk}"
        return respond(
            AlertActionOut(action), version=action.version, status=201, location=location
        )


class AlertActionView(APIView):
    """GET, PATCH and DELETE /api/v1/alert-actions/{id} → 200, 204; 400, 403, 404, 409, 412, 428."""

    permission_classes = [requires("config:read", write="alerts:write")]
    representation = AlertActionOut

    @extend_schema(responses=AlertActionDetailOut)
    def get(self, request: Request, action_id: int) -> Response:
        """One action with whom it would hit, and its ETag."""
        actor = actor_of(request)
        action = get_visible(_visible(actor), actor=actor, pk=action_id)
        return respond(AlertActionDetailOut(action), version=action.version)

    @extend_schema(request=AlertActionPatch, responses=AlertActionOut, parameters=[IF_MATCH])
    def patch(self, request: Request, action_id: int) -> Response:
        """Change an action, arm it or take it back to shadow."""
        body = valid(AlertActionPatch, request.data)
        action = services.update_action(
            action_id,
            version=if_match(request),
            reason=body.pop("reason"),
            changes=body,
            actor=actor_of(request),
        )
        return respond(AlertActionOut(action), version=action.version)

    @extend_schema(request=None, responses={204: None}, parameters=[IF_MATCH])
    def delete(self, request: Request, action_id: int) -> Response:
        """Remove an action that holds no flag engaged."""
        services.delete_action(action_id, version=if_match(request), actor=actor_of(request))
        return Response(status=204)


class AlertSettingsView(APIView):
    """GET and PATCH /api/v1/alert-settings → 200; 400, 403, 409 so already, 412, 428."""

    permission_classes = [requires("config:read", write="alerts:write")]
    representation = AlertSettingsOut

    @extend_schema(responses=AlertSettingsOut)
    def get(self, request: Request) -> Response:
        """Whether automatic actions are frozen in the environment, with its ETag."""
        actor = actor_of(request)
        row = settings_of(actor.environment_id, actor)
        return respond(AlertSettingsOut(row), version=row.version)

    @extend_schema(request=AlertSettingsPatch, responses=AlertSettingsOut, parameters=[IF_MATCH])
    def patch(self, request: Request) -> Response:
        """Freeze every automatic action of the environment, or let them act again."""
        body, actor = valid(AlertSettingsPatch, request.data), actor_of(request)
        row = services.freeze_actions(
            actor.environment_id,
            frozen=body["frozen"],
            reason=body["reason"],
            version=if_match(request),
            actor=actor,
        )
        return respond(AlertSettingsOut(row), version=row.version)
