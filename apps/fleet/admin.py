"""The fleet in the console."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.core import clock
from apps.core.actor import SYSTEM_SCOPE, Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, column
from apps.core.forms import environment_field
from apps.fleet import services
from apps.fleet.models import (
    LONGEST_TARGET,
    SHORTEST_TARGET,
    Dependency,
    Environment,
    Instance,
    Service,
)


def _slug_field() -> forms.CharField:
    return forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        help_text=gettext_lazy("Lower case, e.g. payments-api. It never changes afterwards."),
    )


class NewEnvironmentForm(GuardedForm):
    slug = _slug_field()
    name = forms.CharField(label=gettext_lazy("Shown as"), max_length=120, required=False)


class RenameForm(GuardedForm):
    name = forms.CharField(label=gettext_lazy("Shown as"), max_length=120)


class ServiceForm(GuardedForm):
    description = forms.CharField(label=gettext_lazy("What it is"), max_length=300, required=False)
    owner = forms.CharField(label=gettext_lazy("Team to ask"), max_length=120, required=False)


class NewServiceForm(ServiceForm):
    environment = environment_field(Environment.objects.all())
    slug = _slug_field()
    field_order = ("environment", "slug")


class DependencyForm(GuardedForm):
    description = forms.CharField(label=gettext_lazy("What it is"), max_length=300, required=False)
    critical = forms.BooleanField(
        label=gettext_lazy("Services cannot do without it"),
        required=False,
        initial=True,
        help_text=gettext_lazy(
            "While it is down the health score of services that call it is 40 at most, 70 while it "
            "is degraded. Without this mark it makes them degraded at worst."
        ),
    )
    latency_target_seconds = forms.FloatField(
        label=gettext_lazy("Fast enough within (s)"),
        initial=1.0,
        min_value=SHORTEST_TARGET,
        max_value=LONGEST_TARGET,
        help_text=gettext_lazy("Calls that take longer lower its health score."),
    )


class NewDependencyForm(DependencyForm):
    environment = environment_field(Environment.objects.all())
    slug = _slug_field()
    field_order = ("environment", "slug")


def _create_environment(*, actor: Actor, values: dict[str, Any]) -> Environment:
    return services.create_environment(actor=actor, **values)


def _rename(
    row: Environment, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> Environment:
    return services.rename_environment(row.pk, version=version, actor=actor, **values)


def _create_service(*, actor: Actor, values: dict[str, Any]) -> Service:
    values.pop("environment")  # the actor is narrowed to it
    return services.create_service(values.pop("slug"), actor=actor, **values)


def _update_service(
    row: Service, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> Service:
    return services.update_service(row.pk, version=version, actor=actor, **values)


def _create_dependency(*, actor: Actor, values: dict[str, Any]) -> Dependency:
    values.pop("environment")
    return services.create_dependency(values.pop("slug"), actor=actor, **values)


def _update_dependency(
    row: Dependency, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> Dependency:
    return services.update_dependency(row.pk, version=version, actor=actor, **values)


@admin.register(Environment)
class EnvironmentAdmin(GuardedModelAdmin):
    list_display = ("slug", "name", "created_at")
    search_fields = ("slug", "name")
    fields = ("slug", "name", "created_at", "version")
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Add environment"),
            scope=SYSTEM_SCOPE,
            form=NewEnvironmentForm,
            apply=_create_environment,
            submit=gettext_lazy("Add"),
            done=gettext_lazy("%(object)s is there."),
            icon="add",
        )
    }
    changes: ClassVar = {
        "rename": Change(
            title=gettext_lazy("Rename"),
            scope=SYSTEM_SCOPE,
            form=RenameForm,
            apply=_rename,
            submit=gettext_lazy("Save"),
            done=gettext_lazy("%(object)s is renamed."),
            initial=lambda row: {"name": row.name},
        )
    }

    def environment_of(self, row: Environment) -> int | None:
        return row.pk


@admin.register(Service)
class ServiceAdmin(GuardedModelAdmin):
    change_form_template = "fleet/object.html"
    list_display = ("slug", "environment", "owner", "description")
    list_filter = ("environment",)
    list_select_related = ("environment",)
    search_fields = ("slug", "description", "owner")
    fields = ("slug", "environment", "description", "owner", "created_at", "version")
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Add service"),
            scope="config:write",
            form=NewServiceForm,
            apply=_create_service,
            submit=gettext_lazy("Add"),
            done=gettext_lazy("%(object)s is there. Make it a token next."),
            icon="add",
        )
    }
    changes: ClassVar = {
        "edit": Change(
            title=gettext_lazy("Edit"),
            scope="config:write",
            form=ServiceForm,
            apply=_update_service,
            submit=gettext_lazy("Save"),
            done=gettext_lazy("%(object)s is changed."),
            initial=lambda row: {"description": row.description, "owner": row.owner},
        )
    }


@admin.register(Dependency)
class DependencyAdmin(GuardedModelAdmin):
    change_form_template = "fleet/object.html"
    list_display = ("slug", "environment", "criticality", "description")
    list_filter = ("environment", "critical")
    list_select_related = ("environment",)
    search_fields = ("slug", "description")
    fields = (
        *("slug", "environment", "description", "criticality", "latency_target"),
        *("created_at", "version"),
    )
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Add dependency"),
            scope="config:write",
            form=NewDependencyForm,
            apply=_create_dependency,
            submit=gettext_lazy("Add"),
            done=gettext_lazy("%(object)s is there."),
            icon="add",
        )
    }
    changes: ClassVar = {
        "edit": Change(
            title=gettext_lazy("Edit"),
            scope="config:write",
            form=DependencyForm,
            apply=_update_dependency,
            submit=gettext_lazy("Save"),
            done=gettext_lazy("%(object)s is changed."),
            initial=lambda row: {
                "description": row.description,
                "critical": row.critical,
                "latency_target_seconds": row.latency_target_seconds,
            },
        )
    }

    @column(
        gettext_lazy("Criticality"),
        order="critical",
        badge={"critical": "warning", "optional": "info"},
    )
    def criticality(self, dependency: Dependency) -> tuple[str, str]:
        if dependency.critical:
            return "critical", _("critical")
        return "optional", _("services can do without")

    @column(gettext_lazy("Fast enough within"))
    def latency_target(self, dependency: Dependency) -> str:
        return _("%(seconds)g s") % {"seconds": dependency.latency_target_seconds}


class HeardFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "heard"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("lately", gettext_lazy("heard lately")),
            ("silent", gettext_lazy("silent")),
            ("stopping", gettext_lazy("stopping")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "stopping":
            return queryset.filter(stopping=True)
        if self.value() == "silent":
            return queryset.silent(clock.now())
        return queryset.live(clock.now()) if self.value() == "lately" else queryset


@admin.register(Instance)
class InstanceAdmin(GuardedModelAdmin):
    """The processes that called home."""

    list_display = ("name", "service", "environment", "state", "heard_at", "sdk", "started_at")
    list_filter = (HeardFilter, "service__environment")
    list_select_related = ("service__environment",)
    search_fields = ("name", "service__slug", "id")
    ordering = ("-heard_at",)
    fields = (
        *("id", "name", "service", "environment", "state", "sdk", "started_at"),
        *("first_heard_at", "heard_at"),
    )
    readonly_fields = fields

    def environment_of(self, row: Instance) -> int | None:
        return row.service.environment_id

    @column(gettext_lazy("Environment"), order="service__environment__slug")
    def environment(self, instance: Instance) -> str:
        return str(instance.service.environment)

    @column(
        gettext_lazy("State"),
        badge={"heard": "success", "silent": "danger", "stopping": "warning"},
    )
    def state(self, instance: Instance) -> tuple[str, str]:
        if instance.stopping:
            return "stopping", _("stopping")
        if instance.is_silent:
            return "silent", _("silent")
        return "heard", _("heard")
