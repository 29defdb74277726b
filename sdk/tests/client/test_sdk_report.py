"""Reports: counted once, never lost to a lost answer, prompt where it matters."""

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast._feed import Feed
from holdfast._pace import Pace
from holdfast._report import Reporter, Requests
from holdfast._resources import Resources
from holdfast._settings import Timing
from holdfast._transport import Transport
from holdfast.histogram import index_of
from sdk.tests.client.server import Fault, PolicyServer
from sdk.tests.client.world import (
    EPOCH,
    SERVER_TIME,
    FakeClock,
    RecordingEngine,
    document,
    encode,
    flag,
    identity,
    received,
    settings,
)

REPORT_SECONDS = 10.0


class World:
    def __init__(self, server: PolicyServer) -> None:
        self.server = server
        self.clock = FakeClock()
        self.engine = RecordingEngine()
        self.requests = Requests()
        timing = Timing(jitter=0.0, request_seconds=2.0, close_seconds=2.0)
        self.feed = Feed(self.engine, self.clock, lambda: None)
        self.transport = Transport(settings(server.url), "i", self.clock, timing)
        self.pace = Pace.before_contact(timing)
        self.reporter = Reporter(
            identity(),
            self.engine,
            self.requests,
            Resources(self.clock),
            self.feed,
            self.transport,
            self.pace,
            self.clock,
            timing,
        )

    def wait_and_step(self, seconds: float) -> float:
        self.clock.advance(seconds)
        return self.reporter.step()

    def report(self) -> dict[str, Any]:
        """Wait for the next report; its body."""
        self.wait_and_step(REPORT_SECONDS)
        return self.server.reports[-1]

    def apply(self, body: dict[str, Any]) -> None:
        self.feed.offer(
            encode(body), etag=None, asked_at=self.clock.now, received=received(self.clock)
        )

    def sequences(self) -> list[int]:
        return [report["sequence"] for report in self.server.reports]


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(1))
        yield server


@pytest.fixture
def world(server: PolicyServer) -> Iterator[World]:
    world = World(server)
    yield world
    world.transport.close()


class TestContent:
    def test_it_says_who_runs_which_revision(self, world: World) -> None:
        world.apply(document(812))

        report = world.report()

        assert report["service"] == "checkout"
        assert report["instance"] == identity().instance
        assert report["sequence"] == 1
        assert report["window_seconds"] == REPORT_SECONDS
        assert (report["epoch"], report["applied_revision"]) == (EPOCH, 812)
        assert report["applied_at"] == "2027-01-15T08:00:00.000Z"
        assert "stopping" not in report

    def test_without_a_policy_it_says_so(self, world: World) -> None:
        report = world.report()

        assert (report["epoch"], report["applied_revision"], report["applied_at"]) == (
            None,
            None,
            None,
        )

    def test_it_says_what_was_refused_and_why(self, world: World) -> None:
        world.apply(document(5, flags={"a": flag() | {"kind": "unheard_of"}}))

        refusal = world.report()["refused"][0]

        assert (refusal["path"], refusal["revision"]) == ("flags.a.kind", 5)
        assert refusal["code"]
        assert refusal["detail"]

    def test_counts_of_the_engine_go_out_once(self, world: World) -> None:
        world.engine.collected = {"dependencies": {"db": {"calls": 3}}, "events": [{"type": "x"}]}

        first, second = world.report(), world.report()

        assert (first["dependencies"], first["events"]) == ({"db": {"calls": 3}}, [{"type": "x"}])
        assert (second["dependencies"], second["events"]) == ({}, [])

    def test_more_events_than_fit_follow_in_the_next_reports_without_delay(
        self, world: World
    ) -> None:
        events = [{"number": number} for number in range(450)]
        world.engine.collected = {"dependencies": {}, "events": events}

        world.wait_and_step(REPORT_SECONDS)
        world.wait_and_step(1.0)
        world.wait_and_step(1.0)

        assert [len(report["events"]) for report in world.server.reports] == [200, 200, 50]
        assert [one for report in world.server.reports for one in report["events"]] == events

    @pytest.mark.parametrize(
        ("member", "bulk"),
        [
            ("events", {"dependencies": {}, "events": [{"text": "x" * 20_000}] * 100}),
            ("dependencies", {"dependencies": {"d" * 200 + str(n): {} for n in range(9_000)}}),
        ],
        ids=["events", "dependencies"],
    )
    def test_a_report_too_large_for_the_server_still_acknowledges(
        self, world: World, member: str, bulk: dict[str, Any]
    ) -> None:
        world.apply(document(7))
        world.engine.collected = {"events": []} | bulk

        report = world.report()

        assert report["applied_revision"] == 7
        assert not report[member]

    def test_refusals_are_bounded(self, world: World) -> None:
        broken = {f"flag-{number}": flag() | {"kind": "unheard_of"} for number in range(500)}
        world.apply(document(7, flags=broken))

        assert len(world.report()["refused"]) == 50

    def test_a_services_own_requests_are_counted(self, world: World) -> None:
        for status, seconds in [(200, 0.01), (404, 0.01), (503, 2.0)]:
            world.requests.count(status, seconds)

        assert world.report()["requests"] == {
            "count": 3,
            "4xx": 1,
            "5xx": 1,
            "latency": {str(index_of(0.01)): 2, str(index_of(2.0)): 1},
        }
        assert "requests" not in world.report()

    def test_the_resources_of_its_host_are_told(self, world: World) -> None:
        resources = world.report()["resources"]

        assert {"memory", "memory_host", "disk_free"} <= resources.keys()
        assert all(0 <= share <= 1 for share in resources.values())


