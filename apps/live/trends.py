"""How calls and failures went in the last minutes, for the lines in the tiles."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from apps.core import clock
from apps.live.rules import lines
from apps.telemetry import selectors as telemetry

Name = tuple[str, str]  # slugs of service and dependency


class Trends:
    """The lines of one environment; read anew when the newest span is over, not every second."""

    def __init__(self, environment_id: int) -> None:
        self.environment_id = environment_id
        self._end: datetime | None = None
        self._lines: Mapping[Name, lines.Trend] = {}

    def read(self) -> Mapping[Name, lines.Trend]:
        """By service and dependency, up to the newest span that is over. At most one query."""
        end = lines.span_start(clock.now())
        if end != self._end:
            start = end - timedelta(seconds=lines.SPAN_SECONDS * lines.SPANS)
            found = telemetry.windows(self.environment_id, start=start, end=end)
            self._lines = {name: lines.trend(each, start) for name, each in found.items()}
            self._end = end
        return self._lines
