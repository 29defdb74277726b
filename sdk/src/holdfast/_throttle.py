"""The adaptive throttle: send less to a dependency that takes less than half of what it is sent."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

TOLERANCE = 2.0  # calls sent for each one accepted, before any are refused
MOST = 0.9  # of the calls are refused; what is left notices when the dependency is back
WINDOW_SECONDS = 120.0
BUCKET_SECONDS = 10.0
DOUBT_BUCKETS = 1  # besides the newest one, in which a call under way may still be answered


class Bucket:
    """What was sent in ten seconds, and what became of it so far."""

    __slots__ = ("accepted", "sent", "start", "under_way")

    def __init__(self, start: float) -> None:
        self.start = start
        self.sent = self.accepted = self.under_way = 0


class Throttle:
    """Refuses a share of the calls that grows with the share the dependency does not accept.

    A call counts from when it is sent. One that is under way is held against the dependency only
    after 10 to 20 s: else the first calls after a pause, sent together, would be refused because
    none of them had an answer yet. Calls that are refused do not count, unlike in the source: so
    the share follows from what the dependency does with the calls it gets, and its own refusals
    never raise it. Instants passed in are monotonic seconds. Safe for threads.

    Source: *Site Reliability Engineering* (Google), chapter 21, "Client-Side Throttling".
    """

    __slots__ = ("_buckets", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: deque[Bucket] = deque()  # oldest first, none of them empty for long

    def refuses(self, now: float, rand: Callable[[], float]) -> float | None:
        """The share of calls that is refused, if this one is among them; else None."""
        sent, accepted = self.counts(now)
        share = _share(sent, accepted)
        return share if share > 0 and rand() < share else None

    def sent(self, now: float) -> Bucket:
        """Count a call that is sent; `ended` takes back what this returns."""
        start = now - now % BUCKET_SECONDS
        with self._lock:
            self._expire(now)
            if not self._buckets or self._buckets[-1].start < start:
                self._buckets.append(Bucket(start))
            newest = self._buckets[-1]
            newest.sent += 1
            newest.under_way += 1
        return newest

    def ended(self, bucket: Bucket, accepted: bool | None) -> None:
        """Say what became of a call; None if that says nothing of the dependency."""
        with self._lock:
            bucket.under_way -= 1
            if accepted is None:
                bucket.sent -= 1
            elif accepted:
                bucket.accepted += 1

    def counts(self, now: float) -> tuple[int, int]:
        """Calls of the last two minutes that are judged, and how many of them were accepted."""
        in_doubt = now - now % BUCKET_SECONDS - DOUBT_BUCKETS * BUCKET_SECONDS
        sent = accepted = 0
        with self._lock:
            self._expire(now)
            for bucket in self._buckets:
                sent += bucket.sent
                accepted += bucket.accepted
                if bucket.start >= in_doubt:
                    sent -= bucket.under_way
        return sent, accepted

    def figures(self, now: float) -> dict[str, float]:
        """What it goes by, for people."""
        sent, accepted = self.counts(now)
        return {"calls": sent, "accepted": accepted, "share": _share(sent, accepted)}

    def _expire(self, now: float) -> None:
        while self._buckets and self._buckets[0].start <= now - WINDOW_SECONDS:
            self._buckets.popleft()


def _share(sent: int, accepted: int) -> float:
    return min(MOST, max(0.0, (sent - TOLERANCE * accepted) / (sent + 1)))