class TestDelivery:
    def test_sequences_count_from_one(self, world: World) -> None:
        for _ in range(3):
            world.report()

        assert world.sequences() == [1, 2, 3]

    @pytest.mark.parametrize(
        "fault",
        [Fault("status", 500), Fault("status", 429), Fault("status", 503), Fault("drop")],
        ids=["500", "429", "503", "lost"],
    )
    def test_a_lost_answer_repeats_the_same_report_under_the_same_number(
        self, world: World, fault: Fault
    ) -> None:
        world.server.report_faults = [fault] * 2
        world.engine.collected = {"dependencies": {"db": {"calls": 3}}, "events": []}
        world.report()
        world.engine.collected = {"dependencies": {"db": {"calls": 5}}, "events": []}

        world.wait_and_step(60.0)
        world.wait_and_step(60.0)
        world.report()

        reports = world.server.reports
        assert reports[0] == reports[1] == reports[2]
        assert [report["sequence"] for report in reports] == [1, 1, 1, 2]
        assert reports[3]["dependencies"] == {"db": {"calls": 5}}

    @pytest.mark.parametrize("status", [400, 413])
    def test_a_report_refused_for_good_is_dropped(self, world: World, status: int) -> None:
        world.server.report_faults = [Fault("status", status)]
        world.report()

        world.report()

        assert world.sequences() == [1, 2]
        assert world.reporter.dropped == 1

    def test_after_a_refusal_a_bare_report_acknowledges_at_once_and_loses_no_count(
        self, world: World
    ) -> None:
        world.server.report_faults = [Fault("status", 400)]
        world.report()
        world.apply(document(7))
        world.engine.collected = {"dependencies": {"db": {"calls": 3}}, "events": [{"type": "x"}]}

        world.wait_and_step(1.0)
        world.report()

        bare, full = world.server.reports[-2:]
        assert (bare["applied_revision"], bare["dependencies"], bare["events"]) == (7, {}, [])
        assert (full["dependencies"], full["events"]) == ({"db": {"calls": 3}}, [{"type": "x"}])
        assert full["window_seconds"] == 11.0

    def test_a_service_whose_reports_are_all_refused_still_acknowledges(self, world: World) -> None:
        world.server.report_faults = [Fault("status", 400), None] * 5
        for _ in range(10):
            world.report()

        assert (world.reporter.accepted, world.reporter.dropped) == (5, 5)
        assert world.reporter.trouble == "400, dropped"

    def test_what_was_refused_is_told_with_the_servers_reason(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        problem = {"detail": "Not what the contract says.", "errors": {"events[0].data": ["Big."]}}
        world.server.report_faults = [Fault("status", 400, {}, encode(problem))]

        world.report()

        assert world.reporter.last_dropped == {
            "at": "2027-01-15T08:00:10.000Z",
            "status": 400,
            "why": "Not what the contract says. Big.",
        }
        assert "400, dropped: Not what the contract says. Big." in caplog.text

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refused_key_keeps_the_report_for_a_minute(self, world: World, status: int) -> None:
        world.server.report_faults = [Fault("status", status)]

        assert world.wait_and_step(REPORT_SECONDS) == 60.0
        world.wait_and_step(60.0)

        assert world.sequences() == [1, 1]
        assert world.reporter.accepted == 1

    def test_retry_after_is_respected(self, world: World) -> None:
        world.server.report_faults = [Fault("status", 429, {"Retry-After": "20"})]

        assert 20.0 < world.wait_and_step(REPORT_SECONDS) <= 21.0

    def test_events_are_bounded_while_nothing_can_be_delivered(self, world: World) -> None:
        world.server.report_faults = [Fault("status", 400)]
        world.engine.collected = {"dependencies": {}, "events": [{"n": n} for n in range(5_000)]}

        world.report()

        assert len(world.reporter._events) <= 1_000

    def test_the_server_sets_the_pace(self, world: World) -> None:
        world.server.report_answer = {"report_seconds": 42}

        assert world.wait_and_step(REPORT_SECONDS) == 42.0

    @pytest.mark.parametrize("answer", [{"report_seconds": -1}, {"report_seconds": "x"}, {}])
    def test_a_nonsense_pace_is_ignored(self, world: World, answer: dict[str, Any]) -> None:
        world.server.report_answer = answer

        assert world.wait_and_step(REPORT_SECONDS) == REPORT_SECONDS


class TestAcknowledgement:
    def test_news_is_reported_within_half_a_second(self, world: World) -> None:
        world.reporter.step()

        world.reporter.acknowledge()

        assert world.reporter.step() <= 0.5
        world.wait_and_step(0.5)
        assert len(world.server.reports) == 1

    def test_acknowledgements_of_a_fleet_are_spread(self, world: World) -> None:
        waits = set()

        for _ in range(20):
            world.reporter._due_at = float("inf")
            world.reporter.acknowledge()
            waits.add(round(world.reporter.step(), 3))

        assert len(waits) > 10

    def test_a_burst_of_news_is_one_report_a_second(self, world: World) -> None:
        world.reporter.acknowledge()
        world.reporter.step()
        world.wait_and_step(0.5)

        for _ in range(50):
            world.reporter.acknowledge()
            world.wait_and_step(0.019)

        assert len(world.server.reports) == 1
        world.wait_and_step(0.6)
        assert len(world.server.reports) == 2

    def test_news_during_an_outage_does_not_hurry_the_retry(self, world: World) -> None:
        world.server.report_faults = [Fault("status", 503, {"Retry-After": "30"})]
        world.report()

        world.reporter.acknowledge()

        assert world.reporter.step() > 29.0

    def test_news_during_an_outage_is_reported_once_it_is_over(self, world: World) -> None:
        world.server.report_faults = [Fault("status", 503)]
        world.report()
        world.reporter.acknowledge()

        assert world.wait_and_step(30.0) <= 1.0


class TestFinish:
    def test_the_last_report_says_that_the_instance_stops(self, world: World) -> None:
        world.report()

        world.reporter.finish()

        assert world.server.reports[-1]["stopping"] is True
        assert world.sequences() == [1, 2]

    def test_a_report_still_waiting_goes_first(self, world: World) -> None:
        world.server.report_faults = [Fault("status", 503)]
        world.report()

        world.reporter.finish()

        assert [report.get("stopping") for report in world.server.reports] == [None, None, True]
        assert world.sequences() == [1, 1, 2]

    def test_a_dead_server_does_not_hold_the_end(self, world: World) -> None:
        world.server.kill()

        world.reporter.finish()

        assert world.reporter.trouble == "ConnectError"


def test_timestamps_are_utc(world: World) -> None:
    world.clock.wall_now = SERVER_TIME + 0.25
    world.apply(document(1))

    assert world.report()["applied_at"] == "2027-01-15T08:00:00.250Z"
