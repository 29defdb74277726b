"""Environments, services, dependencies and instances over HTTP."""

from typing import Any

import pytest
from django.db import IntegrityError

from apps.audit.models import Entry
from apps.fleet.models import Dependency, Environment, Service, Usage
from tests import make

BAD_NAMES: list[Any] = [
    "",
    "Upper",
    "two words",
    "-dash",
    "dash-",
    "x" * 81,
    "ünï",
    "a/b",
    None,
    5.5,
    [],
    {},
]


@pytest.mark.django_db
class TestEnvironments:
    def test_are_made_by_superusers_only(self) -> None:
        body = {"slug": "staging", "name": "Staging"}
        token = make.client().post("/api/v1/environments", body)
        made = make.browser().post("/api/v1/environments", body, content_type="application/json")

        assert (token.status_code, made.status_code) == (403, 201)
        environment = Environment.objects.get(slug="staging")
        entry = Entry.objects.get(action="environment.created")
        assert entry.chain.environment_id == environment.pk

    def test_a_name_in_use_is_409(self) -> None:
        make.environment("staging")

        answer = make.browser().post(
            "/api/v1/environments", {"slug": "staging"}, content_type="application/json"
        )

        assert (answer.status_code, answer.json()["code"]) == (409, "exists")

    def test_are_renamed_with_their_version(self) -> None:
        environment = make.environment()
        session = make.browser()
        address = f"/api/v1/environments/{environment.pk}"

        def patch(version: str) -> Any:
            return session.patch(
                address,
                {"name": "Shown"},
                content_type="application/json",
                headers={"If-Match": version},
            )

        assert patch('"2"').status_code == 412
        assert patch('"1"').json()["name"] == "Shown"
        environment.refresh_from_db()
        assert (environment.name, environment.version) == ("Shown", 2)

    def test_a_token_sees_its_own(self) -> None:
        mine, theirs = make.environment(), make.environment()
        client = make.client(mine)

        listed = [row["slug"] for row in client.get("/api/v1/environments").json()["results"]]

        assert listed == [mine.slug]
        assert client.get(f"/api/v1/environments/{theirs.pk}").status_code == 404


