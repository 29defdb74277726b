"""/api/v1/health and what is below it: what it says, to whom, and with which status."""

import json
import re
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.fleet.models import Dependency, Environment, Service
from apps.health import services
from apps.health.models import Check, Pulse
from tests import make

pytestmark = pytest.mark.django_db

PARTS = ["db", "redis", "rabbitmq", "celery"]
ADDRESSES = ["", "/dependencies", "/services", "/detailed", *(f"/{part}" for part in PARTS)]


@pytest.fixture
def place() -> Environment:
    services.take_pulse("celery")
    return make.environment()


def told(place: Environment, path: str = "") -> tuple[int, dict[str, Any]]:
    answer = make.client(place, scopes=["health:read"]).get(f"/api/v1/health{path}")
    assert answer.headers["Content-Type"] == "application/health+json"
    return answer.status_code, json.loads(answer.content)


def found(check: Check, status: str) -> None:
    Check.objects.filter(pk=check.pk).update(
        status=status, observed_at=clock.now(), since=clock.now(), latency_seconds=0.2, recent="of"
    )


class TestEveryAddress:
    @pytest.mark.parametrize("path", ADDRESSES)
    def test_it_answers_in_the_form_of_the_draft(self, place: Environment, path: str) -> None:
        status, body = told(place, path)

        assert status == 200
        assert body["status"] in {"pass", "warn"}
        assert body["score"] in {"healthy", "degraded"}

    @pytest.mark.parametrize("path", ADDRESSES)
    def test_it_is_for_those_who_may(self, place: Environment, path: str) -> None:
        address = f"/api/v1/health{path}"

        assert Client().get(address).status_code == 401
        assert make.client(place, scopes=["config:read"]).get(address).status_code == 403

    @pytest.mark.parametrize("path", ADDRESSES)
    def test_with_a_slash_and_by_a_session(self, place: Environment, path: str) -> None:
        browser = make.browser(make.member(place, "viewer"))

        assert browser.get(f"/api/v1/health{path}/?environment={place}").status_code == 200

    @pytest.mark.parametrize("path", ADDRESSES)
    def test_no_secret_is_in_it(self, place: Environment, path: str) -> None:
        make.check(place, kind="redis", address="redis://127.0.0.1:9/0", secret="s3cret")

        assert "s3cret" not in json.dumps(told(place, path))


class TestDependencies:
    @pytest.mark.parametrize(
        ("state", "health", "score", "code"),
        [
            ("up", "pass", "healthy", 200),
            ("degraded", "warn", "degraded", 200),
            ("unknown", "warn", "degraded", 200),
            ("down", "fail", "unhealthy", 503),
        ],
    )
    def test_the_worst_decides(
        self, place: Environment, state: str, health: str, score: str, code: int
    ) -> None:
        found(make.check(place), "up")
        found(make.check(place, name="payments", dependency=make.dependency(place)), state)

        status, body = told(place, "/dependencies")

        assert (status, body["status"], body["score"]) == (code, health, score)
        (entry,) = body["checks"]["payments:responseTime"]
        assert (entry["state"], entry["observedValue"], entry["observedUnit"]) == (state, 200, "ms")

    def test_one_not_looked_at_is_a_warning(self, place: Environment) -> None:
        found(make.check(place), "up")

        with clock.use(partial(later, 600, clock.now())):
            assert told(place, "/dependencies")[1]["status"] == "warn"

    def test_another_environments_are_not_told(self, place: Environment) -> None:
        found(make.check(), "down")

        assert told(place, "/dependencies")[1]["checks"] == {}

    def test_a_dependency_that_is_down_does_not_make_holdfast_fail(
        self, place: Environment
    ) -> None:
        found(make.check(place), "down")

        assert told(place)[0] == told(place, "/detailed")[0] == 200
        assert told(place)[1]["status"] == "warn"

    def test_without_an_environment_a_person_is_asked_for_one(self) -> None:
        make.environment(), make.environment()

        answer = make.browser().get("/api/v1/health/dependencies")

        assert (answer.status_code, answer.json()["code"]) == (400, "environment_required")


