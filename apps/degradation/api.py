"""Flags over HTTP."""

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core import clock
from apps.core.actor import Actor
from apps.core.api import Number, Strict, Whole, if_match, lease_field, query, respond, valid
from apps.core.db import get_visible
from apps.core.leases import LONGEST_REASON, lease_of
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.degradation import rules, selectors, services
from apps.degradation.models import Flag
from apps.fleet.selectors import named_service


class FlagOut(serializers.ModelSerializer[Flag]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    scope = serializers.ChoiceField(["environment", "service"], read_only=True)
    dependencies = serializers.ListField(child=serializers.CharField(), allow_null=True)
    value = serializers.JSONField(allow_null=True)

    class Meta:
        model = Flag
        fields = (
            *("id", "key", "kind", "scope", "environment", "service", "dependencies", "enabled"),
            *("value", "percentage", "on_stale", "reason", "set_by", "set_at", "expires_at"),
            "version",
        )
        read_only_fields = fields


class FlagIn(Strict):
    key = serializers.CharField(max_length=80)
    kind = serializers.ChoiceField(Flag.Kind.choices)
    service = serializers.CharField(max_length=80, allow_null=True, default=None)
    dependencies = serializers.ListField(
        child=serializers.CharField(max_length=80), allow_null=True, required=False, max_length=1000
    )
    value = serializers.JSONField(required=False, allow_null=True)
    percentage = Number(min_value=0, max_value=100, required=False)
    on_stale = serializers.ChoiceField(Flag.OnStale.choices, required=False)


class FlagPatch(Strict):
    dependencies = serializers.ListField(
        child=serializers.CharField(max_length=80), allow_null=True, required=False, max_length=1000
    )
    value = serializers.JSONField(required=False, allow_null=True)
    percentage = Number(min_value=0, max_value=100, required=False)
    on_stale = serializers.ChoiceField(Flag.OnStale.choices, required=False)
    reason = serializers.CharField(
        max_length=LONGEST_REASON,
        required=False,
        allow_blank=True,
        help_text="Required while the flag is engaged.",
    )


def _lease_field() -> Whole:
    return lease_field(
        required=False,
        help_text="null: until somebody ends it. Without: 1800 for read-only, null for others.",
    )


class EngageIn(Strict):
    reason = serializers.CharField(max_length=LONGEST_REASON)
    lease_seconds = _lease_field()


class ExtendIn(Strict):
    reason = serializers.CharField(
        max_length=LONGEST_REASON,
        default="",
        allow_blank=True,
        help_text="Without: the reason it was engaged for.",
    )
    lease_seconds = lease_field(help_text="From now; null: until somebody ends it.")


class EndIn(Strict):
    reason = serializers.CharField(max_length=LONGEST_REASON)


class FlagQuery(Strict):
    engaged = serializers.BooleanField(required=False, help_text="Whether it holds now.")
    kind = serializers.ChoiceField(Flag.Kind.choices, required=False)
    key = serializers.CharField(max_length=80, required=False)
    service = serializers.CharField(
        max_length=80, required=False, help_text="Flags of this service alone."
    )


class ImpactQuery(Strict):
    service = serializers.CharField(max_length=80, required=False)


class ImpactOut(serializers.Serializer[selectors.Impact]):
    services = serializers.IntegerField(help_text="Services that obey it.")
    instances = serializers.IntegerField(help_text="Their processes heard lately.")
    silent = serializers.IntegerField(help_text="Processes not heard for three intervals.")
    names = serializers.ListField(child=serializers.CharField(), help_text="The services' names.")


def _lease(body: dict[str, Any], kind: str) -> timedelta | None:
    """The lease the caller chose, else the one of this kind."""
    return lease_of(body) if "lease_seconds" in body else rules.default_lease(kind)


def _visible(actor: Actor) -> QuerySet[Flag]:
    return Flag.objects.visible_to(actor).select_related("environment", "service")


class FlagsView(APIView):
    """GET and POST /api/v1/flags → 200 page, 201 flag; 400, 403, 409 key in use."""

    permission_classes = [requires("config:read", write="flags:write")]

    @extend_schema(parameters=[FlagQuery, *PAGE], responses=listed(FlagOut))
    def get(self, request: Request) -> Response:
        """The flags of the environment and of its services."""
        wanted = query(FlagQuery, request)
        rows = _visible(actor_of(request))
        if "engaged" in wanted:
            engaged = Flag.objects.engaged(clock.now()).values("pk")
            rows = (
                rows.filter(pk__in=engaged) if wanted["engaged"] else rows.exclude(pk__in=engaged)
            )
        if "service" in wanted:
            rows = rows.filter(service__slug=wanted["service"])
        exact = {name: wanted[name] for name in ("kind", "key") if name in wanted}
        return page_of(rows.filter(**exact), FlagOut, request, self)

    @extend_schema(request=FlagIn, responses={201: FlagOut})
    def post(self, request: Request) -> Response:
        """Add a flag, not engaged."""
        body = valid(FlagIn, request.data)
        actor = actor_of(request)
        flag = services.create_flag(
            body.pop("key"),
            kind=body.pop("kind"),
            service=named_service(body.pop("service"), actor=actor),
            settings=body,
            actor=actor,
        )
        location = f"/api/v1/flags/{flag.pk}"
        return respond(FlagOut(flag), version=flag.version, status=201, location=location)


class FlagView(APIView):
    """GET, PATCH and DELETE /api/v1/flags/{id} → 200, 204; 400, 403, 404, 409, 412, 428."""

    permission_classes = [requires("config:read", write="flags:write")]
    representation = FlagOut

    @extend_schema(responses=FlagOut)
    def get(self, request: Request, flag_id: int) -> Response:
        """One flag, with its ETag."""
        flag = get_visible(_visible(actor_of(request)), actor=actor_of(request), pk=flag_id)
        return respond(FlagOut(flag), version=flag.version)

    @extend_schema(request=FlagPatch, responses=FlagOut, parameters=[IF_MATCH])
    def patch(self, request: Request, flag_id: int) -> Response:
        """Change some settings; while it is engaged services learn of it at once."""
        body = valid(FlagPatch, request.data)
        flag = services.update_flag(
            flag_id,
            version=if_match(request),
            reason=body.pop("reason", ""),
            changes=body,
            actor=actor_of(request),
        )
        return respond(FlagOut(flag), version=flag.version)

    @extend_schema(request=None, responses={204: None}, parameters=[IF_MATCH])
    def delete(self, request: Request, flag_id: int) -> Response:
        """Remove a flag that is not engaged."""
        services.delete_flag(flag_id, version=if_match(request), actor=actor_of(request))
        return Response(status=204)


class FlagEngageView(APIView):
    """POST /api/v1/flags/{id}/engage → 200 flag; 400, 403, 404, 409 engaged, 412, 428."""

    permission_classes = [requires("flags:write")]
    representation = FlagOut

    @extend_schema(request=EngageIn, responses=FlagOut, parameters=[IF_MATCH])
    def post(self, request: Request, flag_id: int) -> Response:
        """Switch it on, until its lease is over."""
        body = valid(EngageIn, request.data)
        actor = actor_of(request)
        kind = get_visible(Flag.objects, actor=actor, pk=flag_id).kind
        flag = services.engage_flag(
            flag_id,
            version=if_match(request),
            lease=_lease(body, kind),
            reason=body["reason"],
            actor=actor,
        )
        return respond(FlagOut(flag), version=flag.version)


class FlagExtendView(APIView):
    """POST /api/v1/flags/{id}/extend → 200 flag; 400, 403, 404, 409 not engaged, 412, 428."""

    permission_classes = [requires("flags:write")]
    representation = FlagOut

    @extend_schema(request=ExtendIn, responses=FlagOut, parameters=[IF_MATCH])
    def post(self, request: Request, flag_id: int) -> Response:
        """Let it end that much time from now instead."""
        body = valid(ExtendIn, request.data)
        flag = services.extend_flag(
            flag_id,
            version=if_match(request),
            lease=lease_of(body),
            reason=body["reason"],
            actor=actor_of(request),
        )
        return respond(FlagOut(flag), version=flag.version)


class FlagEndView(APIView):
    """POST /api/v1/flags/{id}/end → 200 flag; 400, 403, 404, 409 not engaged, 412, 428."""

    permission_classes = [requires("flags:write")]
    representation = FlagOut

    @extend_schema(request=EndIn, responses=FlagOut, parameters=[IF_MATCH])
    def post(self, request: Request, flag_id: int) -> Response:
        """Switch it off."""
        body = valid(EndIn, request.data)
        flag = services.end_flag(
            flag_id, version=if_match(request), reason=body["reason"], actor=actor_of(request)
        )
        return respond(FlagOut(flag), version=flag.version)


class FlagImpactView(APIView):
    """GET /api/v1/flags/{id}/impact → 200; 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=ImpactOut)
    def get(self, request: Request, flag_id: int) -> Response:
        """The services and processes that would obey it now."""
        actor = actor_of(request)
        flag = get_visible(Flag.objects, actor=actor, pk=flag_id)
        return Response(ImpactOut(selectors.impact_of(flag, service_id=actor.service_id)).data)


class ScopeImpactView(APIView):
    """GET /api/v1/flags/impact → 200; 400, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[ImpactQuery], responses=ImpactOut)
    def get(self, request: Request) -> Response:
        """The services and processes a switch for the environment, or one service, would hit."""
        actor = actor_of(request)
        service = named_service(query(ImpactQuery, request).get("service"), actor=actor)
        found = selectors.impact(
            actor.environment_id, service_id=service.pk if service else actor.service_id
        )
        return Response(ImpactOut(found).data)
