"""The base of the console: every page can be looked at, and none writes past the services."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.core.admin import GuardedModelAdmin
from tests import make

pytestmark = pytest.mark.unmeasured
REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)
APPEND_ONLY = ("/admin/audit/entry/", "/admin/publication/revision/")
ASIDE = {"audit", "sessions"}
IDS = [model._meta.label for model in REGISTERED]


def world() -> None:
    """At least one row of everything the console shows."""
    flag = make.engaged(key="read-only")
    service = make.service(flag.environment)
    make.dependency(flag.environment)
    make.instance(service)
    make.member(flag.environment)
    make.token(of=service)


def rows_of_everything() -> dict[str, list[dict[str, Any]]]:
    """But of the audit log, which records what was refused, and sessions."""
    kept = [model for model in apps.get_models() if model._meta.app_label not in ASIDE]
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values()) for model in kept
    }


def addresses(model: Any, names: tuple[str, ...]) -> Iterator[str]:
    row = model._default_manager.first()
    base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    yield reverse(f"{base}_changelist")
    yield from (reverse(f"{base}_{name}", args=[row.pk]) for name in names if row is not None)


@pytest.mark.django_db
@pytest.mark.parametrize("model", REGISTERED, ids=IDS)
class TestEveryRegisteredModel:
    def test_is_guarded(self, model: Any) -> None:
        assert isinstance(admin.site._registry[model], GuardedModelAdmin)

    def test_pages_can_be_looked_at(self, model: Any) -> None:
        world()
        client = make.browser()

        statuses = [client.get(page).status_code for page in addresses(model, ("change",))]

        assert set(statuses) == {200}

    def test_change_pages_can_be_looked_at(self, model: Any) -> None:
        world()
        client = make.browser()
        own = admin.site._registry[model]

        pages = list(addresses(model, tuple(own.changes)))  # type: ignore[attr-defined]  # of ours

        assert {client.get(page).status_code for page in pages} == {200}

    def test_creation_pages_can_be_looked_at(self, model: Any) -> None:
        world()
        client = make.browser()
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        names = admin.site._registry[model].creations  # type: ignore[attr-defined]  # of ours

        statuses = {client.get(reverse(f"{base}_{name}")).status_code for name in names}

        assert statuses <= {200}

    @pytest.mark.one_database
    def test_no_form_of_django_writes(self, model: Any) -> None:
        world()
        client = make.browser()
        before = rows_of_everything()

        post_everywhere(client, model)

        assert rows_of_everything() == before
        assert not LogEntry.objects.exists()

    def test_history_is_kept_where_nothing_is_ever_changed(self, model: Any) -> None:
        world()
        row = model._default_manager.first()
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_history"

        answer = make.browser().get(reverse(name, args=[1 if row is None else row.pk]))

        assert answer.status_code == 302
        assert answer.headers["Location"].startswith(APPEND_ONLY)


def post_everywhere(client: Client, model: Any) -> None:
    """POST to each of Django's own forms for this model what would change or delete a row."""
    base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    row = model._default_manager.first()
    fields = {field.name: "1" for field in model._meta.fields}
    chosen = {"action": "delete_selected", "_selected_action": getattr(row, "pk", 1), "post": "yes"}
    edited = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "_save": "Save", **fields}
    client.post(reverse(f"{base}_add"), fields)
    client.post(reverse(f"{base}_changelist"), chosen)
    client.post(reverse(f"{base}_changelist"), edited)
    if row is not None:
        client.post(reverse(f"{base}_change", args=[row.pk]), fields)
        client.post(reverse(f"{base}_delete", args=[row.pk]), {"post": "yes"})


@pytest.mark.django_db
class TestLists:
    def test_a_long_list_costs_no_more_queries_than_a_short_one(self) -> None:
        client = make.browser()
        place = make.environment()
        make.flag(place)
        page = reverse("admin:degradation_flag_changelist")
        client.get(page)  # warm: content types, sessions
        with CaptureQueriesContext(
            connection,
        ) as short:
            client.get(page)
        [make.flag(place, of=make.service(place)) for _ in range(20)]

        with CaptureQueriesContext(connection) as long:
            client.get(page)

        assert len(long) == len(short)
