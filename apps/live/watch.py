"""What this process keeps of an environment from one frame to the next, for all who look."""

import threading
import time
from typing import Any

from apps.live.scores import Scores
from apps.live.trends import Trends
from apps.telemetry.selectors.recent import Recent


class Watch:
    """Of one environment; who reads by it holds `lock`."""

    def __init__(self, environment_id: int) -> None:
        self.environment_id = environment_id
        self.lock = threading.Lock()
        self.recent = Recent(environment_id)
        self.trends = Trends(environment_id)
        self.scores = Scores(environment_id)
        self._kept: tuple[float, dict[str, Any]] = (-1e9, {})  # since when, by the monotonic clock

    def keep(self, picture: dict[str, Any]) -> None:
        """For a page that is asked for soon."""
        self._kept = (time.monotonic(), picture)

    def kept(self, *, seconds: float, revision: int) -> dict[str, Any] | None:
        """The last picture, if it is of this revision and not older than that."""
        at, picture = self._kept
        is_new = time.monotonic() - at < seconds and picture["revision"] == revision
        return picture if is_new else None


_watches: dict[int, Watch] = {}
_lock = threading.Lock()


def of(environment_id: int) -> Watch:
    """The one that pages and frames of this process share."""
    with _lock:
        return _watches.setdefault(environment_id, Watch(environment_id))
