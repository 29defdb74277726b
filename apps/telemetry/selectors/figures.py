"""Figures of the last minute, for who looks again every second."""

import time
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Q

from apps.core import clock
from apps.telemetry import rules
from apps.telemetry.models import Window
from apps.telemetry.selectors.columns import Gathered, merged, sums
from holdfast import histogram

SECONDS = 60  # that figures are of, in whole windows of 10 s
OPEN_SECONDS = 10  # after its end a window may still be written to
REST = 3  # times as long as reading took until figures are read again
SUMMED = ("calls", "successes", "failures", "server_errors")

Key = tuple[int, str]  # id of the service, and slug of the dependency; "": its own requests


class Sums(NamedTuple):
    """What was counted; of a service's own requests only `calls` and `server_errors` are."""

    calls: int = 0
    successes: int = 0
    failures: int = 0
    server_errors: int = 0

    @property
    def judged(self) -> int:
        return self.successes + self.failures


NOTHING = Sums()


def share(part: int, whole: int) -> float | None:
    """None: too few to say."""
    return part / whole if whole >= rules.LEAST_SAMPLES else None


class Figures:
    """Counts and latencies of one environment's windows.

    Windows that nobody writes to any more are added up by the database once in ten seconds, the
    newest at every reading; and the latencies of those cells only that somebody asks for.
    """

    def __init__(self, environment_id: int) -> None:
        self.environment_id = environment_id
        self.sums: Mapping[Key, Sums] = {}
        self.elapsed = 1.0  # seconds that they cover
        self._settled: tuple[datetime, datetime, dict[Key, Sums]] | None = None
        self._p95: dict[Key, float | None] = {}
        self._again_at = 0.0  # by the monotonic clock

    def look(self) -> None:
        """Read anew; at most a quarter of the time, however large the environment is."""
        if time.monotonic() < self._again_at:
            return
        began = time.monotonic()
        now = clock.now()
        start = rules.floor(now - timedelta(seconds=SECONDS), Window.Span.SHORT)
        settled = rules.floor(now - timedelta(seconds=OPEN_SECONDS), Window.Span.SHORT)
        if self._settled is None or self._settled[:2] != (start, settled):
            self._settled = (start, settled, self._added_up(start, settled))
        self.sums = _together(self._settled[2], self._added_up(settled, None))
        self.elapsed = (now - start).total_seconds()
        self._p95 = {}
        self._again_at = time.monotonic() + REST * (time.monotonic() - began)

    def time(self, keys: Collection[Key]) -> None:
        """Read the latencies of these, unless they were since the last look; at most one query."""
        missing = set(keys) - self._p95.keys()
        if not missing or self._settled is None:
            return
        found = self._latencies(missing, self._settled[0])
        for key in missing:
            counts = found.get(key, {})
            is_enough = histogram.total(counts) >= rules.LEAST_SAMPLES
            self._p95[key] = histogram.quantile(counts, 0.95) if is_enough else None

    def p95(self, key: Key) -> float | None:
        """Seconds; None: too few samples, or nobody asked to `time` it."""
        return self._p95.get(key)

    def _windows(self, start: datetime, end: datetime | None) -> Any:
        until = Q() if end is None else Q(start__lt=end)
        rows = Window.objects.of_environment(self.environment_id)
        return rows.filter(until, span=Window.Span.SHORT, start__gte=start)

    def _added_up(self, start: datetime, end: datetime | None) -> dict[Key, Sums]:
        rows = self._windows(start, end).values_list("service_id", "dependency").order_by()
        summed = rows.annotate(**sums(SUMMED))
        return {(row[0], row[1]): Sums._make(row[2:]) for row in summed.iterator(chunk_size=5000)}

    def _latencies(self, keys: Collection[Key], start: datetime) -> dict[Key, dict[str, int]]:
        rows = self._windows(start, None).filter(
            service_id__in={service for service, _dependency in keys},
            dependency__in={dependency for _service, dependency in keys},
        )
        gathered = rows.values_list("service_id", "dependency").order_by()
        found = gathered.annotate(latencies=Gathered("latency")).iterator(chunk_size=2000)
        return {(row[0], row[1]): merged(row[2]) for row in found if (row[0], row[1]) in keys}


def _together(older: Mapping[Key, Sums], newer: Mapping[Key, Sums]) -> dict[Key, Sums]:
    found = dict(older)
    for key, new in newer.items():
        known = older.get(key)
        found[key] = new if known is None else Sums._make(map(int.__add__, known, new))
    return found
