"""The scrape: who may, what it says, and that it says the same whoever is asked."""

import subprocess
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from apps.core import clock
from apps.fleet.models import Environment, Service
from apps.health.models import Check
from apps.telemetry import services as telemetry
from tests import make
from tests.telemetry.arrivals import ingested

pytestmark = pytest.mark.django_db

ADDRESSES = ["/metrics", "/metrics/", "/api/v1/metrics", "/api/v1/metrics/"]


def scrape(client: Any, **query: str) -> str:
    response = client.get("/metrics", query)
    assert response.status_code == 200, response.content
    return bytes(response.content).decode()


def figures(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Values of a sample, by the values of its labels: service, dependency, others by name."""
    text = "\n".join(line for line in text.splitlines() if name in line)  # parsing takes long
    return {
        named(sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def named(labels: dict[str, str]) -> tuple[str, ...]:
    first = ["service", "dependency", "flag"]
    rest = sorted(labels.keys() - {*first, "environment"})
    return tuple(labels[label] for label in [*first, *rest] if label in labels)


@pytest.fixture
def service() -> Service:
    return make.service(slug="checkout")


@pytest.fixture
def client(service: Service) -> APIClient:
    return make.client(service.environment, scopes=["metrics:read"])


class TestDoor:
    @pytest.mark.parametrize("address", ADDRESSES)
    def test_it_answers_in_prometheus_format(self, client: APIClient, address: str) -> None:
        response = client.get(address)

        assert response.status_code == 200
        assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"# TYPE holdfast_services gauge" in response.content

    def test_what_prometheus_accepts_is_what_it_gets(self, client: APIClient) -> None:
        accept = (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        )

        assert client.get("/metrics", HTTP_ACCEPT=accept).status_code == 200

    def test_nobody_reads_it_without_a_token(self) -> None:
        assert APIClient().get("/metrics").status_code == 401

    def test_another_scope_is_not_enough(self, service: Service) -> None:
        other = make.client(service.environment, scopes=["health:read"])

        assert other.get("/metrics").status_code == 403

    def test_a_token_of_one_service_does_not_see_the_others(self, service: Service) -> None:
        assert make.client(of=service).get("/metrics").status_code == 403

    def test_a_token_sees_its_own_environment_only(self, client: APIClient) -> None:
        make.environment("elsewhere")

        assert "elsewhere" not in scrape(client)
        assert client.get("/metrics?environment=elsewhere").status_code == 404

    def test_a_person_sees_every_environment_or_the_one_they_name(self) -> None:
        make.environment("one")
        make.environment("two")
        browser = make.browser()

        assert figures(scrape(browser), "holdfast_services").keys() == {()}
        assert 'environment="two"' in scrape(browser)
        assert 'environment="two"' not in scrape(browser, environment="one")

    def test_unknown_parameters_are_refused(self, client: APIClient) -> None:
        assert client.get("/metrics?nmae=holdfast_calls").status_code == 400

    def test_nothing_is_changed_here(self, client: APIClient) -> None:
        assert client.post("/metrics").status_code == 405


class TestFleet:
    def test_calls_are_counted_by_how_they_went(self, service: Service, client: APIClient) -> None:
        calls = make.calls(
            calls=10,
            successes=6,
            failures=2,
            rejected={"open": 2, "throttle": 3},
            latency={"80": 6, "120": 2},
        )
        ingested(service, make.report(dependencies={"payments-api": calls}))

        text = scrape(client)

        name = ("checkout", "payments-api")
        assert figures(text, "holdfast_calls_total") == {name: 10}
        assert figures(text, "holdfast_call_results_total")[*name, "failure"] == 2
        assert figures(text, "holdfast_rejections_total")[*name, "open"] == 2
        assert figures(text, "holdfast_rejections_total")[*name, "throttle"] == 3

    def test_durations_are_cumulative_and_exact(self, service: Service, client: APIClient) -> None:
        calls = make.calls(calls=5, successes=5, latency={"78": 2, "79": 2, "157": 1})
        ingested(service, make.report(dependencies={"payments-api": calls}))

        text = scrape(client)

        name = ("checkout", "payments-api")
        buckets = figures(text, "holdfast_call_duration_seconds_bucket")
        below = [buckets[*name, edge] for edge in ("0.05", "0.1", "0.25", "10.0", "+Inf")]
        assert below == [0, 2, 4, 4, 5]  # bucket 78 ends at 0.1 s exactly
        assert figures(text, "holdfast_call_duration_seconds_count") == {name: 5}

    def test_own_requests_are_not_a_dependency(self, service: Service, client: APIClient) -> None:
        requests = {"count": 7, "4xx": 2, "5xx": 1, "latency": {"80": 7}}
        ingested(service, make.report(requests=requests, dependencies={}))

        text = scrape(client)

        assert figures(text, "holdfast_calls_total") == {}
        assert figures(text, "holdfast_service_requests_total") == {("checkout",): 7}
        assert figures(text, "holdfast_service_request_errors_total") == {
            ("checkout", "4xx"): 2,
            ("checkout", "5xx"): 1,
        }

    def test_a_counter_never_shrinks(self, service: Service, client: APIClient) -> None:
        ingested(service, make.report())

        with clock.use(lambda: NOW + timedelta(hours=3)):
            before = figures(scrape(client), "holdfast_calls_total")
            telemetry.roll_up()
            telemetry.prune()
            after = figures(scrape(client), "holdfast_calls_total")

        assert before == after == {("checkout", "payments-api"): 1}

    def test_breakers_are_counted_by_state(self, service: Service, client: APIClient) -> None:
        opened = {"state": "open", "since": None, "generation": 1, "override": None}
        ingested(service, make.report(dependencies={"payments-api": make.calls(breaker=opened)}))
        ingested(service, make.report())

        assert figures(scrape(client), "holdfast_breaker_instances") == {
            ("checkout", "payments-api", "open"): 1,
            ("checkout", "payments-api", "half_open"): 0,
            ("checkout", "payments-api", "closed"): 1,
        }

    def test_instances_and_how_many_applied(self, service: Service, client: APIClient) -> None:
        make.engaged(service.environment, "read-only")
        ingested(service, make.report())
        ingested(service, make.report(stopping=True))

        text = scrape(client)

        states = figures(text, "holdfast_instances")
        assert [states["checkout", state] for state in ("live", "silent", "stopping")] == [1, 0, 1]
        assert figures(text, "holdfast_instances_applied") == {("checkout",): 0}
        newest = figures(text, "holdfast_revision")[()]
        assert figures(text, "holdfast_service_revision") == {("checkout",): newest}

    def test_switches(self, service: Service, client: APIClient) -> None:
        make.engaged(service.environment, "read-only")
        make.flag(of=service, key="simple", kind="custom")
        make.override(make.scope(service.environment, make.dependency(service.environment, "db")))

        text = scrape(client)

        assert figures(text, "holdfast_flag_engaged") == {
            ("", "read-only", "read_only"): 1,
            ("checkout", "simple", "custom"): 0,
        }
        assert figures(text, "holdfast_override_in_force") == {("", "db", "force_open"): 1}
        assert figures(text, "holdfast_overrides")[("force_open",)] == 1

    def test_a_flag_whose_lease_is_over_is_not_engaged(
        self, service: Service, client: APIClient
    ) -> None:
        make.engaged(service.environment, "read-only", lease=timedelta(minutes=5))

        with clock.use(lambda: NOW + timedelta(hours=1)):
            text = scrape(client)

        assert figures(text, "holdfast_flag_engaged") == {("", "read-only", "read_only"): 0}

    def test_dead_letters_that_wait(self, service: Service, client: APIClient) -> None:
        make.letters(service, "order-1", "order-2")
        make.service(service.environment, "search")

        waiting = figures(scrape(client), "holdfast_dead_letters_unresolved")

        assert waiting == {("checkout",): 2, ("search",): 0}

    def test_alerts_that_fire_or_miss_data(self, service: Service, client: APIClient) -> None:
        rule = make.alert_rule(service.environment, "errors", severity="critical")
        make.alert(rule, "one")
        make.alert(rule, "two")
        make.alert(rule, "three", state="no_data", fired_at=None)
        make.alert(rule, "four", state="pending", fired_at=None)

        assert figures(scrape(client), "holdfast_alerts") == {
            ("errors", "critical", "firing"): 2,
            ("errors", "critical", "no_data"): 1,
        }

    def test_checks_have_one_status_each(self, service: Service, client: APIClient) -> None:
        down, old = make.check(service.environment), make.check(service.environment)
        now = clock.now()
        Check.objects.filter(pk=down.pk).update(status="down", observed_at=now)
        Check.objects.filter(pk=old.pk).update(status="up", observed_at=now - timedelta(days=1))

        told = figures(scrape(client), "holdfast_check_status")

        has = {(labels[1], labels[-1]) for labels, value in told.items() if value}
        assert has == {(down.name, "down"), (old.name, "unknown")}

    def test_health_scores_where_there_is_data(self, service: Service, client: APIClient) -> None:
        make.service(service.environment, "search")
        make.letters(service, *map(str, range(50)))

        text = scrape(client)

        assert figures(text, "holdfast_health_score") == {("checkout",): 50}
        assert figures(text, "holdfast_health_coverage") == {("checkout",): 1, ("search",): 0}
        assert figures(text, "holdfast_environment_health_score") == {(): 50}
        statuses = figures(text, "holdfast_health_status")
        assert (len(statuses), sum(statuses.values())) == (8, 2)

    def test_revision_and_audit_chain(self, service: Service, client: APIClient) -> None:
        make.engaged(service.environment, "read-only")

        text = scrape(client)

        assert figures(text, "holdfast_revision") == {(): 1}
        assert figures(text, "holdfast_audit_entries_total")[()] >= 1

    def test_queries_do_not_grow_with_the_fleet(self, service: Service, client: APIClient) -> None:
        populate(service.environment)
        scrape(client)  # the first use of a token is written down

        few = queries_of(client)
        populate(service.environment)

        assert queries_of(client) == few

    def test_promtool_finds_nothing_wrong(self, service: Service, client: APIClient) -> None:
        populate(service.environment)
        make.engaged(service.environment, "read-only")
        make.override(make.scope(service.environment, make.dependency(service.environment, "db")))
        make.alert(make.alert_rule(service.environment))
        make.check(service.environment)

        checked = subprocess.run(
            ["promtool", "check", "metrics"],
            input=scrape(client), capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


class TestOwn:
    def test_every_sample_says_which_process_it_is_of(self, client: APIClient) -> None:
        client.get("/api/v1/flags")

        lines = [
            line for line in scrape(client).splitlines() if not line.startswith(("#", "holdfast_"))
        ]
        assert lines
        assert [line for line in lines if 'process="' not in line] == []

    def test_a_made_up_method_makes_no_series(self, client: APIClient) -> None:
        client.generic("BREW", "/api/v1/flags")

        text = scrape(client)

        assert "BREW" not in text
        assert 'method="other"' in text

    def test_a_length_that_is_none_breaks_nothing(self, client: APIClient) -> None:
        assert client.get("/metrics", CONTENT_LENGTH="many").status_code in {200, 400}


NOW = clock.now()


def populate(environment: Environment) -> None:
    for _number in range(5):
        dependencies = {f"{name}-api": make.calls() for name in ("payments", "quotes")}
        ingested(make.service(environment), make.report(dependencies=dependencies))


def queries_of(client: APIClient) -> int:
    with CaptureQueriesContext(connection) as queries:
        scrape(client)
    return len(queries)
