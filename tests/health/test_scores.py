"""Status and score of services, of what they depend on, and of environments."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.fleet.models import Dependency, Environment, Service
from apps.health.models import Check
from apps.health.selectors.scores import Health, Scores, scores
from apps.telemetry.models import InstanceState, Window
from apps.telemetry.rules import floor
from holdfast import histogram
from tests import make

pytestmark = pytest.mark.django_db


@pytest.fixture
def place() -> Environment:
    return make.environment()


@pytest.fixture
def checkout(place: Environment) -> Service:
    return make.service(place, "checkout")


@pytest.fixture
def payments(place: Environment, checkout: Service) -> Dependency:
    dependency = make.dependency(place, "payments-api")
    make.uses(checkout, dependency)
    return dependency


def called(of: Service, dependency: str = "payments-api", **counts: int) -> None:
    """Calls a minute ago, all of them within 0.1 s unless they were `late`."""
    late = counts.pop("late", 0)
    judged = counts.get("successes", 0) + counts.get("failures", 0) or counts.get("calls", 0)
    index = {str(histogram.index_of(0.1)): judged - late, str(histogram.index_of(60)): late}
    Window.objects.create(
        service=of,
        dependency=dependency,
        boot=uuid4(),
        span=10,
        start=floor(clock.now() - timedelta(seconds=60), 10),
        latency={name: count for name, count in index.items() if count},
        **counts,
    )


def breaker(of: Service, state: str, dependency: str = "payments-api") -> None:
    told = {"state": state, "since": clock.now().isoformat(), "generation": 1, "override": None}
    InstanceState.objects.create(
        instance=make.instance(of), breakers={dependency: told}, reported_at=clock.now()
    )


def checked(dependency: Dependency, status: str, recent: str = "") -> None:
    check = make.check(dependency.environment, dependency=dependency)
    Check.objects.filter(pk=check.pk).update(
        status=status, observed_at=clock.now(), since=clock.now(), recent=recent
    )


def told(place: Environment, letters: dict[str, int] | None = None) -> Scores:
    return scores(place.pk, letters or {})


def service(place: Environment, letters: dict[str, int] | None = None) -> Health:
    (found,) = told(place, letters).services
    return found


class TestService:
    def test_all_is_well(self, place: Environment, checkout: Service, payments: Any) -> None:
        called(checkout, successes=100)
        breaker(checkout, "closed")

        found = service(place)

        assert (found.status, found.score, found.coverage) == ("healthy", 100, 1)
        assert found.losses == []

    def test_errors_cost_points_and_are_named_with_their_number(
        self, place: Environment, checkout: Service, payments: Any
    ) -> None:
        called(checkout, successes=3_793, failures=517)
        breaker(checkout, "closed")

        found = service(place)

        assert (found.status, found.samples) == ("degraded", 4_310)
        cap, lost = found.losses
        assert (cap["kind"], cap["text"]) == (
            "cap",
            "payments-api: critical and degraded: 70 at most",
        )
        assert lost["text"] == "payments-api: error rate 12 % of 4,310 calls"
        assert lost["points"] == 4.8  # 0.12 · 4 of the weights, which are 10

    def test_without_data_there_is_no_score(
        self, place: Environment, checkout: Service, payments: Any
    ) -> None:
        called(checkout, successes=2, failures=2)

        found = service(place)

        assert (found.status, found.score) == ("unknown", None)
        assert found.coverage < 0.2

    @pytest.mark.parametrize(
        ("critical", "status", "score"), [(True, "unhealthy", 40), (False, "degraded", 100)]
    )
    def test_what_it_can_do_without_does_not_cap_it(
        self, place: Environment, checkout: Service, critical: bool, status: str, score: int
    ) -> None:
        payments = make.dependency(place, "payments-api")
        Dependency.objects.update(critical=critical)
        make.uses(checkout, payments)
        checked(payments, "down")
        called(checkout, successes=100)

        found = service(place)

        assert (found.status, found.score) == (status, score)

    def test_breakers_that_are_all_open_make_it_unhealthy(
        self, place: Environment, checkout: Service, payments: Any
    ) -> None:
        called(checkout, successes=100)
        breaker(checkout, "open")

        assert (service(place).status, service(place).score) == ("unhealthy", 40)

    def test_another_services_breaker_is_not_its_own(
        self, place: Environment, checkout: Service, payments: Dependency
    ) -> None:
        other = make.service(place, "orders")
        make.uses(other, payments)
        breaker(other, "open")
        breaker(checkout, "closed")

        found = {each.name: each.status for each in told(place).services}

        assert found == {"checkout": "healthy", "orders": "unhealthy"}

    def test_slow_calls_full_bulkheads_and_dead_letters_count(
        self, place: Environment, checkout: Service, payments: Any
    ) -> None:
        called(checkout, successes=100, late=50, rejected_bulkhead=100)

        found = service(place, {"checkout": 50})

        assert [each["text"] for each in found.losses] == [
            "payments-api: too slow: Apdex 0.50 of 100 calls",
            "50 dead letters wait",
            "payments-api: no room for 50 % of 200 calls",
        ]

    def test_its_own_requests_count(self, place: Environment, checkout: Service) -> None:
        called(checkout, "", calls=100, server_errors=60)

        found = service(place)

        assert found.status == "unhealthy"
        assert found.losses[0]["text"] == "error rate 60 % of 100 calls"

    def test_dead_letters_alone_are_a_score(self, place: Environment, checkout: Service) -> None:
        assert service(place).score is None
        assert service(place, {"checkout": 100}).score == 0


class TestDependency:
    def test_checks_stand_in_where_calls_are_few(
        self, place: Environment, payments: Dependency
    ) -> None:
        checked(payments, "up", "ooooffoooo")

        (found,) = told(place).dependencies

        assert (found.status, found.score) == ("healthy", 80)
        assert found.losses[0]["text"] == "payments-api: 20 % of 10 results of its checks failed"
        assert found.checked_at is not None

    def test_a_result_that_is_old_says_nothing(
        self, place: Environment, payments: Dependency
    ) -> None:
        checked(payments, "down", "f" * 10)
        Check.objects.update(observed_at=clock.now() - timedelta(hours=1))

        (found,) = told(place).dependencies

        assert (found.status, found.score, found.coverage) == ("unknown", None, 0)

    def test_its_own_latency_target(
        self, place: Environment, checkout: Service, payments: Any
    ) -> None:
        called(checkout, successes=100)
        Dependency.objects.update(latency_target_seconds=0.02)

        (found,) = told(place).dependencies

        assert found.losses[0]["text"] == "payments-api: too slow: Apdex 0.00 of 100 calls"

    def test_all_services_that_call_it_count(
        self, place: Environment, checkout: Service, payments: Dependency
    ) -> None:
        called(checkout, successes=20)
        called(make.service(place, "orders"), failures=20)

        (found,) = told(place).dependencies

        assert (found.error_rate, found.samples) == (0.5, 40)


class TestEnvironment:
    def test_services_weigh_the_same_and_the_worst_decides(
        self, place: Environment, checkout: Service, payments: Dependency
    ) -> None:
        called(checkout, successes=100)
        called(make.service(place, "orders"), "ledger", failures=1_000)

        found = told(place)

        assert found.environment.status == "unhealthy"
        orders, other = found.worst_first
        assert (orders.name, other.name) == ("orders", "checkout")
        assert orders.score is not None
        assert found.environment.score == round((100 + orders.score) / 2)
        (lost,) = found.environment.losses
        assert lost["text"] == f"orders scores {orders.score} of 100"

    def test_nothing_is_known_of_an_empty_one(self, place: Environment) -> None:
        found = told(place).environment

        assert (found.status, found.score, found.coverage) == ("unknown", None, 0)

    def test_another_environments_traffic_is_not_its_own(
        self, place: Environment, checkout: Service, payments: Any
    ) -> None:
        called(make.service(make.environment(), "checkout"), failures=100)
        called(checkout, successes=100)

        assert service(place).status == "healthy"

    def test_queries_do_not_grow_with_the_fleet(self, place: Environment) -> None:
        for number in range(5):
            one = make.service(place, f"service-{number}")
            make.uses(one, make.dependency(place, f"dependency-{number}"))
            called(one, f"dependency-{number}", successes=20)
            breaker(one, "closed", f"dependency-{number}")

        with CaptureQueriesContext(connection) as asked:
            told(place)

        assert len(asked) == 6
