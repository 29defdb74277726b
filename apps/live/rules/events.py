"""The strip of what happened last."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from apps.live.rules import stamp

ALIKE_SECONDS = 15  # instances that say the same within so many are one event


def event(kind: str, at: datetime, what: str, *, who: str = "", reason: str = "") -> dict[str, Any]:
    """One line of the strip: `kind` is a breaker's new state, or engaged, extended, ended."""
    return {
        "kind": kind,
        "at": stamp(at),
        "what": what,
        "who": who,
        "reason": reason,
        "times": 1,
    }


def newest_events(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Newest first; instances that say the same of a breaker within seconds are one, counted."""
    kept: list[dict[str, Any]] = []
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for each in sorted(events, key=lambda each: each["at"], reverse=True):
        name = (each["what"], each["kind"])
        known = last.get(name)
        if known is not None and not each["who"] and _seconds(each, known) <= ALIKE_SECONDS:
            known["times"] += each["times"]
            continue
        last[name] = each
        kept.append(each)
    return kept


def _seconds(older: Mapping[str, Any], newer: Mapping[str, Any]) -> float:
    gap = datetime.fromisoformat(newer["at"]) - datetime.fromisoformat(older["at"])
    return gap.total_seconds()
