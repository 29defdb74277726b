"""Celery: how often a task's worker died while the task ran, known beyond that death.

Celery and its brokers do not count: a message whose worker was killed comes again, as its first
delivery or with `redelivered`, for ever if it is the message that kills. So a task is written down
before it runs and struck out when it ends, however it ends; only a death leaves the note behind.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from celery import Celery
from kombu.exceptions import OperationalError

log = logging.getLogger("holdfast")

KEPT_SECONDS = 86_400  # a note nobody struck out; counted from the last start


class WorkerDied(Exception):
    """A task is not run again, because its worker died each time it was.

    It is no `WorkerLostError`: the worker would give the message back to the broker once more.
    """


class Notes(Protocol):
    """Where starts are written down.

    Attributes:
        problems: What its methods raise when it cannot be reached.
    """

    problems: tuple[type[Exception], ...]

    def begin(self, task_id: str) -> int:
        """Note a start; returns how many there were without an end, this one included."""
        ...

    def end(self, task_id: str) -> None:
        """Strike a task out; no harm if it is not there."""
        ...

    def clean(self) -> None:
        """Strike out tasks that never came again."""
        ...


class FileNotes:
    """Notes of one machine: a file for each task, as long as it has starts."""

    problems: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, task_id: str) -> int:
        path = self._path(task_id)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_old(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, b".")
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def end(self, task_id: str) -> None:
        self._path(task_id).unlink(missing_ok=True)

    def clean(self) -> None:
        for path in self._folder.glob("*"):
            _remove_old(path)

    def _path(self, task_id: str) -> Path:
        return self._folder / hashlib.sha256(task_id.encode()).hexdigest()[:32]


class RedisNotes:
    """Notes of all machines, in the Redis that is the app's broker."""

    def __init__(self, app: Celery) -> None:
        from redis import RedisError

        self.problems: tuple[type[Exception], ...] = (OSError, OperationalError, RedisError)
        self._app = app

    def begin(self, task_id: str) -> int:
        with self._client() as client, client.pipeline() as pipe:
            count, _ = pipe.incr(_key(task_id)).expire(_key(task_id), KEPT_SECONDS).execute()
        return int(count)

    def end(self, task_id: str) -> None:
        with self._client() as client:
            client.delete(_key(task_id))

    def clean(self) -> None:
        """Redis does it."""

    @contextmanager
    def _client(self) -> Iterator[Any]:
        from redis import Redis

        pool: Any = self._app.pool  # whose types say it were of producers
        with pool.acquire(block=True) as connection:
            # Not the channel's own client, which puts a prefix before some commands' keys only.
            yield Redis(connection_pool=connection.default_channel.pool)


class Deaths:
    """Keeps tasks from running whose worker died `most` times while they ran.

    Args:
        folder: Where to note starts if the broker is no Redis; None for nowhere.
    """

    def __init__(self, app: Celery, folder: Path | None, most: int) -> None:
        self._app = app
        self._folder = folder
        self._most = most
        self._has_failed = False

    def protect(self, **_: Any) -> None:
        """Stand before every task of the app; again when there may be more of them."""
        tasks: dict[str, Any] = self._app.tasks
        for task in tasks.values():
            if not hasattr(task.run, "_holdfast_protects"):
                task.run = self._protected(task, task.run)

    def forget(self, task_id: str) -> None:
        """A task is over, though it could not say so itself."""
        self._try(lambda notes: notes.end(task_id))

    def clean(self) -> None:
        """Forget tasks that never came again."""
        self._try(lambda notes: notes.clean())

    @functools.cached_property
    def _notes(self) -> Notes | None:
        # Asked late: an app may get its configuration after it was connected.
        if self._app.connection_for_write().transport.driver_type == "redis":
            return RedisNotes(self._app)
        return None if self._folder is None else FileNotes(self._folder)

    def _protected(self, task: Any, run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def protected(*args: Any, **kwargs: Any) -> Any:
            request = task.request
            if not task.acks_late or request.called_directly or request.is_eager:
                return run(*args, **kwargs)  # nobody would deliver it again
            task_id = request.id
            try:
                self._begin(task_id)
                return run(*args, **kwargs)
            finally:
                self.forget(task_id)

        protected._holdfast_protects = True  # type: ignore[attr-defined]  # for `protect` to see
        return protected

    def _begin(self, task_id: str) -> None:
        deaths = (self._try(lambda notes: notes.begin(task_id)) or 1) - 1
        if deaths >= self._most:
            times = "once" if deaths == 1 else f"{deaths} times"
            raise WorkerDied(f"its worker died {times} while it ran")

    def _try(self, note: Callable[[Notes], int | None]) -> int | None:
        """Make a note; no task may fail because that fails."""
        notes = self._notes
        if notes is None:
            return None
        try:
            return note(notes)
        except notes.problems as problem:
            if not self._has_failed:
                self._has_failed = True
                log.warning("holdfast: deaths of Celery's workers are not counted: %s", problem)
            return None


def _key(task_id: str) -> str:
    return f"holdfast:started:{task_id}"


def _remove_old(path: Path) -> None:
    try:
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
