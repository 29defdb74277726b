"""How often a token nobody knows may cost a query: a flood of bad tokens must cost none."""

import threading
import time
from collections.abc import Callable

UNKNOWN_SECONDS = 5.0  # for which a selector that was looked up in vain stays unknown
PER_SECOND = 10


class Lookups:
    """A cap on look-ups of unknown selectors, and a short memory of those that were in vain.

    Holds at most what the cap lets through in `UNKNOWN_SECONDS`.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._left = float(PER_SECOND)
        self._filled_at = monotonic()
        self._unknown: dict[str, float] = {}  # selector: until when

    def may(self, selector: str) -> bool:
        """Whether `take` would allow it now."""
        with self._lock:
            return self._may(selector)

    def take(self, selector: str) -> bool:
        """Use up one look-up for this selector; False if it is not allowed now."""
        with self._lock:
            allowed = self._may(selector)
            if allowed:
                self._left -= 1
            return allowed

    def missed(self, selector: str) -> None:
        """There is no such token: not to be looked up again for a while."""
        with self._lock:
            self._unknown[selector] = self._monotonic() + UNKNOWN_SECONDS

    def _may(self, selector: str) -> bool:
        now = self._monotonic()
        self._left = min(PER_SECOND, self._left + (now - self._filled_at) * PER_SECOND)
        self._filled_at = now
        self._unknown = {known: until for known, until in self._unknown.items() if until > now}
        return self._left >= 1 and selector not in self._unknown
