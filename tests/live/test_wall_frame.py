"""What a whole frame holds, and what it costs to make one."""

import functools
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.fleet.models import Environment, Instance, Service, Usage
from apps.health.models import Check
from apps.live import events, scores, selectors
from apps.live.rules import trouble
from apps.live.trends import Trends
from apps.live.watch import Watch
from apps.telemetry.models import BreakerEvent, InstanceState, Window
from apps.telemetry.selectors import figures
from tests import make

pytestmark = pytest.mark.django_db
MOST_QUERIES = 38  # of a frame, whatever it shows


@pytest.fixture
def here() -> Environment:
    return make.environment("here")


def running(where: Environment, slug: str) -> Service:
    """A service with one live instance that calls payments-api, which is known."""
    service = make.service(where, slug)
    breaker = {"state": "closed", "since": None, "generation": 1, "override": None}
    InstanceState.objects.create(
        instance=make.instance(service),
        breakers={"payments-api": breaker},
        reported_at=clock.now(),
    )
    return service


def counted(of: Service, at: datetime, *, calls: int, failures: int = 0) -> None:
    start = at.replace(second=at.second - at.second % 10, microsecond=0)
    Window.objects.create(
        span=10,
        start=start,
        service=of,
        dependency="payments-api",
        boot="00000000-0000-0000-0000-000000000001",
        calls=calls,
        failures=failures,
    )


def moved(of: Service, state: str) -> None:
    now = clock.now()
    BreakerEvent.objects.create(
        service=of,
        dependency="payments-api",
        instance_id="00000000-0000-0000-0000-000000000002",
        type="breaker.state_changed",
        from_state="closed",
        to_state=state,
        at=now + timedelta(seconds=1),  # by its own clock, and after what was done in the test
        received_at=now,
    )


