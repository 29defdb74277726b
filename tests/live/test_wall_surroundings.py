"""Lines, checks, alerts and last events: what a frame says of them, without a database."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.live.rules import events, lines, trouble

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass
class Checked:
    dependency: str = "postgres"
    status: str = "up"
    is_stale: bool = False
    since: datetime | None = NOON


@dataclass
class Firing:
    id: int = 1
    rule: str = "errors"
    severity: str = "error"
    subject: str = "checkout → payments-api"
    state: str = "firing"
    since: datetime = NOON
    shown_value: str = "12 %"
    acknowledged_by: str = ""
    is_silenced: bool = False


class TestLines:
    def test_windows_add_up_in_the_span_they_lie_in(self) -> None:
        windows = [
            (NOON, 3, 0),
            (NOON + timedelta(seconds=10), 4, 1),
            (NOON + timedelta(seconds=590), 5, 5),
        ]

        line = lines.trend(windows, NOON)

        assert line["calls"] == [7, *[0] * 28, 5]
        assert line["errors"] == [1, *[0] * 28, 5]

    def test_a_span_that_is_not_over_is_not_drawn(self) -> None:
        assert lines.span_start(NOON + timedelta(seconds=19.9)) == NOON
        assert lines.span_start(NOON + timedelta(seconds=20)) == NOON + timedelta(seconds=20)


class TestHealth:
    @pytest.mark.parametrize(
        ("statuses", "said"),
        [
            (["up", "down"], "down"),
            (["unknown", "degraded"], "degraded"),
            (["up", "unknown"], "unknown"),
            (["up"], "up"),
        ],
    )
    def test_a_dependency_is_as_its_worst_check_says(self, statuses: list[str], said: str) -> None:
        found = trouble.health(Checked(status=each) for each in statuses)

        assert found["postgres"]["status"] == said

    def test_an_old_answer_is_marked(self) -> None:
        assert trouble.health([Checked(is_stale=True)])["postgres"]["stale"]

    def test_checks_of_no_dependency_are_no_tiles(self) -> None:
        assert trouble.health([Checked(dependency="")]) == {}


class TestAlerts:
    def test_those_nobody_looks_after_come_first(self) -> None:
        shown = trouble.alerts_in_order(
            [Firing(id=1, acknowledged_by="ana"), Firing(id=2, is_silenced=True), Firing(id=3)]
        )

        assert [each["id"] for each in shown] == [3, 1, 2]

    def test_their_number_on_the_wall_is_bounded(self) -> None:
        shown = trouble.alerts_in_order(Firing(id=number) for number in range(50))

        assert len(shown) == trouble.MOST_ALERTS

    def test_no_data_is_not_a_value(self) -> None:
        assert trouble.alerts_in_order([Firing(state="no_data")])[0]["no_data"]


class TestEvents:
    def event(self, seconds: float, kind: str = "open", **members: Any) -> dict[str, Any]:
        what = members.pop("what", "checkout → payments-api")
        return events.event(kind, NOON + timedelta(seconds=seconds), what, **members)

    def said(self, *happened: dict[str, Any]) -> list[tuple[str, int]]:
        return [(each["kind"], each["times"]) for each in events.newest_events(happened)]

    def test_the_newest_comes_first(self) -> None:
        assert self.said(self.event(0), self.event(5, "half_open")) == [
            ("half_open", 1),
            ("open", 1),
        ]

    def test_instances_that_say_the_same_are_one_event(self) -> None:
        assert self.said(self.event(0), self.event(1), self.event(2)) == [("open", 3)]

    def test_the_same_again_later_is_another_event(self) -> None:
        assert self.said(self.event(0), self.event(60)) == [("open", 1), ("open", 1)]

    def test_two_flips_by_people_are_two(self) -> None:
        flips = [self.event(number, "engaged", who="ana") for number in range(2)]

        assert self.said(*flips) == [("engaged", 1), ("engaged", 1)]
