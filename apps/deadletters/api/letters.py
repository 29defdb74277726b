"""Letters and their groups, for those who look after them."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.api import Strict, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.leases import LONGEST_REASON
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.deadletters import services
from apps.deadletters.api.work import BodyOut, body_of
from apps.deadletters.models import DeadLetter, Group, LetterStatus, Reason


class LetterOut(serializers.ModelSerializer[DeadLetter]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    group = serializers.PrimaryKeyRelatedField[Any](read_only=True)
    redacted = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = DeadLetter
        fields: tuple[str, ...] = (
            *("id", "environment", "service", "group", "dedup_key", "handler", "dependency"),
            *("reason", "error_class", "error_message", "attempts", "first_failed_at"),
            *("last_failed_at", "captured_at", "idempotency_key", "correlation_id", "body_size"),
            *("body_sha256", "redacted", "revision", "instance_id", "status"),
            *("status_changed_at", "redrive_count", "discard_reason", "version"),
        )
        read_only_fields = fields


class LetterDetailOut(LetterOut):
    class Meta(LetterOut.Meta):
        fields = (*LetterOut.Meta.fields, "error_stack")
        read_only_fields = fields


class ContentOut(serializers.Serializer[Any]):
    headers = serializers.DictField(child=serializers.CharField())
    body = BodyOut()
    redacted = serializers.ListField(child=serializers.CharField())


class LetterQuery(Strict):
    status = serializers.ChoiceField(LetterStatus.choices, required=False)
    service = serializers.CharField(max_length=80, required=False)
    dependency = serializers.CharField(max_length=80, required=False)
    handler = serializers.CharField(max_length=200, required=False)
    reason = serializers.ChoiceField(Reason.choices, required=False)
    error_class = serializers.CharField(max_length=200, required=False)
    group = serializers.IntegerField(min_value=1, max_value=2**63 - 1, required=False)
    dedup_key = serializers.CharField(max_length=200, required=False)


class NoteIn(Strict):
    reason = serializers.CharField(max_length=LONGEST_REASON, default="", allow_blank=True)


class ReasonIn(Strict):
    reason = serializers.CharField(max_length=LONGEST_REASON)


def _visible(request: Request) -> QuerySet[DeadLetter]:
    letters: QuerySet[DeadLetter] = DeadLetter.objects.visible_to(actor_of(request))
    return letters.select_related("environment", "service").defer("body", "headers")


class LettersView(APIView):
    """GET /api/v1/dead-letters → 200 page, newest first; 400, 401, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[LetterQuery, *PAGE], responses=listed(LetterOut))
    def get(self, request: Request) -> Response:
        """What services gave up, without bodies, newest first."""
        wanted = query(LetterQuery, request)
        rows = _visible(request).filter(environment=actor_of(request).environment_id)
        if "service" in wanted:
            rows = rows.filter(service__slug=wanted.pop("service"))
        return page_of(
            rows.defer("error_stack", "body", "headers").filter(**wanted), LetterOut, request, self
        )


