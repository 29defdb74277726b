"""Redrives: what is given back, and how far that is."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.api import Strict, Whole, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.errors import RuleBroken
from apps.core.leases import LONGEST_REASON
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.deadletters import services
from apps.deadletters.api.letters import ReasonIn
from apps.deadletters.models import Redrive, RedriveItem


class RedriveOut(serializers.ModelSerializer[Redrive]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)

    class Meta:
        model = Redrive
        fields = (
            *("id", "environment", "scope", "state", "reason", "requested_by", "total", "pending"),
            *("claimed", "resolved", "refailed", "skipped", "created_at", "ended_at", "version"),
        )
        read_only_fields = fields


class RedriveIn(Strict):
    letters = serializers.ListField(
        child=Whole(min_value=1, max_value=2**63 - 1),
        required=False,
        min_length=1,
        max_length=1000,
        help_text="Ids of letters; or else `group`.",
    )
    group = Whole(
        min_value=1,
        max_value=2**63 - 1,
        required=False,
        help_text="Id of a group: its letters that wait now, the oldest 10,000 at most.",
    )
    reason = serializers.CharField(max_length=LONGEST_REASON)


class RedriveQuery(Strict):
    state = serializers.ChoiceField(Redrive.State.choices, required=False)


class ItemOut(serializers.ModelSerializer[RedriveItem]):
    letter = serializers.PrimaryKeyRelatedField[Any](read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)

    class Meta:
        model = RedriveItem
        fields = (
            *("id", "letter", "service", "handler", "state", "error", "duration_seconds"),
            "ended_at",
        )
        read_only_fields = fields


class ItemQuery(Strict):
    state = serializers.ChoiceField(RedriveItem.State.choices, required=False)


class RedrivesView(APIView):
    """GET and POST /api/v1/redrives → 200 page, 201 redrive; 400, 401, 403, 404, 409."""

    permission_classes = [requires("config:read", write="redrives:write")]

    @extend_schema(parameters=[RedriveQuery, *PAGE], responses=listed(RedriveOut))
    def get(self, request: Request) -> Response:
        """Redrives of the environment, newest first."""
        actor = actor_of(request)
        rows = Redrive.objects.visible_to(actor).filter(environment=actor.environment_id)
        rows = rows.filter(**query(RedriveQuery, request)).select_related("environment")
        return page_of(rows, RedriveOut, request, self)

    @extend_schema(request=RedriveIn, responses={201: RedriveOut})
    def post(self, request: Request) -> Response:
        """Give letters back to their services: these, or those of a group. The choice is frozen."""
        body = valid(RedriveIn, request.data)
        if ("letters" in body) == ("group" in body):
            text = _("Name letters, or a group.")
            raise RuleBroken(text, errors={"letters": [text]})
        actor, reason = actor_of(request), body["reason"]
        if "group" in body:
            redrive = services.redrive_group(body["group"], reason=reason, actor=actor)
        else:
            redrive = services.redrive_letters(body["letters"], reason=reason, actor=actor)
        location = f"/api/v1/redrives/{redrive.pk}"
        return respond(RedriveOut(redrive), version=redrive.version, status=201, location=location)


class RedriveView(APIView):
    """GET /api/v1/redrives/{id} → 200; 401, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=RedriveOut)
    def get(self, request: Request, redrive_id: int) -> Response:
        """One redrive, how far it is, and its ETag."""
        redrive = get_visible(Redrive.objects, actor=actor_of(request), pk=redrive_id)
        return respond(RedriveOut(redrive), version=redrive.version)


class RedriveItemsView(APIView):
    """GET /api/v1/redrives/{id}/items → 200 page; 400, 401, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[ItemQuery, *PAGE], responses=listed(ItemOut))
    def get(self, request: Request, redrive_id: int) -> Response:
        """Its letters and what became of each, in the order they are handed out."""
        redrive = get_visible(Redrive.objects, actor=actor_of(request), pk=redrive_id)
        rows = redrive.items.filter(**query(ItemQuery, request)).select_related("service")
        return page_of(rows, ItemOut, request, self, order="pk")


class RedrivePauseView(APIView):
    """POST /api/v1/redrives/{id}/pause → 200; 400, 403, 404, 409 not running, 412, 428."""

    permission_classes = [requires("redrives:write")]
    representation = RedriveOut

    @extend_schema(request=ReasonIn, responses=RedriveOut, parameters=[IF_MATCH])
    def post(self, request: Request, redrive_id: int) -> Response:
        """Hand out no more letters of it for now."""
        return _answer(services.pause_redrive, request, redrive_id)


class RedriveResumeView(APIView):
    """POST /api/v1/redrives/{id}/resume → 200; 400, 403, 404, 409 not paused, 412, 428."""

    permission_classes = [requires("redrives:write")]
    representation = RedriveOut

    @extend_schema(request=ReasonIn, responses=RedriveOut, parameters=[IF_MATCH])
    def post(self, request: Request, redrive_id: int) -> Response:
        """Hand out its letters again."""
        return _answer(services.resume_redrive, request, redrive_id)


class RedriveEndView(APIView):
    """POST /api/v1/redrives/{id}/end → 200; 400, 403, 404, 409 over, 412, 428."""

    permission_classes = [requires("redrives:write")]
    representation = RedriveOut

    @extend_schema(request=ReasonIn, responses=RedriveOut, parameters=[IF_MATCH])
    def post(self, request: Request, redrive_id: int) -> Response:
        """Cancel what still waits of it; those letters are as they were before."""
        return _answer(services.end_redrive, request, redrive_id)


def _answer(change: Any, request: Request, redrive_id: int) -> Response:
    reason = valid(ReasonIn, request.data)["reason"]
    redrive = change(redrive_id, version=if_match(request), reason=reason, actor=actor_of(request))
    return respond(RedriveOut(redrive), version=redrive.version)
