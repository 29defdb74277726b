"""Presets: all of each is set, in one step."""

from typing import Any

import pytest

from apps.audit.models import Entry
from apps.health.models import Check
from apps.publication.models import Fragment, Revision
from holdfast.spec import PRESETS
from tests import make

pytestmark = pytest.mark.django_db


def apply(name: str, **members: Any) -> Any:
    """The answer to applying a preset to the dependency "it" of a new environment."""
    place = make.environment()
    make.dependency(place, "it")
    make.service(place, "checkout")
    return make.client(place).post(f"/api/v1/presets/{name}/apply", {"dependency": "it"} | members)


class TestApply:
    @pytest.mark.parametrize("name", PRESETS)
    def test_everything_it_names_is_set(self, name: str) -> None:
        answer = apply(name)

        assert answer.status_code == 200
        published = {row.name: row.body for row in Fragment.objects.current()}
        assert published == {key: dict(values) for key, values in PRESETS[name].settings.items()}
        assert answer.json()["left_out"] == []

    def test_it_is_one_revision_and_an_audit_entry_per_pattern(self) -> None:
        answer = apply("alpaca", reason="new broker")

        assert Revision.objects.get().number == answer.json()["revision"]
        entries = Entry.objects.filter(action="config.created")
        assert {entry.object_type for entry in entries} == {
            "breakerconfig",
            "retryconfig",
            "timeoutconfig",
        }
        assert {entry.reason for entry in entries} == {"new broker"}

    def test_for_one_service_only(self) -> None:
        apply("gemini", service="checkout")

        settings = Fragment.objects.current().filter(part="setting")
        assert {row.service for row in settings} == {"checkout"}
        assert Fragment.objects.current().get(part="use").dependency == "it"

    def test_what_it_does_not_name_stays(self) -> None:
        place = make.environment()
        dependency = make.dependency(place, "it")
        make.config("retry", make.scope(dependency=dependency), attempts=9, jitter="none")

        make.client(place).post("/api/v1/presets/alpaca/apply", {"dependency": "it"})

        retry = Fragment.objects.current().get(name="retry")
        assert retry.body == {"attempts": 4, "base_seconds": 1.0, "jitter": "none"}

    def test_again_it_publishes_nothing(self) -> None:
        place = make.environment()
        make.dependency(place, "it")
        api = make.client(place)
        api.post("/api/v1/presets/redis/apply", {"dependency": "it"})

        answer = api.post("/api/v1/presets/redis/apply", {"dependency": "it"})

        assert answer.json()["revision"] is None
        assert Revision.objects.count() == 1

    def test_one_that_contradicts_what_is_in_effect_sets_nothing(self) -> None:
        place = make.environment()
        dependency = make.dependency(place, "it")
        make.config("breaker", make.scope(dependency=dependency), open_max_seconds=50.0)

        answer = make.client(place).post("/api/v1/presets/ml-service/apply", {"dependency": "it"})

        assert answer.status_code == 400
        assert Fragment.objects.current().count() == 1

    @pytest.mark.parametrize("name", ["nope", "%00", "x" * 3000])
    def test_unknown_presets(self, name: str) -> None:
        assert apply(name).status_code == 404

    @pytest.mark.parametrize(
        "members",
        [{"dependency": None}, {"dependency": "other"}, {"service": "other"}, {"colour": 1}],
        ids=str,
    )
    def test_bad_input(self, members: dict[str, Any]) -> None:
        assert apply("redis", **members).status_code == 400

    def test_it_needs_the_scope_to_write(self) -> None:
        place = make.environment()
        make.dependency(place, "it")

        answer = make.client(place, scopes=["config:read"]).post(
            "/api/v1/presets/redis/apply", {"dependency": "it"}
        )

        assert answer.status_code == 403


class TestList:
    def test_all_of_them_with_what_they_set(self) -> None:
        results = make.client().get("/api/v1/presets").json()["results"]

        assert [row["key"] for row in results] == list(PRESETS)
        postgres = next(row for row in results if row["key"] == "postgres")
        assert postgres["settings"]["bulkhead"] == {"max_concurrent": 20}
        assert postgres["check"] == {"kind": "postgresql", "write_probe": True}


class TestItsCheck:
    def test_it_comes_along_and_runs_where_it_is_told(self) -> None:
        answer = apply("alpaca", check_address="https://127.0.0.1:1/health")

        check = Check.objects.select_related("dependency").get()
        assert answer.json()["has_new_check"] is True
        assert (check.kind, check.enabled, str(check.dependency)) == ("http", True, "it")
        assert Entry.objects.filter(action="check.created").count() == 1

    @pytest.mark.parametrize("name", PRESETS)
    def test_without_an_address_it_waits_for_one(self, name: str) -> None:
        apply(name)

        check = Check.objects.get()
        assert (check.kind, check.enabled) == (PRESETS[name].check.kind, False)
        assert check.settings.get("write_probe", False) == (
            PRESETS[name].check.write_probe or check.kind == "redis"
        )

    def test_one_that_is_there_stays_as_it_is(self) -> None:
        place = make.environment()
        client = make.client(place)
        make.check(place, dependency=make.dependency(place, "it"), kind="http", address="http://x")

        answer = client.post("/api/v1/presets/alpaca/apply", {"dependency": "it"})

        assert answer.json()["has_new_check"] is False
        assert Check.objects.get().address == "http://x"

    def test_an_address_that_cannot_be_asked_leaves_nothing_set(self) -> None:
        answer = apply("alpaca", check_address="http://169.254.169.254/")

        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["check_address"])
        assert not Check.objects.exists()
        assert not Revision.objects.exists()

    def test_a_token_of_one_service_sets_settings_only(self) -> None:
        place = make.environment()
        make.dependency(place, "it")
        service = make.service(place, "checkout")

        answer = make.client(of=service).post(
            "/api/v1/presets/alpaca/apply", {"dependency": "it", "service": "checkout"}
        )

        assert (answer.status_code, answer.json()["has_new_check"]) == (200, False)
        assert not Check.objects.exists()
