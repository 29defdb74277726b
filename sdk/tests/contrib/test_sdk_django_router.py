"""Read-only mode where no middleware looks: Django's own writes, on a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import BaseCommand, call_command
from django.db import connection, transaction
from django.test import override_settings

from holdfast import ReadOnly
from holdfast.testing import LocalHoldfast
from sdk.tests.contrib import shop

ROUTED: dict[str, Any] = {
    "DATABASE_ROUTERS": ["holdfast.contrib.django.ReadOnlyRouter"],
    "HOLDFAST": {"client": "sdk.tests.contrib.shop.hf"},
}


def save_new() -> None:
    Group(name="buyers").save()


def save_again(group: Group) -> None:
    group.name = "renamed"
    group.save()


WRITES: dict[str, Callable[[Group], Any]] = {
    "save a new row": lambda group: save_new(),
    "save a row": save_again,
    "create": lambda group: Group.objects.create(name="buyers"),
    "create many": lambda group: Group.objects.bulk_create([Group(name="buyers")]),
    "update many": lambda group: Group.objects.update(name="renamed"),
    "update rows": lambda group: Group.objects.bulk_update([group], ["name"]),
    "delete": lambda group: group.delete(),
    "delete many": lambda group: Group.objects.all().delete(),
    "relate": lambda group: group.permissions.add(1),
    "get or create": lambda group: Group.objects.get_or_create(name="buyers"),
    "lock": lambda group: list(Group.objects.select_for_update()),
}


@pytest.fixture
def hf() -> Iterator[LocalHoldfast]:
    shop.hf = hf = LocalHoldfast()
    with override_settings(**ROUTED):
        yield hf


@pytest.fixture
def group(db: None) -> Group:
    return Group.objects.create(name="sellers")


def names() -> list[str]:
    return [*Group.objects.values_list("name", flat=True)]


class TestWrites:
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
    def test_none_reaches_the_database(
        self, hf: LocalHoldfast, group: Group, write: Callable[[Group], Any]
    ) -> None:
        hf.engage("read-only", kind="read_only")

        with pytest.raises(ReadOnly):
            write(group)

        assert names() == ["sellers"]

    def test_those_of_a_transaction_are_undone_with_it(
        self, hf: LocalHoldfast, group: Group
    ) -> None:
        @transaction.atomic
        def take_order() -> None:
            Group.objects.create(name="before")
            hf.engage("read-only", kind="read_only")
            Group.objects.create(name="after")

        with pytest.raises(ReadOnly):
            take_order()

        assert names() == ["sellers"]

    def test_they_go_on_when_the_lease_is_over(self, hf: LocalHoldfast, group: Group) -> None:
        hf.engage("read-only", kind="read_only", lease_seconds=60)
        hf.fake_clock.advance(61)

        Group.objects.create(name="buyers")

        assert names() == ["sellers", "buyers"]

    def test_reading_goes_on(
        self, hf: LocalHoldfast, group: Group, django_assert_num_queries: Any
    ) -> None:
        hf.engage("read-only", kind="read_only")

        with django_assert_num_queries(2):
            assert (names(), group.permissions.count()) == (["sellers"], 0)


class TestWhereNoMiddlewareLooks:
    def test_a_management_command_is_refused(self, hf: LocalHoldfast, group: Group) -> None:
        hf.engage("read-only", kind="read_only", reason="primary failing over")

        class Command(BaseCommand):
            def handle(self, *args: Any, **options: Any) -> None:
                save_new()

        with pytest.raises(ReadOnly, match="primary failing over"):
            call_command(Command())

    def test_a_celery_task_fails(self, hf: LocalHoldfast, group: Group) -> None:
        hf.engage("read-only", kind="read_only")
        task = Celery("shop", set_as_current=False).task(save_new)

        result = task.apply()

        assert isinstance(result.result, ReadOnly)
        assert names() == ["sellers"]


class TestLists:
    def test_sessions_and_the_user_a_login_writes_are_let_through(
        self, hf: LocalHoldfast, db: None
    ) -> None:
        user = get_user_model()(email="ana@shop.example", username="ana")
        user.save()
        hf.engage("read-only", kind="read_only")
        session = SessionStore()

        session["cart"] = [7]
        session.save()
        user.save(update_fields=["last_login"])

        assert SessionStore(session.session_key)["cart"] == [7]

    def test_so_is_a_proxy_of_the_user(self, hf: LocalHoldfast, db: None) -> None:
        model = get_user_model()
        meta = type("Meta", (), {"proxy": True, "app_label": "elsewhere"})
        proxy: Any = type("Seller", (model,), {"Meta": meta, "__module__": __name__})
        hf.engage("read-only", kind="read_only")

        assert proxy.objects.update(is_active=True) == 0

    def test_a_list_of_ones_own_replaces_these(self, hf: LocalHoldfast, group: Group) -> None:
        hf.engage("read-only", kind="read_only")

        with override_settings(HOLDFAST={**ROUTED["HOLDFAST"], "writable": ["auth.Group"]}):
            Group.objects.create(name="buyers")
            with pytest.raises(ReadOnly):
                SessionStore().create()


class TestWhatARouterCannotSee:
    """Said in the documentation: whoever closes one of these gaps says so there."""

    def test_who_names_the_database(self, hf: LocalHoldfast, group: Group) -> None:
        hf.engage("read-only", kind="read_only")

        Group(name="buyers").save(using="default")
        Group.objects.using("default").filter(name="sellers").delete()

        assert names() == ["buyers"]

    def test_raw_cursors(self, hf: LocalHoldfast, group: Group) -> None:
        hf.engage("read-only", kind="read_only")

        with connection.cursor() as cursor:
            cursor.execute("UPDATE auth_group SET name = 'renamed'")

        assert names() == ["renamed"]
