"""When a second copy of a call is sent: after a fixed time, or when most would have answered."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

QUANTILE = 0.95
LEAST = 20  # durations before which nobody knows what is slow
KEPT = 256
RENEWED = 16  # durations after which the quantile is worked out anew
SHORTEST = 0.001  # seconds; an event loop's timers are no finer


class HedgeRules(Struct, frozen=True, kw_only=True):
    """Effective hedging settings (`holdfast.spec`).

    Attributes:
        after_seconds: Wait before the second copy; 0 for the observed 95th percentile.
    """

    after_seconds: float

    @classmethod
    def of(cls, settings: Mapping[str, Any], *, is_idempotent: bool) -> HedgeRules | None:
        """Rules from effective settings; None if no call is sent a second time."""
        if not (settings["enabled"] and is_idempotent):
            return None
        return cls(after_seconds=settings["after_seconds"])

    def delay(self, observed: Durations) -> float | None:
        """Seconds until the second copy; None while too little was observed."""
        return self.after_seconds or observed.quantile


class Durations:
    """How long the newest first copies took until they answered.

    One that lost to a second copy counts as the wait for that: left out, it would be missing at
    the slow end, and the quantile would sink until every call was sent twice. Safe for threads.

    Attributes:
        quantile: The 95th percentile in seconds; None until there are enough.
    """

    __slots__ = ("_at", "_kept", "_lock", "quantile")

    def __init__(self) -> None:
        self.quantile: float | None = None
        self._kept = array("d")
        self._at = 0
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Keep one more."""
        with self._lock:
            if len(self._kept) < KEPT:
                self._kept.append(seconds)
            else:
                self._kept[self._at % KEPT] = seconds
            self._at += 1
            if self._at == LEAST or (self._at > LEAST and self._at % RENEWED == 0):
                in_order = sorted(self._kept)
                at = in_order[math.ceil(QUANTILE * len(in_order)) - 1]
                self.quantile = max(at, SHORTEST)

    def reset_after_fork(self) -> None:
        """A child starts with a lock of its own; what was observed holds there too."""
        self._lock = threading.Lock()
