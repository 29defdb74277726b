"""The effective view: which value holds for a service, and where it comes from."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.policies.models import CONFIGS
from holdfast.spec import PATTERNS, json_schema
from tests import make

pytestmark = pytest.mark.django_db


def value_of(answer: Any, path: str) -> dict[str, Any]:
    """One value of the only dependency in an answer."""
    values = answer.json()["dependencies"][0]["values"]
    return next(row for row in values if f"{row['pattern']}.{row['key']}" == path)


class TestSources:
    def test_the_most_specific_level_wins_and_says_so(self) -> None:
        place = make.environment()
        bank, checkout = make.dependency(place, "bank"), make.service(place, "checkout")
        make.config(at=make.scope(place), attempts=2, multiplier=3.0, jitter="none")
        make.config(at=make.scope(place, bank), attempts=4, multiplier=4.0)
        make.config(at=make.scope(place, bank, checkout), attempts=6)

        answer = make.client(place).get("/api/v1/effective/checkout")

        found = {
            key: value_of(answer, f"retry.{key}")
            for key in ("attempts", "multiplier", "jitter", "base_seconds")
        }
        shown = {key: (row["value"], row["source"], row["revision"]) for key, row in found.items()}
        assert shown == {
            "attempts": (6, "service", 3),
            "multiplier": (4.0, "dependency", 2),
            "jitter": ("none", "environment", 1),
            "base_seconds": (0.1, "default", None),
        }
        assert found["attempts"]["by"] == "ana"
        assert found["base_seconds"]["by"] == ""
        assert found["base_seconds"]["unit"] == "s"

    def test_every_setting_is_there(self) -> None:
        place = make.environment()
        make.config(at=make.scope(place, make.dependency(place), make.service(place, "checkout")))

        answer = make.client(place).get("/api/v1/effective/checkout")

        values = answer.json()["dependencies"][0]["values"]
        assert [(row["pattern"], row["key"]) for row in values] == [
            (pattern, key) for pattern in CONFIGS for key in PATTERNS[pattern].settings
        ]

    def test_an_explicit_off_is_not_inherited(self) -> None:
        place = make.environment()
        bank, checkout = make.dependency(place), make.service(place, "checkout")
        make.config("breaker", make.scope(place), consecutive_failures=5)
        make.config("breaker", make.scope(place, bank, checkout), consecutive_failures=0)

        answer = make.client(place).get("/api/v1/effective/checkout")

        row = value_of(answer, "breaker.consecutive_failures")
        assert (row["value"], row["source"]) == (0, "service")

    def test_only_dependencies_it_calls(self) -> None:
        place = make.environment()
        make.service(place, "checkout")
        make.config(at=make.scope(place, make.dependency(place)))

        answer = make.client(place).get("/api/v1/effective/checkout")

        assert answer.json() == {"service": "checkout", "dependencies": [], "findings": []}

    def test_what_other_services_set_does_not_show(self) -> None:
        place = make.environment()
        bank = make.dependency(place)
        make.config(at=make.scope(place, bank, make.service(place, "other")), attempts=9)
        make.config(
            "timeout", make.scope(place, bank, make.service(place, "checkout")), attempt_seconds=1.0
        )

        answer = make.client(place).get("/api/v1/effective/checkout")

        assert value_of(answer, "retry.attempts")["source"] == "default"


class TestOverride:
    def test_the_one_in_force_is_shown(self) -> None:
        place = make.environment()
        bank, checkout = make.dependency(place), make.service(place, "checkout")
        make.override(make.scope(place, bank, checkout), mode="disabled")

        found = make.client(place).get("/api/v1/effective/checkout").json()["dependencies"][0]

        assert found["override"]["mode"] == "disabled"
        assert found["override"]["set_by"] == "ana"

    def test_force_open_beats_the_more_specific_level(self) -> None:
        place = make.environment()
        bank, checkout = make.dependency(place), make.service(place, "checkout")
        make.override(make.scope(place, bank, checkout), mode="force_closed")
        make.override(make.scope(place, bank), mode="force_open")

        found = make.client(place).get("/api/v1/effective/checkout").json()["dependencies"][0]

        assert found["override"]["mode"] == "force_open"


class TestDoor:
    @pytest.mark.parametrize("name", ["nope", "%00", "A", "x" * 300])
    def test_unknown_services(self, name: str) -> None:
        assert make.client().get(f"/api/v1/effective/{name}").status_code == 404

    def test_another_environments_service_is_not_there(self) -> None:
        service = make.service()

        assert make.client().get(f"/api/v1/effective/{service.slug}").status_code == 404

    def test_it_needs_a_scope(self) -> None:
        service = make.service()
        api = make.client(service.environment, scopes=["health:read"])

        assert api.get(f"/api/v1/effective/{service.slug}").status_code == 403

    def test_it_takes_the_same_queries_for_many_dependencies(self) -> None:
        place = make.environment()
        checkout = make.service(place, "checkout")
        api = make.client(place)
        make.config(at=make.scope(place, make.dependency(place), checkout))
        api.get("/api/v1/effective/checkout")  # the token's first use is noted
        with CaptureQueriesContext(connection) as few:
            api.get("/api/v1/effective/checkout")
        for _number in range(10):
            make.config(at=make.scope(place, make.dependency(place), checkout))

        with CaptureQueriesContext(connection) as many:
            answer = api.get("/api/v1/effective/checkout")

        assert len(answer.json()["dependencies"]) == 11
        assert len(many) == len(few)

    def test_the_schema_of_documents_is_open_to_everybody(self) -> None:
        api = make.client()
        api.credentials()

        answer = api.get("/api/v1/schema/policy.json")

        assert answer.status_code == 200
        assert answer.json() == json_schema()