class LetterView(APIView):
    """GET /api/v1/dead-letters/{id} → 200; 401, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=LetterDetailOut)
    def get(self, request: Request, letter_id: int) -> Response:
        """One letter with its stack and its ETag; headers and body are at `…/content`."""
        letter = get_visible(_visible(request), actor=actor_of(request), pk=letter_id)
        return respond(LetterDetailOut(letter), version=letter.version)


class LetterContentView(APIView):
    """GET /api/v1/dead-letters/{id}/content → 200; 401, 403, 404."""

    permission_classes = [requires("redrives:write")]

    @extend_schema(responses=ContentOut)
    def get(self, request: Request, letter_id: int) -> Response:
        """Headers and body, for those who may redrive it. What was redacted stays so."""
        actor = actor_of(request)
        letter = get_visible(DeadLetter.objects, actor=actor, pk=letter_id)
        return Response(
            {"headers": letter.headers, "body": body_of(letter), "redacted": letter.redacted}
        )


class LetterAcknowledgeView(APIView):
    """POST /api/v1/dead-letters/{id}/acknowledge → 200; 400, 403, 404, 409, 412, 428."""

    permission_classes = [requires("redrives:write")]
    representation = LetterOut

    @extend_schema(request=NoteIn, responses=LetterOut, parameters=[IF_MATCH])
    def post(self, request: Request, letter_id: int) -> Response:
        """Note that somebody looks after it."""
        letter = services.acknowledge_letter(
            letter_id,
            version=if_match(request),
            reason=valid(NoteIn, request.data)["reason"],
            actor=actor_of(request),
        )
        return respond(LetterOut(letter), version=letter.version)


class LetterDiscardView(APIView):
    """POST /api/v1/dead-letters/{id}/discard → 200; 400, 403, 404, 409, 412, 428."""

    permission_classes = [requires("redrives:write")]
    representation = LetterOut

    @extend_schema(request=ReasonIn, responses=LetterOut, parameters=[IF_MATCH])
    def post(self, request: Request, letter_id: int) -> Response:
        """Give it up for good; if it fails again it is new once more."""
        letter = services.discard_letter(
            letter_id,
            version=if_match(request),
            reason=valid(ReasonIn, request.data)["reason"],
            actor=actor_of(request),
        )
        return respond(LetterOut(letter), version=letter.version)


class GroupOut(serializers.ModelSerializer[Group]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)

    class Meta:
        model = Group
        fields = (
            *("id", "environment", "service", "fingerprint", "title", "error_class", "handler"),
            *("letters", "unresolved", "first_seen_at", "last_seen_at"),
        )
        read_only_fields = fields


class GroupQuery(Strict):
    service = serializers.CharField(max_length=80, required=False)
    error_class = serializers.CharField(max_length=200, required=False)
    unresolved = serializers.BooleanField(
        required=False, help_text="Whether letters of it are unresolved."
    )


class DiscardedOut(serializers.Serializer[Any]):
    discarded = serializers.IntegerField(help_text="Letters that were given up.")


def _groups(request: Request) -> QuerySet[Group]:
    groups: QuerySet[Group] = Group.objects.visible_to(actor_of(request))
    return groups.select_related("environment", "service")


class GroupsView(APIView):
    """GET /api/v1/dead-letter-groups → 200 page, last seen first; 400, 401, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[GroupQuery, *PAGE], responses=listed(GroupOut))
    def get(self, request: Request) -> Response:
        """What failed alike, last seen first."""
        wanted = query(GroupQuery, request)
        rows = _groups(request).filter(environment=actor_of(request).environment_id)
        if "service" in wanted:
            rows = rows.filter(service__slug=wanted["service"])
        if "error_class" in wanted:
            rows = rows.filter(error_class=wanted["error_class"])
        if "unresolved" in wanted:
            is_wanted = wanted["unresolved"]
            rows = rows.filter(unresolved__gt=0) if is_wanted else rows.filter(unresolved=0)
        return page_of(rows, GroupOut, request, self, order="-last_seen_at,-pk")


class GroupView(APIView):
    """GET /api/v1/dead-letter-groups/{id} → 200; 401, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=GroupOut)
    def get(self, request: Request, group_id: int) -> Response:
        """One group and its counts."""
        group = get_visible(_groups(request), actor=actor_of(request), pk=group_id)
        return Response(GroupOut(group).data)


class GroupDiscardView(APIView):
    """POST /api/v1/dead-letter-groups/{id}/discard → 200; 400, 403, 404, 409."""

    permission_classes = [requires("redrives:write")]

    @extend_schema(request=ReasonIn, responses=DiscardedOut)
    def post(self, request: Request, group_id: int) -> Response:
        """Give up the letters of it that are unresolved now and not being redriven."""
        discarded = services.discard_group(
            group_id, reason=valid(ReasonIn, request.data)["reason"], actor=actor_of(request)
        )
        return Response({"discarded": discarded})
