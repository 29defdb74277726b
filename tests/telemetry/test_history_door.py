"""The history door: what it tells whom, and what it refuses."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.core import clock
from apps.fleet.models import Service
from apps.telemetry import services
from apps.telemetry.models import BreakerEvent, InstanceState, Window
from tests import make

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ADDRESS = "/api/v1/history"


@pytest.fixture
def service() -> Service:
    found = make.service(slug="checkout")
    make.dependency(found.environment, "payments-api")
    return found


def told(
    place: Service, *, after: float = 900, status: int = 200, by: Any = None, **query: Any
) -> dict[str, Any]:
    """The answer so many seconds after noon."""
    client = by or make.client(place.environment, scopes=["health:read"])
    with clock.use(lambda: NOON + timedelta(seconds=after)):
        response = client.get(ADDRESS, query)
    assert response.status_code == status, response.content
    body: dict[str, Any] = response.json()
    return body


def window(service: Service, **values: Any) -> None:
    given: dict[str, Any] = {"dependency": "payments-api", "boot": uuid4(), "span": 10}
    Window.objects.create(service=service, start=NOON, **given | values)


def moved(service: Service, seconds: float, before: str, after: str, *, instance: int = 1) -> None:
    at = NOON + timedelta(seconds=seconds)
    BreakerEvent.objects.create(
        service=service,
        dependency="payments-api",
        instance_id=UUID(int=instance),
        at=at,
        received_at=at,
        type="breaker.state_changed",
        from_state=before,
        to_state=after,
    )


class TestFigures:
    def test_every_share_has_its_n(self, service: Service) -> None:
        window(
            service, calls=12, successes=6, failures=2, cancelled=1, rejected_open=2, retries=3,
            rejected_bulkhead=1, fallbacks_cached=2, latency={"80": 8},
        )  # fmt: skip

        body = told(service, service="checkout", dependency="payments-api", after=60)

        first = {name: column[-6] for name, column in body["points"].items()}
        assert (body["step_seconds"], body["requests"]) == (30, None)
        assert body["total"]["calls"] == 12
        assert [body["total"][name] for name in ("error_rate", "judged")] == [0.25, 8]
        assert [body["total"][name] for name in ("availability", "wanted")] == [6 / 11, 11]
        assert (body["total"]["timed"], body["total"]["p95"] > 0) == (8, True)
        assert (first["calls"], body["points"]["rejected_bulkhead"][-2]) == (None, 1)
        assert body["points"]["per_second"][-2] == 12 / 30

    def test_too_few_say_nothing_but_their_number(self, service: Service) -> None:
        window(service, calls=4, successes=4, latency={"80": 4})

        total = told(service, service="checkout", dependency="payments-api")["total"]

        assert [total[name] for name in ("error_rate", "availability", "p50")] == [None] * 3
        assert [total[name] for name in ("judged", "wanted", "timed")] == [4, 4, 4]

    def test_errors_of_clients_and_of_the_server_are_apart(self, service: Service) -> None:
        window(service, dependency="", calls=10, client_errors=3, server_errors=1)

        total = told(service, service="checkout")["requests"]["total"]

        names = ("count", "client_error_rate", "server_error_rate", "availability")
        assert [total[name] for name in names] == [10, 0.3, 0.1, 0.9]

    def test_services_are_added_up_for_a_dependency_and_for_all(self, service: Service) -> None:
        for each in (service, make.service(service.environment, "search")):
            window(each, calls=3)
        with clock.use(lambda: NOON + timedelta(seconds=20)):
            services.sum_up()

        assert told(service, dependency="payments-api")["total"]["calls"] == 6
        assert told(service)["total"]["calls"] == 6
        assert told(service, service="search")["total"]["calls"] == 3

    def test_resources_of_its_instances_are_told(self, service: Service) -> None:
        with clock.use(lambda: NOON):
            one = make.instance(service)
        InstanceState.objects.create(instance=one, reported_at=NOON, resources={"cpu": 0.5})

        (instance,) = told(service, service="checkout")["instances"]

        assert (instance["id"], instance["resources"]) == (str(one.pk), {"cpu": 0.5})


class TestLanes:
    def lanes(self, service: Service, **query: Any) -> list[tuple[str, float, float, int]]:
        """(state, seconds after noon from, to, instances) of the only lane."""
        query = {"since": NOON.isoformat(), **query}
        lanes = told(service, service="checkout", **query)["lanes"]
        return [
            (each["state"], _after(each["start"]), _after(each["end"]), each["instances"])
            for lane in lanes
            for each in lane["intervals"]
        ]

    def test_worst_of_the_instances_at_every_instant(self, service: Service) -> None:
        moved(service, 10, "closed", "open")
        moved(service, 20, "closed", "open", instance=2)
        moved(service, 40, "open", "half_open")
        moved(service, 50, "open", "closed", instance=2)
        moved(service, 70, "half_open", "closed")

        assert self.lanes(service) == [("open", 10, 50, 2), ("half_open", 50, 70, 1)]

    def test_breaker_that_was_open_before_is_open_from_the_start(self, service: Service) -> None:
        moved(service, 60, "open", "closed")

        assert self.lanes(service) == [("open", 0, 60, 1)]

    def test_open_breaker_of_an_instance_that_is_gone_does_not_stay_open(
        self, service: Service
    ) -> None:
        moved(service, 10, "closed", "open")
        moved(service, 20, "open", "open")

        assert self.lanes(service) == [("open", 10, 20, 1)]

    def test_later_move_tells_of_a_time_without_any(self, service: Service) -> None:
        moved(service, -100, "closed", "open")
        moved(service, 600, "open", "closed")
        until = (NOON + timedelta(seconds=300)).isoformat()

        assert self.lanes(service, until=until) == [("open", 0, 300, 1)]

    def test_breaker_open_since_long_ago_is_open_now(self, service: Service) -> None:
        with clock.use(lambda: NOON + timedelta(seconds=899)):
            one = make.instance(service)
        breaker = {"state": "open", "since": "2026-11-20T00:00:00+00:00"}
        InstanceState.objects.create(
            instance=one, reported_at=NOON, breakers={"payments-api": breaker}
        )

        assert self.lanes(service) == [("open", 0, 900, 1)]


def _after(text: str) -> float:
    return (datetime.fromisoformat(text) - NOON).total_seconds()


@pytest.mark.one_database
class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "named"),
        [
            ({"span": "1h"}, "span"),
            ({"since": "yesterday"}, "since"),
            ({"since": "2026-11-22T12:15:00Z", "until": "2026-11-22T12:10:00Z"}, "since"),
            ({"since": "2027-01-01T00:00:00Z"}, "since"),
            ({"since": "2026-08-01T00:00:00Z"}, "since"),
            ({"until": "0001-01-01T00:00:00Z"}, "since"),
            ({"service": "\0"}, "service"),
        ],
    )
    def test_what_cannot_be_told_is_refused_by_name(
        self, service: Service, query: dict[str, Any], named: str
    ) -> None:
        assert named in told(service, status=400, **query)["errors"]

    @pytest.mark.parametrize("name", ["service", "dependency"])
    def test_what_is_elsewhere_is_not_there(self, service: Service, name: str) -> None:
        elsewhere = make.environment()
        make.service(elsewhere, "theirs")
        make.dependency(elsewhere, "theirs")

        query: dict[str, Any] = {name: "theirs"}
        told(service, status=404, **query)

    def test_token_of_a_service_is_told_of_that_service_only(self, service: Service) -> None:
        other = make.service(service.environment, "search")
        window(service, calls=3)
        window(other, calls=5)
        bound = make.client(of=service)

        told(service, by=bound, status=404, service="search")
        mine = told(service, by=bound, dependency="payments-api")
        assert mine["total"]["calls"] == 3

    def test_scope_is_needed(self, service: Service) -> None:
        told(service, by=make.client(service.environment, scopes=["config:read"]), status=403)


def test_length_of_the_span_costs_no_queries(
    service: Service, django_assert_max_num_queries: Any
) -> None:
    for span in (10, 60, 3600):
        window(service, span=span)
    client = make.client(service.environment)
    with django_assert_max_num_queries(24):
        told(service, by=client, service="checkout", since=(NOON - timedelta(days=89)).isoformat())
