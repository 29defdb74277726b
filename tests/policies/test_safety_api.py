"""What the settings' API says of danger: before a change, right after it, and standing."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.audit.models import Entry
from apps.core import clock
from apps.fleet.models import Dependency, Environment, Service, Usage
from apps.policies import selectors, services
from apps.policies.models import RetryConfig, TimeoutConfig
from apps.publication.models import Fragment, Revision
from apps.telemetry.models import Window
from tests import make

pytestmark = pytest.mark.django_db

URL = "/api/v1/configs"


def call(where: Environment, service: str, dependency: str) -> Service:
    """A service that calls a dependency; made where they are not there yet."""
    caller = Service.objects.filter(environment=where, slug=service).first()
    called = Dependency.objects.filter(environment=where, slug=dependency).first()
    caller = caller or make.service(where, service)
    make.uses(caller, called or make.dependency(where, dependency))
    return caller


def codes(answer: Any, member: str = "findings") -> list[str]:
    return [finding["code"] for finding in answer.json()[member]]


def everything() -> tuple[int, ...]:
    tables = (RetryConfig, Revision, Fragment, Entry, Usage)
    return tuple(table.objects.count() for table in tables)


class TestPlan:
    def test_it_says_what_would_change_for_whom_and_writes_nothing(self) -> None:
        place = make.environment()
        call(place, "checkout", "bank")
        call(place, "search", "bank")
        at = make.scope(place, make.dependency(place, "mail"), call(place, "search", "index"))
        make.config(at=at, attempts=2)
        api, before = make.client(place), everything()

        answer = api.post(f"{URL}/retry/plan", {"settings": {"attempts": 5}})

        assert answer.status_code == 200
        plan = answer.json()
        assert (plan["version"], plan["is_allowed"], plan["services"]) == (None, True, 2)
        (change,) = plan["changes"]
        assert change["settings"] == [{"key": "attempts", "before": 3, "after": 5}]
        assert change["calls"] == [  # search's calls to mail have settings of their own
            {"service": "checkout", "dependency": "bank"},
            {"service": "search", "dependency": "bank"},
            {"service": "search", "dependency": "index"},
        ]
        assert everything() == before

    def test_it_is_merged_over_what_is_set_and_names_the_version(self) -> None:
        row = make.config(attempts=5, jitter="none")
        body = {"settings": {"attempts": None, "multiplier": 3}}

        plan = make.client(row.environment).post(f"{URL}/retry/plan", body).json()

        assert plan["version"] == 1
        assert plan["changes"][0]["settings"] == [
            {"key": "attempts", "before": 5, "after": 3},
            {"key": "multiplier", "before": 2.0, "after": 3.0},
        ]

    def test_null_plans_that_everything_is_inherited(self) -> None:
        row = make.config(attempts=5)

        plan = make.client(row.environment).post(f"{URL}/retry/plan", {"settings": None}).json()

        assert plan["changes"][0]["settings"] == [{"key": "attempts", "before": 5, "after": 3}]

    def test_where_nothing_is_set_nothing_would_be_removed(self) -> None:
        plan = make.client().post(f"{URL}/retry/plan", {"settings": None}).json()

        assert (plan["version"], plan["changes"]) == (None, [])

    def test_a_contradiction_is_a_finding_here_and_a_refusal_when_it_is_meant(self) -> None:
        place = make.environment()
        make.config("breaker", make.scope(place, make.dependency(place)), open_max_seconds=40.0)
        api, body = make.client(place), {"settings": {"open_seconds": 60}}

        plan = api.post(f"{URL}/breaker/plan", body).json()

        assert plan["is_allowed"] is False
        assert [(each["severity"], each["is_new"]) for each in plan["findings"]] == [
            ("refusal", True)
        ]
        assert api.post(f"{URL}/breaker", body).status_code == 400

    def test_what_is_dangerous_already_is_not_called_new(self) -> None:
        row = make.config("timeout", attempt_seconds=10.0, total_seconds=20.0)
        make.config("timeout", make.scope(make.environment()), total_seconds=5.0)
        api = make.client(row.environment)

        plan = api.post(f"{URL}/timeout/plan", {"settings": {"total_seconds": 25}}).json()

        assert [(each["code"], each["is_new"]) for each in plan["findings"]] == [
            ("attempts_over_deadline", False)
        ]

    def test_bad_values_are_refused_as_in_earnest(self) -> None:
        answer = make.client().post(f"{URL}/retry/plan", {"settings": {"attempts": 99}})

        assert answer.status_code == 400
        assert "settings.attempts" in answer.json()["errors"]

    def test_who_may_not_change_settings_may_not_plan_to(self) -> None:
        service = make.service()
        body = {"settings": {"attempts": 2}}
        reader = make.client(service.environment, scopes=["config:read"])

        assert reader.post(f"{URL}/retry/plan", body).status_code == 403
        assert make.client(of=service).post(f"{URL}/retry/plan", body).status_code == 403

    def test_names_of_another_environment_are_unknown(self) -> None:
        make.dependency(slug="elsewhere")
        body = {"dependency": "elsewhere", "settings": {"attempts": 2}}

        assert make.client().post(f"{URL}/retry/plan", body).status_code == 400

    @pytest.mark.parametrize("pattern", ["breaker", "retry", "timeout", "fallback"])
    def test_as_few_queries_for_many_services_as_for_few(self, pattern: str) -> None:
        place = make.environment()
        settings = {
            "breaker": {"window": "time"},
            "retry": {"attempts": 5},
            "timeout": {"total_seconds": 5},
            "fallback": {"chain": [{"kind": "function", "name": "orders"}]},
        }[pattern]
        call(place, "web", "orders")
        call(place, "orders", "postgres")
        api = make.client(place)
        api.post(f"{URL}/{pattern}/plan", {"settings": settings})
        with CaptureQueriesContext(connection) as few:
            api.post(f"{URL}/{pattern}/plan", {"settings": settings})
        for number in range(15):
            call(place, f"shop-{number}", "orders")
            call(place, f"shop-{number}", "postgres")

        with CaptureQueriesContext(connection) as many:
            api.post(f"{URL}/{pattern}/plan", {"settings": settings})

        assert len(many) == len(few) < 24


class TestWarnings:
    def test_a_write_says_what_is_dangerous_about_it_and_is_published(self) -> None:
        place = make.environment()
        make.config("timeout", make.scope(place), total_seconds=60.0)
        body = {"settings": {"attempts": 4}}

        answer = make.client(place).post(f"{URL}/retry", body)

        assert answer.status_code == 201
        (warning,) = answer.json()["warnings"]
        assert (warning["code"], warning["severity"]) == ("attempts_over_deadline", "warning")
        assert warning["detail"].startswith("4 attempts × 30 s = 120 s is longer than")
        assert warning["calls"] == [{"service": None, "dependency": None}]
        assert "retry.attempts" in warning["settings"]
        assert Fragment.objects.current().get(name="retry").body == {"attempts": 4}

    def test_a_change_does_too_and_a_sound_one_warns_of_nothing(self) -> None:
        row = make.config("timeout", total_seconds=60.0, attempt_seconds=5.0)
        api, url = make.client(row.environment), f"{URL}/timeout/{row.pk}"

        bad = api.patch(url, {"settings": {"total_seconds": 6}}, headers={"If-Match": '"1"'})
        good = api.patch(url, {"settings": {"total_seconds": 60}}, headers={"If-Match": '"2"'})

        assert codes(bad, "warnings") == ["attempts_over_deadline"]
        assert good.json()["warnings"] == []

    def test_a_preset_says_what_is_dangerous_where_it_is_set(self) -> None:
        place = make.environment()
        bank = make.dependency(place, "bank")
        make.config("timeout", make.scope(place, bank), total_seconds=60.0)

        answer = make.client(place).post("/api/v1/presets/alpaca/apply", {"dependency": "bank"})

        assert answer.status_code == 200
        (warning,) = answer.json()["warnings"]
        assert warning["detail"].startswith("4 attempts × 30 s = 120 s is longer than")

    def test_a_removal_says_what_is_dangerous_about_what_is_inherited_now(self) -> None:
        place = make.environment()
        make.config("timeout", make.scope(place), total_seconds=60.0, attempt_seconds=30.0)
        bank = make.scope(dependency=make.dependency(place, "bank"))
        row = make.config("timeout", bank, attempt_seconds=5.0)

        answer = make.client(place).delete(f"{URL}/timeout/{row.pk}", headers={"If-Match": '"1"'})

        assert answer.status_code == 200
        (warning,) = answer.json()["warnings"]
        assert warning["code"] == "attempts_over_deadline"
        assert warning["calls"] == [{"service": None, "dependency": "bank"}]
        assert not TimeoutConfig.objects.filter(pk=row.pk).exists()

    def test_other_dependencies_are_not_its_business(self) -> None:
        place = make.environment()
        make.config("timeout", make.scope(place, make.dependency(place)), total_seconds=6.0)
        body = {"dependency": make.dependency(place).slug, "settings": {"attempts": 4}}

        assert make.client(place).post(f"{URL}/retry", body).json()["warnings"] == []

    def test_a_rate_limit_that_starves_a_breaker_is_refused_whichever_is_set_last(self) -> None:
        place = make.environment()
        make.config("breaker", make.scope(place), window="time", minimum_calls=100)
        body = {"settings": {"enabled": True, "calls": 1, "per_seconds": 60}}

        answer = make.client(place).post(f"{URL}/rate_limit", body)

        assert answer.status_code == 400
        assert "the rate limit lets 2 calls begin" in str(answer.json()["errors"])

    def test_retries_that_multiply_name_the_way(self) -> None:
        place = make.environment()
        for hop in (("web", "orders"), ("orders", "payments"), ("payments", "postgres")):
            call(place, *hop)
        body = {"dependency": "postgres", "settings": {"attempts": 2}}

        (warning,) = make.client(place).post(f"{URL}/retry", body).json()["warnings"]

        assert "web → orders → payments → postgres: 3 × 3 × 2 = 18" in warning["detail"]
        assert warning["calls"] == [{"service": "payments", "dependency": "postgres"}]

    def test_a_call_declared_by_the_change_itself_counts(self) -> None:
        place = make.environment()
        for hop in (("web", "orders"), ("orders", "payments")):
            call(place, *hop)
        make.service(place, "payments")
        make.dependency(place, "postgres")
        body = {"service": "payments", "dependency": "postgres", "settings": {"attempts": 4}}

        plan = make.client(place).post(f"{URL}/retry/plan", body)

        assert codes(plan) == ["retries_multiply"]


class TestOtherDryRuns:
    """Of what sets many settings at once."""

    def test_preset_that_contradicts_what_is_set(self) -> None:
        place = make.environment()
        bank = make.dependency(place, "bank")
        make.config("timeout", make.scope(dependency=bank), total_seconds=100.0)
        api, before = make.client(place), everything()

        answer = api.post("/api/v1/presets/alpaca/plan", {"dependency": "bank"})

        assert (answer.status_code, answer.json()["is_allowed"]) == (200, True)
        (finding,) = answer.json()["findings"]
        assert (finding["code"], finding["is_new"]) == ("attempts_over_deadline", True)
        assert everything() == before

    def test_rollback_to_what_was_dangerous(self) -> None:
        place = make.environment()
        row = make.config("timeout", make.scope(dependency=make.dependency(place)), total_seconds=9)
        sound, actor = {"attempt_seconds": 1.0}, make.actor(place)
        services.set_config("timeout", scope=row.holds_in, values=sound, actor=actor)
        api, before = make.client(place), everything()

        answer = api.post("/api/v1/revisions/1/rollback/plan")

        assert answer.status_code == 200
        assert (codes(answer), everything()) == (["attempts_over_deadline"], before)
        assert api.post("/api/v1/revisions/99/rollback/plan").status_code == 404


class TestRollback:
    def back_to_one(self, place: Environment) -> Any:
        return make.client(place).post("/api/v1/revisions/1/rollback", {"reason": "worse"})

    def test_it_says_what_is_dangerous_about_what_it_restored_and_removed(self) -> None:
        place = make.environment()
        bank, mail = make.dependency(place, "bank"), make.dependency(place, "mail")
        row = make.config("timeout", make.scope(dependency=bank), total_seconds=20.0)
        sound, actor = {"attempt_seconds": 5.0}, make.actor(place)
        services.set_config("timeout", scope=row.holds_in, values=sound, actor=actor)
        make.config("retry", make.scope(dependency=mail), attempts=1)

        answer = self.back_to_one(place)

        assert answer.status_code == 201
        (warning,) = answer.json()["warnings"]
        assert warning["code"] == "attempts_over_deadline"
        assert warning["calls"] == [{"service": None, "dependency": "bank"}]

    def test_what_it_does_not_touch_is_not_its_business(self) -> None:
        place = make.environment()
        bank, mail = make.dependency(place, "bank"), make.dependency(place, "mail")
        make.config("timeout", make.scope(dependency=bank), total_seconds=20.0)
        make.config("retry", make.scope(dependency=mail), attempts=5)
        make.config("bulkhead", make.scope(dependency=bank), max_concurrent=9)

        assert self.back_to_one(place).json()["warnings"] == []

    def test_as_few_queries_for_many_places_as_for_two(self) -> None:
        few, many = make.environment(), make.environment()
        for place, count in ((few, 2), (many, 12)):
            for hop in (("web", "orders"), ("orders", "payments")):
                call(place, *hop)
            make.publish(place)
            for _number in range(count):
                scope = make.scope(dependency=make.dependency(place))
                make.config("retry", scope, attempts=2)
                make.config("breaker", scope, window="time")

        first, second = (self.queries_about_revision_before_last(each) for each in (few, many))

        assert first == second < 20

    def queries_about_revision_before_last(self, place: Environment) -> int:
        self.back_to_one(place)
        newest = Revision.objects.filter(environment=place).latest("number")
        with CaptureQueriesContext(connection) as made:
            selectors.warnings_of_revision(newest)
        return len(made)


class TestFallbacks:
    CHAIN = ({"kind": "function", "name": "other_bank"},)

    def warnings(self, place: Environment) -> list[dict[str, Any]]:
        body = {"dependency": "bank", "settings": {"chain": self.CHAIN}}
        answer = make.client(place).post(f"{URL}/fallback", body)
        assert answer.status_code == 201
        found: list[dict[str, Any]] = answer.json()["warnings"]
        return found

    @pytest.fixture
    def place(self) -> Environment:
        place = make.environment()
        call(place, "checkout", "bank")
        call(place, "checkout", "other-bank")
        return place

    def test_onto_what_works(self, place: Environment) -> None:
        assert self.warnings(place) == []

    def test_onto_a_dependency_that_is_forced_open(self, place: Environment) -> None:
        make.override(make.scope(dependency=Dependency.objects.get(slug="other-bank")))

        (warning,) = self.warnings(place)

        assert warning["detail"].endswith("degraded now: its breaker is forced open.")

    def test_onto_a_dependency_with_an_engaged_fallback_flag(self, place: Environment) -> None:
        make.engaged(place, "no-bank", kind="fallback", dependencies=["other-bank"])

        (warning,) = self.warnings(place)

        assert "the flag no-bank is engaged" in warning["detail"]

    def test_a_flag_that_ended_is_no_reason(self, place: Environment) -> None:
        ended = clock.rfc3339(clock.now() - timedelta(seconds=1))
        piece = make.flag_piece("x", kind="fallback", dependencies=None, expires_at=ended)
        make.publish(place, piece)

        assert self.warnings(place) == []

    def test_onto_a_service_that_is_read_only(self, place: Environment) -> None:
        make.engaged(of=make.service(place, "other-bank"), key="ro")

        assert [each["code"] for each in self.warnings(place)] == ["fallback_onto_degraded"]


class TestStanding:
    def test_a_services_policy_says_what_is_dangerous_about_it(self) -> None:
        place = make.environment()
        call(place, "checkout", "bank")
        call(place, "search", "index")
        make.config(
            "timeout",
            make.scope(place, Dependency.objects.get(slug="bank")),
            attempt_seconds=5.0,
            total_seconds=6.0,
        )
        api = make.client(place)

        (finding,) = api.get("/api/v1/effective/checkout").json()["findings"]

        assert finding["calls"] == [{"service": "checkout", "dependency": "bank"}]
        assert api.get("/api/v1/effective/search").json()["findings"] == []

    def test_a_window_too_short_for_the_traffic_observed(self) -> None:
        place = make.environment()
        service = call(place, "checkout", "bank")
        make.instance(service)
        make.config("breaker", make.scope(place), window="time", window_seconds=60.0)
        minute = clock.now().replace(second=0, microsecond=0)
        for ago in range(1, 11):
            Window.objects.create(
                span=Window.Span.MINUTE,
                start=minute - timedelta(minutes=ago),
                service=service,
                dependency="bank",
                boot=uuid4(),
                calls=6,
            )

        answer = make.client(place).get("/api/v1/effective/checkout")

        assert codes(answer) == ["minimum_calls_unreachable"]
        assert "one process makes 6 in that time" in answer.json()["findings"][0]["detail"]

    def test_a_service_others_call_is_told_of_retries_through_it(self) -> None:
        place = make.environment()
        for hop in (("web", "orders"), ("orders", "payments"), ("payments", "postgres")):
            call(place, *hop)

        answer = make.client(place).get("/api/v1/effective/payments")

        assert codes(answer) == ["retries_multiply"]
