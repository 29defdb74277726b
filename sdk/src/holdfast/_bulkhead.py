"""The bulkhead: how many calls to one dependency run at once, threads and coroutines together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from holdfast.errors import BulkheadFull


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadRules:
    """Effective bulkhead settings (`holdfast.spec`)."""

    max_concurrent: int
    max_waiting: int
    max_wait_seconds: float


class _Waiter:
    __slots__ = ("granted", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.granted = False
        self.wake = wake


class Bulkhead:
    """Places for calls, first come first served.

    One counter for every thread and every event loop. A place taken is given back exactly once,
    by `release`; one that was granted to somebody who no longer waits passes on. `_lane` takes
    and gives back places by itself, without the lock, while nobody waits.

    Attributes:
        used: Places taken.
        is_awaited: Whether somebody waits for one.
    """

    def __init__(self, name: str, rules: BulkheadRules) -> None:
        self.name = name
        self.rules = rules
        self.used = 0
        self._lock = threading.RLock()
        self.is_awaited = False
        self._waiters: deque[_Waiter] = deque()

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return len(self._waiters)

    def acquire(self, longest: float | None = None) -> None:
        """Take a place, waiting in this thread if the rules allow.

        Args:
            longest: Seconds the caller can wait at most, whatever the rules say.

        Raises:
            BulkheadFull: none is free, or none became free in time.
        """
        if self._take():
            return
        ready = threading.Event()
        waiter = self._take_or_queue(ready.set, longest)
        if waiter is None:
            return
        try:
            ready.wait(self._patience(longest))
        except BaseException:
            self._leave(waiter)
            raise
        self._settle(waiter)

    async def acquire_async(self, longest: float | None = None) -> None:
        """Take a place, suspending this coroutine if the rules allow; as `acquire`."""
        if self._take():
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiter = self._take_or_queue(lambda: _wake_in(loop, future), longest)
        if waiter is None:
            return
        timer = loop.call_later(self._patience(longest), _finish, future)
        try:
            await future
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            timer.cancel()
        self._settle(waiter)

    def release(self) -> None:
        """Give a place back and hand it to whoever waits longest."""
        with self._lock:
            granted = self._pass_on()
        self._wake(granted)

    def configure(self, rules: BulkheadRules) -> None:
        """Follow new limits: more places wake waiters, fewer take effect as calls end."""
        with self._lock:
            self.rules = rules
            granted = self._grant()
        self._wake(granted)

    def reset_after_fork(self) -> None:
        """Give up a lock that somebody in the parent may hold, and those who wait there."""
        self._lock = threading.RLock()
        self._waiters.clear()
        self.is_awaited = False

    def _take(self) -> bool:
        with self._lock:
            # Always so while anybody waits. One step, with the line that takes it.
            if self.used >= self.rules.max_concurrent:
                return False
            self.used += 1
            return True

    def _take_or_queue(self, wake: Callable[[], None], longest: float | None) -> _Waiter | None:
        with self._lock:
            rules = self.rules
            if self._take():
                return None
            if not rules.max_waiting or self._patience(longest) <= 0:
                raise self._full("full")
            if len(self._waiters) >= rules.max_waiting:
                raise self._full("queue_full")
            waiter = _Waiter(wake)
            self._waiters.append(waiter)
            self.is_awaited = True
            # A place may have been given back, without the lock, before the waiter was seen there.
            granted = self._grant()
        self._wake([each for each in granted if each is not waiter])
        return None if waiter.granted else waiter

    def _patience(self, longest: float | None) -> float:
        allowed = self.rules.max_wait_seconds
        return allowed if longest is None else min(allowed, longest)

    def _settle(self, waiter: _Waiter) -> None:
        """Keep the place, even one granted in the very moment time ran out, or give up."""
        with self._lock:
            if waiter.granted:
                return
            self._forget(waiter)
        raise self._full("wait_timeout")

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            if not waiter.granted:
                self._forget(waiter)
                return
        self.release()

    def _pass_on(self) -> list[_Waiter]:
        """Give a place to the next in the queue; it is never free meanwhile, or others took it."""
        if not self._waiters or self.used > self.rules.max_concurrent:
            self.used -= 1
            return []
        waiter = self._waiters.popleft()
        waiter.granted = True
        self.is_awaited = bool(self._waiters)
        return [waiter]

    def _grant(self) -> list[_Waiter]:
        granted = []
        while self._waiters:
            if self.used >= self.rules.max_concurrent:  # one step, with the line that takes it
                break
            self.used += 1
            waiter = self._waiters.popleft()
            waiter.granted = True
            granted.append(waiter)
        self.is_awaited = bool(self._waiters)
        return granted

    def _forget(self, waiter: _Waiter) -> None:
        self._waiters.remove(waiter)
        self.is_awaited = bool(self._waiters)

    def _wake(self, granted: list[_Waiter]) -> None:
        for waiter in granted:
            try:
                waiter.wake()
            except RuntimeError:  # its event loop is closed, so nobody is left to use the place
                self.release()

    def _full(self, cause: str) -> BulkheadFull:
        return BulkheadFull(self.name, cause=cause, limit=self.rules.max_concurrent)


def _wake_in(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
    loop.call_soon_threadsafe(_finish, future)


def _finish(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)
