"""What exists, over HTTP: environments, services, dependencies, and who called home."""

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core import clock
from apps.core.actor import SYSTEM_SCOPE
from apps.core.api import Number, Strict, if_match, query, respond, valid
from apps.core.db import get_visible
from apps.core.paging import listed, page_of
from apps.core.permissions import actor_of, requires
from apps.core.schema import IF_MATCH, PAGE
from apps.fleet import services
from apps.fleet.models import (
    LONGEST_TARGET,
    SHORTEST_TARGET,
    Dependency,
    Environment,
    Instance,
    Service,
)


class EnvironmentOut(serializers.ModelSerializer[Environment]):
    class Meta:
        model = Environment
        fields = ("id", "slug", "name", "created_at", "version")
        read_only_fields = fields


class ServiceOut(serializers.ModelSerializer[Service]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)

    class Meta:
        model = Service
        fields = ("id", "environment", "slug", "description", "owner", "created_at", "version")
        read_only_fields = fields


class DependencyOut(serializers.ModelSerializer[Dependency]):
    environment = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)

    class Meta:
        model = Dependency
        fields = (
            *("id", "environment", "slug", "description", "critical", "latency_target_seconds"),
            *("created_at", "version"),
        )
        read_only_fields = fields


class InstanceOut(serializers.ModelSerializer[Instance]):
    environment = serializers.SlugRelatedField[Any](
        source="service.environment", slug_field="slug", read_only=True
    )
    service = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    silent = serializers.BooleanField(source="is_silent")

    class Meta:
        model = Instance
        fields = (
            *("id", "environment", "service", "name", "sdk", "started_at", "first_heard_at"),
            *("heard_at", "stopping", "silent"),
        )
        read_only_fields = fields


class EnvironmentIn(Strict):
    slug = serializers.CharField(max_length=80)
    name = serializers.CharField(max_length=120, default="", allow_blank=True)


class EnvironmentPatch(Strict):
    name = serializers.CharField(max_length=120)


class ServiceIn(Strict):
    slug = serializers.CharField(max_length=80)
    description = serializers.CharField(max_length=300, default="", allow_blank=True)
    owner = serializers.CharField(max_length=120, default="", allow_blank=True)


class ServicePatch(Strict):
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)
    owner = serializers.CharField(max_length=120, required=False, allow_blank=True)


class DependencyPatch(Strict):
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)
    critical = serializers.BooleanField(
        required=False,
        help_text="Whether services that call it cannot do without; else it degrades them at most.",
    )
    latency_target_seconds = Number(
        min_value=SHORTEST_TARGET,
        max_value=LONGEST_TARGET,
        required=False,
        help_text="Seconds within which a call is fast enough, for the health score.",
    )


class DependencyIn(DependencyPatch):
    slug = serializers.CharField(max_length=80)


class NameQuery(Strict):
    slug = serializers.CharField(max_length=80, required=False, help_text="The one of this name.")


class InstanceQuery(Strict):
    service = serializers.CharField(max_length=80, required=False)
    silent = serializers.BooleanField(
        required=False, help_text="Whether it has not been heard for three report intervals."
    )


class EnvironmentsView(APIView):
    """GET and POST /api/v1/environments → 200 page, 201 environment; 400, 403, 409 in use."""

    permission_classes = [requires("config:read", write=SYSTEM_SCOPE)]

    @extend_schema(parameters=[NameQuery, *PAGE], responses=listed(EnvironmentOut))
    def get(self, request: Request) -> Response:
        """The environments the caller sees."""
        rows = Environment.objects.visible_to(actor_of(request))
        return page_of(rows.filter(**query(NameQuery, request)), EnvironmentOut, request, self)

    @extend_schema(request=EnvironmentIn, responses={201: EnvironmentOut})
    def post(self, request: Request) -> Response:
        """Add an environment; for superusers."""
        body = valid(EnvironmentIn, request.data)
        made = services.create_environment(body["slug"], name=body["name"], actor=actor_of(request))
        location = f"/api/v1/environments/{made.pk}"
        return respond(EnvironmentOut(made), version=made.version, status=201, location=location)


class EnvironmentView(APIView):
    """GET and PATCH /api/v1/environments/{id} → 200; 400, 403, 404, 412, 428."""

    permission_classes = [requires("config:read", write=SYSTEM_SCOPE)]
    representation = EnvironmentOut

    @extend_schema(responses=EnvironmentOut)
    def get(self, request: Request, environment_id: int) -> Response:
        """One environment, with its ETag."""
        row = get_visible(Environment.objects, actor=actor_of(request), pk=environment_id)
        return respond(EnvironmentOut(row), version=row.version)

    @extend_schema(request=EnvironmentPatch, responses=EnvironmentOut, parameters=[IF_MATCH])
    def patch(self, request: Request, environment_id: int) -> Response:
        """Change the name people see; the slug never changes."""
        body = valid(EnvironmentPatch, request.data)
        row = services.rename_environment(
            environment_id, version=if_match(request), actor=actor_of(request), **body
        )
        return respond(EnvironmentOut(row), version=row.version)


