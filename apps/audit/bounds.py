"""How many refusals of one actor are written down. The log only grows, so nobody may fill it."""

import threading
from collections import OrderedDict

from apps.core.actor import Actor

MOST_A_MINUTE = 60  # entries of one actor, by this process
_REMEMBERED = 10_000  # actors


class Bounds:
    """How many refusals of each actor were written down in the minute that runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()

    def take(self, actor: Actor, now: float) -> bool:
        """Whether one more may be written; `now` in seconds, by a clock that never goes back."""
        who, minute = (actor.kind, actor.id), int(now // 60)
        with self._lock:
            counted, count = self._counts.pop(who, (minute, 0))
            count = count + 1 if counted == minute else 1
            self._counts[who] = (minute, count)
            if len(self._counts) > _REMEMBERED:
                self._counts.popitem(last=False)
        return count <= MOST_A_MINUTE


current = Bounds()
