"""Revisions over HTTP: what was published, by whom, and what each one changed."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.audit import rules as audit_rules
from apps.core.actor import Actor
from apps.core.api import Strict, query
from apps.core.db import get_visible
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import PAGE
from apps.fleet.models import Service
from apps.publication.models import Part, Revision
from apps.publication.selectors import Difference, differences


class RevisionOut(serializers.ModelSerializer[Revision]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    epoch = serializers.UUIDField(source="epoch_id", read_only=True)
    actor = serializers.CharField(source="actor_label", read_only=True)

    class Meta:
        model = Revision
        fields = (
            *("number", "environment", "epoch", "at", "actor_kind", "actor", "reason"),
            "restores",
        )
        read_only_fields = fields


class ChangedMemberOut(serializers.Serializer[Any]):
    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class DifferenceOut(serializers.Serializer[Any]):
    part = serializers.ChoiceField(Part.choices)
    service = serializers.CharField(help_text="Empty: every service.")
    dependency = serializers.CharField(help_text="Empty: every dependency.")
    name = serializers.CharField(help_text="The flag's key, or the pattern.")
    before = serializers.JSONField(allow_null=True, help_text="null: it was not there.")
    after = serializers.JSONField(allow_null=True, help_text="null: it is not there any more.")
    changed = serializers.SerializerMethodField()

    @extend_schema_field(ChangedMemberOut(many=True))
    def get_changed(self, difference: Difference) -> list[dict[str, Any]]:
        return audit_rules.changed(difference.before, difference.after)


class RevisionDetailOut(RevisionOut):
    differences = DifferenceOut(many=True, read_only=True)

    class Meta:
        model = Revision
        fields = (*RevisionOut.Meta.fields, "differences")
        read_only_fields = fields


class RevisionsView(APIView):
    """GET /api/v1/revisions → 200 page; 400, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=PAGE, responses=listed(RevisionOut))
    def get(self, request: Request) -> Response:
        """Everything published, newest first."""
        query(Strict, request)
        rows = Revision.objects.visible_to(actor_of(request)).select_related("environment")
        return page_of(rows, RevisionOut, request, self)


class RevisionView(APIView):
    """GET /api/v1/revisions/{number} → 200; 400, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=RevisionDetailOut)
    def get(self, request: Request, number: int) -> Response:
        """One revision, with what it changed."""
        actor = actor_of(request)
        rows = Revision.objects.select_related("environment")
        row = get_visible(rows, actor=actor, environment_id=actor.environment_id, number=number)
        shown = DifferenceOut(_seen(differences(row), actor), many=True).data
        return Response({**RevisionOut(row).data, "differences": shown})


def _seen(found: list[Difference], actor: Actor) -> list[Difference]:
    """Without what concerns other services, for a token that is bound to one."""
    if actor.service_id is None:
        return found
    mine = Service.objects.filter(pk=actor.service_id).values_list("slug", flat=True).get()
    return [difference for difference in found if difference.service in ("", mine)]
