"""The lines in the tiles: calls and failures of the last ten minutes."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypedDict

SPAN_SECONDS = 20  # of a point of a line, in whole windows of 10 s
SPANS = 30  # points of a line: ten minutes


class Trend(TypedDict):
    """A line of `SPANS` points, oldest first."""

    calls: list[int]
    errors: list[int]


def span_start(instant: datetime) -> datetime:
    """The start of the span of a line's point that `instant` lies in."""
    seconds = int(instant.timestamp())
    return datetime.fromtimestamp(seconds - seconds % SPAN_SECONDS, UTC)


def trend(windows: Iterable[tuple[datetime, int, int]], start: datetime) -> Trend:
    """The line of (start, calls, failures) from `start` on."""
    line = Trend(calls=[0] * SPANS, errors=[0] * SPANS)
    for at, calls, failures in windows:
        span = int((at - start).total_seconds() // SPAN_SECONDS)
        line["calls"][span] += calls
        line["errors"][span] += failures
    return line
