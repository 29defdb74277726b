"""Polling: its pace, and what every kind of failure does to it and to the policy."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from holdfast._feed import Feed
from holdfast._pace import Backoff, Pace, instant, retry_after, server_time_of
from holdfast._poll import Poller
from holdfast._settings import Timing
from holdfast._transport import Transport
from sdk.tests.client.server import Fault, PolicyServer
from sdk.tests.client.world import (
    OTHER_EPOCH,
    SERVER_TIME,
    FakeClock,
    RecordingEngine,
    document,
    encode,
    received,
    settings,
)

POLL_SECONDS = 10.0


class World:
    """A poller on a clock that only tests move, before a real server."""

    def __init__(self, server: PolicyServer) -> None:
        self.server = server
        self.clock = FakeClock()
        self.engine = RecordingEngine()
        timing = Timing(jitter=0.0, request_seconds=2.0)
        self.pace = Pace.before_contact(timing)
        self.feed = Feed(self.engine, self.clock, lambda: None)
        self.transport = Transport(settings(server.url), "i", self.clock, timing)
        self.recovered: list[bool] = []  # what was told of each attempt
        self.poller = Poller(
            self.transport,
            self.feed,
            self.pace,
            self.clock,
            timing,
            on_polled=self.recovered.append,
        )

    def wait_and_step(self, seconds: float) -> float:
        self.clock.advance(seconds)
        return self.poller.step()


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(1))
        server.hints = {
            "Holdfast-Poll-Seconds": str(POLL_SECONDS),
            "Holdfast-Report-Seconds": "5",
            "Holdfast-Jitter": "0",
        }
        yield server


@pytest.fixture
def world(server: PolicyServer) -> Iterator[World]:
    world = World(server)
    yield world
    world.transport.close()


class TestPace:
    def test_the_first_poll_is_at_once_and_the_next_at_the_servers_pace(self, world: World) -> None:
        assert world.poller.step() == POLL_SECONDS
        assert world.engine.revisions == [1]

    def test_waking_early_polls_nothing(self, world: World) -> None:
        world.poller.step()

        assert world.wait_and_step(4.0) == POLL_SECONDS - 4.0
        assert len(world.server.polls) == 1

    def test_an_unchanged_policy_costs_a_304(self, world: World) -> None:
        world.poller.step()

        world.wait_and_step(POLL_SECONDS)

        assert world.server.polls[1].headers["if-none-match"] == world.server.etag
        assert world.engine.revisions == [1]

    def test_a_healthy_stream_makes_polls_four_times_as_rare(self, world: World) -> None:
        world.poller.step()

        world.poller.is_streaming = True

        assert world.poller.step() == 4 * POLL_SECONDS

    def test_a_lost_stream_brings_the_usual_pace_back(self, world: World) -> None:
        world.poller.step()
        world.poller.is_streaming = True
        world.clock.advance(POLL_SECONDS)

        world.poller.is_streaming = False
        world.poller.step()

        assert len(world.server.polls) == 2

    def test_a_refetch_does_not_wait_for_the_pace(self, world: World) -> None:
        world.poller.step()
        world.server.publish(document(2))

        world.poller.refetch()
        world.poller.step()

        assert world.engine.revisions == [1, 2]

    def test_refetches_in_a_row_are_a_second_apart(self, world: World) -> None:
        world.poller.step()
        world.poller.refetch()
        world.poller.step()

        world.poller.refetch()

        assert world.poller.step() == 1.0

    def test_a_reply_of_an_epoch_already_left_is_verified_by_another_poll(
        self, world: World
    ) -> None:
        world.poller.step()
        overtaken = encode(document(8, epoch=OTHER_EPOCH))
        world.feed.offer(
            overtaken,
            etag=None,
            asked_at=world.clock.now,
            received=received(world.clock),
        )
        assert world.feed.applied is not None
        world.feed.applied = replace(world.feed.applied, adopted_at=world.clock.now + 60.0)

        wait = world.wait_and_step(POLL_SECONDS)

        assert (wait, world.engine.revisions) == (0.0, [1, 8])

    def test_the_next_event_is_staleness_when_that_comes_first(self, world: World) -> None:
        world.server.publish(document(1, stale_after=3))

        assert world.poller.step() == 3.0

    def test_jitter_spreads_the_polls_of_a_fleet(self, world: World) -> None:
        world.server.hints["Holdfast-Jitter"] = "0.2"

        waits = [world.wait_and_step(12.1) for _ in range(20)]

        assert all(8.0 <= wait <= 12.0 for wait in waits)
        assert len(set(waits)) > 10


class TestFailures:
    def test_that_the_server_answers_again_is_told_once(self, world: World) -> None:
        world.server.faults = [None, Fault("status", 500), Fault("drop")]

        for _attempt in range(5):
            world.wait_and_step(100.0)

        assert world.recovered == [False, False, False, True, False]

    @pytest.mark.parametrize(
        "fault",
        [
            Fault("status", 500),
            Fault("status", 503),
            Fault("garbage"),
            Fault("truncated_gzip"),
            Fault("truncated_body"),
            Fault("bomb"),
            Fault("drop"),
            Fault("redirect"),
            Fault("status", 429),
        ],
        ids=lambda fault: f"{fault.kind}-{fault.status}",
    )
    def test_ten_bad_answers_cost_neither_the_policy_nor_the_way_back(
        self, world: World, fault: Fault
    ) -> None:
        world.poller.step()
        world.server.publish(document(2))
        world.server.faults = [fault] * 10

        waits = [world.wait_and_step(60.0) for _ in range(10)]
        world.wait_and_step(60.0)

        assert world.engine.revisions == [1, 2]
        assert world.poller.trouble is None
        assert max(waits) <= 30.0

    def test_a_304_nobody_asked_for_is_no_policy(self, world: World) -> None:
        world.server.faults = [Fault("status", 304)]

        world.poller.step()

        assert world.poller.trouble == "304"
        assert not world.feed.settled.is_set()

    def test_failures_in_a_row_are_ever_further_apart(self, world: World) -> None:
        world.poller.step()
        world.server.faults = [Fault("status", 500)] * 6

        waits = [world.wait_and_step(60.0) for _ in range(6)]

        assert 0.2 <= waits[0] <= 1.0
        assert 6.0 <= waits[-1] <= 30.0

    def test_a_304_after_a_failure_clears_the_error(self, world: World) -> None:
        world.poller.step()
        world.server.faults = [Fault("status", 500)]
        world.wait_and_step(60.0)
        trouble = world.poller.trouble

        assert world.wait_and_step(60.0) == POLL_SECONDS

        assert (trouble, world.poller.trouble) == ("500", None)

    def test_retry_after_is_respected(self, world: World) -> None:
        world.server.faults = [Fault("status", 503, {"Retry-After": "20"})]

        assert 20.0 < world.poller.step() <= 21.0

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_a_refusal_keeps_the_policy_and_is_tried_again_in_a_minute(
        self, world: World, status: int
    ) -> None:
        world.poller.step()
        world.server.faults = [Fault("status", status)]

        wait = world.wait_and_step(POLL_SECONDS)

        assert wait == 60.0
        assert world.engine.revisions == [1]

    def test_a_mended_key_is_noticed_without_a_restart(self, world: World) -> None:
        world.server.token = "another"
        world.poller.step()
        world.server.token = world.transport._settings.token

        world.wait_and_step(60.0)

        assert world.engine.revisions == [1]
        assert world.poller.trouble is None

    def test_waiting_for_a_first_policy_ends_when_the_key_is_refused(self, world: World) -> None:
        world.server.token = "another"

        world.poller.step()

        assert world.feed.settled.is_set()

    def test_a_dead_server_makes_the_policy_stale_and_its_return_heals_it(
        self, world: World
    ) -> None:
        world.server.publish(document(1, stale_after=300))
        world.poller.step()
        world.server.faults = [Fault("status", 500)] * 2
        world.wait_and_step(200.0)
        world.wait_and_step(101.0)

        world.wait_and_step(60.0)

        assert world.engine.stale == [True, False]


class TestServerTime:
    def test_leases_are_counted_from_the_servers_clock(self, world: World) -> None:
        world.server.server_time = SERVER_TIME - 3_600.0  # our own wall clock is an hour ahead

        world.poller.step()

        assert world.engine.received[0].server_time == SERVER_TIME - 3_600.0

    @pytest.mark.parametrize("text", ["", "yesterday", "Thu, 99 Nov 9999 99:99:99 GMT"])
    def test_nonsense_dates_are_none(self, text: str) -> None:
        assert server_time_of({"date": text}) is None

    @pytest.mark.parametrize("text", [None, 7, "", "2026-13-01T00:00:00Z"])
    def test_nonsense_instants_are_none(self, text: object) -> None:
        assert instant(text) is None

    def test_instants_with_and_without_offset_are_utc(self) -> None:
        assert instant("2026-11-22T14:03:07Z") == instant("2026-11-22T14:03:07")


class TestHints:
    @pytest.mark.parametrize("text", ["0", "-5", "nan", "inf", "often", "1e-9"])
    def test_a_nonsense_pace_is_ignored(self, text: str) -> None:
        pace = Pace(10.0, 10.0, 0.1)

        pace.learn({"holdfast-poll-seconds": text, "holdfast-report-seconds": text})

        assert (pace.poll_seconds, pace.report_seconds) == (10.0, 10.0)

    def test_a_server_that_lost_its_database_says_so(self) -> None:
        pace = Pace(10.0, 10.0, 0.1)

        pace.learn({"policy-stale": "42"})

        assert pace.server_stale_seconds == 42.0

    @pytest.mark.parametrize(
        ("text", "seconds"), [("7", 7.0), ("86400", 300.0), ("-1", 0.0), ("nan", 0.0), ("x", 0.0)]
    )
    def test_retry_after_is_bounded_and_never_nonsense(self, text: str, seconds: float) -> None:
        assert retry_after({"retry-after": text}) == seconds

    def test_backoff_stays_finite_after_ten_thousand_failures(self) -> None:
        backoff = Backoff(1.0, 30.0)

        waits = [backoff.next() for _ in range(10_000)]

        assert all(0.0 < wait <= 30.0 for wait in waits)
