"""Flags over HTTP: what works, what is refused, and that a refusal writes nothing."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.audit.models import Entry
from apps.degradation.models import Flag
from apps.publication.models import Fragment, Revision
from tests import make

FLAGS = "/api/v1/flags"
HUGE = b"1" * 1_000_000


def match(flag: Flag) -> dict[str, str]:
    return {"If-Match": f'"{flag.version}"'}


def published() -> Any:
    """The body of the one fragment in force."""
    return Fragment.objects.current().get().body


@pytest.mark.django_db
class TestCreate:
    def test_answers_with_the_flag_and_its_place(self) -> None:
        place = make.environment()
        make.dependency(place, "gemini")
        body = {"key": "simple-replies", "kind": "fallback", "dependencies": ["gemini"]}

        answer = make.client(place).post(FLAGS, body)

        flag = Flag.objects.get()
        assert answer.status_code == 201
        assert answer["Location"] == f"{FLAGS}/{flag.pk}"
        assert answer["ETag"] == '"1"'
        assert answer.json()["dependencies"] == ["gemini"]
        assert answer.json()["enabled"] is False
        assert Entry.objects.get(object_type="flag").action == "flag.created"
        assert not Revision.objects.exists()

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "key"),
            ({"key": "Bad Key", "kind": "custom"}, "key"),
            ({"key": "li\nne", "kind": "custom"}, "key"),
            ({"key": "a", "kind": "other"}, "kind"),
            ({"key": "a", "kind": "read_only", "value": 1}, "value"),
            ({"key": "a", "kind": "read_only", "percentage": 50}, "percentage"),
            ({"key": "a", "kind": "read_only", "dependencies": []}, "dependencies"),
            ({"key": "a", "kind": "fallback", "dependencies": []}, "dependencies"),
            ({"key": "a", "kind": "fallback", "dependencies": ["nobody"]}, "dependencies"),
            ({"key": "a", "kind": "fallback", "dependencies": "gemini"}, "dependencies"),
            ({"key": "a", "kind": "fallback", "dependencies": [{}]}, "dependencies.0"),
            ({"key": "a", "kind": "custom", "percentage": 101}, "percentage"),
            ({"key": "a", "kind": "custom", "percentage": -0.1}, "percentage"),
            ({"key": "a", "kind": "custom", "percentage": True}, "percentage"),
            ({"key": "a", "kind": "custom", "percentage": "50"}, "percentage"),
            ({"key": "a", "kind": "custom", "percentage": 10**30}, "percentage"),
            ({"key": "a", "kind": "custom", "on_stale": "forget"}, "on_stale"),
            ({"key": "a", "kind": "custom", "value": "x" * 20_000}, "value"),
            ({"key": "a", "kind": "custom", "value": 10**30}, "value"),
            ({"key": "a", "kind": "custom", "enabled": True}, "enabled"),
            ({"key": "a", "kind": "custom", "service": "nobody"}, "service"),
            ({"key": "a", "kind": "custom", "service": 7}, "service"),
            ([], "non_field_errors"),
            ("text", "non_field_errors"),
        ],
    )
    def test_wrong_values_are_named(self, body: Any, field: str) -> None:
        answer = make.client().post(FLAGS, body)

        assert answer.status_code == 400
        assert field in answer.json()["errors"]
        assert not Flag.objects.exists()

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b'{"key": "a\\u0000b", "kind": "custom"}',
            b'{"key": "a", "kind": "custom", "percentage": NaN}',
            b'{"key": "a", "kind": "custom", "percentage": Infinity}',
            b'{"key": "a", "kind": "custom", "percentage": 1e999}',
            b'{"key": "a", "kind": "custom", "percentage": ' + HUGE + b"}",
            b'{"key": "a", "kind": "custom", "value": ' + HUGE + b"}",
            b'{"key": "a", "kind": "custom", "value": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
            b'{"key": "a", "kind": "custom", "value": ' + b"[" * 200 + b"]" * 200 + b"}",
            b'{"key": "a", "kind": "custom", "value": "\\ud800"}',
        ],
        ids=range(12),
    )
    def test_malformed_bodies_are_400(self, body: bytes) -> None:
        answer = make.client().post(FLAGS, body, content_type="application/json")

        assert answer.status_code == 400
        assert answer["Content-Type"] == "application/problem+json"
        assert not Flag.objects.exists()

    def test_a_body_over_the_limit_is_413(self) -> None:
        body = b'{"key": "' + b"a" * 1_100_000 + b'"}'

        answer = make.client().post(FLAGS, body, content_type="application/json")

        assert answer.status_code == 413

    def test_another_media_type_is_415(self) -> None:
        answer = make.client().post(FLAGS, b"a=b", content_type="text/plain")

        assert answer.status_code == 415

    def test_a_key_is_unique_in_its_scope_only(self) -> None:
        place = make.environment()
        service = make.service(place, "checkout")
        client = make.client(place)
        make.flag(place, "read-only")

        same = client.post(FLAGS, {"key": "read-only", "kind": "read_only"})
        other = client.post(
            FLAGS, {"key": "read-only", "kind": "read_only", "service": service.slug}
        )
        again = client.post(
            FLAGS, {"key": "read-only", "kind": "read_only", "service": service.slug}
        )

        assert (same.status_code, other.status_code, again.status_code) == (409, 201, 409)


@pytest.mark.django_db
class TestEngage:
    def post(self, flag: Flag, client: Any = None, **body: Any) -> Any:
        client = client or make.client(flag.environment)
        body = {"reason": "primary failing over", "lease_seconds": 1800} | body
        return client.post(f"{FLAGS}/{flag.pk}/engage", body, headers=match(flag))

    def test_is_published_and_audited_with_who_and_why(self) -> None:
        flag = make.flag(key="read-only")

        answer = self.post(flag)

        body = answer.json()
        assert (answer.status_code, answer["ETag"]) == (200, '"2"')
        assert (body["enabled"], body["reason"], body["set_by"]) == (
            *(True, "primary failing over", "test"),
        )
        entry = Entry.objects.get(action="flag.engaged")
        assert (entry.actor_label, entry.actor_kind) == ("test", "token")
        assert entry.content["before"]["enabled"] is False
        assert entry.content["after"]["enabled"] is True
        assert Fragment.objects.current().get().revision == entry.revision

    def test_read_only_ends_after_half_an_hour_unless_chosen(self) -> None:
        flag = make.flag(kind="read_only")
        client = make.client(flag.environment)

        client.post(f"{FLAGS}/{flag.pk}/engage", {"reason": "slow"}, headers=match(flag))

        flag.refresh_from_db()
        assert flag.expires_at is not None
        assert flag.set_at is not None
        assert (flag.expires_at - flag.set_at).total_seconds() == pytest.approx(1800, abs=1)

    def test_other_kinds_hold_until_ended_unless_chosen(self) -> None:
        flag = make.flag(kind="feature_off")
        client = make.client(flag.environment)

        client.post(f"{FLAGS}/{flag.pk}/engage", {"reason": "slow"}, headers=match(flag))

        flag.refresh_from_db()
        assert (flag.enabled, flag.expires_at) == (True, None)

    def test_null_holds_until_somebody_ends_it(self) -> None:
        flag = make.flag(kind="read_only")

        assert self.post(flag, lease_seconds=None).json()["expires_at"] is None

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("lease_seconds", 59),
            ("lease_seconds", 604_801),
            ("lease_seconds", -1),
            ("lease_seconds", 10**40),
            ("lease_seconds", "soon"),
            ("lease_seconds", 1800.5),
            ("lease_seconds", []),
            ("reason", ""),
            ("reason", "   "),
            ("reason", None),
            ("reason", "x" * 501),
            ("reason", {}),
            ("version", 1),
        ],
    )
    def test_wrong_values_are_named(self, field: str, value: Any) -> None:
        flag = make.flag()

        answer = self.post(flag, **{field: value})

        assert answer.status_code == 400
        assert field in answer.json()["errors"]
        assert not Revision.objects.exists()

    def test_a_stale_version_changes_nothing_and_shows_the_newer_state(self) -> None:
        flag = make.flag(version=7)
        flag.version = 6

        answer = self.post(flag)

        assert (answer.status_code, answer.json()["code"]) == (412, "stale")
        assert answer.json()["current"]["version"] == 7
        flag.refresh_from_db()
        assert (flag.enabled, flag.version) == (False, 7)
        assert not Entry.objects.filter(object_type="flag").exists()
        assert not Revision.objects.exists()

    def test_without_if_match_is_428(self) -> None:
        flag = make.flag()

        answer = make.client(flag.environment).post(f"{FLAGS}/{flag.pk}/engage", {"reason": "slow"})

        assert answer.status_code == 428

    def test_a_flag_engaged_already_is_409(self) -> None:
        flag = make.engaged()

        answer = self.post(flag)

        assert answer.status_code == 409
        assert Entry.objects.filter(action="flag.engaged").count() == 1

    @pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 200)])
    def test_needs_an_operator(self, role: str, status: int) -> None:
        flag = make.flag()
        client = make.browser(make.member(flag.environment, role))

        answer = self.session_post(client, flag)

        assert answer.status_code == status

    def test_a_viewers_attempt_is_audited(self) -> None:
        flag = make.flag()
        person = make.member(flag.environment, "viewer")

        self.session_post(make.browser(person), flag)

        entry = Entry.objects.get()
        assert (entry.outcome, entry.actor_label) == ("denied", person.username)
        assert entry.action == f"POST {FLAGS}/{flag.pk}/engage"

    def test_a_member_of_another_environment_finds_nothing(self) -> None:
        flag = make.flag()
        outsider = make.browser(make.member(role="administrator"))

        assert self.session_post(outsider, flag).status_code == 404

    def test_a_token_of_another_environment_finds_nothing(self) -> None:
        flag = make.flag()

        assert self.post(flag, make.client()).status_code == 404

    def test_a_token_without_the_scope_may_not(self) -> None:
        flag = make.flag()
        client = make.client(flag.environment, scopes=["config:read"])

        assert self.post(flag, client).status_code == 403

    def test_nobody_may_not(self) -> None:
        answer = APIClient().post(f"{FLAGS}/1/engage", {})

        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Bearer")

    def session_post(self, client: Any, flag: Flag) -> Any:
        return client.post(
            f"{FLAGS}/{flag.pk}/engage?environment={flag.environment}",
            {"reason": "slow"},
            content_type="application/json",
            headers=match(flag),
        )


@pytest.mark.django_db
class TestServiceBoundToken:
    def test_switches_its_own_service(self) -> None:
        service = make.service()
        flag = make.flag(of=service)
        client = make.client(of=service)

        answer = client.post(f"{FLAGS}/{flag.pk}/engage", {"reason": "slow"}, headers=match(flag))

        assert answer.status_code == 200

    def test_sees_what_reaches_everybody_but_may_not_switch_it(self) -> None:
        service = make.service()
        flag = make.flag(service.environment)
        client = make.client(of=service)

        seen = client.get(f"{FLAGS}/{flag.pk}")
        switched = client.post(f"{FLAGS}/{flag.pk}/engage", {"reason": "slow"}, headers=match(flag))

        assert (seen.status_code, switched.status_code) == (200, 403)
        assert switched.json()["code"] == "service_bound"

    def test_does_not_see_another_service(self) -> None:
        service = make.service()
        flag = make.flag(of=make.service(service.environment))

        assert make.client(of=service).get(f"{FLAGS}/{flag.pk}").status_code == 404


@pytest.mark.django_db
class TestExtendAndEnd:
    def post(self, flag: Flag, verb: str, **body: Any) -> Any:
        client = make.client(flag.environment)
        return client.post(f"{FLAGS}/{flag.pk}/{verb}", body, headers=match(flag))

    def test_extended_lease_counts_from_now_and_is_published(self) -> None:
        flag = make.engaged()

        answer = self.post(flag, "extend", lease_seconds=3600)

        assert answer.status_code == 200
        assert published()["expires_at"] == answer.json()["expires_at"]
        entry = Entry.objects.get(action="flag.extended")
        assert entry.reason == "primary failing over"

    def test_no_lease_is_taken_away_by_leaving_it_out(self) -> None:
        flag = make.engaged(kind="custom")

        answer = self.post(flag, "extend")

        assert (answer.status_code, "lease_seconds" in answer.json()["errors"]) == (400, True)

    def test_a_flag_that_is_off_has_no_lease(self) -> None:
        assert self.post(make.flag(), "extend", lease_seconds=3600).status_code == 409

    def test_ended_flag_leaves_the_documents(self) -> None:
        flag = make.engaged()

        answer = self.post(flag, "end", reason="all well again")

        assert answer.json()["enabled"] is False
        assert Fragment.objects.current().get().body is None
        assert Entry.objects.get(action="flag.ended").reason == "all well again"

    def test_ending_needs_a_reason(self) -> None:
        answer = self.post(make.engaged(), "end")

        assert (answer.status_code, "reason" in answer.json()["errors"]) == (400, True)

    def test_a_flag_that_is_off_cannot_be_ended(self) -> None:
        assert self.post(make.flag(), "end", reason="well").status_code == 409


@pytest.mark.django_db
class TestChangeAndDelete:
    def patch(self, flag: Flag, **body: Any) -> Any:
        client = make.client(flag.environment)
        return client.patch(f"{FLAGS}/{flag.pk}", body, headers=match(flag))

    def test_a_change_while_off_is_not_published(self) -> None:
        flag = make.flag(kind="custom", value={"model": "large"})

        answer = self.patch(flag, percentage=10)

        assert (answer.json()["percentage"], answer.json()["value"]) == (10, {"model": "large"})
        assert not Revision.objects.exists()

    def test_a_change_while_engaged_is_published_with_its_reason(self) -> None:
        flag = make.engaged(kind="custom", value="short")

        answer = self.patch(flag, percentage=25, reason="carefully")

        assert answer.status_code == 200
        assert (published()["percentage"], published()["value"]) == (25, "short")
        assert Revision.objects.latest("number").reason == "carefully"

    def test_a_change_while_engaged_needs_a_reason(self) -> None:
        answer = self.patch(make.engaged(kind="custom"), percentage=25)

        assert (answer.status_code, "reason" in answer.json()["errors"]) == (400, True)

    def test_kind_and_key_never_change(self) -> None:
        answer = self.patch(make.flag(), kind="custom", key="other")

        assert set(answer.json()["errors"]) == {"kind", "key"}

    def test_null_takes_a_value_away(self) -> None:
        assert self.patch(make.flag(kind="custom", value=1), value=None).json()["value"] is None

    def test_a_flag_that_is_off_can_be_deleted(self) -> None:
        flag = make.flag()

        answer = make.client(flag.environment).delete(f"{FLAGS}/{flag.pk}", headers=match(flag))

        assert (answer.status_code, Flag.objects.exists()) == (204, False)
        entry = Entry.objects.get(action="flag.deleted")
        assert (entry.object_id, entry.content["before"]["key"]) == (str(flag.pk), flag.key)

    def test_an_engaged_flag_cannot_be_deleted(self) -> None:
        flag = make.engaged()

        answer = make.client(flag.environment).delete(f"{FLAGS}/{flag.pk}", headers=match(flag))

        assert (answer.status_code, Flag.objects.exists()) == (409, True)


@pytest.mark.django_db
class TestLooking:
    def keys(self, client: Any, query: str = "") -> set[str]:
        return {flag["key"] for flag in client.get(f"{FLAGS}{query}").json()["results"]}

    def test_lists_the_flags_of_the_environment_only(self) -> None:
        mine = make.flag(key="mine")
        make.flag(key="theirs")

        assert self.keys(make.client(mine.environment)) == {"mine"}

    def test_filters(self) -> None:
        place = make.environment()
        service = make.service(place, "checkout")
        make.engaged(place, "on")
        make.flag(place, "off", kind="custom")
        make.flag(of=service, key="own")
        client = make.client(place)

        assert self.keys(client, "?engaged=true") == {"on"}
        assert self.keys(client, "?engaged=false") == {"off", "own"}
        assert self.keys(client, "?kind=custom") == {"off"}
        assert self.keys(client, "?key=on") == {"on"}
        assert self.keys(client, "?service=checkout") == {"own"}

    @pytest.mark.parametrize("query", ["?engaged=perhaps", "?kind=none", "?engagd=true"])
    def test_a_filter_nobody_knows_is_refused(self, query: str) -> None:
        assert make.client().get(f"{FLAGS}{query}").status_code == 400

    @pytest.mark.parametrize("cursor", ["x", "cD1hYmM=", "cD0xZTk5OQ==", "bz0tMQ==", "%00", "cD0x"])
    def test_a_foreign_cursor_is_no_500(self, cursor: str) -> None:
        answer = make.client().get(f"{FLAGS}?cursor={cursor}")

        assert answer.status_code in {200, 400, 404}

    def test_pages_follow_each_other(self) -> None:
        place = make.environment()
        [make.flag(place, f"flag-{number}") for number in range(5)]
        client = make.client(place)

        first = client.get(f"{FLAGS}?limit=3").json()
        second = client.get(first["next"]).json()

        assert (len(first["results"]), len(second["results"]), second["next"]) == (3, 2, None)

    def test_an_impossible_id_is_not_found(self) -> None:
        client = make.client()

        assert client.get(f"{FLAGS}/{10**30}").status_code == 404
        assert client.get(f"{FLAGS}/-1").status_code == 404

    def test_answers_with_and_without_the_slash(self) -> None:
        flag = make.flag()
        client = make.client(flag.environment)

        assert client.get(f"{FLAGS}/").status_code == 200
        assert client.get(f"{FLAGS}/{flag.pk}/").status_code == 200

    def test_other_methods_are_405(self) -> None:
        flag = make.flag()
        client = make.client(flag.environment)

        assert client.put(f"{FLAGS}/{flag.pk}", {}).status_code == 405
        assert client.get(f"{FLAGS}/{flag.pk}/engage").status_code == 405

    def test_a_person_in_several_environments_names_one_to_write(self) -> None:
        make.environment()
        make.environment()
        body = {"key": "a", "kind": "custom"}

        answer = make.browser().post(FLAGS, body, content_type="application/json")

        assert (answer.status_code, answer.json()["code"]) == (400, "environment_required")


@pytest.mark.django_db
class TestImpact:
    def test_counts_who_will_obey(self) -> None:
        flag = make.flag()
        first = make.service(flag.environment, "cart")
        make.service(flag.environment, "checkout")
        make.instance(first)
        make.instance(first, ago=3600)
        make.instance(first, stopping=True)
        make.instance()  # elsewhere

        found = make.client(flag.environment).get(f"{FLAGS}/{flag.pk}/impact").json()

        assert found == {
            "services": 2, "instances": 1, "silent": 1, "names": ["cart", "checkout"],
        }  # fmt: skip

    def test_of_one_service(self) -> None:
        service = make.service(slug="cart")
        make.service(service.environment)

        found = make.client(service.environment).get(f"{FLAGS}/impact?service=cart").json()

        assert found["names"] == ["cart"]

    def test_of_a_fallback_flag_is_who_uses_its_dependencies(self) -> None:
        service = make.service(slug="cart")
        make.service(service.environment)
        make.uses(service, make.dependency(service.environment, "gemini"))
        flag = make.flag(service.environment, kind="fallback", dependencies=["gemini"])

        found = make.client(service.environment).get(f"{FLAGS}/{flag.pk}/impact").json()

        assert found["names"] == ["cart"]
