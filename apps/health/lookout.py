"""What this process saw lately of the places it asks, to notice that it is itself cut off.

If nearly all of several unrelated places fail at once, the network of the one who asks is the
likelier fault, and nobody is called down on its word. In memory: each process has a network of its
own, and judges by what it saw itself.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from apps.health.rules import standing

ROUND_SECONDS = 15.0  # in which every place that fails is asked again


@dataclass(frozen=True)
class Sight:
    """How many places were seen, and how many of them failed."""

    failing: int
    places: int

    @property
    def is_cut_off(self) -> bool:
        return standing.is_cut_off(self.failing, self.places)


class Lookout:
    """Places by name; two checks of one place are one. For one thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: dict[str, tuple[float, bool]] = {}
        self._failing_since: dict[int, tuple[float, int]] = {}  # and how often in a row
        self.is_cut_off = False

    def saw(self, check_id: int, place: str, *, has_failed: bool) -> bool:
        """Note what came of asking a place; whether it is a check's first failure in a row."""
        now = self._monotonic()
        self._seen[place] = now, has_failed
        since, times = self._failing_since.pop(check_id, (now, 0))
        if has_failed:
            self._failing_since[check_id] = since, times + 1
        elif self.is_cut_off:
            self.is_cut_off = self.sight().is_cut_off
        return has_failed and not times

    def doubts(self, check_id: int) -> bool:
        """Whether a check's failure is the prober's: as many others failed while it did."""
        since, times = self._failing_since.get(check_id, (self._monotonic(), 0))
        if not self.is_cut_off:
            self.is_cut_off = self.sight(since if times > 1 else None).is_cut_off
        return self.is_cut_off

    def sight(self, since: float | None = None) -> Sight:
        """What was seen from an instant on, or within a round."""
        start = self._monotonic() - ROUND_SECONDS if since is None else since
        seen = [has_failed for at, has_failed in self._seen.values() if at >= start]
        return Sight(sum(seen), len(seen))

    def look_again(self) -> None:
        """Forget places not seen for long; cut off with nothing seen is not cut off."""
        start = self._monotonic() - 4 * ROUND_SECONDS
        self._seen = {name: seen for name, seen in self._seen.items() if seen[0] >= start}
        if not self._seen:
            self.is_cut_off = False
