"""Limits on how long a call may take: exact for coroutines, cooperative or abandoned for functions.

Python cannot stop a running thread. An ordinary function either asks `holdfast.deadline` and passes
it on, or runs on a thread that is left behind when time is up; its place in the bulkhead
stays taken until it really ends.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from holdfast.errors import BulkheadFull, CallTimeout

T = TypeVar("T")

MOST_THREADS = 256
IDLE_SECONDS = 10.0


class AttemptTimer:
    """Cancels the running task after some seconds and turns that into `CallTimeout`.

    Only our own cancellation is converted: one from outside wins even if it comes in the same
    moment, and whatever the coroutine itself raises passes unchanged.
    """

    __slots__ = ("_cancelling", "_handle", "_make_error", "_seconds", "_task", "fired")

    def __init__(self, seconds: float, make_error: Callable[[], CallTimeout]) -> None:
        self._seconds = seconds
        self._make_error = make_error
        self.fired = False

    def __enter__(self) -> AttemptTimer:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an attempt of a coroutine must run in a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._handle = asyncio.get_running_loop().call_later(max(0.0, self._seconds), self._fire)
        return self

    def _fire(self) -> None:
        self.fired = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handle.cancel()
        if not self.fired:
            return
        ours_alone = self._task.uncancel() <= self._cancelling
        if ours_alone and kind is asyncio.CancelledError:
            raise self._make_error() from None


async def run_limited(
    make: Callable[[], Awaitable[T]], seconds: float, make_error: Callable[[], CallTimeout]
) -> T:
    """Await a coroutine for at most that long.

    Raises:
        CallTimeout: as made by `make_error`, when time is up.
    """
    with AttemptTimer(seconds, make_error):
        return await make()


class Job(Generic[T]):
    """One function call on a thread of its own, with the caller's context variables."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._on_end: Callable[[], None] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call and keep what comes of it; never raises."""
        try:
            self._value = self._context.run(self._call)
        except BaseException as error:  # noqa: BLE001 - the caller raises it in its own thread
            self._error = error
        with self._lock:
            self._done.set()
            on_end = self._on_end
        if on_end is not None:
            on_end()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        return self._done.wait(seconds)

    def abandon(self, on_end: Callable[[], None]) -> None:
        """Stop waiting for it; `on_end` runs when it really ends, at once if it has."""
        with self._lock:
            if not self._done.is_set():
                self._on_end = on_end
                return
        on_end()

    def result(self) -> T:
        """What the call returned or raised; only after it ended."""
        try:
            if self._error is not None:
                raise self._error
            return self._value  # type: ignore[return-value]  # set by `run`, None included
        finally:
            self._error = None  # an error must not keep the frames that hold it


class Threads:
    """A bounded set of daemon threads that functions with an enforced timeout run on.

    Daemons, so that an abandoned call never keeps the interpreter from ending.
    """

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        self._lock = threading.Condition(threading.Lock())
        self._jobs: deque[Job[Any]] = deque()
        self._idle = 0
        self._alive = 0
        self.abandoned = 0

    def start(self, dependency: str, job: Job[Any]) -> None:
        """Run a job at once.

        Raises:
            BulkheadFull: all threads are taken, by calls that run or were abandoned.
        """
        with self._lock:
            if self._idle > len(self._jobs):
                self._jobs.append(job)
                self._lock.notify()
                return
            if self._alive >= self._most:
                raise BulkheadFull(dependency, cause="threads", limit=self._most)
            self._alive += 1
        thread = threading.Thread(target=self._work, args=(job,), name="holdfast-call", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            with self._lock:
                self._alive -= 1
            raise BulkheadFull(dependency, cause="threads", limit=self._most) from None

    def abandon(self, job: Job[Any], on_end: Callable[[], None]) -> None:
        """Leave a job behind; `on_end` runs when it really ends."""
        with self._lock:
            self.abandoned += 1
        job.abandon(lambda: self._ended(on_end))

    def _ended(self, on_end: Callable[[], None]) -> None:
        with self._lock:
            self.abandoned -= 1
        on_end()

    def _work(self, job: Job[Any] | None) -> None:
        while job is not None:
            job.run()
            job = None
            job = self._next()

    def _next(self) -> Job[Any] | None:
        with self._lock:
            self._idle += 1
            self._lock.wait_for(lambda: bool(self._jobs), IDLE_SECONDS)
            self._idle -= 1
            if self._jobs:
                return self._jobs.popleft()
            self._alive -= 1
            return None

    def reset_after_fork(self) -> None:
        """Give up a lock that somebody in the parent may hold; the threads are the parent's."""
        self._lock = threading.Condition(threading.Lock())
        self._jobs.clear()
