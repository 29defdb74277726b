"""A row of everything the console shows, in one environment, and who knocks at its doors."""

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Membership
from apps.core import clock
from apps.core.admin import GuardedModelAdmin
from apps.fleet.models import Environment, Instance, Service
from apps.telemetry.models import BreakerEvent, InstanceState
from tests import make
from tests.routes import rows_of_each_kind

ROLES = ("viewer", "operator", "administrator", "superuser")
PAGES: dict[type[Model], GuardedModelAdmin] = {
    model: page
    for model, page in admin.site._registry.items()
    if isinstance(page, GuardedModelAdmin)
}
MODELS = sorted(PAGES, key=lambda model: model._meta.label)


def populate(where: Environment) -> None:
    rows = rows_of_each_kind(where)
    make.engaged(where)
    Membership.objects.get_or_create(user=make.user(), environment=where, role="viewer")
    report_of(Service.objects.get(pk=rows.ids["service_id"]))


def report_of(service: Service, **told: Any) -> Instance:
    """An instance of the service that has reported, and a breaker of it that has moved."""
    instance = make.instance(service)
    now = clock.now()
    Instance.objects.filter(pk=instance.pk).update(name=told.get("name", "host-1"))
    InstanceState.objects.create(instance=instance, reported_at=now, **told.get("state", {}))
    BreakerEvent.objects.create(
        service=service,
        dependency="payments-api",
        instance_id=instance.pk,
        instance_name=told.get("name", "host-1"),
        type="breaker.state_changed",
        from_state="closed",
        to_state="open",
        at=now,
        received_at=now,
        **told.get("event", {}),
    )
    return instance


def browser(role: str, where: Environment) -> Client:
    return make.browser(None if role == "superuser" else make.member(where, role))


def page_of(model: type[Model], name: str, *arguments: Any) -> str:
    options = model._meta
    return reverse(f"admin:{options.app_label}_{options.model_name}_{name}", args=arguments)


def list_of(model: type[Model]) -> str:
    return page_of(model, "changelist")


def everything() -> dict[str, list[str]]:
    """Every row but of the audit log, which records refusals, and of sessions."""
    kept = [each for each in apps.get_models() if each._meta.app_label not in {"audit", "sessions"}]
    return {
        model._meta.label: sorted(map(repr, model._default_manager.values_list())) for model in kept
    }
