"""The states of an alert, as tables: what was, what is measured, what comes of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from apps.alerts.rules.kinds import KINDS, Reading, share_within, shown
from apps.alerts.rules.states import Memory, Terms, is_told, step
from holdfast import histogram

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BAD, EDGE, GOOD, FEW, NOTHING = (
    Reading(0.5, 40),
    Reading(0.04, 40),
    Reading(0.0, 40),
    Reading(1.0, 3),
    Reading(None),
)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def terms(**changes: object) -> Terms:
    """Errors over 5 % for a minute, over by 2 %, of at least 20 calls."""
    values: dict[str, object] = {
        "kind": KINDS["error_rate"],
        "threshold": 0.05,
        "resolve_threshold": 0.02,
        "for_": timedelta(seconds=60),
        "min_samples": 20,
    }
    return Terms(**values | changes)  # type: ignore[arg-type]  # a table of them


def run(script: Sequence[tuple[float, Reading]], rule: Terms) -> list[str]:
    """The state after each of these readings; "" is nothing."""
    memory: Memory | None = None
    seen_at: datetime | None = None
    states = []
    for seconds, reading in script:
        if memory is not None and memory.state == "resolved":
            memory = None
        memory = step(memory, reading, rule, at(seconds), seen_at)
        seen_at = at(seconds)
        states.append(memory.state if memory else "")
    return states


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([(0, GOOD), (5, GOOD)], ["", ""]),
        ([(0, BAD), (59, BAD), (60, BAD)], ["pending", "pending", "firing"]),
        ([(0, BAD), (5, GOOD), (10, BAD), (65, BAD)], ["pending", "", "pending", "pending"]),
        (
            [(0, BAD), (60, BAD), (65, EDGE), (70, GOOD)],
            ["pending", "firing", "firing", "resolved"],
        ),
        ([(0, EDGE)], [""]),  # the resolve threshold makes nothing begin
        ([(0, FEW), (60, FEW)], ["", ""]),  # three calls are no rate
        ([(0, BAD), (60, BAD), (65, FEW), (70, NOTHING)], ["pending", *["firing"] * 3]),
    ],
)
def test_an_alert_waits_fires_and_resolves(
    script: Sequence[tuple[float, Reading]], expected: list[str]
) -> None:
    assert run(script, terms()) == expected


@pytest.mark.parametrize(
    ("no_data", "expected"),
    [
        ("ok", ["pending", "firing", "resolved", ""]),
        ("alert", ["pending", "firing", "firing", "firing"]),
        ("keep_last", ["pending", "firing", "firing", "firing"]),
        ("no_data", ["pending", "firing", "no_data", "no_data"]),
    ],
)
def test_what_missing_data_makes_of_a_firing_alert(no_data: str, expected: list[str]) -> None:
    script = [(0, BAD), (60, BAD), (65, NOTHING), (70, FEW)]

    assert run(script, terms(no_data=no_data)) == expected


@pytest.mark.parametrize(
    ("no_data", "expected"),
    [
        ("ok", ["", "", ""]),
        ("alert", ["pending", "pending", "firing"]),
        ("keep_last", ["", "", ""]),
        ("no_data", ["pending", "pending", "no_data"]),  # it honours `for` too
    ],
)
def test_what_missing_data_makes_of_nothing(no_data: str, expected: list[str]) -> None:
    script = [(0, NOTHING), (55, NOTHING), (60, NOTHING)]

    assert run(script, terms(no_data=no_data)) == expected


@pytest.mark.parametrize(
    ("then", "expected"),
    [(BAD, "firing"), (GOOD, "resolved"), (NOTHING, "no_data")],
)
def test_data_that_come_back_go_on_where_it_was(then: Reading, expected: str) -> None:
    script = [(0, BAD), (60, BAD), (65, NOTHING), (70, then)]

    assert run(script, terms(no_data="no_data"))[-1] == expected


def test_time_without_data_does_not_count_as_time_of_trouble() -> None:
    script = [(0, NOTHING), (55, NOTHING), (58, BAD), (62, BAD), (118, BAD)]

    states = run(script, terms(no_data="no_data"))

    assert states == ["pending", "pending", "pending", "pending", "firing"]


def test_a_firing_alert_outlasts_a_calm_shorter_than_it_must_be_over() -> None:
    rule = terms(for_=timedelta(0), keep_firing=timedelta(seconds=60))
    script = [(0, BAD), (5, GOOD), (50, GOOD), (55, BAD), (60, GOOD), (119, GOOD), (120, GOOD)]

    assert run(script, rule) == ["firing"] * 6 + ["resolved"]


@pytest.mark.parametrize(("gap", "expected"), [(600, "firing"), (3601, "pending")])
def test_a_restart_keeps_what_is_pending_unless_it_took_too_long(gap: float, expected: str) -> None:
    before = Memory("pending", at(0))

    after = step(before, BAD, terms(), at(gap), at(0))

    assert after is not None
    assert after.state == expected


def test_a_firing_alert_survives_any_gap() -> None:
    before = Memory("firing", at(0), fired_at=at(0))

    assert step(before, BAD, terms(), at(90_000), at(0)) == before


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("disk_low", 0.09, True),
        ("disk_low", 0.10, False),
        ("memory_high", 0.10, False),
        ("memory_high", 0.11, True),
        ("bulkhead_full", 0.10, True),  # reaching a count is trouble already
        ("bulkhead_full", 0.09, False),
    ],
)
def test_on_which_side_trouble_lies(kind: str, value: float, expected: bool) -> None:
    assert Reading(value).is_beyond(0.10, KINDS[kind]) is expected


class TestLatency:
    """Quantiles of windows are never averaged: calls within the threshold are counted."""

    def histogram_of(self, *durations: float) -> dict[str, int]:
        found: dict[str, int] = {}
        for seconds in durations:
            histogram.merge(found, {str(histogram.index_of(seconds)): 1})
        return found

    @pytest.mark.parametrize(("slow", "expected"), [(5, False), (6, True)])
    def test_more_than_five_of_a_hundred_over_the_threshold_are_too_many(
        self, slow: int, expected: bool
    ) -> None:
        latency = self.histogram_of(*[1.0] * (100 - slow), *[1.05] * slow)
        reading = Reading(0.0, 100, latency)

        assert reading.is_beyond(1.0, KINDS["latency"]) is expected

    def test_the_threshold_itself_is_within(self) -> None:
        assert share_within(self.histogram_of(1.0), 1.0) == 1.0

    def test_no_calls_are_not_slow(self) -> None:
        assert share_within({}, 1.0) == 1.0


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, Memory("pending", NOON), False),
        (None, Memory("firing", NOON, NOON), True),
        (Memory("pending", NOON), Memory("firing", NOON, NOON), True),
        (Memory("firing", NOON, NOON), Memory("no_data", NOON, NOON), False),
        (Memory("no_data", NOON, NOON), Memory("firing", NOON, NOON), False),  # nothing new
        (Memory("firing", NOON, NOON), Memory("resolved", NOON, NOON), True),
        (Memory("pending", NOON), Memory("no_data", NOON), True),
        (Memory("no_data", NOON), Memory("resolved", NOON), True),
    ],
)
def test_people_are_told_of_beginnings_and_ends(
    before: Memory | None, after: Memory, told: bool
) -> None:
    assert is_told(before, after) is told


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.053, "share", "5.3 %"),
        (1.25, "s", "1.25 s"),
        (820.4, "s", "13 min 40 s"),
        (7_260, "s", "2 h 1 min"),
        (12, "calls", "12 calls"),
        (None, "s", "–"),
    ],
)
def test_values_are_shown_with_their_unit(value: float | None, unit: str, text: str) -> None:
    assert shown(value, unit) == text
