"""Accepted reports wait in memory and are written down once a second, or at once if they matter."""

import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import DataError, IntegrityError

from apps.core import clock, pace
from apps.telemetry.counting import Ledger
from apps.telemetry.reports import Breaker, Report
from apps.telemetry.rows import Arrival

log = structlog.get_logger(__name__)

# Of reports that wait. Little, so that they can be written down when the process is told to stop:
# who is refused keeps what it counted, and loses nothing. Acknowledgements are taken far beyond,
# but not without end, lest the process die with everything it holds.
FULL_BYTES = 4 * 1024 * 1024
LIMIT_BYTES = 32 * FULL_BYTES
WRITTEN_AT = 0.125  # share of that room, from which on nobody waits for the second to be over
RETRY_AFTER_SECONDS = 5
REMEMBERED = 50_000  # instances whose last word is kept in memory
MOST_ROWS = 500  # of one transaction
COALESCE_SECONDS = 0.03  # acknowledgements that come together are written together


@dataclass(slots=True)
class Word:
    """What an instance said last: by it an acknowledgement is told from routine."""

    sequence: int
    policy: tuple[Any, ...]
    breakers: dict[str, Breaker]

    def is_repeated_by(self, report: Report) -> bool:
        """Whether the report says nothing else, of all or of some of it."""
        known = self.breakers.get
        return policy_of(report) == self.policy and all(
            (said := calls.breaker) is None or said.is_as(known(name))
            for name, calls in report.dependencies.items()
        )

    def is_repeated_in_full_by(self, report: Report) -> bool:
        """The same of a report that repeats it: whether it is silent on nothing."""
        return len(self.breakers) == sum(
            calls.breaker is not None for calls in report.dependencies.values()
        )

    def take(self, report: Report) -> None:
        """Be what its instance said last; of what it is silent on, what it said before."""
        self.sequence, self.policy = report.sequence, policy_of(report)
        for name, calls in report.dependencies.items():
            if calls.breaker is not None:
                self.breakers[name] = calls.breaker


def policy_of(report: Report) -> tuple[Any, ...]:
    """What it says it runs, and what of it it refused."""
    refused = tuple((entry.path, entry.revision, entry.code) for entry in report.refused)
    return report.epoch, report.applied_revision, refused


class Ingest:
    """The reports this process has accepted and not yet written down.

    `accept` may be called from any thread and never waits for the database. `flush` writes down
    everything that waits; if it fails, everything it did not commit waits again.
    """

    def __init__(self, *, full_bytes: int = FULL_BYTES, limit_bytes: int = LIMIT_BYTES) -> None:
        self.full_bytes = full_bytes
        self.limit_bytes = limit_bytes
        self.wake: Callable[[], None] = lambda: None  # called when something must not wait
        self.ledger = Ledger()
        # Services reports were accepted of, by environment and slug; neither ever changes.
        self.services: dict[tuple[int, str], int] = {}
        self._lock = threading.Lock()  # of all below
        self._queue: deque[Arrival] = deque()
        self._bytes = 0
        self._is_urgent = False
        self._words: OrderedDict[UUID, Word] = OrderedDict()
        self._flushing = threading.Lock()

    @property
    def full_share(self) -> float:
        """How much of the room for waiting reports is taken; more than 1 with acknowledgements."""
        return self._bytes / self.full_bytes

    def __len__(self) -> int:
        """How many reports wait."""
        return len(self._queue)

    def accept(
        self, environment_id: int, service_id: int, report: Report, size: int
    ) -> float | None:
        """Queue a report of `size` bytes; returns the seconds until the next one is to come.

        None: there is no room for it.

        Acknowledgements (another policy, another state of a breaker, hello and goodbye) find
        room where others do not, and are written down at once.
        """
        now, told = clock.now(), pace.current.pace
        silent_at = now + timedelta(seconds=told.silent_seconds)
        instance = report.instance
        with self._lock:
            last = self._words.get(instance)
            is_news = report.stopping or last is None or not last.is_repeated_by(report)
            if self._bytes + size > (self.limit_bytes if is_news else self.full_bytes):
                return None
            follows = None
            if last is None:
                last = self._words[instance] = Word(0, (), {})
            elif not is_news and last.is_repeated_in_full_by(report):
                follows = last.sequence
            last.take(report)
            self._words.move_to_end(instance)
            if len(self._words) > REMEMBERED:
                self._words.popitem(last=False)
            self._queue.append(
                Arrival(environment_id, service_id, report, size, now, silent_at, follows)
            )
            self._bytes += size
            self._is_urgent = self._is_urgent or is_news
            is_filling = self._bytes >= self.full_bytes * WRITTEN_AT
        if is_news or is_filling:
            self.wake()
        return told.report_seconds

    def run(self, stopping: threading.Event) -> None:
        """One round of the background loop."""
        if self._is_urgent:
            stopping.wait(COALESCE_SECONDS)
        self.flush()

    def flush(self) -> None:
        """Write down what waits now, in transactions of at most about 500 rows.

        Raises:
            DatabaseError: the database did not take it; what is not committed waits again.
        """
        with self._flushing:
            self._is_urgent = False
            waiting = len(self._queue)
            while waiting > 0 and (arrivals := self._take()):
                waiting -= len(arrivals)
                try:
                    self._write(arrivals)
                except BaseException:
                    self._put_back(arrivals)
                    raise

    def _take(self) -> list[Arrival]:
        """The oldest reports, one per instance: the second waits for the first to be counted."""
        taken: dict[UUID, Arrival] = {}
        later: list[Arrival] = []
        windows: dict[int, set[str]] = defaultdict(set)
        rows = 0
        with self._lock:
            while self._queue and rows < MOST_ROWS:
                arrival = self._queue.popleft()
                if arrival.report.instance in taken:
                    later.append(arrival)
                    continue
                taken[arrival.report.instance] = arrival
                names = windows[arrival.service_id]
                before = len(names)
                names.update(arrival.report.dependencies)
                rows += 2 + len(arrival.report.events) + len(names) - before
                self._bytes -= arrival.size
            self._queue.extendleft(reversed(later))
        return list(taken.values())

    def _put_back(self, arrivals: list[Arrival]) -> None:
        with self._lock:
            self._queue.extendleft(reversed(arrivals))
            self._bytes += sum(arrival.size for arrival in arrivals)

    def _write(self, arrivals: list[Arrival]) -> None:
        """Write them; if the database finds fault with a value, only its report is lost."""
        try:
            self.ledger.count(arrivals)
        except (DataError, IntegrityError) as error:
            if len(arrivals) > 1:
                for arrival in arrivals:
                    self._write([arrival])
                return
            self.services.clear()  # the database may have been replaced
            log.exception(
                "report.lost",
                instance=str(arrivals[0].report.instance),
                service_id=arrivals[0].service_id,
                error=type(error).__name__,
            )


current = Ingest()
"""What this process has accepted."""
