"""Services on the wall: the worst first, and of a large fleet only what needs a look, one by one.

Up to `MOST_TILES` cells are all shown. Of more than that, services with trouble are cards with the
tiles in trouble and the number of the others; all other services are a line each.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.live.rules import URGENCY, Cell, Convergence, Requests, condition, pace, rounded, tile

MOST_TILES = 300  # a wall of more would be read by nobody, and is slow on a television
CALM = ("closed", "idle", "unreported")  # conditions of tiles that can be folded into a number
MOST_CARDS = 40  # of a vast fleet
MOST_TILES_OF_A_CARD = 8


@dataclass(frozen=True)
class Judged:
    """A service before it is known how much room there is for it."""

    told: Convergence
    cells: Sequence[tuple[str, Cell]]  # each with its condition, worst first
    urgency: int

    @property
    def slug(self) -> str:
        return self.told.service

    def shown(self, room: int | None) -> list[Cell]:
        """Cells that are tiles: all of them, or at most `room` of those that need a look."""
        if room is None:
            return [cell for _found, cell in self.cells]
        return [cell for found, cell in self.cells[:room] if found not in CALM]


def judged(told: Convergence, cells: Iterable[Cell]) -> Judged:
    is_reported = told.total > 0
    found = [(condition(cell, is_reported=is_reported), cell) for cell in cells]
    found.sort(key=lambda each: (-URGENCY[each[0]], each[1].dependency))
    return Judged(told, found, _urgency(told, found))


def _urgency(told: Convergence, cells: Sequence[tuple[str, Cell]]) -> int:
    if not told.total and not told.silent_names:
        return -1  # nothing of it runs, and nothing of it went missing
    worst = URGENCY[cells[0][0]] if cells else 0
    if told.applied < told.total:
        worst = max(worst, URGENCY["failing"])
    if told.silent_names:
        worst = max(worst, URGENCY["unreported"])
    return worst


def in_order(services: Iterable[Judged]) -> list[Judged]:
    return sorted(services, key=lambda each: (-each.urgency, each.slug))


def density(tiles: int) -> str:
    """How tightly the tiles must stand for one screen to hold most of them."""
    if tiles > MOST_TILES:
        return "vast"
    if tiles <= 24:
        return "roomy"
    return "normal" if tiles <= 60 else "dense"


def rooms(services: Sequence[Judged], density: str) -> list[int | None]:
    """How many tiles each of the services, in order, has room for; None: for all; 0: a line."""
    if density != "vast":
        return [None] * len(services)
    return [
        MOST_TILES_OF_A_CARD if place < MOST_CARDS and service.urgency > URGENCY["closed"] else 0
        for place, service in enumerate(services)
    ]


def row(service: Judged, requests: Requests | None, room: int | None) -> dict[str, Any]:
    """A service: its tiles, its own traffic, and who has applied the newest revision."""
    told = service.told
    shown = service.shown(room)
    return {
        "slug": told.service,
        "form": "line" if room == 0 else "card",
        "tiles": [tile(cell, is_reported=told.total > 0) for cell in shown],
        "folded": _folded(service, len(shown)),
        "troubled": sum(found not in CALM for found, _cell in service.cells),
        "requests": None if requests is None or room == 0 else _traffic(requests),
        "target": told.target_revision,
        "applied": told.applied,
        "total": told.total,
        "laggards": list(told.laggards),
        **pace(told),
        "silent": list(told.silent_names),
        "stopping": told.stopping,
        "refused": [f"{each.instance}: {each.path}, {each.detail}" for each in told.refused],
        "urgency": service.urgency,
        "worst": service.cells[0][0] if service.cells else "idle",
    }


def _folded(service: Judged, shown: int) -> list[dict[str, Any]]:
    """How many of the cells that are no tiles are in which condition, the worst first."""
    counted = Counter(found for found, _cell in service.cells[shown:])
    return [{"condition": each, "count": number} for each, number in counted.items()]


def _traffic(requests: Requests) -> dict[str, Any]:
    return {
        "per_second": round(requests.per_second, 3),
        "error_rate": rounded(requests.error_rate),
        "p95": rounded(requests.p95),
    }


def summary(services: Sequence[Judged]) -> dict[str, int]:
    """The numbers at the top of the wall that are of services."""
    counted: Counter[str] = Counter()
    for service in services:
        for found, cell in service.cells:
            if found not in CALM:
                counted[found] += 1
                counted[f"breaker {cell.state}"] += 1
    told = [service.told for service in services]
    return {
        "services": len(services),
        "cells": sum(len(service.cells) for service in services),
        "open": counted["breaker open"],
        "half_open": counted["breaker half_open"],
        "failing": counted["failing"],
        "applied": sum(one.applied for one in told),
        "total": sum(one.total for one in told),
        "silent": sum(len(one.silent_names) for one in told),
    }


def switched(switches: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The numbers at the top of the wall that are of switches."""
    return {
        "flags": sum(each["type"] == "flag" for each in switches),
        "overrides": sum(each["type"] == "override" for each in switches),
    }


def with_flip(picture: Mapping[str, Any], flip: Mapping[str, Any]) -> dict[str, Any]:
    """The picture with what is switched since it was made."""
    return {**picture, **flip, "summary": picture["summary"] | switched(flip["switches"])}
