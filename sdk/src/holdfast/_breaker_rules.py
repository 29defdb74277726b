"""What a breaker goes by: its settings, an operator's word, and the admission of one call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.errors import CircuitOpen

MOST_ROUNDS = 64  # of growing open time; beyond it every multiplier has long reached the maximum


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """Effective breaker settings (`holdfast.spec`), with the probe lease worked out."""

    enabled: bool
    window: str
    window_calls: int
    window_seconds: float
    minimum_calls: int
    failure_rate: float
    consecutive_failures: int
    slow_call_seconds: float
    slow_call_rate: float
    hung_call_seconds: float
    open_seconds: float
    open_multiplier: float
    open_max_seconds: float
    open_jitter: float
    half_open_calls: int
    half_open_concurrent: int
    half_open_successes: int
    probe_lease_seconds: float
    permanent_effect: str
    trip_on: tuple[str, ...]

    @classmethod
    def of(cls, settings: Mapping[str, Any], attempt_seconds: float) -> BreakerRules:
        """Rules from effective settings; the lease outlives every call that is still allowed."""
        values = dict(settings)
        longest = max(attempt_seconds, values["slow_call_seconds"], 10.0)
        values["probe_lease_seconds"] = values["probe_lease_seconds"] or longest + 1
        values["trip_on"] = tuple(values["trip_on"])
        if values["window"] == "count":
            values["minimum_calls"] = min(values["minimum_calls"], values["window_calls"])
        return cls(**values)

    @property
    def probes_needed(self) -> int:
        """Results that decide a half-open breaker at the latest."""
        return self.half_open_successes or self.half_open_calls

    def open_for(self, rounds: int, spread: float) -> float:
        """Seconds to stay open the `rounds`-th time in a row; `spread` is -1 to 1."""
        growth = self.open_multiplier ** min(rounds - 1, MOST_ROUNDS)
        longest = max(self.open_max_seconds, self.open_seconds)
        return min(self.open_seconds * growth, longest) * (1 + self.open_jitter * spread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """An operator's word that beats the machine until its lease ends.

    Attributes:
        mode: force_open, force_closed, disabled or metrics_only.
        deadline: Monotonic end of the lease; None for no end.
    """

    mode: str
    reason: str | None = None
    deadline: float | None = None


class Ticket:
    """Admission of one call."""

    __slots__ = ("generation", "started")

    def __init__(self, generation: int, started: float) -> None:
        self.generation = generation
        self.started = started


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why every call is refused, and until when.

    Attributes:
        until: Monotonic; math.inf for an override without an end.
        forced: Whether an operator said so, for a `reason`.
        failure: Name of the exception's class that opened the breaker.
    """

    until: float
    forced: bool
    reason: str | None
    failure: str | None

    def error(self, dependency: str, left: float) -> CircuitOpen:
        """The error of a call that came `left` seconds too early.

        As CircuitOpen(...) makes it, in half the time: it is what happens most in an incident.
        """
        error: CircuitOpen = _fresh(CircuitOpen)
        error.dependency = dependency
        error.retry_after = None if left == math.inf else left
        error.state = "open"
        error.forced = self.forced
        error.override_reason = self.reason
        error.last_failure = self.failure
        return error


_fresh = Exception.__new__
