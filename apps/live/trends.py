"""How calls and failures went in the last minutes, for the lines in the tiles."""

from collections.abc import Iterable, Mapping
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
        self._lines: dict[Name, lines.Trend | None] = {}

    def read(self, names: Iterable[Name]) -> Mapping[Name, lines.Trend | None]:
        """Of these cells at least, up to the newest span that is over. At most one query."""
        end = lines.span_start(clock.now())
        if end != self._end:
            self._end, self._lines = end, {}
        missing = {name for name in names if name not in self._lines}
        if missing:
            start = end - timedelta(seconds=lines.SPAN_SECONDS * lines.SPANS)
            found = telemetry.windows(self.environment_id, missing, start=start, end=end)
            for name in missing:
                counted = found.get(name)
                self._lines[name] = None if counted is None else lines.trend(counted, start)
        return self._lines
