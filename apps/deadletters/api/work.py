"""Letters out to the services that gave them up, and what became of them."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core import clock
from apps.core.api import Number, Strict, Whole, valid
from apps.core.permissions import actor_of, requires
from apps.deadletters import services
from apps.deadletters.models import DeadLetter
from apps.deadletters.services import Outcome, Work
from apps.telemetry.services import reporting_service

OUTCOMES = ["resolved", "refailed", "released", "extend"]


class ClaimIn(Strict):
    service = serializers.CharField(
        max_length=80, required=False, help_text="For tokens that are bound to no service."
    )
    handlers = serializers.ListField(
        child=serializers.CharField(max_length=200), min_length=1, max_length=200
    )
    limit = Whole(min_value=1, max_value=100, default=10)
    lease_seconds = Whole(min_value=30, max_value=600, default=60)
    wait_seconds = Number(
        min_value=0,
        max_value=20,
        default=0,
        help_text="How long to wait for letters if there are none.",
    )


class BodyOut(serializers.Serializer[Any]):
    encoding = serializers.ChoiceField(["utf-8", "base64"])
    content_type = serializers.CharField()
    data = serializers.CharField()  # type: ignore[assignment]  # the contract has this name


class WorkOut(serializers.Serializer[Any]):
    id = serializers.IntegerField(help_text="Of the letter.")
    claim = serializers.UUIDField(help_text="Goes with the outcome.")
    handler = serializers.CharField()
    idempotency_key = serializers.CharField(help_text="The same at every redrive.")
    redrive_count = serializers.IntegerField(help_text="Redrives in a row that failed again.")
    lease_remaining_seconds = serializers.FloatField()
    headers = serializers.DictField(child=serializers.CharField())
    body = BodyOut()


class ClaimOut(serializers.Serializer[Any]):
    items = WorkOut(many=True)


class ClaimView(APIView):
    """POST /api/v1/redrives/claim → 200 {items}; 400, 401, 403, 404, 409."""

    permission_classes = [requires("redrives:work")]

    @extend_schema(
        request=ClaimIn,
        responses=ClaimOut,
        description=(
            "Take letters that are to be redriven, for the time of a lease. With wait_seconds the "
            "answer waits until there are some. A letter may come again if its outcome is not told "
            "in time, with the same idempotency_key."
        ),
    )
    def post(self, request: Request) -> Response:
        """Answers at once; `gate` in front of Django does the waiting."""
        body = valid(ClaimIn, request.data)
        service = reporting_service(body.get("service"), actor=actor_of(request))
        work = services.claim(
            service,
            body["handlers"],
            limit=body["limit"],
            lease=timedelta(seconds=body["lease_seconds"]),
        )
        return Response({"items": [_shown(each) for each in work]})


def _shown(work: Work) -> dict[str, Any]:
    letter = work.letter
    return {
        "id": letter.pk,
        "claim": str(work.claim),
        "handler": letter.handler,
        "idempotency_key": letter.idempotency_key,
        "redrive_count": letter.redrive_count,
        "lease_remaining_seconds": max(0.0, (work.expires_at - clock.now()).total_seconds()),
        "headers": letter.headers,
        "body": body_of(letter),
    }


def body_of(letter: DeadLetter) -> dict[str, str]:
    """The body as it travels."""
    return {
        "encoding": letter.body_encoding,
        "content_type": letter.body_type,
        "data": letter.body_text(),
    }


@extend_schema_field(
    {
        "type": ["string", "object"],
        "properties": {name: {"type": "string"} for name in ("class", "message", "stack")},
        "additionalProperties": False,
    }
)
class OutcomeError(serializers.Field[Any, Any, Any, Any]):
    """What the handler raised: text, or {class, message, stack}; kept as text."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str):
            return data
        members = ("class", "message", "stack")
        if not isinstance(data, Mapping) or not set(data) <= set(members):
            raise serializers.ValidationError(_("Text, or class, message and stack of it."))
        if not all(isinstance(text, str) for text in data.values()):
            raise serializers.ValidationError(_("Class, message and stack are text."))
        head = ": ".join(data[name] for name in members[:2] if data.get(name))
        return "\n".join(filter(None, (head, data.get("stack", ""))))

    def to_representation(self, value: Any) -> Any:
        return value


class OutcomeIn(Strict):
    id = Whole(min_value=1, max_value=2**63 - 1)
    claim = serializers.UUIDField()
    outcome = serializers.ChoiceField(OUTCOMES)
    error = OutcomeError(required=False, allow_null=True)
    duration_seconds = Number(min_value=0, max_value=10**9, required=False, allow_null=True)


class OutcomesIn(Strict):
    service = serializers.CharField(
        max_length=80, required=False, help_text="For tokens that are bound to no service."
    )
    items = serializers.ListField(child=OutcomeIn(), max_length=100)


class SettledOut(serializers.Serializer[Any]):
    index = serializers.IntegerField(help_text="Of the item in the request.")
    id = serializers.IntegerField(help_text="Of the letter.")
    status = serializers.ChoiceField(
        ["accepted", "late", "unknown"],
        help_text="late: somebody else may have the letter; what was resolved is all the same.",
    )


class OutcomesOut(serializers.Serializer[Any]):
    items = SettledOut(many=True)


class OutcomesView(APIView):
    """POST /api/v1/redrives/outcomes → 200 {items}; 400, 401, 403, 404, 409."""

    permission_classes = [requires("redrives:work")]

    @extend_schema(
        request=OutcomesIn,
        responses=OutcomesOut,
        description=(
            "Tell what became of claimed letters: resolved, refailed, released (not tried) or "
            "extend (the lease counts anew from now). Safe to repeat."
        ),
    )
    def post(self, request: Request) -> Response:
        body = valid(OutcomesIn, request.data)
        service = reporting_service(body.get("service"), actor=actor_of(request))
        told = [
            Outcome(
                letter_id=item["id"],
                claim=item["claim"],
                outcome=item["outcome"],
                error=item.get("error") or "",
                duration_seconds=item.get("duration_seconds"),
            )
            for item in body["items"]
        ]
        verdicts = services.settle(service, told)
        items = [
            {"index": index, "id": told[index].letter_id, "status": verdict}
            for index, verdict in enumerate(verdicts)
        ]
        return Response({"items": items})