class TestScores:
    """Status and score of services and of what they depend on, where the endpoints tell them."""

    def troubled(self, place: Environment, *, critical: bool = True) -> Service:
        """A service whose one dependency is down, and what it had to do with it before."""
        checkout, payments = make.service(place, "checkout"), make.dependency(place, "payments-api")
        Dependency.objects.filter(pk=payments.pk).update(critical=critical)
        make.uses(checkout, payments)
        found(make.check(place, dependency=payments), "down")
        Check.objects.update(recent="oooooofff")
        return checkout

    def test_a_service_with_what_its_score_was_lost_to(self, place: Environment) -> None:
        self.troubled(place)

        status, body = told(place, "/services")

        (entry,) = body["checks"]["service checkout:score"]
        assert (status, body["status"], entry["status"]) == (503, "fail", "fail")
        assert (entry["observedValue"], entry["observedUnit"]) == (40, "points of 100")
        assert entry["health"]["status"] == body["health"]["status"] == "unhealthy"
        assert 0 < entry["health"]["coverage"] < 1
        assert [each["kind"] for each in entry["health"]["deductions"]] == ["cap", "checks"]
        assert body["health"]["deductions"][0]["text"] == "checkout scores 40 of 100"

    def test_what_services_can_do_without_is_a_warning(self, place: Environment) -> None:
        self.troubled(place, critical=False)

        status, body = told(place, "/dependencies")

        assert (status, body["status"]) == (200, "warn")
        (entry,) = body["checks"]["dependency payments-api:score"]
        assert (entry["critical"], entry["health"]["status"]) == (False, "unhealthy")
        assert entry["lastChecked"] is not None
        assert told(place, "/services")[1]["score"] == "degraded"

    def test_one_of_which_nothing_is_known_says_so_and_decides_nothing(
        self, place: Environment
    ) -> None:
        make.service(place, "checkout")

        status, body = told(place, "/services")

        (entry,) = body["checks"]["service checkout:score"]
        assert (status, body["status"]) == (200, "pass")
        assert "status" not in entry
        assert (entry["health"]["score"], entry["health"]["coverage"]) == (None, 0)

    def test_details_have_them_too_and_holdfast_does_not_fail_for_them(
        self, place: Environment
    ) -> None:
        self.troubled(place)

        status, body = told(place, "/detailed")

        names = {"service checkout:score", "dependency payments-api:score"}
        assert (status, body["status"]) == (200, "warn")
        assert names <= body["checks"].keys()

    def test_a_token_of_one_service_is_told_of_that_alone(self, place: Environment) -> None:
        self.troubled(place)
        other = make.service(place, "orders")
        client = make.client(scopes=["health:read"], of=other)

        for path in ("/services", "/detailed", "/dependencies"):
            body = client.get(f"/api/v1/health{path}").json()
            assert "checkout" not in json.dumps(body)
            assert "health" not in body

    def test_another_environments_are_not_told(self, place: Environment) -> None:
        self.troubled(make.environment())

        assert told(place, "/services")[1]["checks"] == {}

    def test_queries_do_not_grow_with_the_fleet(self, place: Environment) -> None:
        for number in range(4):
            one = make.service(place, f"service-{number}")
            make.uses(one, make.dependency(place, f"dependency-{number}"))
        client = make.client(place, scopes=["health:read"])
        client.get("/api/v1/health/services")

        with CaptureQueriesContext(connection) as asked:
            client.get("/api/v1/health/services")

        assert len(asked) <= 12


class TestCelery:
    def test_a_worker_without_a_pulse_fails(self, place: Environment) -> None:
        Pulse.objects.filter(name="celery").update(at=later(-60))

        status, body = told(place, "/celery")

        assert (status, body["status"]) == (503, "fail")
        assert re.search("for 6[0-9] s", body["checks"]["celery:responseTime"][0]["output"])


class TestDetailed:
    def test_background_loops_and_their_age(self, place: Environment) -> None:
        checks = told(place, "/detailed")[1]["checks"]

        entry = checks["health.checks:age"][0]
        assert (entry["observedUnit"], entry["running"]) == ("s", False)  # only a server runs them
        assert {"delivery:age", "telemetry.flush:age", "policies:age"} <= checks.keys()

    def test_hosts_as_measured(self, place: Environment) -> None:
        measures = {"cpu": 0.5, "memory": 0.4, "disk_free": 0.3}
        services.take_pulse("host a", **measures, received=1.0, sent=None, load=0.2)

        (entry,) = told(place, "/detailed")[1]["checks"]["host a:utilization"]

        assert entry["facts"]["disk_free_share"] == 0.3


def later(seconds: float, now: datetime | None = None) -> datetime:
    return (now or clock.now()) + timedelta(seconds=seconds)
