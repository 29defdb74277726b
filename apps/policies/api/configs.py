"""The settings of one pattern, per scope."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.api import Strict, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.errors import RuleBroken
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.policies import services
from apps.policies.api.shapes import ClearedOut, PlanOut, Shapes, scope_of, shapes_of
from apps.policies.models import CONFIGS, Config
from apps.policies.services.writing import ABSENT
from holdfast.spec import PATTERNS


class ConfigQuery(Strict):
    service = serializers.CharField(max_length=80, required=False)
    dependency = serializers.CharField(max_length=80, required=False)
    level = serializers.ChoiceField(["environment", "dependency", "service"], required=False)


LEVELS: dict[str, dict[str, bool]] = {
    "environment": {"dependency__isnull": True},
    "dependency": {"dependency__isnull": False, "service__isnull": True},
    "service": {"service__isnull": False},
}


class PatternView(APIView):
    """What the views of one pattern share."""

    permission_classes = [requires("config:read", write="config:write")]
    pattern: ClassVar[str]
    shapes: ClassVar[Shapes]
    representation: ClassVar[Any]

    @property
    def rows(self) -> QuerySet[Config]:
        return CONFIGS[self.pattern].objects.all()

    @contextmanager
    def errors_by_field(self) -> Iterator[None]:
        """Name errors of settings as the body does: "settings.attempts"."""
        try:
            yield
        except RuleBroken as error:
            known = PATTERNS[self.pattern].settings
            error.errors = {
                f"settings.{name}" if name.partition(".")[0] in known else name: texts
                for name, texts in error.errors.items()
            }
            raise


class ConfigsView(PatternView):
    """GET and POST /api/v1/configs/{pattern} → 200 page, 201 row; 400, 403, 409 set already."""

    def get(self, request: Request) -> Response:
        """What is set of this pattern, in every scope or those asked for."""
        wanted = query(ConfigQuery, request)
        rows = CONFIGS[self.pattern].objects.visible_to(actor_of(request))
        if "level" in wanted:
            rows = rows.filter(**LEVELS[wanted["level"]])
        named = {
            f"{name}__slug": wanted[name] for name in ("service", "dependency") if name in wanted
        }
        return page_of(rows.filter(**named), self.shapes.out, request, self)

    def post(self, request: Request) -> Response:
        """Set some settings where none of this pattern are set yet."""
        body = valid(self.shapes.create, request.data)
        actor = actor_of(request)
        with self.errors_by_field():
            row = services.set_config(
                self.pattern,
                scope=scope_of(body, actor),
                values=body["settings"],
                reason=body["reason"],
                version=ABSENT,
                actor=actor,
            )
        location = f"/api/v1/configs/{self.pattern}/{row.pk}"
        return respond(self.shapes.written(row), version=row.version, status=201, location=location)


class ConfigView(PatternView):
    """GET, PUT, PATCH and DELETE /api/v1/configs/{pattern}/{id} → 200, 204; 400–428."""

    def get(self, request: Request, config_id: int) -> Response:
        """One row of settings, with its ETag."""
        row = self.row(request, config_id)
        return respond(self.shapes.out(row), version=row.version)

    def put(self, request: Request, config_id: int) -> Response:
        """Set exactly these settings; those not named are inherited."""
        every: dict[str, Any] = dict.fromkeys(PATTERNS[self.pattern].settings)
        return self.change(request, config_id, every)

    def patch(self, request: Request, config_id: int) -> Response:
        """Change some settings; null inherits, those not named stay."""
        return self.change(request, config_id, {})

    def delete(self, request: Request, config_id: int) -> Response:
        """Inherit every setting of the pattern in this scope; 204 where nothing is to be told."""
        row = self.row(request, config_id)
        with self.errors_by_field():
            services.clear_config(
                self.pattern,
                scope=row.holds_in,
                version=if_match(request),
                actor=actor_of(request),
            )
        told = ClearedOut(row).data
        return Response(told) if told["warnings"] else Response(status=204)

    def change(self, request: Request, config_id: int, unnamed: dict[str, Any]) -> Response:
        body = valid(self.shapes.change, request.data)
        with self.errors_by_field():
            row = services.set_config(
                self.pattern,
                scope=self.row(request, config_id).holds_in,
                values=unnamed | body["settings"],
                reason=body["reason"],
                version=if_match(request),
                actor=actor_of(request),
            )
        return respond(self.shapes.written(row), version=row.version)

    def row(self, request: Request, config_id: int) -> Config:
        return get_visible(self.rows, actor=actor_of(request), pk=config_id)


class PlanView(PatternView):
    """POST /api/v1/configs/{pattern}/plan → 200 what would change; 400, 403, 404 nothing set."""

    def post(self, request: Request) -> Response:
        """What setting something would change and what would be dangerous; nothing is written."""
        body = valid(self.shapes.plan, request.data)
        actor = actor_of(request)
        with self.errors_by_field():
            plan = services.plan_config(
                self.pattern, scope=scope_of(body, actor), values=body["settings"], actor=actor
            )
        return respond(PlanOut(plan))


def plan_view(pattern: str) -> type[PlanView]:
    """The dry run of a pattern's settings, documented with the pattern's own shapes."""
    shapes = shapes_of(pattern)
    view = type("PlanView", (PlanView,), {"pattern": pattern, "shapes": shapes})
    described = extend_schema_view(
        post=extend_schema(request=shapes.plan, responses={200: PlanOut})
    )
    return described(view)


def configs_view(pattern: str) -> type[ConfigsView]:
    """The view of a pattern's rows, documented with the pattern's own shapes."""
    shapes = shapes_of(pattern)
    view = type("ConfigsView", (ConfigsView,), {"pattern": pattern, "shapes": shapes})
    described = extend_schema_view(
        get=extend_schema(parameters=[ConfigQuery, *PAGE], responses=listed(shapes.out)),
        post=extend_schema(request=shapes.create, responses={201: shapes.written}),
    )
    return described(view)


def config_view(pattern: str) -> type[ConfigView]:
    """The view of one row of a pattern, documented with the pattern's own shapes."""
    shapes = shapes_of(pattern)
    members = {"pattern": pattern, "shapes": shapes, "representation": shapes.out}
    view = type("ConfigView", (ConfigView,), members)
    changing = extend_schema(request=shapes.change, responses=shapes.written, parameters=[IF_MATCH])
    described = extend_schema_view(
        get=extend_schema(responses=shapes.out),
        put=changing,
        patch=changing,
        delete=extend_schema(
            request=None, responses={200: ClearedOut, 204: None}, parameters=[IF_MATCH]
        ),
    )
    return described(view)
