"""Alert rules over HTTP."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.alerts import services
from apps.alerts.models import Rule
from apps.alerts.models.rule import Severity
from apps.alerts.rules import bounds
from apps.core.actor import Actor
from apps.core.api import Number, Strict, Whole, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.leases import LONGEST_REASON
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.fleet.selectors import named_dependency, named_service


class AlertRuleOut(serializers.ModelSerializer[Rule]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    dependency = serializers.SlugRelatedField[Any](
        slug_field="slug", read_only=True, allow_null=True
    )
    unit = serializers.CharField(read_only=True)
    is_default = serializers.BooleanField(read_only=True)
    check_kinds = serializers.ListField(child=serializers.CharField(), allow_null=True)

    class Meta:
        model = Rule
        fields = (
            *("id", "environment", "key", "kind", "unit", "severity", "threshold"),
            *("resolve_threshold", "for_seconds", "keep_firing_seconds", "min_samples"),
            *("window_seconds", "no_data", "service", "dependency", "check_kinds", "enabled"),
            *("runbook_url", "is_default", "version"),
        )
        read_only_fields = fields


def _seconds(least: int, most: int, help_text: str) -> Whole:
    return Whole(min_value=least, max_value=most, required=False, help_text=help_text)


class Settings(Strict):
    """What may be said of a rule besides its name and kind."""

    severity = serializers.ChoiceField(Severity.choices, required=False)
    resolve_threshold = Number(
        min_value=0,
        max_value=1e9,
        required=False,
        allow_null=True,
        help_text="A firing alert is judged by this one; null: by the threshold.",
    )
    for_seconds = _seconds(0, bounds.LONGEST_FOR, "How long it must hold without a break.")
    keep_firing_seconds = _seconds(0, bounds.LONGEST_FOR, "How long it must be over.")
    min_samples = _seconds(0, 1_000_000, "Fewer than that say nothing.")
    window_seconds = _seconds(
        bounds.SHORTEST_WINDOW, bounds.LONGEST_WINDOW, "The time that is looked back on."
    )
    no_data = serializers.ChoiceField(Rule.NoData.choices, required=False)
    service = serializers.CharField(max_length=80, allow_null=True, required=False)
    dependency = serializers.CharField(max_length=80, allow_null=True, required=False)
    check_kinds = serializers.ListField(
        child=serializers.ChoiceField(bounds.CHECK_KINDS),
        allow_null=True,
        required=False,
        max_length=len(bounds.CHECK_KINDS),
    )
    enabled = serializers.BooleanField(required=False)
    runbook_url = serializers.CharField(max_length=500, allow_blank=True, required=False)


def _threshold(*, required: bool) -> Number:
    return Number(
        min_value=0,
        max_value=1e9,
        required=required,
        help_text="In the kind's unit: seconds, a share from 0 to 1, or how many.",
    )


class AlertRuleIn(Settings):
    key = serializers.CharField(max_length=80)
    kind = serializers.ChoiceField(Rule.Kind.choices)
    threshold = _threshold(required=True)


class AlertRulePatch(Settings):
    threshold = _threshold(required=False)


class RestoreIn(Strict):
    reason = serializers.CharField(max_length=LONGEST_REASON, default="", allow_blank=True)


class AlertRuleQuery(Strict):
    kind = serializers.ChoiceField(Rule.Kind.choices, required=False)
    key = serializers.CharField(max_length=80, required=False)
    enabled = serializers.BooleanField(required=False)


def _visible(actor: Actor) -> QuerySet[Rule]:
    return Rule.objects.visible_to(actor).select_related("environment", "service", "dependency")


def _resolved(body: dict[str, Any], actor: Actor) -> dict[str, Any]:
    """The body with rows in place of slugs."""
    if "service" in body:
        body["service"] = named_service(body["service"], actor=actor)
    if "dependency" in body:
        body["dependency"] = named_dependency(body["dependency"], actor=actor)
    return body


class AlertRulesView(APIView):
    """GET and POST /api/v1/alert-rules → 200 page, 201 rule; 400, 403, 409 key in use."""

    permission_classes = [requires("config:read", write="alerts:write")]

    @extend_schema(parameters=[AlertRuleQuery, *PAGE], responses=listed(AlertRuleOut))
    def get(self, request: Request) -> Response:
        """When alerts fire in the environment."""
        rows = _visible(actor_of(request)).filter(**query(AlertRuleQuery, request))
        return page_of(rows, AlertRuleOut, request, self)

    @extend_schema(request=AlertRuleIn, responses={201: AlertRuleOut})
    def post(self, request: Request) -> Response:
        """Add a rule."""
        actor = actor_of(request)
        body = _resolved(valid(AlertRuleIn, request.data), actor)
        rule = services.create_rule(
            body.pop("key"),
            kind=body.pop("kind"),
            service=body.pop("service", None),
            dependency=body.pop("dependency", None),
            settings=body,
            actor=actor,
        )
        location = f"/api/v1/alert-rules/{rule.pk}"
        return respond(AlertRuleOut(rule), version=rule.version, status=201, location=location)


class AlertRuleView(APIView):
    """GET, PATCH and DELETE /api/v1/alert-rules/{id} → 200, 204; 400, 403, 404, 409, 412, 428."""

    permission_classes = [requires("config:read", write="alerts:write")]
    representation = AlertRuleOut

    @extend_schema(responses=AlertRuleOut)
    def get(self, request: Request, rule_id: int) -> Response:
        """One rule, with its ETag."""
        actor = actor_of(request)
        rule = get_visible(_visible(actor), actor=actor, pk=rule_id)
        return respond(AlertRuleOut(rule), version=rule.version)

    @extend_schema(request=AlertRulePatch, responses=AlertRuleOut, parameters=[IF_MATCH])
    def patch(self, request: Request, rule_id: int) -> Response:
        """Change a rule; open alerts are judged by it at the next evaluation."""
        actor = actor_of(request)
        body = _resolved(valid(AlertRulePatch, request.data), actor)
        rule = services.update_rule(rule_id, version=if_match(request), changes=body, actor=actor)
        return respond(AlertRuleOut(rule), version=rule.version)

    @extend_schema(request=None, responses={204: None}, parameters=[IF_MATCH])
    def delete(self, request: Request, rule_id: int) -> Response:
        """Remove a rule that is none of the defaults; its alerts are resolved."""
        services.delete_rule(rule_id, version=if_match(request), actor=actor_of(request))
        return Response(status=204)


class AlertRuleRestoreView(APIView):
    """POST /api/v1/alert-rules/{id}/restore → 200 rule; 400, 403, 404, 409 no default, 412, 428."""

    permission_classes = [requires("alerts:write")]
    representation = AlertRuleOut

    @extend_schema(request=RestoreIn, responses=AlertRuleOut, parameters=[IF_MATCH])
    def post(self, request: Request, rule_id: int) -> Response:
        """Bring a default rule back to what every environment begins with."""
        rule = services.restore_rule(
            rule_id,
            reason=valid(RestoreIn, request.data)["reason"],
            version=if_match(request),
            actor=actor_of(request),
        )
        return respond(AlertRuleOut(rule), version=rule.version)
