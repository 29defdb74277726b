"""What windows say of any span of time, of one service, one dependency or everything.

A span is read from the longest windows that fill its steps and, where those are not made yet, from
shorter ones. Longer windows are made of settled ones, the oldest first and of all cells at a time,
so that whatever is older than the newest of them is whole. The newest may be being written: of it
each cell is taken from the long row if that is there, and from its parts otherwise.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import add
from typing import Any

from django.db.models import QuerySet

from apps.core import clock
from apps.telemetry import rules
from apps.telemetry.models import Sum, Window
from apps.telemetry.selectors.columns import LATENCY, merged
from apps.telemetry.services import KEPT
from holdfast import histogram

SPANS: list[int] = sorted(KEPT, reverse=True)
LONGEST = max(KEPT.values())
Row = tuple[datetime, dict[str, int], list[int]]  # start, latency, COUNTERS
MOST_LOOKS = 10_080  # instants looked up one by one: minutes of seven days


@dataclass(frozen=True)
class Axis:
    """The steps of a chart: from `start`, a multiple of `step` seconds, to `end`."""

    start: datetime
    end: datetime  # the last step may be over later
    step: int

    @property
    def starts(self) -> list[datetime]:
        step = timedelta(seconds=self.step)
        return [self.start + number * step for number in range(-(-(self.end - self.start) // step))]

    def seconds(self, start: datetime) -> float:
        """How much of the step that begins at `start` is in it."""
        return min(float(self.step), (self.end - start).total_seconds())


@dataclass(frozen=True)
class Series:
    """What was counted in each step, None where nothing was; and in all of them."""

    steps: list[rules.Counts | None]
    total: rules.Counts


@dataclass(frozen=True)
class Cell:
    """One service's calls of one dependency; its own requests, where that is empty."""

    service_id: int
    dependency: str

    def rows(self) -> QuerySet[Window]:
        return Window.objects.filter(service=self.service_id, dependency=self.dependency)


@dataclass(frozen=True)
class Many:
    """What many cells of an environment come to: of one service, of one dependency, of all."""

    environment_id: int
    of: str  # Sum.Of
    slug: str = ""

    def rows(self) -> QuerySet[Sum]:
        here = Sum.objects.of_environment(self.environment_id)
        return here.filter(of=self.of, slug=self.slug)


def axis_of(since: datetime, until: datetime) -> Axis:
    """The steps of a chart from `since` to `until`, as far as that is over."""
    now = clock.now()
    lasting: dict[int, datetime] = {span: now - kept for span, kept in KEPT.items()}
    lasting[SPANS[0]] = datetime.min.replace(tzinfo=UTC)  # nothing is longer
    end = min(until, now)
    step = rules.step_of(since, end, lasting)
    return Axis(rules.floor(since, step), end, step)


def series(of: Cell | Many, axis: Axis) -> Series:
    """What was counted along the axis. At most nine queries, whatever its length."""
    numbers: dict[datetime, list[int]] = {}
    latencies: dict[datetime, dict[str, int]] = defaultdict(dict)
    for start, latency, counted in _counted(of, axis):
        step = rules.floor(start, axis.step)
        before = numbers.get(step)
        numbers[step] = counted if before is None else list(map(add, before, counted))
        histogram.merge(latencies[step], latency)
    by_start = {
        step: rules.Counts(dict(zip(rules.COUNTERS, counted, strict=True)), latencies[step])
        for step, counted in numbers.items()
    }
    total = rules.Counts()
    for counts in by_start.values():
        total.add(counts)
    return Series([by_start.get(start) for start in axis.starts], total)


def _counted(of: Cell | Many, axis: Axis) -> Iterator[Row]:
    """Every window along the axis, from the longest there is, none twice."""
    since, end = axis.start, axis.end
    made: dict[int, set[datetime]] = {}  # starts of the windows that were taken, by span
    for span in SPANS[SPANS.index(rules.longest_in(SPANS, axis.step)) :]:
        # Looked up before the rows: one that is made in between is read from its parts.
        oldest, newest = (_outermost(of, span, order) for order in ("start", "-start"))
        longer = dict(made)
        made[span] = set()
        if oldest is None or newest is None:
            continue
        for row in _rows(of, span, max(since, oldest), end):
            if not any(rules.floor(row[0], other) in made[other] for other in longer):
                made[span].add(row[0])
                yield row
        since = max(since, newest)


def _outermost(of: Cell | Many, span: int, order: str) -> datetime | None:
    """Start of the first window of a span there is, whoever's; with a minus, of the last."""
    rows = of.rows().model._default_manager.filter(span=span)
    return rows.order_by(order).values_list("start", flat=True).first()


def _rows(of: Cell | Many, span: int, since: datetime, end: datetime) -> Iterator[Row]:
    rows: QuerySet[Any] = of.rows().filter(span=span)
    length = timedelta(seconds=span)
    count = max(0, -(-(end - since) // length))
    if isinstance(of, Cell) and count <= MOST_LOOKS:
        # Each instant by itself: one look at an index that begins with the instants, where a range
        # of it would be everybody's windows.
        rows = rows.filter(start__in=[since + number * length for number in range(count)])
    else:
        rows = rows.filter(start__gte=since, start__lt=end)
    columns = ("start", LATENCY, *rules.COUNTERS)
    for start, latency, *numbers in rows.values_list(*columns).iterator(chunk_size=2000):
        yield start, merged(latency), numbers
