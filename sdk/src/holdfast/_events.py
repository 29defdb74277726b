"""What happened: kept for the next report, and told to listeners, never under a lock."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from holdfast.clock import Clock

log = logging.getLogger("holdfast")

MOST_EVENTS = 200  # of one report
MOST_UNDELIVERED = 1_000
SAMPLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        at: Seconds since 1970 UTC.
        type: `entity.past_tense`, such as "breaker.state_changed".
        dependency: Name; None for what concerns no single one.
        thread: Identifier of the thread it happened in, which need not be the one that tells it.
    """

    at: float
    type: str
    dependency: str | None
    data: dict[str, Any] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident, repr=False, compare=False)

    def as_reported(self) -> dict[str, Any]:
        """The event as reports send it."""
        stamp = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")
        reported: dict[str, Any] = {"at": stamp, "type": self.type, "data": self.data}
        return reported if self.dependency is None else reported | {"dependency": self.dependency}


Listener = Callable[[Event], None]


class Events:
    """Collects events of one engine. Safe for threads.

    Listeners run in the thread that caused the event, after all locks are released, one event at
    a time. One that raises is counted and logged; one that is slow delays only that thread.
    """

    def __init__(self, clock: Clock) -> None:
        self.listeners: list[Listener] = []
        self.listener_errors = 0
        self.dropped = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._delivering = threading.Lock()
        self._undelivered: deque[Event] = deque()
        self._unreported: deque[Event] = deque()
        self._held = _Held()
        self._samples: dict[tuple[str, str | None], _Sample] = {}

    def emit(
        self, kind: str, dependency: str | None, data: dict[str, Any], *, report: bool = True
    ) -> None:
        """Record an event; `report=False` tells listeners only."""
        event = Event(at=self._clock.wall(), type=kind, dependency=dependency, data=data)
        with self._lock:
            if report:
                self._add(self._unreported, event, MOST_EVENTS)
            if self.listeners:
                self._add(self._undelivered, event, MOST_UNDELIVERED)
        if not self._held.depth:
            self._deliver()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put off deliveries of this thread until the end, when its locks are released."""
        self._held.depth += 1
        try:
            yield
        finally:
            self._held.depth -= 1
            if not self._held.depth:
                self._deliver()

    def emit_sampled(self, kind: str, dependency: str | None, data: dict[str, Any]) -> None:
        """Record one of many alike: at most one a second, whose `count` says for how many."""
        now = self._clock.monotonic()
        with self._lock:
            sample = self._samples.setdefault((kind, dependency), _Sample())
            sample.count += 1
            sample.data = data
            due = sample.take(now)
        if due is not None:
            self.emit(kind, dependency, due)

    def drain(self) -> list[Event]:
        """Events since this was last asked, oldest first, at most 200."""
        with self._lock:
            late = [(*key, sample.take(None)) for key, sample in self._samples.items()]
        for kind, dependency, data in late:
            if data is not None:
                self.emit(kind, dependency, data)
        with self._lock:
            drained = list(self._unreported)
            self._unreported.clear()
        return drained

    def reset_after_fork(self) -> None:
        """A child tells nothing of what its parent did."""
        self._lock = threading.Lock()
        self._delivering = threading.Lock()
        self._undelivered.clear()
        self._unreported.clear()
        self._samples.clear()
        self.dropped = self.listener_errors = 0

    def _add(self, queue: deque[Event], event: Event, most: int) -> None:
        if len(queue) >= most:
            queue.popleft()
            self.dropped += 1
        queue.append(event)

    def _deliver(self) -> None:
        # Whoever holds `_delivering` delivers for all; asked again after letting go, so that an
        # event added in between is never left lying.
        while self._undelivered and self._delivering.acquire(blocking=False):
            try:
                self._deliver_all()
            finally:
                self._delivering.release()

    def _deliver_all(self) -> None:
        while True:
            try:
                event = self._undelivered.popleft()
            except IndexError:
                return
            for listener in tuple(self.listeners):
                try:
                    listener(event)
                except Exception:
                    self.listener_errors += 1
                    log.exception("listener.failed", extra={"event_type": event.type})


class _Held(threading.local):
    depth = 0


class _Sample:
    __slots__ = ("count", "data", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = float("-inf")
        self.data: dict[str, Any] = {}

    def take(self, now: float | None) -> dict[str, Any] | None:
        """What to emit, if it is time; None as `now` means it is."""
        if not self.count or (now is not None and now - self.last < SAMPLE_SECONDS):
            return None
        count, self.count = self.count, 0
        self.last = self.last if now is None else now
        return self.data | {"count": count}
