"""The timeline over HTTP."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.console import in_force, timeline
from apps.core import clock
from apps.core.actor import Actor
from apps.core.api import Strict, query, respond
from apps.core.errors import RuleBroken
from apps.core.moments import KINDS, Moment, Wanted
from apps.core.paging import Pages
from apps.core.permissions import actor_of, requires
from apps.core.schema import PAGE
from apps.fleet.models import Environment

EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
LIMIT = [parameter for parameter in PAGE if parameter.name == "limit"]


class TimelineQuery(Strict):
    service = serializers.CharField(
        max_length=80, required=False, help_text="Slug; with it, what concerns its calls."
    )
    dependency = serializers.CharField(max_length=80, required=False, help_text="Slug.")
    kind = serializers.CharField(
        max_length=200,
        required=False,
        help_text=f"Of {', '.join(KINDS)}; commas between.",
    )
    since = serializers.DateTimeField(
        required=False, help_text="A day before `until` without it; 400 days before it at most."
    )
    until = serializers.DateTimeField(required=False, help_text="Exclusive; now without it.")

    def validate_kind(self, text: str) -> frozenset[str]:
        kinds = frozenset(part.strip() for part in text.split(","))
        if unknown := sorted(kinds - set(KINDS)):
            known = ", ".join(KINDS)
            raise serializers.ValidationError(
                _("%(what)s is none of %(known)s.") % {"what": unknown[0][:40], "known": known}
            )
        return kinds


class MomentOut(serializers.Serializer[Moment]):
    at = serializers.DateTimeField()
    kind = serializers.ChoiceField(KINDS)
    text = serializers.CharField(help_text="What happened, in words.")
    service = serializers.CharField(help_text="Slug; empty: no one service's.")
    dependency = serializers.CharField(help_text="Slug; empty: no one dependency's.")
    instance = serializers.CharField(  # type: ignore[assignment]  # as `data` below
        help_text="Name; empty: of several, or of none."
    )
    actor = serializers.CharField(help_text="Who did it; empty: nobody did.")
    reason = serializers.CharField()
    count = serializers.IntegerField(help_text="How many instances or things it is about.")
    phase = serializers.ChoiceField(["", "begins", "ends"])
    lasted_seconds = serializers.FloatField(
        source="lasted", allow_null=True, help_text="Of what begins, if its end is on this page."
    )
    url = serializers.SerializerMethodField(help_text="The console's page of it, or empty.")
    data = serializers.DictField(  # type: ignore[assignment]  # a member, not DRF's property
        help_text="More of it, by kind."
    )

    def get_url(self, moment: Moment) -> str:
        return str(self.context["urls"][id(moment)])


class TimelineOut(serializers.Serializer[Any]):
    results = MomentOut(many=True)
    next = serializers.URLField(allow_null=True)


class MarkdownRenderer(BaseRenderer):
    """Text that is there already."""

    media_type = "text/markdown"
    format = "md"
    charset = "utf-8"

    def render(self, data: Any, media_type: Any = None, context: Any = None) -> bytes:
        return str(data).encode()


def wanted_of(asked: dict[str, Any], actor: Actor) -> Wanted:
    """Which moments a query asks for.

    Raises:
        RuleBroken: the end is not after the beginning, or they are too far apart.
    """
    until = asked.get("until") or clock.now()
    since = asked.get("since") or max(EARLIEST, until - timeline.USUAL)
    if not EARLIEST <= since < until:
        text = _("`since` must be before `until`.")
        raise RuleBroken(text, errors={"since": [text]})
    if until - since > timeline.LONGEST:
        text = _("At most %(days)d days before `until`.") % {"days": timeline.LONGEST.days}
        raise RuleBroken(_("That is too long a time."), errors={"since": [text]})
    return Wanted(
        actor.environment_id,
        since.astimezone(UTC),
        until.astimezone(UTC),
        service=asked.get("service", ""),
        dependency=asked.get("dependency", ""),
        own_service=actor.service_id,
    )


class TimelineView(APIView):
    """GET /api/v1/timeline → 200 page of moments, newest first; 400, 401, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[TimelineQuery, *LIMIT], responses=TimelineOut)
    def get(self, request: Request) -> Response:
        """What happened: breakers, switches, revisions, checks, dead letters, marks, alerts."""
        actor, limit = actor_of(request), Pages().get_page_size(request)
        if "cursor" in request.query_params:  # `next` goes on with another `until`
            text = _("Unknown field; `next` has all that is needed.")
            raise RuleBroken(text, errors={"cursor": [text]})
        asked = query(TimelineQuery, request)
        wanted = wanted_of(asked, actor)
        page = timeline.timeline(wanted, kinds=asked.get("kind", KINDS), limit=limit)
        shown = _shown(page.moments, wanted.environment_id)
        return Response({"results": shown, "next": _next(request, page, wanted)})


