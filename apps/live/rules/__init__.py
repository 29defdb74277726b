"""What a frame of the wall says of cells and switches. No Django."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from apps.core import clock

ERROR_RATE_BAD = 0.05  # the share of failures from which a tile calls for attention
# Tiles and services are ordered by these, largest first; equals by name, so that nothing jumps.
URGENCY = {
    "open": 6,
    "forced": 5,
    "half_open": 4,
    "failing": 3,
    "unreported": 2,
    "closed": 1,
    "idle": 0,
}


class Cell(Protocol):
    """What is read of a service's calls to one dependency; states by number of instances."""

    @property
    def service(self) -> str: ...
    @property
    def dependency(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def states(self) -> Mapping[str, int]: ...
    @property
    def calls_per_second(self) -> float: ...
    @property
    def error_rate(self) -> float | None: ...
    @property
    def p95(self) -> float | None: ...  # seconds
    @property
    def calls(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def since(self) -> datetime | None: ...
    @property
    def override(self) -> str | None: ...


class Refusal(Protocol):
    """What is read of an entry that an instance would not apply."""

    @property
    def instance(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def detail(self) -> str: ...


class Pace(Protocol):
    """What is read of how soon instances run what is published."""

    @property
    def delays(self) -> Sequence[float]: ...
    @property
    def p95_delay(self) -> float | None: ...
    @property
    def behind_seconds(self) -> float | None: ...


class Convergence(Pace, Protocol):
    """What is read of how far a service's instances have come."""

    @property
    def service(self) -> str: ...
    @property
    def target_revision(self) -> int: ...
    @property
    def applied(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def stopping(self) -> int: ...
    @property
    def laggards(self) -> Sequence[str]: ...
    @property
    def silent_names(self) -> Sequence[str]: ...
    @property
    def refused(self) -> Sequence[Refusal]: ...


class Requests(Protocol):
    """What is read of a service's own traffic."""

    @property
    def per_second(self) -> float: ...
    @property
    def error_rate(self) -> float | None: ...
    @property
    def p95(self) -> float | None: ...  # seconds


def stamp(instant: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    return None if instant is None else clock.rfc3339(instant, timespec="milliseconds")


def tile(cell: Cell, *, is_reported: bool) -> dict[str, Any]:
    """One cell of the grid. `condition` is what it comes to: a key of `URGENCY`."""
    return {
        "dependency": cell.dependency,
        "state": cell.state if cell.states else None,
        "states": dict(cell.states),
        "condition": condition(cell, is_reported=is_reported),
        "calls": cell.calls,
        "calls_per_second": round(cell.calls_per_second, 3),
        "samples": cell.samples,
        "error_rate": rounded(cell.error_rate),
        "p95": rounded(cell.p95),
        "since": None if cell.state == "closed" else stamp(cell.since),
        "override": cell.override,
        "partial": _partial(cell),
    }


def _partial(cell: Cell) -> str:
    """`2/3` where not all instances are in the state that is shown."""
    total = sum(cell.states.values())
    there = cell.states.get(cell.state, 0)
    return f"{there}/{total}" if there < total else ""


def condition(cell: Cell, *, is_reported: bool) -> str:
    """What a cell comes to: "unreported" is nobody telling, "idle" is nobody calling.

    "forced" is an operator's force-open: no call passes, whatever the breaker itself thinks.
    """
    if not is_reported:
        return "unreported"
    if cell.override == "force_open":
        return "forced"
    if cell.state != "closed":
        return cell.state
    if cell.error_rate is not None and cell.error_rate >= ERROR_RATE_BAD:
        return "failing"
    return "closed" if cell.calls else "idle"


def pace(told: Pace) -> dict[str, Any]:
    """How soon what is published runs, and for how long something has not."""
    return {
        "behind": rounded(told.behind_seconds),
        "delay": rounded(told.p95_delay),
        "measured": len(told.delays),
    }


def rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)


def switch(kind: str, body: Mapping[str, Any], **where: Any) -> dict[str, Any]:
    """A banner: what is switched on purpose, where, why, by whom, since and until when."""
    dependencies = body.get("dependencies")
    percentage = body.get("percentage", 100)
    mode = body.get("kind") or body.get("mode") or ""
    key = where.get("key", "")
    return {
        "type": kind,
        "mode": mode,
        "label": "" if key == mode.replace("_", "-") else key,
        "on": where.get("dependency") or ", ".join(dependencies or ()),
        "value": body.get("value"),
        "percentage": f"{percentage:g}",
        "partly": percentage != 100,
        "reason": body.get("reason") or "",
        "who": body.get("set_by") or "",
        "since": body.get("set_at"),
        "ends": body.get("expires_at"),
        **where,
    }


# A switch that stops something outright stands above one that only bends it.
OUTRIGHT = ("read_only", "force_open", "feature_off")


def switches_in_order(switches: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The gravest first, those for every service before those for one, then the newest."""
    return sorted(
        switches,
        key=lambda each: (
            OUTRIGHT.index(each["mode"]) if each["mode"] in OUTRIGHT else len(OUTRIGHT),
            each["service"] != "",
            -each["revision"],
        ),
    )


def holds(body: Mapping[str, Any], now: datetime) -> bool:
    """Whether a published switch still acts at `now`: services end a lease by themselves."""
    if body.get("enabled") is False:
        return False
    end = body.get("expires_at")
    return end is None or datetime.fromisoformat(end) > now