def tile_of(frame: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = frame["services"][0]["tiles"][0]
    return found


class TestContent:
    def test_a_tile_has_the_line_of_the_last_minutes(self, here: Environment) -> None:
        service = running(here, "checkout")
        counted(service, clock.now() - timedelta(seconds=60), calls=40, failures=10)
        counted(service, clock.now() - timedelta(seconds=700), calls=7)  # too old

        line = tile_of(selectors.picture(here.pk))["trend"]

        assert sum(line["calls"]) == 40
        assert sum(line["errors"]) == 10

    def test_a_tile_says_what_the_check_of_its_dependency_says(self, here: Environment) -> None:
        running(here, "checkout")
        dependency = make.dependency(here, "payments-api")
        check = make.check(here, dependency=dependency)
        Check.objects.filter(pk=check.pk).update(status="down", observed_at=clock.now())

        frame = selectors.picture(here.pk)

        assert tile_of(frame)["health"]["status"] == "down"
        assert frame["summary"]["unwell"] == 1

    def test_a_dependency_nobody_checks_has_no_mark(self, here: Environment) -> None:
        running(here, "checkout")

        assert tile_of(selectors.picture(here.pk))["health"] is None

    def test_letters_that_wait_stand_at_their_service_and_in_the_summary(
        self, here: Environment
    ) -> None:
        service = running(here, "checkout")
        make.letters(service)

        frame = selectors.picture(here.pk)

        assert frame["services"][0]["letters"] == 1
        assert frame["summary"]["letters"] == 1

    def test_a_service_has_its_health_score(self, here: Environment) -> None:
        counted(running(here, "checkout"), clock.now(), calls=90, failures=60)

        row = selectors.picture(here.pk)["services"][0]

        assert row["status"] in ("degraded", "unhealthy")
        assert row["score"] < 90

    def test_scores_are_made_anew_after_a_while_only(self, here: Environment) -> None:
        running(here, "checkout")
        kept = scores.Scores(here.pk)
        first = kept.read({})

        with CaptureQueriesContext(connection) as again:
            assert kept.read({"checkout": 5}) is first

        assert len(again) == 0

    def test_alerts_that_fire_are_counted_and_named(self, here: Environment) -> None:
        make.alert(make.alert_rule(here, "errors"), acknowledged_by="ana")
        make.alert(make.alert_rule(make.environment("elsewhere")))

        frame = selectors.picture(here.pk)

        assert frame["summary"]["firing"] == 1
        assert [(each["rule"], each["acknowledged_by"]) for each in frame["alerts"]] == [
            ("errors", "ana")
        ]

    def test_alerts_that_find_no_room_are_counted(self, here: Environment) -> None:
        for _number in range(trouble.MOST_ALERTS + 2):
            make.alert(make.alert_rule(here))

        frame = selectors.picture(here.pk)

        assert (len(frame["alerts"]), frame["more_alerts"]) == (trouble.MOST_ALERTS, 2)

    def test_breakers_that_moved_and_switches_are_told_newest_first(
        self, here: Environment
    ) -> None:
        service = running(here, "checkout")
        make.engaged(here, "read-only")
        moved(service, "open")
        moved(running(make.environment("elsewhere"), "theirs"), "open")

        told = selectors.picture(here.pk)["events"]

        assert [(each["kind"], each["what"]) for each in told] == [
            ("open", "checkout → payments-api"),
            ("engaged", "read-only"),
        ]
        assert told[1]["reason"] == "primary failing over"

    def test_what_happened_long_ago_is_not_told(self, here: Environment) -> None:
        moved(running(here, "checkout"), "open")
        later = clock.now() + timedelta(minutes=61)

        with clock.use(lambda: later):
            assert events.newest(here.pk) == []

    def test_breakers_that_go_up_and_down_do_not_push_switches_out(self, here: Environment) -> None:
        make.engaged(here, "read-only")
        for number in range(events.MOST + 3):
            moved(running(here, f"service-of-{number}"), "open")

        told = events.newest(here.pk)

        assert len(told) == events.MOST
        assert "engaged" in {each["kind"] for each in told}

    def test_the_strip_is_bounded(self, here: Environment) -> None:
        for number in range(15):
            moved(running(here, f"service-of-{number}"), "open")

        assert len(events.newest(here.pk)) == events.MOST

    def test_a_switch_names_the_row_whose_pages_end_it(self, here: Environment) -> None:
        flag = make.engaged(here, "read-only")

        assert selectors.picture(here.pk)["switches"][0]["id"] == flag.pk


class TestCost:
    def test_the_number_of_queries_is_bounded_and_does_not_grow(self, here: Environment) -> None:
        for number in range(3):
            service = running(here, f"service-of-{number}")
            counted(service, clock.now() - timedelta(seconds=60), calls=40)
            make.engaged(here, f"flag-of-{number}")
            make.letters(service)
            make.check(here, dependency=make.dependency(here))
            make.alert(make.alert_rule(here))
            moved(service, "open")

        with CaptureQueriesContext(connection) as queries:
            selectors.picture(here.pk)

        assert len(queries) <= MOST_QUERIES

    def test_lines_are_read_once_per_span(self, here: Environment) -> None:
        service = running(here, "checkout")
        now = clock.now().replace(second=5)
        counted(service, now - timedelta(seconds=60), calls=40)
        trends, names = Trends(here.pk), [("checkout", "payments-api")]

        with clock.use(lambda: now):
            first = dict(trends.read(names))
            with CaptureQueriesContext(connection) as again:
                assert trends.read(names) == first
        with (
            clock.use(lambda: now + timedelta(seconds=20)),
            CaptureQueriesContext(connection) as later,
        ):
            trends.read(names)

        assert len(again) == 0
        assert len(later) == 1

    def test_a_frame_is_json(self, here: Environment) -> None:
        counted(running(here, "checkout"), clock.now() - timedelta(seconds=60), calls=40)

        assert json.dumps(selectors.picture(here.pk))


def publish(here: Environment) -> None:
    make.publish(here, make.use("checkout", "payments-api"), make.setting("retry", {}))


def add_a_service(here: Environment) -> None:
    running(here, "ledger")


def remove_a_use(here: Environment) -> None:
    Usage.objects.all().delete()


def hear_of_a_breaker(_here: Environment) -> None:
    breaker = {"state": "open", "since": None, "generation": 2, "override": "disabled"}
    InstanceState.objects.update(sequence=F("sequence") + 1, breakers={"payments-api": breaker})


def say_goodbye(_here: Environment) -> None:
    Instance.objects.update(stopping=True)
    InstanceState.objects.update(sequence=F("sequence") + 1)


def lose_an_instance(_here: Environment) -> None:
    Instance.objects.all().delete()


def count_more(here: Environment) -> None:
    counted(Service.objects.get(environment=here), clock.now(), calls=90, failures=9)


@pytest.fixture
def read_whenever_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read anew only after a while, so that it costs a share of the time."""
    monkeypatch.setattr(figures, "REST", 0)
    monkeypatch.setattr(scores, "REST", 0)
    monkeypatch.setattr(scores, "KEPT_SECONDS", 0)


@pytest.mark.usefixtures("read_whenever_asked")
class TestWhatIsKept:
    """From one frame to the next; whoever begins anew sees the same."""

    @pytest.mark.parametrize(
        "change",
        [
            publish,
            add_a_service,
            remove_a_use,
            hear_of_a_breaker,
            say_goodbye,
            lose_an_instance,
            count_more,
        ],
    )
    def test_makes_no_difference(
        self,
        here: Environment,
        change: Callable[[Environment], None],
    ) -> None:
        service = running(here, "checkout")
        make.uses(service, make.dependency(here, "redis"))
        now = clock.now()
        counted(service, now - timedelta(seconds=40), calls=40)
        watch = Watch(here.pk)
        with clock.use(lambda: now):
            before = selectors.picture(here.pk, watch)
            change(here)

            after = selectors.picture(here.pk, watch)

            assert after == selectors.picture(here.pk)
        assert after != before

    def test_time_that_goes_by_makes_none_either(self, here: Environment) -> None:
        service = running(here, "checkout")
        counted(service, clock.now(), calls=40)
        watch = Watch(here.pk)
        now = clock.now()
        shown = []
        for seconds in (0, 11, 14, 16, 75):
            moment = now + timedelta(seconds=seconds)
            with clock.use(functools.partial(lambda at: at, moment)):
                shown.append(selectors.picture(here.pk, watch))
                assert shown[-1] == selectors.picture(here.pk)

        assert [row["old"] for each in shown for row in each["services"]] == [
            False, True, True, False, False,
        ]  # fmt: skip
        assert [each["summary"]["silent"] for each in shown] == [0, 0, 0, 1, 1]
