"""Timeouts of coroutines: one timer per event loop and dependency, instead of one per attempt."""

from __future__ import annotations

import asyncio
import time
from typing import Any

Running = tuple["asyncio.Task[Any]", float]
"""A task, and the monotonic end of the time its attempt has."""


class Watch:
    """Cancels attempts that take longer than `limit` seconds. For one event loop only.

    All have the same limit, so the one that began first is over first, and one timer for it does.

    Attributes:
        running: Attempts under way by number, in the order they began; what was cancelled is out.
        number: The newest one's.
    """

    __slots__ = ("_loop", "_timer", "limit", "number", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        self.limit = limit
        self.number = 0
        self.running: dict[int, Running] = {}
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[Any]) -> int:
        """Watch an attempt from now on; returns its number."""
        self.number = number = self.number + 1
        self.running[number] = (task, time.monotonic() + self.limit)
        if self._timer is None:
            self._timer = self._loop.call_later(self.limit, self._fire)
        return number

    def _fire(self) -> None:
        self._timer = None
        now = time.monotonic()
        for number, (task, due) in list(self.running.items()):
            if due > now:
                self._timer = self._loop.call_later(due - now, self._fire)
                return
            del self.running[number]
            task.cancel()


class Watches:
    """One dependency's watches, one per event loop."""

    __slots__ = ("_by_loop",)

    def __init__(self) -> None:
        self._by_loop: dict[asyncio.AbstractEventLoop, Watch] = {}

    def of(self, loop: asyncio.AbstractEventLoop, limit: float) -> Watch:
        """The watch of the loop that runs now."""
        found = self._by_loop.get(loop)
        if found is None or found.limit != limit:  # an old one ends with what it watches
            for each in list(self._by_loop):
                if each.is_closed():
                    self._by_loop.pop(each, None)
            found = self._by_loop[loop] = Watch(loop, limit)
        return found


def is_ours(task: asyncio.Task[Any], cancelling: int, error: BaseException | None) -> bool:
    """Whether a task that was cancelled by a watch was cancelled by nobody else.

    Args:
        cancelling: How many had asked to cancel it when the attempt began.
        error: What the attempt raised; a cancellation from outside wins, and so does any other.
    """
    return task.uncancel() <= cancelling and isinstance(error, asyncio.CancelledError)
