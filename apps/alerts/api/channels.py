"""Channels over HTTP: where people are told, and what became of it."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.alerts import services
from apps.alerts.models import Channel, Notification
from apps.alerts.models.rule import Severity
from apps.alerts.services.channels import LONGEST_ADDRESS
from apps.core.api import Strict, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE


class ChannelOut(serializers.ModelSerializer[Channel]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    address = serializers.CharField(source="shown_address", read_only=True)
    severities = serializers.ListField(child=serializers.ChoiceField(Severity.choices))

    class Meta:
        model = Channel
        fields = (
            *("id", "environment", "name", "kind", "address", "severities", "wants_switches"),
            *("wants_endings", "wants_ends", "enabled", "disabled_reason", "created_at"),
            "version",
        )
        read_only_fields = fields


class AttemptOut(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    outcome = serializers.CharField(help_text="delivered, or what went wrong.")
    seconds = serializers.FloatField()


class NotificationOut(serializers.ModelSerializer[Notification]):
    channel = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)
    log = AttemptOut(many=True, read_only=True)

    class Meta:
        model = Notification
        fields = (
            *("id", "channel", "about", "title", "body", "status", "attempts", "due_at", "log"),
            *("created_at", "finished_at"),
        )
        read_only_fields = fields


class Wishes(Strict):
    """What a channel wants to hear of."""

    severities = serializers.ListField(
        child=serializers.ChoiceField(Severity.choices),
        required=False,
        max_length=len(Severity),
        help_text="Alerts of these.",
    )
    wants_switches = serializers.BooleanField(
        required=False, help_text="Flags and overrides that are engaged or extended."
    )
    wants_endings = serializers.BooleanField(
        required=False, help_text="Five minutes before they end by themselves."
    )
    wants_ends = serializers.BooleanField(required=False)
    enabled = serializers.BooleanField(required=False)


def _address(*, required: bool) -> serializers.CharField:
    return serializers.CharField(
        max_length=LONGEST_ADDRESS,
        required=required,
        write_only=True,
        help_text="A webhook's http(s)://, mailto(s)://, or any other URL of apprise. It is kept "
        "encrypted and answered without its passwords.",
    )


class ChannelIn(Wishes):
    name = serializers.CharField(max_length=80)
    kind = serializers.ChoiceField(Channel.Kind.choices)
    address = _address(required=True)


class ChannelPatch(Wishes):
    address = _address(required=False)


class ChannelTestIn(Strict):
    note = serializers.CharField(
        max_length=200, default="", allow_blank=True, help_text="Words of yours in the message."
    )


class ChannelQuery(Strict):
    kind = serializers.ChoiceField(Channel.Kind.choices, required=False)
    enabled = serializers.BooleanField(required=False)


class NotificationQuery(Strict):
    status = serializers.ChoiceField(Notification.Status.choices, required=False)
    about = serializers.ChoiceField(Notification.About.choices, required=False)


class ChannelsView(APIView):
    """GET and POST /api/v1/channels → 200 page, 201 channel; 400, 403, 409 name in use."""

    permission_classes = [requires("config:read", write="alerts:write")]

    @extend_schema(parameters=[ChannelQuery, *PAGE], responses=listed(ChannelOut))
    def get(self, request: Request) -> Response:
        """Where people are told."""
        rows = Channel.objects.visible_to(actor_of(request)).select_related("environment")
        return page_of(rows.filter(**query(ChannelQuery, request)), ChannelOut, request, self)

    @extend_schema(request=ChannelIn, responses={201: ChannelOut})
    def post(self, request: Request) -> Response:
        """Add a channel."""
        body = valid(ChannelIn, request.data)
        channel = services.create_channel(
            body.pop("name"),
            kind=body.pop("kind"),
            address=body.pop("address"),
            settings=body,
            actor=actor_of(request),
        )
        location = f"/api/v1/channels/{channel.pk}"
        return respond(ChannelOut(channel), version=channel.version, status=201, location=location)


class ChannelView(APIView):
    """GET, PATCH and DELETE /api/v1/channels/{id} → 200, 204; 400, 403, 404, 412, 428."""

    permission_classes = [requires("config:read", write="alerts:write")]
    representation = ChannelOut

    @extend_schema(responses=ChannelOut)
    def get(self, request: Request, channel_id: int) -> Response:
        """One channel, with its ETag."""
        rows = Channel.objects.select_related("environment")
        channel = get_visible(rows, actor=actor_of(request), pk=channel_id)
        return respond(ChannelOut(channel), version=channel.version)

    @extend_schema(request=ChannelPatch, responses=ChannelOut, parameters=[IF_MATCH])
    def patch(self, request: Request, channel_id: int) -> Response:
        """Change what it wants, its address, or whether it is enabled."""
        channel = services.update_channel(
            channel_id,
            version=if_match(request),
            changes=valid(ChannelPatch, request.data),
            actor=actor_of(request),
        )
        return respond(ChannelOut(channel), version=channel.version)

    @extend_schema(request=None, responses={204: None}, parameters=[IF_MATCH])
    def delete(self, request: Request, channel_id: int) -> Response:
        """Remove a channel and its delivery log."""
        services.delete_channel(channel_id, version=if_match(request), actor=actor_of(request))
        return Response(status=204)


class ChannelTestView(APIView):
    """POST /api/v1/channels/{id}/test → 200 what happened; 400, 403, 404."""

    permission_classes = [requires("alerts:write")]

    @extend_schema(request=ChannelTestIn, responses=NotificationOut)
    def post(self, request: Request, channel_id: int) -> Response:
        """Send a test message now and say what happened; takes up to 10 s."""
        note = valid(ChannelTestIn, request.data)["note"]
        row = services.try_channel(channel_id, note=note, actor=actor_of(request))
        return Response(NotificationOut(row).data)


class ChannelNotificationsView(APIView):
    """GET /api/v1/channels/{id}/notifications → 200 page; 400, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[NotificationQuery, *PAGE], responses=listed(NotificationOut))
    def get(self, request: Request, channel_id: int) -> Response:
        """What a channel was told, is told, or could not be told, newest first."""
        channel = get_visible(Channel.objects, actor=actor_of(request), pk=channel_id)
        rows = Notification.objects.filter(channel=channel, **query(NotificationQuery, request))
        return page_of(rows.select_related("channel"), NotificationOut, request, self)
