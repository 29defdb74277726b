"""What a frame says and in which order."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.live import rules
from apps.live.rules import rows
from apps.live.templatetags.figures import duration

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass
class Cell:
    service: str = "checkout"
    dependency: str = "payments-api"
    state: str = "closed"
    states: dict[str, int] = field(default_factory=lambda: {"closed": 3})
    calls: int = 100
    calls_per_second: float = 10.0
    samples: int = 100
    error_rate: float | None = 0.0
    p95: float | None = 0.115
    since: datetime | None = NOON
    override: str | None = None


@dataclass
class Refusal:
    instance: str = "host-1"
    path: str = "dependencies.postgres.breaker"
    detail: str = "must be at least 1"


@dataclass
class Convergence:
    service: str = "checkout"
    target_revision: int = 7
    applied: int = 3
    total: int = 3
    stopping: int = 0
    laggards: list[str] = field(default_factory=list)
    silent_names: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    delays: list[float] = field(default_factory=lambda: [0.12345, 0.01])
    p95_delay: float | None = 0.12345
    behind_seconds: float | None = None


@dataclass
class Requests:
    per_second: float = 2.5
    error_rate: float | None = None
    p95: float | None = 0.0804049


class TestTiles:
    @pytest.mark.parametrize(
        ("cell", "condition"),
        [
            (Cell(), "closed"),
            (Cell(state="open", states={"open": 1}), "open"),
            (Cell(override="force_open"), "forced"),
            (Cell(override="disabled"), "closed"),
            (Cell(state="half_open", states={"half_open": 1}), "half_open"),
            (Cell(error_rate=0.05), "failing"),
            (Cell(error_rate=0.0499), "closed"),
            (Cell(error_rate=None), "closed"),
            (Cell(calls=0, error_rate=None), "idle"),
            (Cell(states={}, calls=0), "idle"),
        ],
    )
    def test_condition(self, cell: Cell, condition: str) -> None:
        assert rules.condition(cell, is_reported=True) == condition

    def test_no_reports_is_not_no_traffic(self) -> None:
        assert rules.condition(Cell(calls=0), is_reported=False) == "unreported"

    def test_a_state_nobody_reports_is_not_claimed(self) -> None:
        tile = rules.tile(Cell(states={}, calls=0), is_reported=False)

        assert tile["state"] is None

    def test_it_says_how_many_instances_are_in_the_state(self) -> None:
        tile = rules.tile(Cell(state="open", states={"open": 2, "closed": 1}), is_reported=True)

        assert tile["partial"] == "2/3"
        assert tile["since"] == "2026-11-22T12:00:00.000Z"

    def test_all_instances_in_one_state_need_no_share(self) -> None:
        assert rules.tile(Cell(), is_reported=True)["partial"] == ""

    def test_the_worst_comes_first_and_equals_by_name(self) -> None:
        cells = [
            Cell(dependency="a", calls=0),
            Cell(dependency="c"),
            Cell(dependency="b"),
            Cell(dependency="z", state="open"),
            Cell(dependency="y", error_rate=0.5),
        ]

        shown = rows.judged(Convergence(), cells).shown(None)

        assert [each.dependency for each in shown] == list("zybca")


def judged(cells: list[Cell] | None = None, **values: Any) -> rows.Judged:
    return rows.judged(Convergence(**values), cells or [])


class TestServices:
    def row(self, **values: Any) -> dict[str, Any]:
        return rows.row(judged(**values), Requests(), None)

    def test_the_service_that_needs_a_look_comes_first(self) -> None:
        services = [
            judged([Cell()], service="calm"),
            judged(service="not-running", applied=0, total=0),
            judged([Cell()], service="behind", applied=2, laggards=["host-1"]),
            judged([Cell()], service="silent", silent_names=["host-2"]),
            judged([Cell(state="open", states={"open": 1})], service="broken"),
        ]

        names = [each.slug for each in rows.in_order(services)]

        assert names == ["broken", "behind", "silent", "calm", "not-running"]

    def test_it_names_laggards_silent_ones_and_refusals(self) -> None:
        row = self.row(laggards=["a"], silent_names=["b"], refused=[Refusal()])

        assert (row["laggards"], row["silent"]) == (["a"], ["b"])
        assert row["refused"] == ["host-1: dependencies.postgres.breaker, must be at least 1"]

    def test_own_traffic_is_rounded_and_may_be_unknown(self) -> None:
        assert self.row()["requests"] == {"per_second": 2.5, "error_rate": None, "p95": 0.0804}
        assert rows.row(judged(), None, None)["requests"] is None

    def test_summary_counts(self) -> None:
        services = [
            judged([Cell(state="open", states={"open": 1}), Cell(error_rate=0.5)], applied=2),
            judged([Cell(state="half_open", states={"half_open": 1})], silent_names=["b"]),
        ]

        assert rows.summary(services) == {
            "services": 2,
            "cells": 3,
            "open": 1,
            "half_open": 1,
            "failing": 1,
            "applied": 5,
            "total": 6,
            "silent": 1,
        }

    def test_switches_are_counted_by_kind(self) -> None:
        switches = [{"type": "flag"}, {"type": "override"}, {"type": "override"}]

        assert rows.switched(switches) == {"flags": 1, "overrides": 2}

    @pytest.mark.parametrize(
        ("tiles", "density"),
        [(0, "roomy"), (24, "roomy"), (60, "normal"), (61, "dense"), (301, "vast")],
    )
    def test_many_tiles_stand_closer(self, tiles: int, density: str) -> None:
        assert rows.density(tiles) == density


class TestAVastFleet:
    def broken(self, slug: str, open_ones: int, calm_ones: int = 0) -> rows.Judged:
        opened = [Cell(dependency=f"a-{n}", state="open") for n in range(open_ones)]
        calm = [Cell(dependency=f"b-{n}") for n in range(calm_ones)]
        return judged([*opened, *calm], service=slug)

    def test_a_card_shows_what_needs_a_look_and_counts_the_rest(self) -> None:
        service = self.broken("checkout", 2, 18)

        row = rows.row(service, None, rows.rooms([service], "vast")[0])

        assert [each["condition"] for each in row["tiles"]] == ["open", "open"]
        assert row["folded"] == [{"condition": "closed", "count": 18}]

    def test_what_finds_no_room_on_a_card_is_counted_by_condition(self) -> None:
        row = rows.row(self.broken("checkout", 12, 8), None, rows.MOST_TILES_OF_A_CARD)

        assert len(row["tiles"]) == rows.MOST_TILES_OF_A_CARD
        assert row["folded"] == [
            {"condition": "open", "count": 12 - rows.MOST_TILES_OF_A_CARD},
            {"condition": "closed", "count": 8},
        ]

    def test_calm_services_and_those_beyond_the_room_are_a_line_each(self) -> None:
        broken = [self.broken(f"broken-{n:03}", 1) for n in range(rows.MOST_CARDS + 5)]
        services = rows.in_order([self.broken("calm", 0, 20), *broken])

        shown = [
            rows.row(each, Requests(), room)
            for each, room in zip(services, rows.rooms(services, "vast"), strict=True)
        ]

        lines = [each for each in shown if each["form"] == "line"]
        assert len(shown) - len(lines) == rows.MOST_CARDS
        assert [(each["worst"], each["troubled"]) for each in lines] == [
            *[("open", 1)] * 5,
            ("closed", 0),
        ]
        assert all(each["tiles"] == [] and each["requests"] is None for each in lines)

    def test_a_smaller_one_shows_everything(self) -> None:
        service = self.broken("checkout", 2, 18)

        assert rows.rooms([service], "dense") == [None]
        assert len(rows.row(service, None, None)["tiles"]) == 20


class TestSwitches:
    def flag(self, **members: Any) -> dict[str, Any]:
        body = {"kind": "read_only", "enabled": True, "percentage": 100.0, "set_by": "ana"}
        where = {"key": "read-only", "service": "", "dependency": "", "revision": 1}
        return rules.switch("flag", body | members, **where)

    def test_a_key_that_says_nothing_new_is_not_repeated(self) -> None:
        assert self.flag()["label"] == ""
        assert self.flag(kind="custom")["label"] == "read-only"

    def test_a_share_of_keys_is_said(self) -> None:
        part = self.flag(kind="custom", percentage=12.5)

        assert (part["partly"], part["percentage"]) == (True, "12.5")
        assert not self.flag()["partly"]

    def test_it_says_on_what(self) -> None:
        assert self.flag(kind="fallback", dependencies=["a", "b"])["on"] == "a, b"

    def test_the_gravest_comes_first(self) -> None:
        rows = [
            {"mode": "custom", "service": "", "revision": 9},
            {"mode": "force_open", "service": "checkout", "revision": 8},
            {"mode": "read_only", "service": "checkout", "revision": 7},
            {"mode": "read_only", "service": "", "revision": 1},
            {"mode": "read_only", "service": "", "revision": 2},
        ]

        order = [each["revision"] for each in rules.switches_in_order(rows)]

        assert order == [2, 1, 7, 8, 9]

    @pytest.mark.parametrize(
        ("body", "holds"),
        [
            ({"enabled": True, "expires_at": None}, True),
            ({"mode": "force_open", "expires_at": None}, True),
            ({"enabled": False, "expires_at": None}, False),
            ({"expires_at": rules.stamp(NOON + timedelta(seconds=1))}, True),
            ({"expires_at": rules.stamp(NOON)}, False),
        ],
    )
    def test_a_switch_holds_until_its_lease_is_over(
        self, body: dict[str, Any], holds: bool
    ) -> None:
        assert rules.holds(body, NOON) is holds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.019, "19 ms"), (12, "12.0 s"), (674.6, "11 min"), (9_000, "2.5 h")],
)
def test_durations_are_said_in_a_unit_one_can_picture(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
