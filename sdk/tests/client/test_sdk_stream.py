"""The event stream: what is pushed arrives, and every way to lose it leads back to polling."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast._feed import Feed
from holdfast._pace import Pace
from holdfast._settings import Timing
from holdfast._stream import Streamer
from holdfast._transport import Transport
from sdk.tests.client.server import Fault, PolicyServer
from sdk.tests.client.world import (
    EPOCH,
    OTHER_EPOCH,
    SERVER_TIME,
    FakeClock,
    RecordingEngine,
    document,
    encode,
    eventually,
    flag,
    received,
    settings,
)


class World:
    """A streamer whose streams run in a thread, before a real server, on a clock tests move."""

    def __init__(self, server: PolicyServer, *, silence: float = 10.0) -> None:
        self.server = server
        self.clock = FakeClock()
        self.engine = RecordingEngine()
        timing = Timing(jitter=0.0, silence_seconds=silence, request_seconds=2.0)
        self.pace = Pace.before_contact(timing)
        self.feed = Feed(self.engine, self.clock, lambda: None)
        self.transport = Transport(settings(server.url), "i", self.clock, timing)
        self.health: list[bool] = []
        self.gaps = 0
        self.streamer = Streamer(
            self.transport,
            self.feed,
            self.pace,
            self.clock,
            timing,
            on_health=self.health.append,
            on_gap=self.note_gap,
        )
        self._threads = ThreadPoolExecutor(1)

    def note_gap(self) -> None:
        self.gaps += 1

    def open(self) -> "Stream":
        """Follow one stream in a thread, once it has greeted."""
        stream = Stream(self)
        eventually(lambda: self.server.open_streams == 1)
        eventually(lambda: self.health[-1:] == [True])
        return stream

    def close(self) -> None:
        self.streamer.cut()
        self._threads.shutdown()
        self.transport.close()

    def start(self) -> Callable[[], float]:
        future = self._threads.submit(self.streamer.step)
        return lambda: future.result(10)


class Stream:
    def __init__(self, world: World) -> None:
        self.wait_for_end = world.start()


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        server.publish(document(1))
        server.retry_ms = 2_000
        server.hints = {"Holdfast-Poll-Seconds": "10", "Holdfast-Report-Seconds": "5"}
        yield server


@pytest.fixture
def world(server: PolicyServer) -> Iterator[World]:
    world = World(server)
    yield world
    world.close()


class TestEvents:
    def test_a_new_client_gets_the_document_over_the_stream(self, world: World) -> None:
        world.open()

        eventually(lambda: world.engine.revisions == [1])

    def test_a_client_that_is_current_is_not_sent_the_document_again(self, world: World) -> None:
        world.feed.offer(
            encode(document(1)), etag=None, asked_at=world.clock.now, received=received(world.clock)
        )

        world.open()

        assert world.server.streams_asked[0].headers["last-event-id"] == f"{EPOCH}:1"

    def test_a_change_is_applied_as_it_is_published(self, world: World) -> None:
        world.open()
        eventually(lambda: world.engine.revisions == [1])

        world.server.publish_change(
            document(2, flags={"read-only": flag()}), base=1, flags={"read-only": flag()}
        )

        eventually(lambda: world.engine.revisions == [1, 2])
        assert list(world.engine.documents[-1].flags) == ["read-only"]

    def test_a_lost_event_is_noticed_by_its_base(self, world: World) -> None:
        world.open()
        eventually(lambda: world.engine.revisions == [1])

        world.server.publish_change(document(3), base=2, flags={})

        eventually(lambda: world.gaps == 1)
        assert world.engine.revisions == [1]

    def test_a_document_older_than_what_a_poll_brought_is_ignored(self, world: World) -> None:
        world.open()
        eventually(lambda: world.engine.revisions == [1])
        world.feed.offer(
            encode(document(9)), etag=None, asked_at=world.clock.now, received=received(world.clock)
        )

        world.server.publish(document(8), push=True)
        world.server.publish(document(10), push=True)

        eventually(lambda: world.engine.revisions == [1, 9, 10])

    def test_a_new_epoch_on_an_old_stream_is_verified_by_a_fetch(self, world: World) -> None:
        world.open()
        eventually(lambda: world.engine.revisions == [1])
        world.clock.advance(1.0)
        world.feed.offer(
            encode(document(2)), etag=None, asked_at=world.clock.now, received=received(world.clock)
        )

        world.server.publish(document(1, epoch=OTHER_EPOCH), push=True)

        eventually(lambda: world.gaps == 1)

    def test_the_greeting_brings_pace_and_the_servers_clock(self, world: World) -> None:
        world.server.server_time = SERVER_TIME - 500.0
        world.open()

        eventually(lambda: world.engine.received)
        assert world.engine.received[0].server_time == SERVER_TIME - 500.0
        assert (world.pace.poll_seconds, world.pace.report_seconds) == (10.0, 5.0)

    def test_time_since_the_greeting_counts_against_a_lease(self, world: World) -> None:
        world.open()
        eventually(lambda: world.engine.revisions == [1])
        world.clock.now += 100.0  # the wall clock stays: it must not matter

        world.server.publish(document(2), push=True)

        eventually(lambda: len(world.engine.received) == 2)
        assert world.engine.received[1].server_time == SERVER_TIME + 100.0

    def test_unknown_events_are_ignored(self, world: World) -> None:
        world.open()

        world.server.send_event("fireworks", "whatever")
        world.server.publish(document(2), push=True)

        eventually(lambda: world.engine.revisions == [1, 2])

    def test_a_comment_is_contact(self, world: World) -> None:
        world.server.publish(document(1, stale_after=60))
        world.open()
        eventually(lambda: world.engine.revisions == [1])
        world.clock.advance(61.0)
        world.feed.watch_staleness()

        world.server.send_raw(b": keep-alive\n\n")

        eventually(lambda: world.engine.stale == [True, False])


class TestEnds:
    def test_a_stream_that_ends_is_unhealthy_and_opened_again_soon(self, world: World) -> None:
        stream = world.open()

        world.server.end_streams()

        assert 0.8 <= stream.wait_for_end() <= 4.0  # around `retry: 2000`
        assert world.health == [True, False]

    def test_a_silent_stream_is_dead(self, server: PolicyServer) -> None:
        world = World(server, silence=0.1)
        stream = world.open()

        stream.wait_for_end()

        assert world.health == [True, False]
        assert world.streamer.trouble == "ReadTimeout"
        world.close()

    def test_a_stream_that_never_greets_is_dead(self, server: PolicyServer) -> None:
        server.stream_greets = False
        world = World(server, silence=0.1)

        world.streamer.step()

        assert world.health == [False]
        world.close()

    def test_a_killed_server_ends_it(self, world: World) -> None:
        stream = world.open()

        world.server.kill()

        stream.wait_for_end()
        assert world.health == [True, False]

    @pytest.mark.parametrize(
        "data",
        ["{", "[]", '{"base": 1}', '{"base": 1, "revision": 3, "changed": {}}'],
    )
    def test_garbage_ends_the_stream_and_not_the_client(self, world: World, data: str) -> None:
        stream = world.open()

        world.server.send_event("changed", data, f"{EPOCH}:2")

        assert stream.wait_for_end() > 0
        assert world.engine.revisions == [1]

    def test_closing_ends_it_at_once(self, world: World) -> None:
        stream = world.open()

        world.streamer.cut()

        stream.wait_for_end()
        assert world.health == [True, False]

    def test_a_closed_streamer_opens_no_other(self, world: World) -> None:
        world.streamer.cut()

        world.streamer.step()

        assert world.health == []


class TestGoodbye:
    def test_the_server_says_when_to_come_back(self, world: World) -> None:
        stream = world.open()

        world.server.send_event("goodbye", '{"reason": "draining", "retry_after_seconds": 30}')

        assert 30.0 < stream.wait_for_end() <= 34.0

    def test_a_revoked_token_is_not_tried_again_at_once(self, world: World) -> None:
        stream = world.open()

        world.server.send_event("goodbye", '{"reason": "revoked", "retry_after_seconds": 0}')

        assert stream.wait_for_end() == 60.0
        assert world.streamer.trouble == "goodbye: revoked"

    @pytest.mark.parametrize("seconds", ["-1", '"soon"', "null", "true", "1e300"])
    def test_nonsense_seconds_are_bounded(self, world: World, seconds: str) -> None:
        stream = world.open()

        world.server.send_event(
            "goodbye", f'{{"reason": "max_age", "retry_after_seconds": {seconds}}}'
        )

        assert stream.wait_for_end() <= 304.0


class TestRefusals:
    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_a_refused_stream_waits_a_minute(self, world: World, status: int) -> None:
        world.server.stream_faults = [Fault("status", status)]

        assert world.streamer.step() == 60.0

    def test_too_many_streams_wait_as_long_as_asked(self, world: World) -> None:
        world.server.stream_faults = [Fault("status", 429, {"Retry-After": "30"})]

        assert 30.0 < world.streamer.step() <= 34.0

    def test_what_is_no_event_stream_is_not_read_as_one(self, world: World) -> None:
        world.server.stream_faults = [Fault("garbage")]

        world.streamer.step()

        assert world.health == []

    def test_streams_that_keep_failing_are_ever_further_apart(self, world: World) -> None:
        world.server.stream_faults = [Fault("status", 500)] * 8

        waits = [world.streamer.step() for _ in range(8)]

        assert waits[0] <= 4.0
        assert 6.0 <= waits[-1] <= 30.0

    def test_a_stream_that_lived_long_makes_the_next_loss_a_first_one(self, world: World) -> None:
        world.server.stream_faults = [Fault("status", 500)] * 8
        failed = [world.streamer.step() for _ in range(8)]
        stream = world.open()
        world.clock.advance(60.0)

        world.server.end_streams()

        assert len(failed) == 8
        assert stream.wait_for_end() <= 4.0


class TestAnswersAgain:
    """A poll has found the server again."""

    def test_a_stream_that_failed_for_long_is_opened_as_soon_as_after_a_first_failure(
        self, world: World
    ) -> None:
        world.server.stream_faults = [Fault("status", 500)] * 8
        failed = [world.streamer.step() for _ in range(8)]

        is_to_be_woken = world.streamer.begin_anew()
        wait = world.streamer.step()
        world.open()

        assert is_to_be_woken
        assert failed[-1] >= 6.0
        assert 0.8 <= wait <= 4.0  # a fleet scatters
        assert len(world.server.streams_asked) == 9

    def test_when_the_server_said_when_to_come_that_holds(self, world: World) -> None:
        world.server.stream_faults = [Fault("status", 429, {"Retry-After": "30"})]
        world.streamer.step()

        too_many = world.streamer.begin_anew()
        stream = world.open()
        healthy = world.streamer.begin_anew()
        world.server.send_event("goodbye", '{"reason": "draining", "retry_after_seconds": 30}')
        stream.wait_for_end()

        assert (too_many, healthy, world.streamer.begin_anew()) == (False, False, False)

    def test_a_key_that_is_good_again_need_not_wait_a_minute(self, world: World) -> None:
        stream = world.open()
        world.server.send_event("goodbye", '{"reason": "revoked", "retry_after_seconds": 0}')
        stream.wait_for_end()

        assert world.streamer.begin_anew()
        assert world.streamer.step() <= 4.0


def test_reconnects_of_a_fleet_are_spread(server: PolicyServer) -> None:
    world = World(server)
    world.server.stream_faults = [Fault("drop")] * 40
    waits = []

    for _ in range(40):
        world.streamer._backoff.reset()
        waits.append(world.streamer.step())
    world.close()

    assert len({round(wait, 1) for wait in waits}) > 15
    assert threading.active_count() < 40
