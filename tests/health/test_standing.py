"""What holds a status against results: flapping, parents, and a prober that is cut off."""

import socket
import threading
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from apps.alerts.selectors.readings import Sources, readings
from apps.core import clock
from apps.fleet.models import Environment
from apps.health import rules, services
from apps.health.lookout import Lookout
from apps.health.models import Check
from apps.health.prober import Prober
from apps.health.probes.outcomes import Outcome, failed, fine
from apps.health.rules import Verdict, standing
from apps.health.rules.standing import Above, Doubt
from apps.health.runner import Runner
from apps.health.selectors import cut_off, states
from tests import make

DOWN = Verdict(rules.DOWN, "fff", is_confirmed=True)


class TestFlapping:
    @pytest.mark.parametrize(
        ("marks", "share"),
        [
            ("o" * 21, 0.0),
            ("of" * 10, 0.0),  # 20 are too few
            ("of" * 10 + "o", 99.0),  # 0.80 + 0.82 + … + 1.18 of 20
            ("o" * 20 + "f", 5.9),
            ("o" + "f" * 20, 4.0),
            ("f" * 10 + "o" * 11, 4.9),
            ("o" * 17 + "fofo", 23.0),
            ("fofo" + "o" * 17, 12.3),
            ("s" * 10 + "o" * 11, 4.9),  # impaired is another result than fine
            ("f" * 30 + "o" * 21, 0.0),  # the newest 21 count
        ],
    )
    def test_newer_changes_weigh_more(self, marks: str, share: float) -> None:
        assert standing.flapping(marks) == pytest.approx(share)

    def test_it_starts_at_a_fifth_and_stops_at_a_twentieth(self) -> None:
        between = "fofo" + "o" * 17

        assert [standing.is_flapping(before, between) for before in (False, True)] == [False, True]
        assert standing.is_flapping(False, "o" * 17 + "fofo")
        assert not standing.is_flapping(True, "f" * 10 + "o" * 11)


class TestDoubts:
    @pytest.mark.parametrize(
        ("before", "doubt", "status"),
        [
            ("up", Doubt(), "down"),
            ("up", Doubt(is_flapping=True), "up"),
            ("unknown", Doubt(is_flapping=True), "down"),  # nothing to hold
            ("up", Doubt(above=[Above("db", "down", has_failed=True)]), "unknown"),
            ("down", Doubt(above=[Above("db", "down", has_failed=True)]), "down"),  # was before it
            ("up", Doubt(above=[Above("db", "up", has_failed=True)]), "up"),  # not sure yet
            ("up", Doubt(above=[Above("db", "up", has_failed=False)]), "down"),
            (
                "up",
                Doubt(above=[Above("db", "unknown", True), Above("net", "down", True)]),
                "unknown",
            ),
            ("degraded", Doubt(is_cut_off=True), "degraded"),
            ("down", Doubt(is_cut_off=True), "down"),
        ],
    )
    def test_what_was_not_down_does_not_become_it(
        self, before: str, doubt: Doubt, status: str
    ) -> None:
        assert standing.held(before, DOWN, rules.FAILED, doubt).status == status

    @pytest.mark.parametrize(
        ("failing", "places", "is_cut_off"),
        [(4, 4, False), (5, 5, True), (4, 5, True), (3, 5, False), (8, 10, True), (7, 10, False)],
    )
    def test_four_fifths_of_at_least_five_places(
        self, failing: int, places: int, is_cut_off: bool
    ) -> None:
        assert standing.is_cut_off(failing, places) == is_cut_off


@pytest.fixture
def place() -> Environment:
    return make.environment()


def run(check: Check, *outcomes: Outcome, lookout: Lookout | None = None) -> Check:
    for outcome in outcomes:
        check.refresh_from_db()
        claimed = services.runs.claim(check)
        assert claimed is not None
        services.record_all([(claimed, outcome)], lookout or Lookout())
    check.refresh_from_db()
    return check


