"""How often services come and report: as set, and slower while this process has too much to do."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

SLOWEST = 8.0  # times slower than set
LATE_SECONDS = 0.1  # the event loop wakes so late on average: too much to do
FULL_SHARE = 0.25  # of the room for reports that wait: the database does not keep up
CALM_SECONDS = 30.0  # for so long, before services are let go again
MOST_JITTER = 0.3
# An instance is silent after so many intervals without a word. An interval is doubled at most once
# before a report, and 2 × (1 + MOST_JITTER) is less: who was slowed down never looks silent.
SILENT_INTERVALS = 3


@dataclass(frozen=True)
class Pace:
    """What clients are told: seconds between polls and reports, jitter as a share either way."""

    poll_seconds: float
    report_seconds: float
    jitter: float

    @property
    def longest_report_seconds(self) -> float:
        return self.report_seconds * (1 + self.jitter)

    @property
    def silent_seconds(self) -> float:
        """After how long without a report an instance told this is silent."""
        return SILENT_INTERVALS * self.report_seconds


class Pacer:
    """Slows services down a step at a time while this process is strained, and lets them go again.

    A step doubles both intervals. Acknowledgements of policies come at once at any pace.
    """

    def __init__(self, poll_seconds: float, report_seconds: float, jitter: float) -> None:
        self._set = Pace(poll_seconds, report_seconds, jitter)
        self._is_strained = False
        self._since = 0.0
        self.late_seconds = 0.0  # by which the event loop woke late in the last second
        self.factor = 1.0
        self.pace = self._set

    def observe(self, late_seconds: float, full_share: float, now: float) -> None:
        """Take note of one more second, at `now` on the monotonic clock."""
        self.late_seconds = late_seconds
        is_strained = late_seconds >= LATE_SECONDS or full_share >= FULL_SHARE
        if is_strained != self._is_strained:
            self._is_strained, self._since = is_strained, now
        patience = self.pace.longest_report_seconds if is_strained else CALM_SECONDS
        if now - self._since < patience:
            return
        self._since = now
        self._become(self.factor * 2 if is_strained else self.factor / 2)

    def _become(self, factor: float) -> None:
        factor = min(max(factor, 1.0), SLOWEST)
        if factor == self.factor:
            return
        usual = self._set
        self.factor = factor
        self.pace = Pace(
            usual.poll_seconds * factor,
            usual.report_seconds * factor,
            max(usual.jitter, min(usual.jitter * factor, MOST_JITTER)),
        )
        log.warning(
            "pace.changed", times_slower=factor, loop_late_seconds=round(self.late_seconds, 3)
        )


async def follow(pacer: Pacer, full_share: Callable[[], float], *, nap: float = 0.1) -> None:
    """Measure the running event loop for as long as it runs.

    Args:
        full_share: How much of the room for waiting reports is taken.
        nap: Seconds it sleeps ten times for a measurement.
    """
    naps = 10
    while True:
        began = time.monotonic()
        for _ in range(naps):
            await asyncio.sleep(nap)
        now = time.monotonic()
        pacer.observe((now - began) / naps - nap, full_share(), now)


current = Pacer(settings.POLL_SECONDS, settings.REPORT_SECONDS, settings.JITTER)
"""Of this process."""
