"""The rate limiter: how often calls to one dependency may begin."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.errors import RateLimited

LARGEST_ROUNDING = 1e-4  # seconds: sums of many intervals are never quite exact


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


class Turn:
    """A turn somebody holds: how long it is until then, and what giving it back restores."""

    __slots__ = ("before", "taken", "wait")

    def __init__(self, wait: float, before: float, taken: float) -> None:
        self.wait = wait
        self.before = before
        self.taken = taken


class RateLimiter:
    """Turns at a steady rate, with bursts after pauses; threads and coroutines share them.

    It keeps one number: when the calls that were let through would all have had their turn at
    the steady rate. It never waits itself. Instants passed in are monotonic seconds.

    Source: ITU-T I.371, generic cell rate algorithm (virtual scheduling).
    """

    __slots__ = ("_lock", "_rules", "_settled_at", "name")

    def __init__(self, name: str, rules: RateLimitRules | None) -> None:
        self.name = name
        self._rules = rules
        self._settled_at = -math.inf
        self._lock = threading.Lock()

    def take(self, rules: RateLimitRules, now: float, longest: float | None = None) -> Turn:
        """Take the next turn, if it comes soon enough.

        Args:
            longest: Seconds within which the caller needs it, whatever the rules say.

        Raises:
            RateLimited: it comes too late; nothing is taken.
        """
        with self._lock:
            before = self._settled_at
            taken = max(now, before) + rules.interval
            wait = taken - now - rules.burst * rules.interval
            if wait <= min(rules.interval / 1_000, LARGEST_ROUNDING):
                wait = 0.0
            elif wait > rules.max_wait_seconds or (longest is not None and wait >= longest):
                raise RateLimited(self.name, retry_after=wait)
            self._settled_at = taken
            return Turn(wait, before, taken)

    def give_back(self, turn: Turn) -> None:
        """Return a turn nobody used; lost if somebody took one after it, whose time must stand."""
        with self._lock:
            if self._settled_at == turn.taken:
                self._settled_at = turn.before

    def configure(self, rules: RateLimitRules, now: float) -> None:
        """Follow a new rate: what is owed stays the same number of calls.

        Those who wait keep the time they were given.
        """
        with self._lock:
            if self._rules is not None:
                owed = max(0.0, self._settled_at - now) / self._rules.interval
                self._settled_at = now + owed * rules.interval
            self._rules = rules

    def reset_after_fork(self) -> None:
        """A child starts with a lock of its own; what its parent took is taken."""
        self._lock = threading.Lock()
