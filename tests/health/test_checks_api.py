"""/api/v1/checks: what people may do to checks, and what they are told."""

from typing import Any

import pytest

from apps.audit.models import Entry
from apps.core.sealing import unseal
from apps.fleet.models import Environment
from apps.health.models import Check, Result, Transition
from tests import make

pytestmark = pytest.mark.django_db

ADDRESS = "/api/v1/checks"
WHOLE = {
    "name": "shop-db",
    "kind": "postgresql",
    "dependency": "postgres",
    "address": "postgresql://holdfast@127.0.0.1:5432/shop",
    "secret": "s3cret-s3cret",
    "settings": {"write_probe": False},
    "interval_seconds": 10,
    "timeout_seconds": 2,
    "slow_seconds": 0.5,
}


@pytest.fixture
def place() -> Environment:
    place = make.environment()
    make.dependency(place, "postgres")
    return place


class TestCreate:
    def test_it_is_there_and_due_at_once(self, place: Environment) -> None:
        answer = make.client(place).post(ADDRESS, WHOLE)

        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{ADDRESS}/{answer.json()['id']}"
        assert answer.headers["ETag"] == '"1"'
        assert answer.json()["status"] == "unknown"
        assert answer.json()["has_secret"] is True
        assert Check.objects.get().next_at is not None

    def test_the_secret_is_sealed_and_told_to_nobody(self, place: Environment) -> None:
        client = make.client(place)

        told = client.post(ADDRESS, WHOLE).content + client.get(ADDRESS).content

        check = Check.objects.get()
        assert unseal(check.sealed_secret) == "s3cret-s3cret"
        texts = [told.decode(), str(Entry.objects.latest("at").text), repr(check.target())]
        assert [text for text in texts if "s3cret" in text] == []
        assert "s3cret" not in check.sealed_secret

    def test_it_is_audited(self, place: Environment) -> None:
        make.client(place).post(ADDRESS, WHOLE)

        entry = Entry.objects.get(action="check.created")
        assert (entry.object_type, entry.object_label) == ("check", "shop-db")

    def test_without_more_it_has_the_defaults(self, place: Environment) -> None:
        body = {"name": "mail", "kind": "tcp", "address": "tcp://127.0.0.1:25"}

        told = make.client(place).post(ADDRESS, body).json()

        names = ("interval_seconds", "timeout_seconds", "failures_to_confirm", "enabled")
        assert [told[name] for name in names] == [30, 5, 3, True]

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"name": "Shop DB"}, "name"),
            ({"kind": "oracle"}, "kind"),
            ({"dependency": "nothing"}, "dependency"),
            ({"address": ""}, "address"),
            ({"address": "postgresql://u:pw@127.0.0.1/shop"}, "address"),
            ({"address": "http://169.254.169.254/"}, "address"),
            ({"settings": {"queue": "x"}}, "settings.queue"),
            ({"interval_seconds": 0.5}, "interval_seconds"),
            ({"timeout_seconds": 60}, "timeout_seconds"),
            ({"secret": "x" * 2001}, "secret"),
        ],
    )
    def test_what_cannot_be_run_is_refused(
        self, place: Environment, change: dict[str, Any], field: str
    ) -> None:
        answer = make.client(place).post(ADDRESS, WHOLE | change)

        assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
        assert not Check.objects.exists()

    def test_a_name_is_there_once(self, place: Environment) -> None:
        make.check(place, name="shop-db")

        assert make.client(place).post(ADDRESS, WHOLE).status_code == 409

    def test_a_token_of_one_service_may_not(self, place: Environment) -> None:
        answer = make.client(of=make.service(place)).post(ADDRESS, WHOLE)

        assert answer.status_code == 403


class TestRead:
    def test_filters(self, place: Environment) -> None:
        make.check(place, name="a")
        make.check(place, kind="host", name="b", enabled=False)
        client = make.client(place)

        def names(query: str) -> list[str]:
            return [each["name"] for each in client.get(f"{ADDRESS}?{query}").json()["results"]]

        assert names("kind=tcp") == ["a"]
        assert names("enabled=false") == ["b"]
        assert names("status=down") == []
        assert client.get(f"{ADDRESS}?colour=red").status_code == 400

    @pytest.mark.parametrize("part", ["", "/results", "/transitions", "/history"])
    def test_of_another_environment_there_is_none(self, part: str) -> None:
        check = make.check()

        assert make.client().get(f"{ADDRESS}/{check.pk}{part}").status_code == 404

    def test_a_list_takes_as_many_queries_for_three_as_for_one(
        self, place: Environment, django_assert_max_num_queries: Any
    ) -> None:
        for _number in range(3):
            make.check(place)
        client = make.client(place)
        client.get(ADDRESS)

        with django_assert_max_num_queries(3):
            assert len(client.get(ADDRESS).json()["results"]) == 3


