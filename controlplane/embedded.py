"""Celery's own worker and beat as threads of the web process, for the embedded mode."""

import threading
from typing import Any

import structlog
from celery import Celery
from celery.beat import EmbeddedService
from celery.worker import WorkController

log = structlog.get_logger(__name__)


class EmbeddedCelery:
    """One worker with a few threads and one beat, over the in-memory broker of this process."""

    def __init__(self, app: Celery, *, threads: int = 2) -> None:
        self._worker = WorkController(
            app=app,
            pool_cls="threads",
            concurrency=threads,
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
            hostname="embedded@localhost",
        )
        # The scheduler that keeps its state in memory: no file, nothing left over from last time.
        self._beat: Any = EmbeddedService(app, thread=True, scheduler_cls="celery.beat:Scheduler")
        self._thread = threading.Thread(
            target=self._worker.start, name="holdfast.celery", daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        self._beat.start()
        log.info("celery.started", mode="embedded")

    def stop(self) -> None:
        """Stop beat, then the worker, waiting a few seconds for running tasks."""
        self._beat.stop()
        self._worker.stop()
        self._thread.join(5.0)
