"""The settings' API: what it takes, what it refuses, and what it leaves behind."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.audit.models import Entry
from apps.fleet.models import Usage
from apps.policies.models import HedgeConfig, RetryConfig
from apps.publication.models import Fragment, Revision
from tests import make

pytestmark = pytest.mark.django_db

URL = "/api/v1/configs/retry"


def tagged(version: int) -> dict[str, str]:
    return {"If-Match": f'"{version}"'}


class TestCreate:
    def test_it_is_made_published_and_audited(self) -> None:
        place = make.environment()
        make.dependency(place, "payments-api")
        make.service(place, "checkout")
        body = {
            "dependency": "payments-api",
            "service": "checkout",
            "settings": {"attempts": 5, "per_class": {"critical": {"retry": False}}},
            "reason": "the provider asked for it",
        }

        answer = make.client(place).post(URL, body)

        assert answer.status_code == 201
        assert answer["Location"] == f"{URL}/{answer.json()['id']}"
        assert answer["ETag"] == '"1"'
        fragment = Fragment.objects.current().get(part="setting")
        assert (fragment.service, fragment.dependency, fragment.name, fragment.body) == (
            *("checkout", "payments-api", "retry"),
            body["settings"],
        )
        entry = Entry.objects.get(action="config.created")
        assert (entry.reason, entry.revision) == (body["reason"], fragment.revision)
        assert entry.content["after"]["attempts"] == 5

    def test_settings_of_a_service_declare_that_it_calls_the_dependency(self) -> None:
        place = make.environment()
        service, dependency = make.service(place), make.dependency(place)
        body = {"dependency": dependency.slug, "service": service.slug, "settings": {"attempts": 5}}

        make.client(place).post(URL, body)

        assert Usage.objects.get(service=service).dependency == dependency
        use = Fragment.objects.current().get(part="use")
        assert (use.service, use.dependency) == (service.slug, dependency.slug)

    def test_whole_floats_and_ints_become_what_the_setting_is(self) -> None:
        answer = make.client().post(URL, {"settings": {"attempts": 4.0, "base_seconds": 2}})

        assert answer.content.count(b'"attempts":4,') == 1
        assert answer.content.count(b'"base_seconds":2.0') == 1

    def test_a_second_row_in_the_scope_is_a_conflict(self) -> None:
        row = make.config()

        answer = make.client(row.environment).post(URL, {"settings": {"attempts": 4}})

        assert answer.status_code == 409
        assert answer.json()["code"] == "exists"
        assert RetryConfig.objects.get().values == {"attempts": 5}

    def test_nothing_but_nulls_is_no_row(self) -> None:
        answer = make.client().post(URL, {"settings": {"attempts": None}})

        assert answer.status_code == 400
        assert not RetryConfig.objects.exists()
        assert not Revision.objects.exists()

    @pytest.mark.parametrize("field", ["dependency", "service"])
    def test_names_of_another_environment_are_unknown(self, field: str) -> None:
        make.dependency(slug="elsewhere")
        make.service(slug="elsewhere")
        body = {"settings": {"attempts": 4}, field: "elsewhere"}

        answer = make.client().post(URL, body)

        assert answer.status_code == 400
        assert field in answer.json()["errors"]

    def test_a_service_needs_its_dependency(self) -> None:
        service = make.service()
        body = {"service": service.slug, "settings": {"attempts": 4}}

        answer = make.client(service.environment).post(URL, body)

        assert answer.status_code == 400
        assert "dependency" in answer.json()["errors"]


class TestChange:
    def test_patch_merges_and_null_inherits(self) -> None:
        row = make.config(attempts=5, jitter="none")
        api = make.client(row.environment)

        answer = api.patch(
            f"{URL}/{row.pk}",
            {"settings": {"attempts": None, "multiplier": 3}},
            headers=tagged(1),
        )

        assert answer.status_code == 200
        assert answer["ETag"] == '"2"'
        assert answer.json()["settings"] == {"multiplier": 3.0, "jitter": "none"}
        assert Fragment.objects.current().get().body == {"multiplier": 3.0, "jitter": "none"}

    def test_put_replaces_the_whole_row(self) -> None:
        row = make.config(attempts=5, jitter="none")
        api = make.client(row.environment)

        answer = api.put(f"{URL}/{row.pk}", {"settings": {"attempts": 2}}, headers=tagged(1))

        assert answer.json()["settings"] == {"attempts": 2}

    def test_delete_lets_everything_be_inherited(self) -> None:
        row = make.config()

        answer = make.client(row.environment).delete(f"{URL}/{row.pk}", headers=tagged(1))

        assert answer.status_code == 204
        assert not RetryConfig.objects.exists()
        assert Fragment.objects.current().get().body is None
        assert Entry.objects.get(action="config.cleared").content["before"]["attempts"] == 5

    def test_a_row_without_values_leaves_the_documents(self) -> None:
        row = make.config()
        api = make.client(row.environment)

        api.patch(f"{URL}/{row.pk}", {"settings": {"attempts": None}}, headers=tagged(1))

        assert Fragment.objects.current().get().body is None

    def test_the_same_values_again_publish_nothing(self) -> None:
        row = make.config()
        api = make.client(row.environment)

        answer = api.patch(f"{URL}/{row.pk}", {"settings": {"attempts": 5}}, headers=tagged(1))

        assert answer.status_code == 200
        assert answer["ETag"] == '"1"'
        assert Revision.objects.count() == 1
        assert Entry.objects.filter(action="config.changed").count() == 0

    def test_true_in_a_fallback_is_not_the_same_as_one(self) -> None:
        row = make.config("fallback", chain=[{"kind": "value", "value": 1}])
        chain = [{"kind": "value", "value": True}]

        answer = make.client(row.environment).patch(
            f"/api/v1/configs/fallback/{row.pk}", {"settings": {"chain": chain}}, headers=tagged(1)
        )

        assert answer["ETag"] == '"2"'
        assert answer.json()["settings"]["chain"][0]["value"] is True

    def test_each_value_remembers_the_change_it_came_with(self) -> None:
        row = make.config(attempts=5, jitter="none")
        api = make.client(row.environment)

        answer = api.patch(f"{URL}/{row.pk}", {"settings": {"attempts": 6}}, headers=tagged(1))

        origins = answer.json()["origins"]
        assert (origins["attempts"]["revision"], origins["attempts"]["by"]) == (2, "test")
        assert (origins["jitter"]["revision"], origins["jitter"]["by"]) == (1, "ana")


class TestVersions:
    def test_without_if_match(self) -> None:
        row = make.config()

        answer = make.client(row.environment).patch(f"{URL}/{row.pk}", {"settings": {}})

        assert answer.status_code == 428

    @pytest.mark.parametrize("method", ["put", "patch", "delete"])
    def test_a_stale_version_changes_nothing_and_shows_the_newer_state(self, method: str) -> None:
        row = make.config()
        api = make.client(row.environment)
        api.patch(f"{URL}/{row.pk}", {"settings": {"attempts": 9}}, headers=tagged(1))

        body = None if method == "delete" else {"settings": {"attempts": 2}}
        answer = getattr(api, method)(f"{URL}/{row.pk}", body, headers=tagged(1))

        assert answer.status_code == 412
        assert answer.json()["current"]["settings"] == {"attempts": 9}
        assert answer.json()["current"]["version"] == 2
        assert RetryConfig.objects.get().values == {"attempts": 9}
        assert Revision.objects.count() == 2

    def test_stale_even_where_the_values_are_the_same(self) -> None:
        row = make.config()
        api = make.client(row.environment)
        api.patch(f"{URL}/{row.pk}", {"settings": {"attempts": 9}}, headers=tagged(1))

        answer = api.patch(f"{URL}/{row.pk}", {"settings": {"attempts": 9}}, headers=tagged(1))

        assert answer.status_code == 412


class TestEffectiveRules:
    """Values that are right alone, and wrong with what is in effect for somebody."""

    def test_a_default_that_would_break_a_service_names_it(self) -> None:
        place = make.environment()
        at = make.scope(place, make.dependency(place, "bank"), make.service(place, "checkout"))
        make.config("breaker", at, open_max_seconds=40.0)

        answer = make.client(place).post(
            "/api/v1/configs/breaker", {"settings": {"open_seconds": 60}}
        )

        assert answer.status_code == 400
        text = answer.json()["errors"]["settings.open_max_seconds"]
        assert text == [
            "For checkout's calls to bank it must be at least open_seconds, which is 60 s."
        ]
        assert Revision.objects.count() == 1
        assert Entry.objects.filter(action="config.created").count() == 1

    def test_a_removed_default_that_kept_a_service_valid_is_refused(self) -> None:
        place = make.environment()
        default = make.config("breaker", make.scope(place), window_calls=1000)
        at = make.scope(place, make.dependency(place))
        make.config("breaker", at, minimum_calls=500)

        answer = make.client(place).delete(
            f"/api/v1/configs/breaker/{default.pk}", headers=tagged(1)
        )

        assert answer.status_code == 400
        assert "settings.minimum_calls" in answer.json()["errors"]

    def test_what_another_dependency_has_set_does_not_matter(self) -> None:
        place = make.environment()
        make.config("breaker", make.scope(place, make.dependency(place)), open_max_seconds=40.0)

        answer = make.client(place).post(
            "/api/v1/configs/breaker",
            {"dependency": make.dependency(place).slug, "settings": {"open_seconds": 60}},
        )

        assert answer.status_code == 201

    def test_a_service_that_sets_both_is_free_of_the_default(self) -> None:
        place = make.environment()
        at = make.scope(place, make.dependency(place), make.service(place))
        make.config("retry", at, min_seconds=20.0, max_seconds=30.0)

        answer = make.client(place).post(URL, {"settings": {"max_seconds": 10}})

        assert answer.status_code == 201

    def test_what_may_not_be_repeated_is_not_hedged(self) -> None:
        place = make.environment()
        make.config(at=make.scope(place, make.dependency(place, "bank")), idempotent=False)

        answer = make.client(place).post("/api/v1/configs/hedge", {"settings": {"enabled": True}})

        assert answer.status_code == 400
        assert answer.json()["errors"] == {
            "settings.enabled": [
                "For every service's calls to bank it needs retry.idempotent: "
                "a hedged call is sent twice."
            ]
        }
        assert not HedgeConfig.objects.exists()

    def test_what_is_hedged_stays_fit_to_be_repeated(self) -> None:
        hedged = make.config("hedge", enabled=True)

        answer = make.client(hedged.environment).post(URL, {"settings": {"idempotent": False}})

        assert answer.status_code == 400
        assert list(answer.json()["errors"]) == ["hedge.enabled"]
        assert not RetryConfig.objects.exists()


def deep(levels: int) -> Any:
    value: Any = 1
    for _level in range(levels):
        value = [value]
    return value


HUGE = "9" * 1_000_000
BAD_BODIES = {
    "no body": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "no settings": b"{}",
    "settings are a list": b'{"settings": []}',
    "settings are text": b'{"settings": "attempts"}',
    "settings are null": b'{"settings": null}',
    "unknown member": b'{"settings": {"attempts": 3}, "colour": "red"}',
    "unknown setting": b'{"settings": {"colour": "red"}}',
    "setting of another pattern": b'{"settings": {"window_calls": 3}}',
    "text for a number": b'{"settings": {"attempts": "3"}}',
    "true for a number": b'{"settings": {"attempts": true}}',
    "half an attempt": b'{"settings": {"attempts": 2.5}}',
    "NaN": b'{"settings": {"base_seconds": NaN}}',
    "infinity": b'{"settings": {"base_seconds": 1e999}}',
    "a million digits": f'{{"settings": {{"attempts": {HUGE}}}}}'.encode(),
    "number for a choice": b'{"settings": {"backoff": 1}}',
    "unknown choice": b'{"settings": {"backoff": "cubic"}}',
    "list for a choice": b'{"settings": {"backoff": ["linear"]}}',
    "unknown class": b'{"settings": {"per_class": {"rare": {}}}}',
    "out of bounds inside": b'{"settings": {"per_class": {"critical": {"attempts": 99}}}}',
    "unknown inside": b'{"settings": {"per_class": {"critical": {"colour": 1}}}}',
    "NUL in a name": b'{"settings": {"attempts": 3}, "dependency": "a\\u0000b"}',
    "NUL in a reason": b'{"settings": {"attempts": 3}, "reason": "a\\u0000b"}',
    "surrogate in a reason": b'{"settings": {"attempts": 3}, "reason": "\\ud800"}',
    "deep nesting": b'{"settings": {"per_class": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
    "a long reason": b'{"settings": {"attempts": 3}, "reason": "' + b"x" * 501 + b'"}',
    "a dependency that is a number": b'{"settings": {"attempts": 3}, "dependency": 7.5e300}',
    "invalid UTF-8": b'{"settings": {"attempts": 3}, "reason": "\xff"}',
}  # fmt: skip
BAD_CHAINS: dict[str, Any] = {
    "nine links": [{"kind": "queue"}] * 9,
    "no kind": [{"value": 1}],
    "unknown kind": [{"kind": "magic"}],
    "value without one": [{"kind": "value"}],
    "unknown member": [{"kind": "queue", "colour": 1}],
    "text": "queue",
    "a number beyond 64 bits": [{"kind": "value", "value": 2**70}],
    "deep value": [{"kind": "value", "value": deep(40)}],
    "too large": [{"kind": "value", "value": "x" * 70_000}],
    "an age below zero": [{"kind": "cached", "max_age_seconds": -1}],
}  # fmt: skip


class TestBadInput:
    @pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
    def test_it_is_refused_and_nothing_is_written(self, body: bytes) -> None:
        answer = make.client().generic("POST", URL, body, "application/json")  # type: ignore[arg-type]  # bytes are fine

        assert answer.status_code == 400, answer.content[:300]
        assert answer["Content-Type"].startswith("application/problem+json")
        assert not RetryConfig.objects.exists()

    @pytest.mark.parametrize("chain", BAD_CHAINS.values(), ids=BAD_CHAINS.keys())
    def test_chains_that_are_none(self, chain: Any) -> None:
        body = {"settings": {"chain": chain}}

        answer = make.client().post("/api/v1/configs/fallback", body)

        assert answer.status_code == 400

    def test_a_body_over_the_limit(self) -> None:
        body = b'{"reason": "' + b"x" * 1_100_000 + b'"}'

        answer = make.client().generic("POST", URL, body, "application/json")  # type: ignore[arg-type]  # bytes are fine

        assert answer.status_code == 413

    @pytest.mark.parametrize("query", ["service=%00", "level=galaxy", "colour=red", "limit=x%00"])
    def test_filters(self, query: str) -> None:
        answer = make.client().get(f"{URL}?{query}")

        assert answer.status_code in {200, 400}

    @pytest.mark.parametrize("pattern", ["galaxy", "hedging", "%00", "retry/x", "retry/%00"])
    def test_addresses_that_are_none(self, pattern: str) -> None:
        assert make.client().get(f"/api/v1/configs/{pattern}").status_code == 404

    @pytest.mark.parametrize("version", ["x", '"x"', "1", '"99999999999"', '"-1"', "*"])
    def test_versions_that_are_none(self, version: str) -> None:
        row = make.config()

        answer = make.client(row.environment).patch(
            f"{URL}/{row.pk}", {"settings": {"attempts": 2}}, headers={"If-Match": version}
        )

        assert answer.status_code == 400


class TestWhoMay:
    @pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
    def test_another_environments_row_is_not_there(self, method: str) -> None:
        row = make.config()

        answer = getattr(make.client(), method)(
            f"{URL}/{row.pk}", {"settings": {"attempts": 2}}, headers=tagged(1)
        )

        assert answer.status_code == 404
        assert RetryConfig.objects.get().version == 1

    def test_reading_needs_a_scope(self) -> None:
        assert make.client(scopes=["health:read"]).get(URL).status_code == 403

    def test_a_missing_scope_is_recorded(self) -> None:
        api = make.client(scopes=["config:read"])

        answer = api.post(URL, {"settings": {"attempts": 2}})

        assert answer.status_code == 403
        assert Entry.objects.get(outcome="denied").action == f"POST {URL}"
        assert not RetryConfig.objects.exists()

    def test_a_services_token_changes_its_own_calls_only(self) -> None:
        service = make.service()
        dependency = make.dependency(service.environment)
        api = make.client(of=service)
        body = {"dependency": dependency.slug, "settings": {"attempts": 2}}

        everybody = api.post(URL, body)
        own = api.post(URL, {**body, "service": service.slug})

        assert (everybody.status_code, own.status_code) == (403, 201)
        assert everybody.json()["code"] == "service_bound"

    def test_a_services_token_does_not_see_other_services(self) -> None:
        place = make.environment()
        other = make.config(
            at=make.scope(place, make.dependency(place), make.service(place, "other"))
        )
        api = make.client(of=make.service(place))

        assert api.get(URL).json()["results"] == []
        assert api.get(f"{URL}/{other.pk}").status_code == 404

    def test_methods_that_are_none(self) -> None:
        assert make.client().put(URL, {}).status_code == 405


class TestList:
    def test_filters(self) -> None:
        place = make.environment()
        bank, checkout = make.dependency(place, "bank"), make.service(place, "checkout")
        make.config(at=make.scope(place))
        make.config(at=make.scope(place, bank))
        make.config(at=make.scope(place, bank, checkout))
        api = make.client(place)

        def count(query: str) -> int:
            return len(api.get(f"{URL}?{query}").json()["results"])

        assert count("dependency=bank") == 2
        assert count("service=checkout") == 1
        assert count("level=environment") == 1
        assert count("level=dependency") == 1
        assert count("") == 3

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
