"""When rules are evaluated: on a grid of five seconds, and at once when something happened.

Every web process looks; the environment's row decides which one evaluates.
"""

import threading
import uuid
from datetime import datetime, timedelta
from typing import Any

import structlog

from apps.alerts.services import judges
from apps.core import bus, clock
from apps.core.loops import Loop
from apps.fleet.models import Environment
from apps.telemetry.rules import floor

log = structlog.get_logger(__name__)

GRID_SECONDS = 5
LOOK_SECONDS = 0.5
TOPICS = ("telemetry", "health", "deadletters", "published")  # news that are worth a look
CALM = timedelta(seconds=0.5)  # between the beginnings of two evaluations of one environment
REST = 1  # times as long as one took until the next one is begun


class Watch:
    """What this process still wants to be evaluated, and since when."""

    def __init__(self) -> None:
        self.loop: Loop | None = None  # that runs it, if one does
        self._holder = uuid.uuid4()
        self._wanted: dict[int, datetime] = {}
        self._rests_until: dict[int, datetime] = {}
        self._point: datetime | None = None  # of the grid
        self._lock = threading.Lock()
        self._listens = False

    def run(self, stopping: threading.Event) -> None:
        """Evaluate what is wanted and nobody evaluated since."""
        if not self._listens and self.loop is not None:
            for topic in TOPICS:
                bus.subscribe(topic, self._on_news, on_loop=False)
            self._listens = True
        self._look_at_the_grid()
        failed: Exception | None = None
        for environment_id, since in self._due():
            if stopping.is_set():
                return
            try:
                self._evaluate(environment_id, since)
            except Exception as error:  # noqa: BLE001 – one environment's must not stop the others
                log.error("judge.failed", environment_id=environment_id, error=type(error).__name__)
                failed = error
        if failed is not None:
            raise failed  # the loop logs where, and tells that it is failing

    def _on_news(self, news: dict[str, Any]) -> None:
        if news.get("reason") == "acknowledged" or "environment_id" not in news:
            return
        with self._lock:
            self._wanted[news["environment_id"]] = clock.now()
        if self.loop is not None:
            self.loop.wake()

    def _look_at_the_grid(self) -> None:
        point = floor(clock.now(), GRID_SECONDS)
        if point == self._point:
            return
        self._point = point
        with self._lock:
            for environment_id in Environment.objects.values_list("pk", flat=True):
                self._wanted.setdefault(environment_id, point)

    def _due(self) -> list[tuple[int, datetime]]:
        now = clock.now()
        with self._lock:
            return [
                (environment_id, since)
                for environment_id, since in sorted(self._wanted.items())
                if now >= self._rests_until.get(environment_id, now)
            ]

    def _evaluate(self, environment_id: int, since: datetime) -> None:
        began = clock.now()
        is_done = judges.evaluate(
            environment_id, since=since, holder=self._holder, grid=timedelta(seconds=GRID_SECONDS)
        )
        with self._lock:
            if is_done and self._wanted.get(environment_id) == since:
                del self._wanted[environment_id]
            ended = clock.now()
            self._rests_until[environment_id] = max(began + CALM, ended + REST * (ended - began))


current = Watch()
