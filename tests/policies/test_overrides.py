"""Overrides: who may set them, how long they hold, and that they end by themselves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.audit.models import Entry
from apps.core import clock
from apps.fleet.models import Usage
from apps.policies import services, tasks
from apps.policies.models import Override
from apps.publication.models import Fragment, Revision
from tests import make

pytestmark = pytest.mark.django_db

URL = "/api/v1/overrides"


def tagged(version: int) -> dict[str, str]:
    return {"If-Match": f'"{version}"'}


def body(**members: Any) -> dict[str, Any]:
    return {"dependency": "bank", "mode": "force_open", "reason": "provider is down"} | members


def current() -> Fragment:
    return Fragment.objects.current().get(part="override")


def published() -> dict[str, Any]:
    """The override in the documents."""
    return dict(current().body or {})


def later(**time: float) -> Any:
    """The clock, set forward."""
    moment = clock.now() + timedelta(**time)
    return clock.use(lambda: moment)


class TestEngage:
    def test_for_a_dependency_everywhere(self) -> None:
        place = make.environment()
        make.dependency(place, "bank")

        answer = make.client(place).post(URL, body())

        assert answer.status_code == 201
        assert answer["Location"] == f"{URL}/{answer.json()['id']}"
        assert answer.json()["in_force"] is True
        fragment = current()
        assert (fragment.service, fragment.dependency) == ("", "bank")
        assert published()["mode"] == "force_open"
        assert published()["reason"] == "provider is down"
        assert published()["set_by"] == "test"
        entry = Entry.objects.get(action="override.engaged")
        assert (entry.reason, entry.revision) == ("provider is down", fragment.revision)

    def test_for_one_service_it_declares_the_use(self) -> None:
        place = make.environment()
        make.dependency(place, "bank")
        service = make.service(place)

        make.client(place).post(URL, body(service=service.slug))

        assert current().service == service.slug
        assert Usage.objects.get(service=service).source == "declared"
        assert Revision.objects.count() == 1

    @pytest.mark.parametrize("mode", ["force_open", "force_closed", "disabled", "metrics_only"])
    def test_every_mode(self, mode: str) -> None:
        place = make.environment()
        make.dependency(place, "bank")

        assert make.client(place).post(URL, body(mode=mode)).json()["mode"] == mode

    @pytest.mark.parametrize(
        ("members", "minutes"),
        [({}, 30), ({"lease_seconds": 600}, 10), ({"lease_seconds": None}, None)],
    )
    def test_it_holds_half_an_hour_unless_somebody_chooses(
        self, members: dict[str, Any], minutes: int | None
    ) -> None:
        place = make.environment()
        make.dependency(place, "bank")

        answer = make.client(place).post(URL, body(**members)).json()

        row = Override.objects.get(pk=answer["id"])
        lease = None if row.expires_at is None else row.expires_at - row.set_at
        expected = None if minutes is None else timedelta(minutes=minutes)
        assert (lease is None) == (expected is None)
        assert abs((lease or timedelta()) - (expected or timedelta())) < timedelta(seconds=1)

    def test_a_second_one_in_the_scope_is_a_conflict(self) -> None:
        row = make.override()

        answer = make.client(row.environment).post(
            URL, body(dependency=row.dependency.slug, mode="disabled")
        )

        assert answer.status_code == 409
        assert Override.objects.count() == 1

    def test_one_for_a_service_stands_beside_the_one_everywhere(self) -> None:
        row = make.override()
        service = make.service(row.environment)

        answer = make.client(row.environment).post(
            URL, body(dependency=row.dependency.slug, service=service.slug)
        )

        assert answer.status_code == 201

    def test_one_whose_time_is_over_gives_way_before_the_task_comes_by(self) -> None:
        row = make.override(lease=timedelta(seconds=60))

        with later(seconds=61):
            make.override(make.scope(dependency=row.dependency), mode="disabled")

        row.refresh_from_db()
        assert (row.ended_by, row.end_reason) == ("lease", "The lease is over.")
        assert Entry.objects.get(action="override.ended").actor_kind == "automation"
        assert published()["mode"] == "disabled"

    @pytest.mark.parametrize(
        "members",
        [
            {"mode": "open"},
            {"mode": None},
            {"mode": ["force_open"]},
            {"reason": ""},
            {"reason": "   "},
            {"reason": "x" * 501},
            {"reason": "a\u0000b"},
            {"dependency": None},
            {"dependency": "nowhere"},
            {"service": "nowhere"},
            {"lease_seconds": 59},
            {"lease_seconds": 604_801},
            {"lease_seconds": "soon"},
            {"lease_seconds": 10**30},
            {"colour": "red"},
        ],
        ids=str,
    )
    def test_bad_input(self, members: dict[str, Any]) -> None:
        place = make.environment()
        make.dependency(place, "bank")

        answer = make.client(place).post(URL, body(**members))

        assert answer.status_code == 400
        assert not Override.objects.exists()
        assert not Revision.objects.exists()


class TestExtend:
    def test_the_new_time_counts_from_now(self) -> None:
        row = make.override(lease=timedelta(minutes=10))

        answer = make.client(row.environment).post(
            f"{URL}/{row.pk}/extend", {"lease_seconds": 7200}, headers=tagged(1)
        )

        assert answer.status_code == 200
        assert answer["ETag"] == '"2"'
        ends = datetime.fromisoformat(published()["expires_at"])
        assert timedelta(minutes=119) < ends - clock.now() <= timedelta(hours=2)
        assert Entry.objects.get(action="override.extended").reason == "provider is down"

    def test_one_that_ended_cannot_be_extended(self) -> None:
        row = make.override()
        services.end_override(row.pk, version=1, reason="back", actor=make.actor(row.environment))

        answer = make.client(row.environment).post(
            f"{URL}/{row.pk}/extend", {"lease_seconds": 7200}, headers=tagged(2)
        )

        assert answer.status_code == 409

    def test_one_whose_time_is_over_cannot_be_extended(self) -> None:
        row = make.override(lease=timedelta(seconds=60))
        api = make.client(row.environment)

        with later(seconds=61):
            answer = api.post(f"{URL}/{row.pk}/extend", {"lease_seconds": 7200}, headers=tagged(1))

        assert answer.status_code == 409


class TestEnd:
    def test_it_leaves_the_documents_and_says_who_and_why(self) -> None:
        row = make.override()

        answer = make.client(row.environment).post(
            f"{URL}/{row.pk}/end", {"reason": "provider is back"}, headers=tagged(1)
        )

        assert answer.status_code == 200
        assert answer.json()["in_force"] is False
        assert answer.json()["ended_by"] == "test"
        assert current().body is None
        assert Entry.objects.get(action="override.ended").reason == "provider is back"

    def test_it_needs_a_reason(self) -> None:
        row = make.override()

        answer = make.client(row.environment).post(f"{URL}/{row.pk}/end", {}, headers=tagged(1))

        assert answer.status_code == 400

    def test_twice_is_a_conflict(self) -> None:
        row = make.override()
        api = make.client(row.environment)
        api.post(f"{URL}/{row.pk}/end", {"reason": "back"}, headers=tagged(1))

        answer = api.post(f"{URL}/{row.pk}/end", {"reason": "back"}, headers=tagged(2))

        assert answer.status_code == 409

    @pytest.mark.parametrize("action", ["end", "extend"])
    def test_a_stale_version_changes_nothing(self, action: str) -> None:
        row = make.override()
        api = make.client(row.environment)
        api.post(f"{URL}/{row.pk}/extend", {"lease_seconds": 7200}, headers=tagged(1))

        answer = api.post(f"{URL}/{row.pk}/{action}", {"reason": "back"}, headers=tagged(1))

        assert answer.status_code == 412
        assert answer.json()["current"]["version"] == 2
        assert Revision.objects.count() == 2

    @pytest.mark.parametrize("action", ["end", "extend"])
    def test_without_if_match(self, action: str) -> None:
        row = make.override()

        answer = make.client(row.environment).post(f"{URL}/{row.pk}/{action}", {"reason": "back"})

        assert answer.status_code == 428


class TestLease:
    def test_the_task_ends_what_is_due_as_automation(self) -> None:
        due = make.override(lease=timedelta(seconds=60))
        kept = make.override(lease=timedelta(hours=1))
        forever = make.override(lease=None)

        with later(seconds=61):
            tasks.end_due_overrides()

        assert list(Override.objects.active().order_by("pk")) == [kept, forever]
        entry = Entry.objects.get(action="override.ended")
        assert (entry.actor_kind, entry.actor_label) == ("automation", "lease")
        assert entry.object_id == str(due.pk)
        assert entry.reason == "The lease is over."
        ended = Fragment.objects.current().get(dependency=due.dependency.slug)
        assert ended.body is None

    def test_running_twice_ends_once(self) -> None:
        make.override(lease=timedelta(seconds=60))

        with later(seconds=61):
            counts = [services.end_due_overrides(), services.end_due_overrides()]

        assert counts == [1, 0]
        assert Revision.objects.count() == 2

    def test_one_that_was_extended_meanwhile_is_left_alone(self) -> None:
        row = make.override(lease=timedelta(seconds=60))
        services.extend_override(
            row.pk, version=1, lease=timedelta(hours=1), actor=make.actor(row.environment)
        )

        with later(seconds=61):
            assert services.end_due_overrides() == 0

    def test_a_lease_that_is_over_is_not_in_force_even_before_the_task(self) -> None:
        row = make.override(lease=timedelta(seconds=60))
        api = make.client(row.environment)

        with later(seconds=61):
            shown = api.get(f"{URL}/{row.pk}").json()
            listed = api.get(f"{URL}?in_force=true").json()["results"]

        assert shown["in_force"] is False
        assert listed == []


class TestDatabase:
    def test_one_active_per_scope(self) -> None:
        row = make.override()
        Override.objects.filter(pk=row.pk).update(version=2)
        copy = Override.objects.get(pk=row.pk)
        copy.pk = None

        with pytest.raises(IntegrityError), transaction.atomic():
            copy.save()

    @pytest.mark.parametrize(
        "values",
        [{"mode": "open"}, {"reason": ""}, {"expires_at": datetime(2000, 1, 1, tzinfo=UTC)}],
        ids=str,
    )
    def test_it_refuses_what_the_service_would(self, values: dict[str, Any]) -> None:
        row = make.override()

        with pytest.raises(IntegrityError), transaction.atomic():
            Override.objects.filter(pk=row.pk).update(**values)


class TestWhoMay:
    def test_another_environments_override_is_not_there(self) -> None:
        row = make.override()
        api = make.client()

        assert api.get(f"{URL}/{row.pk}").status_code == 404
        for action in ("end", "extend"):
            answer = api.post(f"{URL}/{row.pk}/{action}", {"reason": "x"}, headers=tagged(1))
            assert answer.status_code == 404

    def test_a_missing_scope_is_recorded(self) -> None:
        answer = make.client(scopes=["config:read", "config:write"]).post(URL, body())

        assert answer.status_code == 403
        assert Entry.objects.get(outcome="denied").action == f"POST {URL}"

    def test_a_services_token_overrides_its_own_calls_only(self) -> None:
        row = make.override()
        service = make.service(row.environment)
        api = make.client(of=service)

        everywhere = api.post(f"{URL}/{row.pk}/end", {"reason": "x"}, headers=tagged(1))
        own = api.post(URL, body(dependency=row.dependency.slug, service=service.slug))

        assert (everywhere.status_code, own.status_code) == (403, 201)

    def test_methods_that_are_none(self) -> None:
        assert make.client().delete(f"{URL}/1").status_code == 405


class TestList:
    def test_filters(self) -> None:
        place = make.environment()
        bank = make.dependency(place, "bank")
        checkout = make.service(place, "checkout")
        make.override(make.scope(dependency=bank))
        make.override(make.scope(dependency=bank, service=checkout), mode="disabled")
        api = make.client(place)

        def count(query: str) -> int:
            return len(api.get(f"{URL}?{query}").json()["results"])

        assert count("dependency=bank") == 2
        assert count("service=checkout") == 1
        assert count("mode=disabled") == 1
        assert count("in_force=true") == 2
        assert count("in_force=false") == 0

    def test_it_takes_the_same_queries_for_many_rows(self) -> None:
        place = make.environment()
        api = make.client(place)
        make.override(make.scope(dependency=make.dependency(place)))
        api.get(URL)  # the token's first use is noted
        with CaptureQueriesContext(connection) as few:
            api.get(URL)
        for _number in range(10):
            make.override(make.scope(dependency=make.dependency(place)))

        with CaptureQueriesContext(connection) as many:
            answer = api.get(URL)

        assert len(answer.json()["results"]) == 11
        assert len(many) == len(few)
