"""The audit log over HTTP: search it, look at one entry, verify the chains."""

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.audit import rules, selectors
from apps.audit.models import Chain, Entry
from apps.core.api import Strict, query
from apps.core.db import get_visible
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import PAGE

COLUMNS = (
    *("id", "chain", "sequence", "at", "actor_kind", "actor_label", "action", "object_type"),
    *("object_id", "object_label", "reason", "outcome", "revision", "request_id"),
)


class EntryOut(serializers.ModelSerializer[Entry]):
    chain = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)

    class Meta:
        model = Entry
        fields: tuple[str, ...] = COLUMNS
        read_only_fields = fields


class ChangeOut(serializers.Serializer[Any]):
    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class EntryDetailOut(EntryOut):
    source = serializers.CharField(  # type: ignore[assignment]  # DRF collects it off the class
        help_text="Door it came through: ui, api, admin, task, command."
    )
    address = serializers.CharField(allow_blank=True)
    diff = ChangeOut(many=True, help_text="What changed, field by field.")
    text = serializers.CharField(help_text="The canonical JSON that was hashed.")
    previous = serializers.CharField(allow_blank=True, help_text="Hash of the entry before it.")
    hash = serializers.CharField()

    class Meta(EntryOut.Meta):
        fields = (*COLUMNS, "source", "address", "diff", "text", "previous", "hash")
        read_only_fields = fields


class ChainOut(serializers.Serializer[Any]):
    chain = serializers.CharField()
    entries = serializers.IntegerField()
    holds = serializers.BooleanField()
    broken_at = serializers.IntegerField(
        allow_null=True, help_text="Sequence number of the first entry that does not hold."
    )
    why = serializers.CharField(allow_blank=True)


class ChainsOut(serializers.Serializer[Any]):
    chains = ChainOut(many=True)


class EntryQuery(Strict):
    action = serializers.CharField(max_length=60, required=False, help_text="Such as flag.engaged.")
    object = serializers.RegexField(
        r"^[a-z]{1,40}(:[A-Za-z0-9._-]{1,64})?$",
        required=False,
        help_text="A kind of thing, or one of it: `flag` or `flag:3`.",
    )
    actor = serializers.CharField(max_length=150, required=False, help_text="Name of who did it.")
    outcome = serializers.ChoiceField(Entry.Outcome.choices, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False, help_text="Exclusive.")
    request_id = serializers.CharField(max_length=64, required=False)


class EntriesView(APIView):
    """GET /api/v1/audit → 200 page; 400, 403."""

    permission_classes = [requires("audit:read")]

    @extend_schema(parameters=[EntryQuery, *PAGE], responses=listed(EntryOut))
    def get(self, request: Request) -> Response:
        """What was done or refused, newest first."""
        wanted = query(EntryQuery, request)
        kind, _colon, number = wanted.get("object", "").partition(":")
        lookups = {
            "action": wanted.get("action"),
            "object_type": kind or None,
            "object_id": number or None,
            "actor_label": wanted.get("actor"),
            "outcome": wanted.get("outcome"),
            "at__gte": wanted.get("since"),
            "at__lt": wanted.get("until"),
            "request_id": wanted.get("request_id"),
        }
        rows = Entry.objects.visible_to(actor_of(request)).select_related("chain")
        rows = rows.filter(**{name: value for name, value in lookups.items() if value is not None})
        return page_of(rows, EntryOut, request, self, order="-at,-id")


class EntryView(APIView):
    """GET /api/v1/audit/{id} → 200; 403, 404."""

    permission_classes = [requires("audit:read")]

    @extend_schema(responses=EntryDetailOut)
    def get(self, request: Request, entry_id: uuid.UUID) -> Response:
        """One entry with what it changed and its place in the chain."""
        rows = Entry.objects.select_related("chain")
        entry = get_visible(rows, actor=actor_of(request), pk=entry_id)
        content = entry.content
        detail = {
            "source": content["source"],
            "address": content["address"],
            "diff": rules.changed(content["before"], content["after"]),
            "text": entry.text,
            "previous": content["previous"],
            "hash": entry.hash,
        }
        return Response({**EntryOut(entry).data, **detail})


class VerifyView(APIView):
    """GET /api/v1/audit/verify → 200; 403."""

    permission_classes = [requires("audit:read")]

    @extend_schema(responses=ChainsOut)
    def get(self, request: Request) -> Response:
        """Whether each chain the caller sees still holds, every hash and link recomputed."""
        chains = Chain.objects.visible_to(actor_of(request)).order_by("environment_id")
        return Response({"chains": [_state(selectors.verify(chain)) for chain in chains]})


def _state(verdict: selectors.Verdict) -> dict[str, Any]:
    broken = verdict.broken
    return {
        "chain": verdict.chain,
        "entries": verdict.entries,
        "holds": broken is None,
        "broken_at": broken.sequence if broken else None,
        "why": broken.why if broken else "",
    }
