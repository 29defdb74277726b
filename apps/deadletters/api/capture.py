"""Dead letters in."""

from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.errors import RuleBroken
from apps.core.parsers import StrictJSONParser
from apps.core.permissions import actor_of, requires
from apps.deadletters import letters, services
from apps.telemetry.services import reporting_service

MAX_BATCH = 8 * 1024 * 1024  # bytes, packed or unpacked


class BatchParser(StrictJSONParser):
    """Read a batch from its bytes; what is wrong with an item is for the answer to say."""

    max_body = MAX_BATCH
    allows_nul = True  # told item by item

    def read(self, body: bytes) -> letters.Batch:
        return letters.read(body)


class CapturedOut(serializers.Serializer[Any]):
    index = serializers.IntegerField(help_text="Of the item in the request.")
    status = serializers.ChoiceField(["created", "updated", "unchanged", "invalid"])
    id = serializers.IntegerField(required=False, help_text="Of the letter; not of an invalid one.")
    errors = serializers.DictField(  # type: ignore[assignment]  # the contract has this name
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="Of an invalid item: texts by member. Sending it again changes nothing.",
    )


class CapturesOut(serializers.Serializer[Any]):
    items = CapturedOut(many=True)


class CaptureView(APIView):
    """POST /api/v1/dead-letters/capture → 201; 400 envelope, 401, 403, 404, 409, 413, 415."""

    permission_classes = [requires("deadletters:write")]
    parser_classes = [BatchParser]

    @extend_schema(
        request={"application/json": letters.schema()},
        responses={201: CapturesOut},
        description=(
            "Keep what a service gave up, once all of it is committed. Safe to repeat: a letter is "
            "known by its dedup_key, a failure of it by last_failed_at. A bad item is answered "
            "with its errors and costs its neighbours nothing."
        ),
    )
    def post(self, request: Request) -> Response:
        batch = request.data
        if not isinstance(batch, letters.Batch):
            raise RuleBroken(_("The body is empty."), errors={"body": [_("Items are required.")]})
        service = reporting_service(batch.service, actor=actor_of(request))
        found = services.capture(service, batch.items, instance_id=_instance(request))
        items = [_shown(index, captured) for index, captured in enumerate(found)]
        return Response({"items": items}, 201)


def _shown(index: int, captured: services.Captured) -> dict[str, Any]:
    shown: dict[str, Any] = {"index": index, "status": captured.status}
    if captured.id is not None:
        shown["id"] = captured.id
    if captured.errors:
        shown["errors"] = captured.errors
    return shown


def _instance(request: Request) -> UUID | None:
    """The process that sends it, if it says so as it does for streams."""
    try:
        return UUID(request.headers.get("Holdfast-Instance", ""))
    except ValueError:
        return None
