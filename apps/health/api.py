"""Checks over HTTP."""

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.actor import Actor
from apps.core.api import Number, Strict, Whole, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.errors import RuleBroken
from apps.core.leases import LONGEST_REASON
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.fleet.selectors import named_dependency
from apps.health import rules, selectors, services, targets
from apps.health.models import Check, Result, Status, Transition
from apps.health.probes.outcomes import Outcome

MARKS = {rules.OK: "ok", rules.IMPAIRED: "impaired", rules.FAILED: "failed"}
OUTCOMES = [(name, name) for name in sorted(MARKS.values())]
_SECRET = (
    "Password, or for HTTP without a user in the address a bearer token. Kept sealed, never shown; "
    "null removes it. Needed again when the address changes."
)
_SETTINGS = "Of the kind: " + "; ".join(
    f"{kind}: {', '.join(known)}" for kind, known in targets.OPTIONS.items() if known
)


class CheckOut(serializers.ModelSerializer[Check]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    dependency = serializers.SlugRelatedField[Any](
        slug_field="slug", read_only=True, allow_null=True
    )
    parent = serializers.SlugRelatedField[Any](  # type: ignore[assignment]  # not left on the class
        slug_field="name", read_only=True, allow_null=True
    )
    has_secret = serializers.BooleanField(read_only=True)
    settings = serializers.DictField()
    is_stale = serializers.BooleanField(help_text="Too old to say how it is now.")
    success_rate = serializers.FloatField(allow_null=True, help_text="Share of recent results.")
    flapping_share = serializers.FloatField(
        help_text="How much its last 21 results change: from 0.2 on it flaps, to 0.05."
    )
    because_of = serializers.CharField(help_text="The check above it that is down, or empty.")
    facts = serializers.DictField(help_text="What was measured besides; seconds, bytes, counts.")

    class Meta:
        model = Check
        fields = (
            *("id", "name", "kind", "environment", "dependency", "address", "has_secret"),
            *("parent", "is_flapping", "flapping_share", "because_of"),
            *("settings", "interval_seconds", "timeout_seconds", "retry_seconds"),
            *("failures_to_confirm", "successes_to_recover", "slow_seconds", "enabled", "status"),
            *("since", "observed_at", "is_stale", "latency_seconds", "success_rate", "detail"),
            *("facts", "version"),
        )
        read_only_fields = fields


class _Values(Strict):
    """What may be set of a check, and changed afterwards."""

    dependency = serializers.CharField(max_length=80, allow_null=True, required=False)
    address = serializers.CharField(
        max_length=500, required=False, allow_blank=True, help_text="Without a password."
    )
    secret = serializers.CharField(
        max_length=targets.LONGEST_SECRET,
        required=False,
        allow_null=True,
        write_only=True,
        trim_whitespace=False,
        help_text=_SECRET,
    )
    settings = serializers.DictField(required=False, help_text=_SETTINGS)
    interval_seconds = Number(min_value=1, max_value=31 * 86_400, required=False)
    timeout_seconds = Number(min_value=0.1, max_value=30, required=False)
    retry_seconds = Number(min_value=1, max_value=3_600, required=False)
    failures_to_confirm = Whole(min_value=1, max_value=10, required=False)
    successes_to_recover = Whole(min_value=1, max_value=10, required=False)
    slow_seconds = Number(min_value=0.001, max_value=30, required=False, allow_null=True)
    parent = serializers.CharField(  # type: ignore[assignment]  # not left on the class
        max_length=80,
        allow_null=True,
        required=False,
        help_text="Name of a check of the environment that this one's server is reached through.",
    )
    enabled = serializers.BooleanField(required=False)


class CheckIn(_Values):
    name = serializers.CharField(max_length=80)
    kind = serializers.ChoiceField(Check.Kind.choices)


class CheckPatch(_Values):
    name = serializers.CharField(max_length=80, required=False)


class CheckQuery(Strict):
    status = serializers.ChoiceField(Status.choices, required=False)
    kind = serializers.ChoiceField(Check.Kind.choices, required=False)
    dependency = serializers.CharField(max_length=80, required=False)
    enabled = serializers.BooleanField(required=False)


class TestedOut(serializers.Serializer[Any]):
    outcome = serializers.ChoiceField(OUTCOMES)
    detail = serializers.CharField(allow_blank=True)
    latency_seconds = serializers.FloatField(allow_null=True)
    facts = serializers.DictField()
    check = CheckOut(source="row")


class TestIn(Strict):
    reason = serializers.CharField(
        max_length=LONGEST_REASON, default="", allow_blank=True, help_text="For the audit log."
    )


class PingIn(Strict):
    state = serializers.ChoiceField(
        [(name, name) for name in ("start", "success", "fail")],
        required=False,
        help_text="Not said: success, or fail where an exit code is not 0.",
    )
    run = serializers.UUIDField(
        required=False, help_text="The same at start and end; what is sent again counts once."
    )
    duration_seconds = Number(
        min_value=0,
        max_value=31 * 86_400,
        required=False,
        help_text="Not said: since the job said that it began.",
    )
    exit_code = Whole(min_value=0, max_value=255, required=False)

    def validate(self, said: dict[str, Any]) -> dict[str, Any]:
        code = said.get("exit_code")
        if code is None:
            return {"state": "success", **said}
        state = "fail" if code else "success"
        if said.setdefault("state", state) != state:
            text = _("With this exit code the state is %s.") % state
            raise serializers.ValidationError({"state": [text]})
        return said


class PingOut(serializers.Serializer[Any]):
    counted = serializers.BooleanField(help_text="False: said before, or the check does not run.")
    status = serializers.ChoiceField(Status.choices)
    expected_by = serializers.DateTimeField(
        allow_null=True, help_text="Without another ping it is missed then."
    )


class ResultOut(serializers.ModelSerializer[Result]):
    outcome = serializers.SerializerMethodField()

    class Meta:
        model = Result
        fields = ("id", "at", "outcome", "latency_seconds", "detail")
        read_only_fields = fields

    def get_outcome(self, result: Result) -> str:
        return MARKS[result.mark]


class TransitionOut(serializers.ModelSerializer[Transition]):
    class Meta:
        model = Transition
        fields = ("id", "at", "from_status", "to_status", "detail")
        read_only_fields = fields


class HistoryQuery(Strict):
    hours = serializers.IntegerField(min_value=1, max_value=24 * 90, default=6)


class PointOut(serializers.Serializer[selectors.Point]):
    at = serializers.DateTimeField()
    runs = serializers.IntegerField()
    failures = serializers.IntegerField()
    latency_mean = serializers.FloatField(allow_null=True, help_text="Seconds.")
    latency_max = serializers.FloatField(allow_null=True, help_text="Seconds.")


class HistoryOut(serializers.Serializer[Any]):
    points = PointOut(many=True)


def _visible(actor: Actor) -> QuerySet[Check]:
    return Check.objects.visible_to(actor).select_related("environment", "dependency", "parent")


def _one(request: Request, check_id: int) -> Check:
    actor = actor_of(request)
    return get_visible(_visible(actor), actor=actor, pk=check_id)


def _values(body: dict[str, Any], actor: Actor) -> dict[str, Any]:
    """The body with the dependency and the check it names in place of their names."""
    if "dependency" in body:
        body["dependency"] = named_dependency(body["dependency"], actor=actor)
    if body.get("parent") is not None:
        body["parent"] = _named(body["parent"], actor)
    return body


def _named(name: str, actor: Actor) -> Check:
    check = Check.objects.filter(environment=actor.environment_id, name=name).first()
    if check is None:
        text = _("There is no such check in this environment.")
        raise RuleBroken(text, errors={"parent": [text]})
    return check


def _tested(check: Check, outcome: Outcome) -> dict[str, Any]:
    return {
        "outcome": MARKS[outcome.mark],
        "detail": outcome.detail,
        "latency_seconds": outcome.latency,
        "facts": dict(outcome.facts),
        "row": check,
    }


class ChecksView(APIView):
    """GET and POST /api/v1/checks → 200 page, 201 check; 400, 403, 409 name in use."""

    permission_classes = [requires("config:read", write="config:write")]

    @extend_schema(parameters=[CheckQuery, *PAGE], responses=listed(CheckOut))
    def get(self, request: Request) -> Response:
        """The checks of the environment, with how each is."""
        wanted = query(CheckQuery, request)
        names = {"dependency": "dependency__slug"}
        rows = _visible(actor_of(request)).filter(
            **{names.get(name, name): value for name, value in wanted.items()}
        )
        return page_of(rows, CheckOut, request, self)

    @extend_schema(request=CheckIn, responses={201: CheckOut})
    def post(self, request: Request) -> Response:
        """Add a check; it runs at once, unless it is not enabled."""
        body, actor = valid(CheckIn, request.data), actor_of(request)
        check = services.create_check(
            body.pop("name"), kind=body.pop("kind"), values=_values(body, actor), actor=actor
        )
        location = f"/api/v1/checks/{check.pk}"
        return respond(CheckOut(check), version=check.version, status=201, location=location)


class CheckView(APIView):
    """GET, PATCH and DELETE /api/v1/checks/{id} → 200, 204; 400, 403, 404, 409, 412, 428."""

    permission_classes = [requires("config:read", write="config:write")]
    representation = CheckOut

    @extend_schema(responses=CheckOut)
    def get(self, request: Request, check_id: int) -> Response:
        """One check, with how it is and its ETag."""
        check = _one(request, check_id)
        return respond(CheckOut(check), version=check.version)

    @extend_schema(request=CheckPatch, responses=CheckOut, parameters=[IF_MATCH])
    def patch(self, request: Request, check_id: int) -> Response:
        """Change some of it; it runs again at once."""
        body, actor = valid(CheckPatch, request.data), actor_of(request)
        check = services.update_check(
            check_id, version=if_match(request), changes=_values(body, actor), actor=actor
        )
        return respond(CheckOut(check), version=check.version)

    @extend_schema(request=None, responses={204: None}, parameters=[IF_MATCH])
    def delete(self, request: Request, check_id: int) -> Response:
        """Remove it with its history."""
        services.delete_check(check_id, version=if_match(request), actor=actor_of(request))
        return Response(status=204)


class CheckTestView(APIView):
    """POST /api/v1/checks/{id}/test → 200 what came of it; 400 no address, 403, 404."""

    permission_classes = [requires("config:write")]

    @extend_schema(request=TestIn, responses=TestedOut)
    def post(self, request: Request, check_id: int) -> Response:
        """Run it now and wait for the result, its timeout at most; the result counts."""
        reason = valid(TestIn, request.data)["reason"]
        check, outcome = services.run_check(check_id, reason=reason, actor=actor_of(request))
        return respond(TestedOut(_tested(check, outcome)))


class PingView(APIView):
    """POST /api/v1/checks/{id}/ping → 200; 400 no heartbeat, 403, 404."""

    permission_classes = [requires("reports:write")]

    @extend_schema(request=PingIn, responses=PingOut)
    def post(self, request: Request, check_id: int) -> Response:
        """What a job says of itself: that it began, ended well (the default) or failed."""
        said = services.Ping(**valid(PingIn, request.data))
        check, counted = services.ping(check_id, said, actor=actor_of(request))
        told = {"counted": counted, "status": check.status, "expected_by": check.next_at}
        return respond(PingOut(told))


class ResultsView(APIView):
    """GET /api/v1/checks/{id}/results → 200 page; 400, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=PAGE, responses=listed(ResultOut))
    def get(self, request: Request, check_id: int) -> Response:
        """What came of its runs in the last two days, newest first."""
        rows = Result.objects.filter(subject=_one(request, check_id))
        return page_of(rows, ResultOut, request, self, order="-at,-pk")


class TransitionsView(APIView):
    """GET /api/v1/checks/{id}/transitions → 200 page; 400, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=PAGE, responses=listed(TransitionOut))
    def get(self, request: Request, check_id: int) -> Response:
        """When it took which status, newest first."""
        rows = Transition.objects.filter(subject=_one(request, check_id))
        return page_of(rows, TransitionOut, request, self, order="-at,-pk")


class HistoryView(APIView):
    """GET /api/v1/checks/{id}/history → 200; 400, 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[HistoryQuery], responses=HistoryOut)
    def get(self, request: Request, check_id: int) -> Response:
        """Latency and failures over time, oldest first: for a chart."""
        hours = query(HistoryQuery, request)["hours"]
        points = selectors.history(_one(request, check_id), hours=hours)
        return respond(HistoryOut({"points": points}))
