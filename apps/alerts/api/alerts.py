"""Alerts over HTTP: what is the matter, and how it came."""

from typing import Any

from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.alerts import services
from apps.alerts.models import Alert, Engagement, Transition
from apps.alerts.models.rule import Severity
from apps.core.actor import Actor
from apps.core.api import Strict, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.leases import LONGEST_REASON
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE


class AlertOut(serializers.ModelSerializer[Alert]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    rule = serializers.CharField(source="key", read_only=True)
    rule_id = serializers.IntegerField(read_only=True, allow_null=True)
    check = serializers.CharField(source="check_name", read_only=True)
    unit = serializers.CharField(read_only=True)

    class Meta:
        model = Alert
        fields = (
            *("id", "environment", "rule", "rule_id", "kind", "severity", "subject", "service"),
            *("dependency", "check", "instance", "state", "active_at", "fired_at", "resolved_at"),
            *("resolution", "value", "unit", "samples", "threshold", "acknowledged_by"),
            *("acknowledged_at", "note", "version"),
        )
        read_only_fields = fields


class AlertTransitionOut(serializers.ModelSerializer[Transition]):
    class Meta:
        model = Transition
        fields = ("at", "from_state", "to_state", "value", "samples")
        read_only_fields = fields


class EngagementOut(serializers.ModelSerializer[Engagement]):
    flag_key = serializers.CharField(source="action.flag_key", read_only=True)

    class Meta:
        model = Engagement
        fields = ("at", "action_id", "flag_key", "outcome", "detail", "ended_at")
        read_only_fields = fields


class AlertDetailOut(AlertOut):
    transitions = AlertTransitionOut(many=True, read_only=True)
    engagements = EngagementOut(many=True, read_only=True)

    class Meta:
        model = Alert
        fields = (*AlertOut.Meta.fields, "transitions", "engagements")
        read_only_fields = fields


class AcknowledgeIn(Strict):
    note = serializers.CharField(max_length=LONGEST_REASON, default="", allow_blank=True)


class AlertQuery(Strict):
    state = serializers.ChoiceField(Alert.State.choices, required=False)
    open = serializers.BooleanField(required=False, help_text="Pending, firing or without data.")
    severity = serializers.ChoiceField(Severity.choices, required=False)
    rule = serializers.CharField(max_length=80, required=False, help_text="Its key.")
    service = serializers.CharField(max_length=80, required=False)
    dependency = serializers.CharField(max_length=80, required=False)


def _visible(actor: Actor) -> QuerySet[Alert]:
    return Alert.objects.visible_to(actor).select_related("environment", "service")


class AlertsView(APIView):
    """GET /api/v1/alerts → 200 page; 400, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[AlertQuery, *PAGE], responses=listed(AlertOut))
    def get(self, request: Request) -> Response:
        """What is the matter, and what was, newest first."""
        wanted = query(AlertQuery, request)
        rows = _visible(actor_of(request))
        if "open" in wanted:
            resolved = Alert.State.RESOLVED
            is_open = wanted.pop("open")
            rows = rows.exclude(state=resolved) if is_open else rows.filter(state=resolved)
        columns = {"rule": "key", "service": "service__slug"}
        rows = rows.filter(**{columns.get(name, name): value for name, value in wanted.items()})
        return page_of(rows, AlertOut, request, self)


class AlertView(APIView):
    """GET /api/v1/alerts/{id} → 200; 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=AlertDetailOut)
    def get(self, request: Request, alert_id: int) -> Response:
        """One alert with its timeline and what was switched because of it."""
        actor = actor_of(request)
        engagements = Prefetch("engagements", Engagement.objects.select_related("action"))
        rows = _visible(actor).prefetch_related("transitions", engagements)
        alert = get_visible(rows, actor=actor, pk=alert_id)
        return respond(AlertDetailOut(alert), version=alert.version)


class AlertAcknowledgeView(APIView):
    """POST /api/v1/alerts/{id}/acknowledge → 200; 400, 403, 404, 409 done or over, 412, 428."""

    permission_classes = [requires("alerts:write")]
    representation = AlertOut

    @extend_schema(request=AcknowledgeIn, responses=AlertOut, parameters=[IF_MATCH])
    def post(self, request: Request, alert_id: int) -> Response:
        """Say that somebody looks after it."""
        body = valid(AcknowledgeIn, request.data)
        alert = services.acknowledge_alert(
            alert_id, version=if_match(request), note=body["note"], actor=actor_of(request)
        )
        return respond(AlertOut(alert), version=alert.version)