@pytest.mark.django_db
class TestWhatIsCritical:
    """Whether services can do without a dependency, and how fast it should be."""

    def test_everything_is_until_somebody_says_otherwise(self) -> None:
        row = make.dependency()
        client = make.client(row.environment)
        before = client.get(f"/api/v1/dependencies/{row.pk}").json()
        body = {"critical": False, "latency_target_seconds": 0.25}

        after = client.patch(
            f"/api/v1/dependencies/{row.pk}", body, headers={"If-Match": '"1"'}
        ).json()

        assert (before["critical"], before["latency_target_seconds"]) == (True, 1)
        assert (after["critical"], after["latency_target_seconds"]) == (False, 0.25)
        entry = Entry.objects.latest("at").content
        assert (entry["before"]["critical"], entry["after"]["critical"]) == (True, False)

    @pytest.mark.parametrize("target", [0, 0.0001, 101, -1, "1", None])
    def test_a_target_out_of_bounds_is_400(self, target: Any) -> None:
        body = {"slug": "payments-api", "latency_target_seconds": target}

        answer = make.client().post("/api/v1/dependencies", body)

        assert (answer.status_code, [*answer.json()["errors"]]) == (400, ["latency_target_seconds"])

    def test_people_set_it_in_the_console(self) -> None:
        row = make.dependency()
        page = f"/admin/fleet/dependency/{row.pk}/edit/"
        form = {"description": "", "latency_target_seconds": "2.5", "version": "1"}

        make.browser().post(page, form)

        row.refresh_from_db()
        assert (row.critical, row.latency_target_seconds) == (False, 2.5)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "model", "make_one"),
    [
        ("/api/v1/services", Service, make.service),
        ("/api/v1/dependencies", Dependency, make.dependency),
    ],
)
class TestServicesAndDependencies:
    def test_are_added_to_the_tokens_environment(
        self, path: str, model: Any, make_one: Any
    ) -> None:
        place = make.environment()

        answer = make.client(place).post(path, {"slug": "payments-api", "description": "money"})

        row = model.objects.get()
        assert (answer.status_code, answer["Location"]) == (201, f"{path}/{row.pk}")
        assert (row.environment, row.slug, row.description) == (place, "payments-api", "money")
        assert Entry.objects.latest("at").content["after"]["slug"] == "payments-api"

    @pytest.mark.parametrize("slug", BAD_NAMES, ids=range(len(BAD_NAMES)))
    def test_a_bad_name_is_400(self, path: str, model: Any, make_one: Any, slug: Any) -> None:
        answer = make.client().post(path, {"slug": slug})

        assert (answer.status_code, "slug" in answer.json()["errors"]) == (400, True)
        assert not model.objects.exists()

    def test_a_name_in_use_is_409(self, path: str, model: Any, make_one: Any) -> None:
        row = make_one()

        answer = make.client(row.environment).post(path, {"slug": row.slug})

        assert answer.status_code == 409

    def test_the_same_name_elsewhere_is_fine(self, path: str, model: Any, make_one: Any) -> None:
        row = make_one()

        assert make.client().post(path, {"slug": row.slug}).status_code == 201

    def test_are_changed_with_their_version(self, path: str, model: Any, make_one: Any) -> None:
        row = make_one()
        client = make.client(row.environment)
        body = {"description": "money"}

        missing = client.patch(f"{path}/{row.pk}", body)
        stale = client.patch(f"{path}/{row.pk}", body, headers={"If-Match": '"7"'})
        changed = client.patch(f"{path}/{row.pk}", body, headers={"If-Match": '"1"'})

        assert (missing.status_code, stale.status_code, changed.status_code) == (428, 412, 200)
        assert stale.json()["current"]["version"] == 1
        assert changed["ETag"] == '"2"'

    @pytest.mark.parametrize("body", [{}, {"description": ""}], ids=str)
    def test_a_change_that_is_none_is_not_written(
        self, path: str, model: Any, make_one: Any, body: dict[str, str]
    ) -> None:
        row = make_one()
        client = make.client(row.environment)
        entries = Entry.objects.count()

        answer = client.patch(f"{path}/{row.pk}", body, headers={"If-Match": '"1"'})
        stale = client.patch(f"{path}/{row.pk}", body, headers={"If-Match": '"7"'})

        assert (answer.status_code, answer["ETag"], stale.status_code) == (200, '"1"', 412)
        assert Entry.objects.count() == entries

    def test_the_name_never_changes(self, path: str, model: Any, make_one: Any) -> None:
        row = make_one()
        client = make.client(row.environment)

        answer = client.patch(f"{path}/{row.pk}", {"slug": "other"}, headers={"If-Match": '"1"'})

        assert (answer.status_code, "slug" in answer.json()["errors"]) == (400, True)

    def test_are_found_by_name(self, path: str, model: Any, make_one: Any) -> None:
        row = make_one()
        make_one(row.environment)
        client = make.client(row.environment)

        found = client.get(f"{path}?slug={row.slug}").json()["results"]

        assert [each["id"] for each in found] == [row.pk]

    def test_another_environments_are_404(self, path: str, model: Any, make_one: Any) -> None:
        row = make_one()
        client = make.client()

        seen = client.get(f"{path}/{row.pk}")
        changed = client.patch(f"{path}/{row.pk}", {}, headers={"If-Match": '"1"'})

        assert (seen.status_code, changed.status_code) == (404, 404)

    def test_reading_is_not_writing(self, path: str, model: Any, make_one: Any) -> None:
        client = make.client(scopes=["config:read"])

        assert client.get(path).status_code == 200
        assert client.post(path, {"slug": "payments-api"}).status_code == 403


@pytest.mark.django_db
class TestInstances:
    def test_say_whether_they_are_silent(self) -> None:
        service = make.service()
        heard = make.instance(service)
        silent = make.instance(service, ago=16)
        stopping = make.instance(service, ago=3600, stopping=True)

        rows = make.client(service.environment).get("/api/v1/instances").json()["results"]

        assert {row["id"]: row["silent"] for row in rows} == {
            str(heard.pk): False,
            str(silent.pk): True,
            str(stopping.pk): False,
        }

    def test_filters(self) -> None:
        service = make.service(slug="cart")
        heard = make.instance(service)
        silent = make.instance(make.service(service.environment), ago=3600)
        client = make.client(service.environment)

        def ids(query: str) -> list[str]:
            rows = client.get(f"/api/v1/instances?{query}").json()["results"]
            return [row["id"] for row in rows]

        assert ids("silent=true") == [str(silent.pk)]
        assert ids("silent=false") == [str(heard.pk)]
        assert ids("service=cart") == [str(heard.pk)]

    def test_another_environments_are_404(self) -> None:
        found = make.client().get(f"/api/v1/instances/{make.instance().pk}")

        assert found.status_code == 404

    def test_one_is_found_by_its_uuid(self) -> None:
        row = make.instance()
        client = make.client(row.service.environment)

        assert client.get(f"/api/v1/instances/{row.pk}").json()["name"] == "host-1"


@pytest.mark.django_db
def test_a_usage_is_declared_or_discovered() -> None:
    service = make.service()
    what = make.dependency(service.environment)

    with pytest.raises(IntegrityError, match="fleet_usage_source"):
        Usage.objects.create(service=service, dependency=what, source="guessed")
