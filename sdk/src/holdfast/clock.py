"""Time as the SDK reads it. Everything takes a clock, so that tests can bring their own."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """The machine's clocks.

    Durations and leases are counted on `monotonic` only; `wall` stamps what leaves the process.
    """

    def monotonic(self) -> float:
        """Seconds that never jump; comparable within one machine's boot only."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970 UTC; may jump."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block this thread for that long."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this coroutine for that long."""
        await asyncio.sleep(seconds)