class TestUpdate:
    def patch(self, check: Check, version: int = 1, **changes: Any) -> Any:
        client = make.client(check.environment)
        headers = {"If-Match": f'"{version}"'}
        return client.patch(f"{ADDRESS}/{check.pk}", changes, headers=headers)

    def test_it_is_written_audited_and_run_again(self) -> None:
        check = make.check()
        Check.objects.filter(pk=check.pk).update(status="up", recent="ooo")

        answer = self.patch(check, interval_seconds=60)

        assert (answer.status_code, answer.json()["version"]) == (200, 2)
        assert answer.json()["status"] == "up"  # the same is asked as before
        assert Entry.objects.filter(action="check.updated").count() == 1

    def test_another_address_makes_it_unknown(self) -> None:
        check = make.check()
        Check.objects.filter(pk=check.pk).update(status="down", recent="fff")

        answer = self.patch(check, address="tcp://127.0.0.1:10")

        assert answer.json()["status"] == "unknown"
        move = Transition.objects.get()
        assert (move.from_status, move.to_status) == ("down", "unknown")

    def test_a_secret_does_not_go_to_another_place(self) -> None:
        check = make.check(kind="redis", address="redis://127.0.0.1:9/0", secret="s3cret")

        refused = self.patch(check, address="redis://127.0.0.2:9/0")
        taken = self.patch(check, address="redis://127.0.0.2:9/0", secret="other")

        assert (refused.status_code, list(refused.json()["errors"])) == (400, ["secret"])
        assert taken.status_code == 200

    def test_null_removes_the_secret(self) -> None:
        check = make.check(kind="redis", address="redis://127.0.0.1:9/0", secret="s3cret")

        assert self.patch(check, secret=None).json()["has_secret"] is False

    def test_disabled_it_never_runs_and_nothing_is_known(self) -> None:
        check = make.check()
        Check.objects.filter(pk=check.pk).update(status="up")

        assert self.patch(check, enabled=False).json()["status"] == "unknown"

        check.refresh_from_db()
        assert check.next_at is None

    def test_a_stale_version_changes_nothing(self) -> None:
        answer = self.patch(make.check(), version=7, interval_seconds=60)

        assert answer.status_code == 412
        assert answer.json()["current"]["interval_seconds"] == 30

    def test_an_empty_address_only_where_it_does_not_run(self) -> None:
        assert self.patch(make.check(), address="").status_code == 400
        assert self.patch(make.check(), address="", enabled=False).status_code == 200

    def test_delete_takes_the_history_along_and_is_audited(self) -> None:
        check = make.check()
        client = make.client(check.environment)
        client.post(f"{ADDRESS}/{check.pk}/test", {})

        answer = client.delete(f"{ADDRESS}/{check.pk}", headers={"If-Match": '"1"'})

        assert answer.status_code == 204
        assert not Check.objects.exists()
        assert not Result.objects.exists()
        assert Entry.objects.get(action="check.deleted").object_id == str(check.pk)


class TestTest:
    def test_it_says_what_came_of_it_and_the_result_counts(self) -> None:
        check = make.check(name="nobody")  # listens there

        answer = make.client(check.environment).post(f"{ADDRESS}/{check.pk}/test", {})

        assert answer.status_code == 200
        assert answer.json()["outcome"] == "failed"
        assert "refused" in answer.json()["detail"]
        assert answer.json()["check"]["success_rate"] == 0
        assert Result.objects.get().subject == check
        assert Entry.objects.filter(action="check.tested").count() == 1

    def test_of_one_that_is_not_enabled_nothing_is_written(self) -> None:
        check = make.check(enabled=False)

        answer = make.client(check.environment).post(f"{ADDRESS}/{check.pk}/test", {})

        assert answer.json()["outcome"] == "failed"
        assert not Result.objects.exists()

    def test_without_an_address_it_is_refused(self) -> None:
        check = make.check(address="", enabled=False)

        answer = make.client(check.environment).post(f"{ADDRESS}/{check.pk}/test", {})

        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["address"])

    @pytest.mark.parametrize("scopes", [["config:read"], ["health:read"]])
    def test_readers_may_not(self, scopes: list[str]) -> None:
        check = make.check()
        client = make.client(check.environment, scopes=scopes)

        assert client.post(f"{ADDRESS}/{check.pk}/test", {}).status_code == 403

    def test_another_environments_is_not_there(self) -> None:
        assert make.client().post(f"{ADDRESS}/{make.check().pk}/test", {}).status_code == 404

    def test_after_three_failures_it_is_down_and_told_so(self) -> None:
        check = make.check()
        client = make.client(check.environment)

        statuses = [
            client.post(f"{ADDRESS}/{check.pk}/test", {}).json()["check"]["status"]
            for _number in range(3)
        ]

        assert statuses == ["unknown", "unknown", "down"]
        moves = client.get(f"{ADDRESS}/{check.pk}/transitions").json()["results"]
        assert [(each["from_status"], each["to_status"]) for each in moves] == [("unknown", "down")]
        results = client.get(f"{ADDRESS}/{check.pk}/results").json()["results"]
        assert [each["outcome"] for each in results] == ["failed"] * 3


class TestHost:
    def test_it_measures_this_machine(self) -> None:
        check = make.check(kind="host", settings={"disk_free_share": 0, "memory_share": 1})

        told = make.client(check.environment).post(f"{ADDRESS}/{check.pk}/test", {}).json()

        assert told["outcome"] in {"ok", "impaired"}  # the processor may be busy
        assert {"cpu", "memory", "disk_free", "load"} <= told["facts"].keys()
