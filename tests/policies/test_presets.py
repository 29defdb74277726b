"""Presets: all of each is set, in one step."""

from typing import Any

import pytest

from apps.audit.models import Entry
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
