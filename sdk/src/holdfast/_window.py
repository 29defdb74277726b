"""The outcomes a breaker judges: the last calls, or the last seconds. Not thread-safe alone.

`_lane` writes to them without the breaker's lock. So what must be seen as a whole is written in one
step, as it is said there.
"""

from __future__ import annotations

from typing import Protocol

OK, FAILED, SLOW = 0, 1, 2  # bits of an outcome: failed and slow may come together
BUCKETS = 10


class Window(Protocol):
    """Counts of outcomes, kept current."""

    total: int
    failed: int
    slow: int

    def record(self, outcome: int, now: float) -> None:
        """Add one outcome at a monotonic instant."""
        ...

    def expire(self, now: float) -> None:
        """Forget what is too old at that instant."""
        ...


class CountWindow:
    """The last `size` outcomes.

    Attributes:
        ring, next, last: The outcomes, the place of the oldest, and the last place there is.
        is_filling: Whether fewer than `size` were recorded so far.
        is_clean: Whether all `size` are plain successes, so that one more changes nothing.
    """

    __slots__ = (
        "failed",
        "is_clean",
        "is_filling",
        "last",
        "next",
        "ring",
        "size",
        "slow",
        "total",
    )

    def __init__(self, size: int) -> None:
        self.size = size
        self.total = self.failed = self.slow = 0
        self.ring = bytearray(size)
        self.next = 0
        self.last = size - 1
        self.is_filling = True
        self.is_clean = False

    def record(self, outcome: int, now: float) -> None:
        """Add one outcome in place of the oldest."""
        old = self.ring[self.next]  # one step, up to the end
        self.ring[self.next] = outcome
        self.failed += (outcome & FAILED) - (old & FAILED)
        self.slow += (outcome >> 1) - (old >> 1)
        self.next = self.next + 1 if self.next < self.last else 0
        if self.is_filling:
            self.total += 1
            self.is_filling = self.total < self.size
        self.is_clean = not (self.is_filling or self.failed or self.slow)

    def expire(self, now: float) -> None:
        """Nothing: calls do not age."""

    def outcomes(self) -> bytes:
        """Recorded outcomes, oldest first."""
        if self.total < self.size:
            return bytes(self.ring[: self.total])
        return bytes(self.ring[self.next :] + self.ring[: self.next])


class TimeWindow:
    """The outcomes of the last `seconds`, in ten buckets that expire as a whole.

    Attributes:
        bucket: Total, failed and slow ones of the current bucket.
        until: Monotonic end of the current bucket.
    """

    __slots__ = (
        "_buckets",
        "_current",
        "_width",
        "bucket",
        "failed",
        "is_clean",
        "ring",
        "seconds",
        "slow",
        "total",
        "until",
    )

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self.total = self.failed = self.slow = 0
        self._width = seconds / BUCKETS
        self._current = int(now / self._width)
        self._buckets = [[0, 0, 0] for _ in range(BUCKETS)]
        self.bucket = self._buckets[self._current % BUCKETS]
        self.until = (self._current + 1) * self._width
        self.ring = None  # as a count window has one, and this has not
        self.is_clean = False  # never: successes age as well

    def record(self, outcome: int, now: float) -> None:
        """Add one outcome to the current bucket."""
        self.add(1, outcome & FAILED, outcome >> 1, now)

    def add(self, total: int, failed: int, slow: int, now: float) -> None:
        """Add several outcomes to the current bucket."""
        self.expire(now)
        bucket = self.bucket  # one step, up to the end
        bucket[0] += total
        bucket[1] += failed
        bucket[2] += slow
        self.total += total
        self.failed += failed
        self.slow += slow

    def expire(self, now: float) -> None:
        """Forget every bucket that has passed, however many at once."""
        newest = int(now / self._width)
        for number in range(self._current + 1, min(newest, self._current + BUCKETS) + 1):
            bucket = self._buckets[number % BUCKETS]  # one step, up to the next bucket
            self.total -= bucket[0]
            self.failed -= bucket[1]
            self.slow -= bucket[2]
            bucket[0] = bucket[1] = bucket[2] = 0
        if newest > self._current:  # one step, up to the end
            self._current = newest
            self.bucket = self._buckets[newest % BUCKETS]
            self.until = (newest + 1) * self._width


def _idle() -> CountWindow:
    window = CountWindow(1)
    window.record(OK, 0.0)
    return window


IDLE = _idle()
"""What successes are written to that nobody counts: it stays as it is."""

SHUT = CountWindow(1)
"""What no success can be written to without the breaker's lock."""


def new_window(kind: str, calls: int, seconds: float, now: float) -> CountWindow | TimeWindow:
    """An empty window of that kind: "count" or "time"."""
    return CountWindow(calls) if kind == "count" else TimeWindow(seconds, now)


def carry_over(old: CountWindow | TimeWindow, new: CountWindow | TimeWindow, now: float) -> None:
    """Put what an old window knows into a new, empty one; as much of it as fits.

    Between windows of different kinds only the counts survive, not their order or age.
    """
    old.expire(now)
    if isinstance(old, CountWindow) and isinstance(new, CountWindow):
        for outcome in old.outcomes()[-new.size :]:
            new.record(outcome, now)
    elif isinstance(new, TimeWindow):
        new.add(old.total, old.failed, old.slow, now)
    elif old.total:
        share = min(new.size, old.total) / old.total
        failed, slow = round(old.failed * share), round(old.slow * share)
        for number in range(min(new.size, old.total)):
            new.record(FAILED * (number < failed) | SLOW * (number < slow), now)
