"""Celery's own worker and beat as threads of the web process, for the embedded mode."""

import threading
from typing import Any

import structlog
from celery import Celery
from celery.beat import EmbeddedService
from celery.worker import WorkController

from apps.core.loops import Loop
from controlplane import tasks

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
DEAD_AFTER_SECONDS = 30.0  # without a pulse; beat sends one every five seconds
JOIN_SECONDS = 5.0


class _Pair:
    """One worker and one beat, started together over the broker in this process's memory."""

    def __init__(self, app: Celery, threads: int) -> None:
        self.worker = WorkController(
            app=app,
            pool_cls="threads",
            concurrency=threads,
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
            hostname="embedded@localhost",
        )
        # The scheduler that keeps its state in memory: no file, nothing left over from last time.
        self.beat: Any = EmbeddedService(app, thread=True, scheduler_cls="celery.beat:Scheduler")
        self.thread = threading.Thread(
            target=self.worker.start, name="holdfast.celery", daemon=True
        )

    def start(self) -> None:
        self.thread.start()
        self.beat.start()

    def stop(self) -> None:
        """Stop beat, then the worker, waiting a few seconds for running tasks."""
        self.beat.service.stop()  # its own `stop` would wait without end for a beat that died
        self.beat.join(JOIN_SECONDS)
        self.worker.stop()
        self.thread.join(JOIN_SECONDS)

    @property
    def is_alive(self) -> bool:
        return self.thread.is_alive() and bool(self.beat.is_alive())


class EmbeddedCelery:
    """A worker and a beat that are started again when one dies or neither gets anything done.

    `age` tells how long ago a task last ran, which takes beat, broker and worker.
    """

    def __init__(
        self, app: Celery, *, threads: int = 2, dead_after_seconds: float = DEAD_AFTER_SECONDS
    ) -> None:
        self._app = app
        self._dead_after = dead_after_seconds
        self._threads = threads
        self._pair: _Pair | None = None
        self._supervisor = Loop("celery", self._look, every=LOOK_SECONDS)
        self.restarts = 0

    @property
    def age(self) -> float:
        """Seconds since a task last ran here."""
        return tasks.age()

    def start(self) -> None:
        self._begin()
        self._supervisor.start()
        log.info("celery.started", mode="embedded")

    def stop(self) -> None:
        self._supervisor.stop()
        if self._pair is not None:
            self._pair.stop()
            self._pair = None

    def _begin(self) -> None:
        tasks.restart_age()
        self._pair = _Pair(self._app, self._threads)
        self._pair.start()

    def _look(self, stopping: threading.Event) -> None:
        if self._pair is None or (self._pair.is_alive and self.age < self._dead_after):
            return
        self.restarts += 1
        log.error("celery.restarted", age_seconds=round(self.age), restarts=self.restarts)
        self._pair.stop()
        if not stopping.is_set():
            self._begin()
