"""Revisions over HTTP: what was published, by whom, why, and what it changed."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.policies import services
from tests import make

pytestmark = pytest.mark.django_db

URL = "/api/v1/revisions"


class TestList:
    def test_newest_first_with_who_and_why(self) -> None:
        place = make.environment()
        make.config(at=make.scope(place))
        make.override(make.scope(dependency=make.dependency(place)))

        results = make.client(place).get(URL).json()["results"]

        assert [row["number"] for row in results] == [2, 1]
        assert results[0]["actor"] == "ana"
        assert results[0]["reason"] == "provider is down"
        assert results[0]["restores"] is None

    def test_pages_follow_each_other(self) -> None:
        place = make.environment()
        row = make.config(at=make.scope(place))
        for attempts in (1, 2, 3):
            services.set_config(
                "retry", scope=row.holds_in, values={"attempts": attempts}, actor=make.actor(place)
            )
        api = make.client(place)

        first = api.get(f"{URL}?limit=3").json()
        second = api.get(first["next"]).json()

        assert [row["number"] for row in first["results"]] == [4, 3, 2]
        assert [row["number"] for row in second["results"]] == [1]
        assert second["next"] is None

    def test_another_environments_are_not_there(self) -> None:
        make.config()

        assert make.client().get(URL).json()["results"] == []

    def test_it_takes_the_same_queries_for_many_rows(self) -> None:
        place = make.environment()
        api = make.client(place)
        make.config(at=make.scope(place))
        api.get(URL)  # the token's first use is noted
        with CaptureQueriesContext(connection) as few:
            api.get(URL)
        for _number in range(10):
            make.config(at=make.scope(place, make.dependency(place)))

        with CaptureQueriesContext(connection) as many:
            answer = api.get(URL)

        assert len(answer.json()["results"]) == 11
        assert len(many) == len(few)


class TestDetail:
    def test_what_it_changed_piece_by_piece(self) -> None:
        place = make.environment()
        row = make.config(at=make.scope(place), attempts=2, jitter="none")
        services.set_config(
            "retry",
            scope=row.holds_in,
            values={"attempts": 3, "jitter": None},
            actor=make.actor(place),
        )

        found = make.client(place).get(f"{URL}/2").json()["differences"]

        assert found == [
            {
                "part": "setting",
                "service": "",
                "dependency": "",
                "name": "retry",
                "before": {"attempts": 2, "jitter": "none"},
                "after": {"attempts": 3},
                "changed": [
                    {"field": "attempts", "before": 2, "after": 3},
                    {"field": "jitter", "before": "none", "after": None},
                ],
            }
        ]

    def test_a_first_state_had_nothing_before(self) -> None:
        row = make.config()

        found = make.client(row.environment).get(f"{URL}/1").json()["differences"][0]

        assert (found["before"], found["after"]) == (None, {"attempts": 5})

    def test_a_services_token_does_not_see_what_others_have(self) -> None:
        place = make.environment()
        make.config(at=make.scope(place, make.dependency(place), make.service(place)))

        answer = make.client(of=make.service(place)).get(f"{URL}/1")

        assert answer.json()["differences"] == []

    @pytest.mark.parametrize("number", ["7", "0", "9" * 40, "x", "%00"])
    def test_numbers_that_are_none(self, number: str) -> None:
        assert make.client().get(f"{URL}/{number}").status_code == 404

    def test_another_environments_is_not_there(self) -> None:
        make.config()

        assert make.client().get(f"{URL}/1").status_code == 404

    def test_it_needs_a_scope(self) -> None:
        row = make.config()

        answer = make.client(row.environment, scopes=["health:read"]).get(f"{URL}/1")

        assert answer.status_code == 403