class ServicesView(APIView):
    """GET and POST /api/v1/services → 200 page, 201 service; 400, 403, 409 in use."""

    permission_classes = [requires("config:read", write="config:write")]

    @extend_schema(parameters=[NameQuery, *PAGE], responses=listed(ServiceOut))
    def get(self, request: Request) -> Response:
        """The services of the environment."""
        rows = Service.objects.visible_to(actor_of(request)).select_related("environment")
        return page_of(rows.filter(**query(NameQuery, request)), ServiceOut, request, self)

    @extend_schema(request=ServiceIn, responses={201: ServiceOut})
    def post(self, request: Request) -> Response:
        """Add a service to the environment."""
        body = valid(ServiceIn, request.data)
        made = services.create_service(body.pop("slug"), actor=actor_of(request), **body)
        location = f"/api/v1/services/{made.pk}"
        return respond(ServiceOut(made), version=made.version, status=201, location=location)


class ServiceView(APIView):
    """GET and PATCH /api/v1/services/{id} → 200; 400, 403, 404, 412, 428."""

    permission_classes = [requires("config:read", write="config:write")]
    representation = ServiceOut

    @extend_schema(responses=ServiceOut)
    def get(self, request: Request, service_id: int) -> Response:
        """One service, with its ETag."""
        row = get_visible(Service.objects, actor=actor_of(request), pk=service_id)
        return respond(ServiceOut(row), version=row.version)

    @extend_schema(request=ServicePatch, responses=ServiceOut, parameters=[IF_MATCH])
    def patch(self, request: Request, service_id: int) -> Response:
        """Change description or owner; the slug never changes."""
        body = valid(ServicePatch, request.data)
        row = services.update_service(
            service_id, version=if_match(request), actor=actor_of(request), **body
        )
        return respond(ServiceOut(row), version=row.version)


class DependenciesView(APIView):
    """GET and POST /api/v1/dependencies → 200 page, 201 dependency; 400, 403, 409 in use."""

    permission_classes = [requires("config:read", write="config:write")]

    @extend_schema(parameters=[NameQuery, *PAGE], responses=listed(DependencyOut))
    def get(self, request: Request) -> Response:
        """What the services of the environment call."""
        rows = Dependency.objects.visible_to(actor_of(request)).select_related("environment")
        return page_of(rows.filter(**query(NameQuery, request)), DependencyOut, request, self)

    @extend_schema(request=DependencyIn, responses={201: DependencyOut})
    def post(self, request: Request) -> Response:
        """Add a dependency to the environment."""
        body = valid(DependencyIn, request.data)
        made = services.create_dependency(body.pop("slug"), actor=actor_of(request), **body)
        location = f"/api/v1/dependencies/{made.pk}"
        return respond(DependencyOut(made), version=made.version, status=201, location=location)


class DependencyView(APIView):
    """GET and PATCH /api/v1/dependencies/{id} → 200; 400, 403, 404, 412, 428."""

    permission_classes = [requires("config:read", write="config:write")]
    representation = DependencyOut

    @extend_schema(responses=DependencyOut)
    def get(self, request: Request, dependency_id: int) -> Response:
        """One dependency, with its ETag."""
        row = get_visible(Dependency.objects, actor=actor_of(request), pk=dependency_id)
        return respond(DependencyOut(row), version=row.version)

    @extend_schema(request=DependencyPatch, responses=DependencyOut, parameters=[IF_MATCH])
    def patch(self, request: Request, dependency_id: int) -> Response:
        """Change some of it; the slug never changes."""
        body = valid(DependencyPatch, request.data)
        row = services.update_dependency(
            dependency_id, version=if_match(request), actor=actor_of(request), **body
        )
        return respond(DependencyOut(row), version=row.version)


class InstancesView(APIView):
    """GET /api/v1/instances → 200 page; 400, 403."""

    permission_classes = [requires("config:read")]

    @extend_schema(parameters=[InstanceQuery, *PAGE], responses=listed(InstanceOut))
    def get(self, request: Request) -> Response:
        """The processes that called home, last heard first."""
        wanted = query(InstanceQuery, request)
        rows = Instance.objects.visible_to(actor_of(request))
        if "service" in wanted:
            rows = rows.filter(service__slug=wanted["service"])
        if "silent" in wanted:
            silent = rows.silent(clock.now())
            rows = silent if wanted["silent"] else rows.exclude(pk__in=silent.values("pk"))
        rows = rows.select_related("service__environment")
        return page_of(rows, InstanceOut, request, self, order="-heard_at,-id")


class InstanceView(APIView):
    """GET /api/v1/instances/{id} → 200; 403, 404."""

    permission_classes = [requires("config:read")]

    @extend_schema(responses=InstanceOut)
    def get(self, request: Request, instance_id: uuid.UUID) -> Response:
        """One process."""
        rows = Instance.objects.select_related("service__environment")
        return Response(
            InstanceOut(get_visible(rows, actor=actor_of(request), pk=instance_id)).data
        )
