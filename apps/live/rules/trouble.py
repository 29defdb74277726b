"""What checks say of dependencies, and which alerts fire."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from apps.live.rules import stamp

MOST_ALERTS = 6  # the gravest; how many more there are is said below them
UNWELL = ("down", "degraded")
WORST_HEALTH = ("down", "degraded", "unknown", "up")


class Checked(Protocol):
    """What is read of a check of a dependency."""

    @property
    def dependency(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def is_stale(self) -> bool: ...
    @property
    def since(self) -> datetime | None: ...


class Firing(Protocol):
    """What is read of an alert that fires, or misses its data."""

    @property
    def id(self) -> int: ...
    @property
    def rule(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def since(self) -> datetime: ...
    @property
    def shown_value(self) -> str: ...
    @property
    def acknowledged_by(self) -> str: ...
    @property
    def is_silenced(self) -> bool: ...


def health(checks: Iterable[Checked]) -> dict[str, dict[str, Any]]:
    """How each dependency is that is checked: what the worst of its checks says."""
    found: dict[str, Checked] = {}
    for check in checks:
        known = found.get(check.dependency)
        if known is None or _badness(check) < _badness(known):
            found[check.dependency] = check
    return {
        dependency: {
            "status": check.status,
            "stale": check.is_stale,
            "since": stamp(check.since),
        }
        for dependency, check in found.items()
        if dependency
    }


def _badness(check: Checked) -> int:
    return WORST_HEALTH.index(check.status)


def alerts_in_order(firing: Iterable[Firing]) -> list[dict[str, Any]]:
    """The alerts as the wall shows them, those nobody looks after first; at most `MOST_ALERTS`."""
    shown = [
        {
            "id": each.id,
            "rule": each.rule,
            "severity": each.severity,
            "subject": each.subject,
            "no_data": each.state == "no_data",
            "value": each.shown_value,
            "since": stamp(each.since),
            "acknowledged_by": each.acknowledged_by,
            "silenced": each.is_silenced,
        }
        for each in firing
    ]
    shown.sort(key=lambda each: bool(each["acknowledged_by"] or each["silenced"]))
    return shown[:MOST_ALERTS]
