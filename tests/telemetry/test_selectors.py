"""What the wall and the console read: cells, own traffic, N of M, events."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.fleet.models import Service
from apps.telemetry import selectors
from apps.telemetry.selectors.convergence import convergence
from apps.telemetry.selectors.recent import Cell, Recent, Requests
from tests import make
from tests.telemetry.arrivals import ingested

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def noon() -> Iterator[None]:
    with clock.use(lambda: NOON):
        yield


@pytest.fixture
def service() -> Service:
    return make.service(slug="checkout")


def breaker(state: str, since: datetime = NOON, **members: Any) -> dict[str, Any]:
    return make.calls(breaker={"state": state, "since": since.isoformat()} | members)


def calling(**calls: Any) -> dict[str, Any]:
    """A report of calls of payments-api."""
    return make.report(dependencies={"payments-api": make.calls(**calls)})


def recent(service: Service) -> Recent:
    found = Recent(service.environment_id)
    found.look()
    return found


def cell(service: Service) -> Cell:
    found = recent(service)
    [only] = found.cells()[service.slug]
    found.time([(service.slug, only.dependency)], [])
    return only


def requests(service: Service) -> Requests | None:
    found = recent(service)
    found.time([], [service.slug])
    return found.requests(service.slug)


class TestCells:
    def test_rates_cover_the_last_minute(self, service: Service) -> None:
        calls = calling(calls=120, successes=90, failures=10, latency={"80": 90, "120": 10})
        ingested(service, calls)

        found = cell(service)

        assert (found.calls, found.calls_per_second, found.samples) == (120, 2.0, 100)
        assert found.error_rate == pytest.approx(0.1)
        assert found.p95 is not None
        assert found.p95 > 0.5

    def test_processes_and_instances_are_merged(self, service: Service) -> None:
        ingested(service, calling(calls=1), calling(calls=2))
        ingested(service, calling(calls=4))

        assert cell(service).calls == 7

    def test_few_samples_say_nothing(self, service: Service) -> None:
        ingested(service, calling(calls=4, successes=3, failures=1, latency={"80": 4}))

        assert (cell(service).samples, cell(service).error_rate, cell(service).p95) == (
            4,
            None,
            None,
        )

    def test_old_windows_are_left_out(self, service: Service) -> None:
        with clock.use(lambda: NOON - timedelta(seconds=70)):
            ingested(service, calling(calls=5))

        assert cell(service).calls == 0

    def test_worst_state_of_live_instances_is_shown(self, service: Service) -> None:
        earlier = NOON - timedelta(seconds=9)
        ingested(
            service,
            make.report(dependencies={"payments-api": breaker("closed")}),
            make.report(dependencies={"payments-api": breaker("open", NOON)}),
            make.report(dependencies={"payments-api": breaker("open", earlier)}),
            make.report(dependencies={"payments-api": breaker("half_open")}),
        )

        found = cell(service)

        assert (found.state, found.since) == ("open", earlier)
        assert found.states == {"closed": 1, "open": 2, "half_open": 1}

    def test_instances_that_left_do_not_colour_the_cell(self, service: Service) -> None:
        is_open = {"payments-api": breaker("open")}
        ingested(service, make.report(dependencies=is_open, stopping=True))
        with clock.use(lambda: NOON - timedelta(seconds=16)):
            ingested(service, make.report(dependencies=is_open))

        assert (cell(service).state, cell(service).states) == ("closed", {})

    @pytest.mark.parametrize("override", ["force_open", {"mode": "force_open", "reason": "x"}])
    def test_override_in_force_is_shown(self, service: Service, override: Any) -> None:
        forced = breaker("closed", override=override)
        ingested(service, make.report(dependencies={"payments-api": forced}))

        assert cell(service).override == "force_open"

    def test_dependency_without_traffic_is_shown(self, service: Service) -> None:
        ingested(service, calling(calls=0, successes=0, latency={}, breaker=None))

        assert (cell(service).dependency, cell(service).calls) == ("payments-api", 0)

    def test_other_environments_stay_out(self, service: Service) -> None:
        ingested(service, calling())

        other = make.service()

        assert recent(other).cells() == {other.slug: []}


class TestRequests:
    def test_own_traffic(self, service: Service) -> None:
        own = {"count": 60, "4xx": 6, "5xx": 3, "latency": {"80": 60}}
        ingested(service, make.report(dependencies={}, requests=own))

        found = requests(service)

        assert found is not None
        assert found.per_second == 1.0
        assert found.error_rate == pytest.approx(0.05)
        assert found.p95 == pytest.approx(0.115, rel=0.05)

    def test_calls_of_dependencies_are_not_own_traffic(self, service: Service) -> None:
        ingested(service, calling())

        assert requests(service) is None


class TestCost:
    """As many queries for a large environment as for a small one."""

    def queries(self, service: Service) -> int:
        with CaptureQueriesContext(connection) as captured:
            selectors.counted(service.environment_id, seconds=60)
            selectors.breaker_states(service.environment_id)
            convergence(service.environment_id)
            selectors.instances_of(service.environment_id)
        return len(captured)

    def test_queries_do_not_grow(self, service: Service) -> None:
        ingested(service, calling())
        before = self.queries(service)
        for number in range(3):
            other = make.service(service.environment)
            ingested(
                other,
                *(
                    make.report(dependencies={f"d-{number}-{n}": make.calls() for n in range(5)})
                    for _ in range(3)
                ),
            )

        assert self.queries(service) == before == 8
