"""How healthy each service is, for the figure in its head."""

import time
from collections.abc import Mapping

from apps.health.selectors.scores import Health, scores

KEPT_SECONDS = 10.0  # no window ends in it
REST = 20  # times as long as they took to make until they are made anew


class Scores:
    """Of one environment's services; made anew now and then, not every second."""

    def __init__(self, environment_id: int) -> None:
        self.environment_id = environment_id
        self._again_at = 0.0  # by the monotonic clock
        self._services: Mapping[str, Health] = {}

    def read(self, letters: Mapping[str, int]) -> Mapping[str, Health]:
        """By slug; `letters`: how many dead letters wait, by service."""
        began = time.monotonic()
        if began >= self._again_at:
            found = scores(self.environment_id, letters)
            self._services = {each.name: each for each in found.services}
            took = time.monotonic() - began
            self._again_at = began + max(KEPT_SECONDS, REST * took)
        return self._services