class TimelineMarkdownView(APIView):
    """GET /api/v1/timeline/markdown → 200 text/markdown; 400, 401, 403."""

    permission_classes = [requires("config:read")]
    renderer_classes = [MarkdownRenderer, JSONRenderer]

    @extend_schema(parameters=[TimelineQuery], responses={(200, "text/markdown"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponse:
        """The same as a table for a post-mortem, oldest first; at most 1,000 moments."""
        actor, asked = actor_of(request), query(TimelineQuery, request)
        name = Environment.objects.get(pk=actor.environment_id).slug
        text = timeline.markdown(wanted_of(asked, actor), name, kinds=asked.get("kind", KINDS))
        return HttpResponse(text, content_type="text/markdown; charset=utf-8")


def _shown(moments: Collection[Moment], environment_id: int) -> list[dict[str, Any]]:
    """The moments as the API tells them."""
    urls = timeline.addresses(moments, environment_id)
    by_moment = {id(each): url for each, url in zip(moments, urls, strict=True)}
    shape = MomentOut(context={"urls": by_moment})
    return [shape.to_representation(each) for each in moments]


def _next(request: Request, page: timeline.Page, wanted: Wanted) -> str | None:
    if page.until is None:
        return None
    span = {"since": clock.rfc3339(wanted.since), "until": clock.rfc3339(page.until)}
    given = request.query_params.dict() | span
    return request.build_absolute_uri(f"{request.path}?{urlencode(given)}")


class InForceQuery(Strict):
    at = serializers.DateTimeField(required=False, help_text="Now without it.")


class ValueThenOut(serializers.Serializer[in_force.Value]):
    pattern = serializers.CharField()
    key = serializers.CharField()
    value = serializers.JSONField()
    level = serializers.ChoiceField(["environment", "dependency", "service"])
    revision = serializers.IntegerField(help_text="That published it.")


class BreakerThenOut(serializers.Serializer[in_force.Breaker]):
    state = serializers.ChoiceField(["closed", "half_open", "open"])
    since = serializers.DateTimeField(
        allow_null=True, help_text="null: no event of it is kept, so it had not moved."
    )
    cause = serializers.CharField()


class CallsThenOut(serializers.Serializer[in_force.Calls]):
    dependency = serializers.CharField()
    breaker = BreakerThenOut()
    override = serializers.DictField(allow_null=True)
    values = ValueThenOut(many=True, help_text="What is not listed was the SDK's default.")


class InForceOut(serializers.Serializer[in_force.InForce]):
    instance = serializers.UUIDField()  # type: ignore[assignment]  # a member, not DRF's argument
    name = serializers.CharField()
    service = serializers.CharField()
    at = serializers.DateTimeField()
    known = serializers.ChoiceField(
        ["exact", "defaults", "another_epoch", "too_long_ago"],
        help_text="exact: as published; defaults: it had not said that it ran a revision;"
        " another_epoch: of a database that this one does not know; too_long_ago: not kept.",
    )
    epoch = serializers.UUIDField(allow_null=True)
    revision = serializers.IntegerField(allow_null=True)
    applied_at = serializers.DateTimeField(allow_null=True)
    refused = serializers.ListField(
        child=serializers.DictField(), help_text="Of it, what stayed as it was before."
    )
    flags = serializers.DictField(child=serializers.DictField())
    over = serializers.DictField(
        child=serializers.DictField(), help_text="Flags of it whose lease had ended by the clock."
    )
    dependencies = CallsThenOut(many=True)


class InForceView(APIView):
    """GET /api/v1/instances/{id}/in-force → 200; 400, 401, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[InForceQuery], responses=InForceOut)
    def get(self, request: Request, instance_id: UUID) -> Response:
        """What an instance had to obey at an instant: policy, flags, breakers, with sources."""
        asked = query(InForceQuery, request)
        at = (asked.get("at") or clock.now()).astimezone(UTC)
        found = in_force.in_force(instance_id, at, actor=actor_of(request))
        return respond(InForceOut(found))
