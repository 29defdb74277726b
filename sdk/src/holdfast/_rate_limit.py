"""The rate limiter: how often calls to one dependency may begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitRules:
    """Effective rate limit, in the terms it is kept by.

    Attributes:
        interval: Seconds between two calls at the full rate.
        burst: Calls that may begin at once after a pause.
        max_wait_seconds: Longest wait for a turn.
        scope: "attempt" (each takes a turn) or "call" (one turn for all its attempts).
    """

    interval: float
    burst: int
    max_wait_seconds: float
    scope: str

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> RateLimitRules | None:
        """Rules from effective settings; None if calls are not limited."""
        if not settings["enabled"]:
            return None
        return cls(
            interval=settings["per_seconds"] / settings["calls"],
            burst=settings["burst"] or settings["calls"],
            max_wait_seconds=settings["max_wait_seconds"],
            scope=settings["scope"],
        )
