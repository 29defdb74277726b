"""Which tokens were used of late, kept in memory until a loop of its own writes it down.

Those who answer must not wait for the database for it, nor those who hand on what is published.
"""

import threading
from collections.abc import Callable, Collection

WRITE_SECONDS = 60.0


class Uses:
    """Tokens used since they were last written down. Everything may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: set[int] = set()

    def add(self, token_ids: Collection[int]) -> None:
        with self._lock:
            self._ids.update(token_ids)

    def write(self, write: Callable[[list[int]], object]) -> None:
        """Have them written down, sorted; what could not be written is kept for the next time."""
        with self._lock:
            ids, self._ids = self._ids, set()
        if not ids:
            return
        try:
            write(sorted(ids))
        except BaseException:
            self.add(ids)
            raise


current = Uses()
