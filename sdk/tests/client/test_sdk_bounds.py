"""No report may be refused for what a service's code brings in: the server's own reader judges."""

from typing import Any

import msgspec
import pytest

from apps.telemetry import reports
from holdfast import _bounds
from holdfast._engine import Engine
from holdfast._feed import Feed
from holdfast._pace import Pace
from holdfast._report import Reporter, Requests
from holdfast._resources import Resources
from holdfast._settings import Timing
from holdfast._transport import Answer, Transport
from sdk.tests.client.world import FakeClock, document, encode, identity, received, settings

DEEP: dict[str, Any] = {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}
ODD_DATA = [
    {"text": "x" * 5_000},
    {"text": "\ud800"},
    {"text": "\0"},
    {"text": "\\u0000"},
    {"number": float("nan"), "other": float("inf")},
    {"number": 2**70, "other": -(2**70), "third": 1e300},
    {"object": object(), "kind": ValueError, "bytes": b"x", "set": {1}},
    {1: 2, None: 3},
    DEEP,
]
ODD_NAMES = ["\ud800", "nul\0nul", "x" * 500, "", "Not A Slug", "\\u0000"]


class Kept(Transport):
    """Keeps what is sent, and has the server's reader judge it."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(settings(), "i", clock)
        self.bodies: list[bytes] = []

    def send_report(self, body: bytes, *, seconds: float | None = None) -> Answer:
        self.bodies.append(body)
        return Answer(202, {}, b"{}", 0.0, 0.0)


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.engine = Engine(self.clock, defaults={})
        self.feed = Feed(self.engine, self.clock, lambda: None)
        self.requests = Requests()
        self.transport = Kept(self.clock)
        timing = Timing(jitter=0.0)
        self.reporter = Reporter(
            identity(),
            self.engine,
            self.requests,
            Resources(self.clock),
            self.feed,
            self.transport,
            Pace.before_contact(timing),
            self.clock,
            timing,
        )

    def report(self) -> reports.Report:
        """The next report, as the server reads it; raises if it would be refused."""
        self.clock.advance(10.0)
        self.reporter.step()
        body = self.transport.bodies[-1]
        assert b"\\u0000" not in body  # refused before it is read
        return reports.read(body)


@pytest.mark.parametrize("data", ODD_DATA, ids=range(len(ODD_DATA)))
def test_data_of_an_event_cannot_spoil_a_report(data: dict[str, Any]) -> None:
    world = World()
    world.engine.events.emit("odd.happened", "db", data)

    assert [each.type for each in world.report().events] == ["odd.happened"]


def test_an_endless_type_or_an_odd_name_in_an_event_is_cut_to_size() -> None:
    world = World()
    world.engine.events.emit("odd" * 100, "nul\0nul", {})

    (event,) = world.report().events

    assert (len(event.type), event.dependency) == (60, "nul�nul")


def test_no_name_of_a_dependency_can_spoil_a_report() -> None:
    world = World()
    for name in [*ODD_NAMES, "db"]:
        world.engine.call(name, len, "abc")

    found = world.report().dependencies

    assert found["db"].calls == 1
    assert "nul�nul" in found


def test_a_count_below_none_or_beyond_any_cannot_spoil_a_report() -> None:
    world = World()
    world.engine.call("db", len, "abc")
    world.engine.state_of("db").bulkhead.used = -1
    world.engine.state_of("db").breaker.generation = 2**60

    found = world.report().dependencies["db"]

    assert (found.calls, found.in_flight) == (1, 0)


def test_what_was_refused_of_a_document_cannot_spoil_a_report() -> None:
    world = World()
    odd = {name.replace("\ud800", "?"): {"kind": "unheard_of"} for name in ODD_NAMES}
    body = document(7, epoch="not-a-uuid", flags=odd)
    now = received(world.clock)
    world.feed.offer(encode(body), etag=None, asked_at=world.clock.now, received=now)

    report = world.report()

    assert (report.applied_revision, report.epoch) == (7, None)
    assert len(report.refused) >= len(odd)


def test_requests_however_odd_cannot_spoil_a_report() -> None:
    world = World()
    world.requests.count(-5, float("nan"))
    world.requests.count(10**30, -1.0)

    own = world.report().requests

    assert own is not None
    assert own.count == 2


def test_a_clock_that_goes_backwards_cannot_spoil_a_report() -> None:
    world = World()
    world.clock.now -= 500.0
    world.reporter._due_at = world.clock.now

    assert world.report().window_seconds == 0.0


def test_bounds_are_those_of_the_server() -> None:
    assert (_bounds.MOST_DATA, _bounds.MOST_LEVELS) == (reports.MOST_DATA, reports.MOST_LEVELS)
    largest = {"calls": _bounds.LARGEST_COUNT, "in_flight": _bounds.LARGEST_COUNT}
    assert msgspec.convert(largest, reports.Calls).calls == _bounds.LARGEST_COUNT
