"""From what instances report to alerts: which rule sees what, once, and over restarts."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.alerts import selectors, services
from apps.alerts.models import Alert, Judge, Notification, Rule, Transition
from apps.alerts.rules.defaults import DEFAULTS
from apps.alerts.services import judges, judging
from apps.core import clock
from apps.core.errors import Conflict
from apps.fleet import services as fleet
from apps.fleet.models import Environment, Instance, Service
from apps.health.models import Check, Pulse
from apps.publication.models import Part
from apps.publication.services import Piece
from apps.telemetry.models import BreakerEvent
from tests import make
from tests.alerts.world import GRID, calling, check_of, count, errors, judge, states

pytestmark = pytest.mark.django_db


def open_breaker(**breaker: Any) -> dict[str, Any]:
    return {"payments-api": {"state": "open", "since": None, "generation": 1, "override": None}}


@pytest.fixture
def checkout() -> Service:
    return make.service(slug="checkout")


class TestDefaults:
    def test_every_new_environment_has_them(self) -> None:
        made = fleet.create_environment("staging", actor=make.actor())

        assert set(Rule.objects.filter(environment=made).values_list("key", flat=True)) == {
            *DEFAULTS
        }

    def test_an_environment_that_was_there_gets_them_when_it_is_judged(self) -> None:
        old = make.environment()

        judge(old)
        judge(old, clock.now() + GRID)

        assert Rule.objects.filter(environment=old).count() == len(DEFAULTS)

    def test_a_changed_one_can_be_brought_back(self) -> None:
        place = make.environment()
        services.ensure_defaults(place.pk)
        rule, by = Rule.objects.get(environment=place, key="latency-high"), make.actor(place)
        services.update_rule(rule.pk, version=1, changes={"threshold": 9.0}, actor=by)

        restored = services.restore_rule(rule.pk, version=2, actor=by)

        assert restored.threshold == DEFAULTS["latency-high"]["threshold"]

    def test_one_cannot_be_removed(self) -> None:
        place = make.environment()
        rule = make.alert_rule(place, "error-rate-high")

        with pytest.raises(Conflict):
            services.delete_rule(rule.pk, version=1, actor=make.actor(place))


class TestReadings:
    @pytest.mark.parametrize(
        ("key", "happen"),
        [
            ("bulkhead-full", lambda of: count(of, rejected_bulkhead=10)),
            (
                "retries-exhausted",
                lambda of: count(of, recoveries_attempted=12, recoveries_succeeded=2),
            ),
            ("breaker-open", lambda of: calling(of, breakers=open_breaker())),
            ("dead-letters-growing", lambda of: make.letters(of, *map(str, range(10)))),
            ("dead-letters-old", lambda of: make.letters(of)),  # it failed days ago
        ],
    )
    def test_what_is_counted_fires_at_once(
        self, checkout: Service, key: str, happen: Callable[[Service], Any]
    ) -> None:
        calling(checkout)
        happen(checkout)

        judge(checkout.environment)

        assert states(checkout.environment)[key] == "firing"

    @pytest.mark.parametrize(
        ("key", "resources"),
        [
            ("memory-high", {"memory_host": 0.86}),
            ("disk-low", {"disk_free": 0.09}),
            ("cpu-high", {"cpu": 0.91}),
        ],
    )
    def test_a_full_host_is_pending_first(
        self, checkout: Service, key: str, resources: dict[str, float]
    ) -> None:
        calling(checkout, resources=resources)

        judge(checkout.environment)

        assert states(checkout.environment) == {key: "pending"}
        assert Alert.objects.get().subject == "checkout on host-1"

    def test_who_does_not_run_what_was_published_is_alerted_after_a_while(
        self, checkout: Service
    ) -> None:
        calling(checkout)
        Instance.objects.update(started_at=clock.now() - timedelta(hours=1))
        revision = make.publish(checkout.environment, Piece(Part.FLAG, {}, name="read-only"))

        judge(checkout.environment, revision.at + timedelta(seconds=14))
        early = states(checkout.environment)
        Instance.objects.update(silent_at=revision.at + timedelta(seconds=31))
        judge(checkout.environment, revision.at + timedelta(seconds=31))

        assert early == {}
        assert states(checkout.environment) == {"not-converged": "firing"}
        assert Alert.objects.get().subject == "checkout"

    @pytest.mark.parametrize(
        ("kind", "key"),
        [
            ("postgresql", "database-down"),
            ("redis", "redis-down"),
            ("http", "service-unavailable"),
            ("celery", "service-unavailable"),
        ],
    )
    def test_a_check_that_is_down_fires(self, kind: str, key: str) -> None:
        place = make.environment()
        check = check_of(place, kind, status="down", observed_at=clock.now())

        judge(place)

        assert states(place) == {key: "firing"}
        assert Alert.objects.get().check_name == check.name

    def test_a_check_nobody_runs_any_more_has_no_data(self) -> None:
        place = make.environment()
        check_of(place, "redis", status="down", observed_at=clock.now())
        judge(place)
        Check.objects.update(status="unknown")

        judge(place, clock.now() + GRID)

        assert states(place) == {"redis-down": "no_data"}

    def test_a_new_check_says_nothing(self) -> None:
        place = make.environment()
        check_of(place, "redis")

        judge(place)

        assert states(place) == {}

    def test_holdfasts_own_host_is_judged(self) -> None:
        place, now = make.environment(), clock.now()
        figures: dict[str, float | None] = {"cpu": 0.1, "memory": 0.99, "disk_free": 0.5}
        figures |= {"load": 1.0, "received": None, "sent": None}
        Pulse.objects.create(name="host box-1", at=now, data=figures)

        judge(place)

        assert states(place) == {"memory-high": "pending"}
        assert Alert.objects.get().subject == "Holdfast on box-1"

    def test_own_requests_are_judged_too(self, checkout: Service) -> None:
        calling(checkout)
        count(checkout, "", calls=40, server_errors=4)

        judge(checkout.environment)

        assert Alert.objects.get().subject == "checkout"

    def test_slow_calls_are_pending_with_their_p95(self, checkout: Service) -> None:
        calling(checkout)
        count(checkout, calls=40, successes=40, latency={"110": 40})

        judge(checkout.environment)

        alert = Alert.objects.get()
        assert (alert.key, alert.state, alert.unit, alert.samples) == (
            *("latency-high", "pending", "s", 40),
        )
        assert alert.value
        assert alert.value > 1

    def test_a_breaker_that_opened_and_closed_between_two_looks_is_seen(
        self, checkout: Service
    ) -> None:
        state = calling(checkout)
        now = clock.now()
        BreakerEvent.objects.create(
            service=checkout,
            dependency="payments-api",
            instance_id=state.pk,
            type="breaker.state_changed",
            from_state="closed",
            to_state="open",
            at=now,
            received_at=now,
        )

        judge(checkout.environment)

        assert states(checkout.environment) == {"breaker-open": "firing"}

    def test_an_open_breaker_is_over_when_its_process_says_goodbye_and_not_when_it_is_silent(
        self, checkout: Service
    ) -> None:
        opened = {"payments-api": {"state": "open"}}
        state = calling(checkout, breakers=opened)
        judge(checkout.environment)
        later = clock.now() + timedelta(minutes=3)

        Instance.objects.update(heard_at=clock.now(), silent_at=clock.now() + timedelta(minutes=1))
        judge(checkout.environment, later)
        assert states(checkout.environment)["breaker-open"] == "firing"

        Instance.objects.filter(pk=state.instance_id).update(stopping=True)
        judge(checkout.environment, later + timedelta(seconds=5))
        judge(checkout.environment, later + timedelta(seconds=70))
        assert states(checkout.environment)["breaker-open"] == "resolved"

    def test_a_rule_about_another_service_sees_nothing(self, checkout: Service) -> None:
        other = make.service(checkout.environment)
        make.alert_rule(checkout.environment, "mine", service=other)
        calling(checkout)
        errors(checkout)

        judge(checkout.environment)

        assert "mine" not in states(checkout.environment)

    def test_the_number_of_queries_does_not_grow_with_services_and_rules(
        self, checkout: Service
    ) -> None:
        place = checkout.environment
        judge(place)
        few = _queries(place, clock.now() + GRID)
        for _ in range(5):
            more = make.service(place)
            calling(more)
            count(more, calls=40, successes=40)
            make.alert_rule(place)

        many = _queries(place, clock.now() + GRID + GRID)

        assert many <= few + 2


def _queries(place: Environment, now: datetime) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        judge(place, now)
    return len(queries)


class TestTransitions:
    def test_trouble_fires_after_its_time_and_resolves_with_a_timeline(
        self, checkout: Service
    ) -> None:
        place, begin = checkout.environment, clock.now()
        make.alert_rule(place, "mine", for_seconds=60)
        make.channel(place)
        calling(checkout)
        for seconds in (0, 30, 60):
            with clock.use(lambda at=begin + timedelta(seconds=seconds): at):  # type: ignore[misc]  # bound early
                errors(checkout)
            judge(place, begin + timedelta(seconds=seconds))
        with clock.use(lambda: begin + timedelta(seconds=150)):
            count(checkout, calls=90, successes=90)
        judge(place, begin + timedelta(seconds=150))

        alert = Alert.objects.get(key="mine")
        timeline = list(alert.transitions.values_list("from_state", "to_state"))
        assert timeline == [("", "pending"), ("pending", "firing"), ("firing", "resolved")]
        told = Notification.objects.filter(transition__alert=alert).order_by("pk")
        assert [row.document["status"] for row in told] == ["firing", "resolved"]

    def test_a_pending_alert_that_was_nothing_is_forgotten(self, checkout: Service) -> None:
        place, begin = checkout.environment, clock.now()
        make.alert_rule(place, "mine", for_seconds=60, no_data="ok")
        calling(checkout)
        errors(checkout)
        judge(place, begin)

        judge(place, begin + timedelta(seconds=90))

        assert not Alert.objects.filter(key="mine").exists()

    def test_too_few_calls_leave_a_firing_alert_firing(self, checkout: Service) -> None:
        """An open breaker lets hardly any call through: the rate is not fine for that."""
        place, begin = checkout.environment, clock.now()
        make.alert_rule(place, "mine", min_samples=20)
        calling(checkout)
        errors(checkout)
        judge(place, begin)

        judge(place, begin + timedelta(seconds=90))

        assert states(place)["mine"] == "firing"

    def test_a_disabled_rule_resolves_its_alerts(self, checkout: Service) -> None:
        place = checkout.environment
        rule = make.alert_rule(place, enabled=False)
        alert = make.alert(rule)

        judge(place)

        alert.refresh_from_db()
        assert (alert.state, alert.resolution) == ("resolved", "The rule was disabled.")

    def test_a_service_nobody_heard_of_for_a_day_is_let_go(self) -> None:
        place = make.environment()
        alert = make.alert(make.alert_rule(place))

        judge(place)

        alert.refresh_from_db()
        assert alert.state == "resolved"
        assert "a day" in alert.resolution

    def test_a_removed_rule_leaves_its_history(self) -> None:
        rule = make.alert_rule()
        alert = make.alert(rule)

        services.delete_rule(rule.pk, version=1, actor=make.actor(rule.environment))

        alert.refresh_from_db()
        assert (alert.state, alert.rule_id, alert.key) == ("resolved", None, rule.key)


class TestLease:
    def test_one_process_judges_at_a_time(self, checkout: Service) -> None:
        place = checkout.environment
        judge(place)
        now = clock.now() + GRID
        Judge.objects.update(leased_until=now + GRID, holder=uuid.uuid4())

        is_done = judge(place, now)

        assert not is_done

    def test_the_lease_of_a_killed_process_ends(self, checkout: Service) -> None:
        place = checkout.environment
        judge(place)
        now = clock.now() + GRID
        Judge.objects.update(leased_until=now, holder=uuid.uuid4())

        assert judge(place, now)
        assert Judge.objects.get().evaluated_at == now

    def test_what_another_process_did_meanwhile_is_done(self, checkout: Service) -> None:
        place, now = checkout.environment, clock.now()
        judge(place, now)

        with CaptureQueriesContext(connection) as queries:
            is_done = judges.evaluate(place.pk, since=now, holder=uuid.uuid4(), grid=GRID)

        assert is_done
        assert len(queries) == 1

    def test_points_of_the_grid_that_were_passed_over_are_counted(self, checkout: Service) -> None:
        place = checkout.environment
        start = datetime(2026, 11, 22, 12, tzinfo=clock.now().tzinfo)
        judge(place, start)

        judge(place, start + timedelta(seconds=16))

        row = Judge.objects.get()
        assert (row.missed, row.lag_seconds) == (2, 1.0)


@pytest.mark.django_db(transaction=True)
class TestTwoAtOnce:
    def test_of_two_evaluators_one_makes_each_transition(self) -> None:
        checkout = make.service(slug="checkout")
        place = checkout.environment
        services.ensure_defaults(place.pk)
        make.channel(place)
        calling(checkout, breakers=open_breaker())
        barrier = Barrier(2)

        def race(_number: int) -> int:
            barrier.wait()
            try:
                return judging.judge(place.pk, seen_at=None)
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            changed = list(pool.map(race, range(2)))

        assert sum(changed) == 1
        assert (Alert.objects.count(), Transition.objects.count()) == (1, 1)
        assert Notification.objects.count() == 1

    def test_of_two_that_resolve_one_tells(self) -> None:
        rule = make.alert_rule()
        make.channel(rule.environment)
        alert = make.alert(rule)
        copies = [Alert.objects.select_related("environment", "rule").get() for _ in range(2)]
        barrier = Barrier(2)

        def race(copy: Alert) -> bool:
            barrier.wait()
            try:
                return judging.close(copy, "over")
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            moved = list(pool.map(race, copies))

        assert sorted(moved) == [False, True]
        assert alert.transitions.count() == 1


class TestFiring:
    def test_the_worst_come_first_in_two_queries(self) -> None:
        place = make.environment()
        make.alert(make.alert_rule(place, severity="warning"))
        make.alert(make.alert_rule(place, severity="critical"))
        make.silence(place, severity="warning")

        with CaptureQueriesContext(connection) as queries:
            found = selectors.firing(place.pk)

        assert [(one.severity, one.is_silenced) for one in found] == [
            ("critical", False),
            ("warning", True),
        ]
        assert len(queries) == 2