BAD, GOOD = failed("connection refused"), fine(0.01)


@pytest.mark.django_db
class TestRuns:
    def test_while_it_flaps_its_status_is_held_and_the_share_told(self, place: Environment) -> None:
        check = run(make.check(place, failures_to_confirm=1, successes_to_recover=1), *[GOOD] * 17)

        run(check, BAD, GOOD, BAD)
        before = check.status
        run(check, GOOD, BAD)

        assert (before, check.is_flapping) == ("down", True)
        assert check.status == "down"  # as when it began to flap
        run(check, GOOD)
        assert check.status == "down"
        assert states(place.pk)[0].flapping_share == pytest.approx(check.flapping_share)
        rule = make.alert_rule(place, kind="check_flapping", threshold=1)
        assert [each.value for each in readings(rule, Sources(place.pk)).values()] == [1]
        run(check, *[GOOD] * 21)
        assert (check.status, check.is_flapping) == ("up", False)
        assert [each.value for each in readings(rule, Sources(place.pk)).values()] == [0]

    def test_under_a_parent_that_is_down_it_is_unknown_and_nothing_to_alert_of(
        self, place: Environment
    ) -> None:
        parent = run(make.check(place, name="network"), GOOD)
        child = run(make.check(place, name="shop", parent=parent), GOOD)
        run(parent, BAD, BAD, BAD)

        run(child, BAD, BAD, BAD)

        assert (child.status, child.because_of) == ("unknown", "network")
        assert child.detail == "because of network: connection refused"
        rule = make.alert_rule(place, kind="check_down", threshold=1)
        measured = readings(rule, Sources(place.pk))
        assert {each.check: found.value for each, found in measured.items()} == {"network": 1}
        run(parent, GOOD, GOOD)
        run(child, BAD)
        assert (child.status, child.because_of) == ("down", "")  # it has a fault of its own
        run(child, GOOD, GOOD)
        assert child.status == "up"

    def test_a_child_asked_first_has_its_parent_asked_before_it_is_down(
        self, place: Environment
    ) -> None:
        parent = run(make.check(place, interval_seconds=3600), GOOD)
        child = run(make.check(place, parent=parent), GOOD)
        Check.objects.filter(pk=parent.pk).update(observed_at=clock.now() - timedelta(seconds=60))

        run(child, BAD)

        parent.refresh_from_db()
        assert parent.next_at is not None
        assert parent.next_at <= clock.now()
        run(parent, BAD)
        assert run(child, BAD, BAD, BAD).status == "up"  # until the parent is sure


def rounds(runner: Runner, number: int) -> None:
    """Run every check so often, without waiting for when it is due."""
    ended = threading.Event()
    runner.wake = ended.set
    for _number in range(number):
        Check.objects.update(next_at=clock.now())
        runner.begin()
        while runner.under_way:
            ended.wait(1)
            ended.clear()
            runner.finish()


class Time:
    """A monotonic clock that is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.django_db
class TestCutOff:
    def test_when_everything_fails_at_once_nothing_turns_down_and_it_ends_by_itself(
        self, place: Environment
    ) -> None:
        time = Time()
        lookout = Lookout(time)
        checks = [
            run(make.check(place, address=f"tcp://127.0.0.{number}:9"), GOOD, lookout=lookout)
            for number in range(1, 7)
        ]
        for _round in range(4):
            time.now += 5
            for check in checks:
                run(check, BAD, lookout=lookout)
        held = {check.status for check in checks}
        was_cut_off = lookout.is_cut_off
        for check in checks:
            run(check, GOOD, lookout=lookout)

        assert (held, was_cut_off) == ({"up"}, True)
        assert not lookout.is_cut_off
        assert run(checks[0], BAD, BAD, BAD, lookout=lookout).status == "down"

    def test_with_real_servers_that_all_go_away_at_once_and_come_back(
        self, place: Environment
    ) -> None:
        with ExitStack() as stack:
            ports = [
                stack.enter_context(socket.create_server((f"127.0.0.{number}", 0))).getsockname()
                for number in range(1, 8)
            ]
            for host, port in ports:
                make.check(place, address=f"tcp://{host}:{port}")
            runner = Runner(Prober())
            rounds(runner, 2)
        before = {*Check.objects.values_list("status", flat=True)}
        rounds(runner, 4)
        during = {*Check.objects.values_list("status", flat=True)}
        (told,) = cut_off()
        with ExitStack() as stack:
            for at in ports:
                stack.enter_context(socket.create_server(at))
            rounds(runner, 2)

        assert (before, during) == ({"up"}, {"up"})
        assert (told.failing, told.places) == (7, 7)
        assert cut_off() == []

    def test_five_checks_of_one_place_that_is_gone_are_down(self, place: Environment) -> None:
        lookout = Lookout(Time())
        checks = [make.check(place, address=f"tcp://127.0.0.9:{port}") for port in range(1, 7)]

        for _round in range(3):
            for check in checks:
                run(check, BAD, lookout=lookout)

        assert {check.status for check in checks} == {"down"}

    def test_a_process_says_so_in_health_and_in_the_console(self, place: Environment) -> None:
        make.instance(make.service(place))  # else the first page tells how to begin
        since = clock.now().isoformat()
        services.take_pulse("prober web-1:7", since=since, failing=6, places=7)

        told = make.client(place).get("/api/v1/health/detailed").json()["checks"]
        shown = make.browser().get(f"/admin/?environment={place.slug}").content.decode()

        assert told["prober web-1:7:sight"][0]["status"] == "warn"
        assert "6 of 7 unrelated places" in told["prober web-1:7:sight"][0]["output"]
        assert "Prober web-1:7 is cut off" in shown
        services.end_pulse("prober web-1:7")
        assert cut_off() == []


@pytest.mark.django_db
class TestParents:
    @pytest.fixture
    def chain(self, place: Environment) -> list[Check]:
        """Four, each the parent of the next."""
        made: list[Check] = []
        for name in ("a", "b", "c", "d"):
            parent = made[-1] if made else None
            made.append(make.check(place, name=name, parent=parent))
        return made

    def patch(self, check: Check, **changes: Any) -> Any:
        client = make.client(check.environment)
        headers = {"If-Match": f'"{check.version}"'}
        address = f"/api/v1/checks/{check.pk}"
        return client.patch(address, changes, headers=headers)

    def test_it_is_told_by_name(self, chain: list[Check]) -> None:
        answer = self.patch(chain[3], parent="a")

        assert (answer.status_code, answer.json()["parent"]) == (200, "a")

    @pytest.mark.parametrize(
        ("number", "parent", "said"),
        [
            (0, "a", "its own parent"),
            (0, "d", "in a circle"),
            (0, "nobody", "no such check"),
        ],
    )
    def test_circles_and_strangers_are_refused(
        self, chain: list[Check], number: int, parent: str, said: str
    ) -> None:
        answer = self.patch(chain[number], parent=parent)

        assert answer.status_code == 400
        assert said in answer.json()["errors"]["parent"][0]

    def test_chains_do_not_grow_beyond_three_from_below_or_above(self, chain: list[Check]) -> None:
        above, below = make.check(chain[0].environment), make.check(chain[0].environment)

        answers = [self.patch(chain[0], parent=above.name), self.patch(below, parent="d")]

        assert [each.status_code for each in answers] == [400, 400]

    def test_another_environments_is_not_there(self, chain: list[Check]) -> None:
        elsewhere = make.check(name="elsewhere")

        assert self.patch(elsewhere, parent="a").status_code == 400

    def test_a_parent_that_is_deleted_leaves_its_children(self, chain: list[Check]) -> None:
        services.delete_check(chain[0].pk, version=None, actor=make.actor(chain[0].environment))

        assert Check.objects.get(name="b").parent is None
