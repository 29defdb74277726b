"""One frame a second per environment, made once for everybody who looks.

A frame is computed and serialised on a thread of this module, with a database connection of its
own, while at least one viewer looks: at once when something is published or a breaker moves (not
more often than every `COALESCE_SECONDS`), else every `INTERVAL_SECONDS`. Viewers take the newest
frame when they are ready for one; what a slow viewer missed is gone, so nothing queues.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from django.db import DatabaseError, InterfaceError, connection

from apps.accounts.services import remember_uses
from apps.core import bus, clock
from apps.live import rules, selectors
from apps.live.selectors import Grant
from apps.live.trends import Trends

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 1.0
COALESCE_SECONDS = 0.1  # between two frames, whatever happens
PATIENCE_SECONDS = 2.0  # with a database that hangs, before the last frame is repeated
TOPICS = ("published", "telemetry", "fleet", "tokens", "epoch", "deadletters", "health", "alerts")

_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="holdfast.wall")


@dataclass(frozen=True)
class Frame:
    """A moment of one environment, ready to be sent."""

    sequence: int
    content: dict[str, Any]
    text: str
    made_at: float  # monotonic seconds

    @property
    def age(self) -> float:
        return time.monotonic() - self.made_at


@dataclass(frozen=True)
class Round:
    """What one computation found: the picture, and whose leave to look at it still holds."""

    picture: dict[str, Any] | None  # None: the database could not be read
    granted: set[Grant] | None


UNREADABLE = Round(None, None)


class Viewer:
    """One place at the wall: tells when there is a newer frame than the last one taken."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self._news = asyncio.Event()
        self._frame: Frame | None = None
        self._is_out = False

    def offer(self, frame: Frame) -> None:
        """Replace whatever was not taken yet."""
        self._frame = frame
        self._news.set()

    def show_out(self) -> None:
        """End the view: the leave to look was withdrawn."""
        self._is_out = True
        self._news.set()

    async def next(self) -> Frame | None:
        """The newest frame, as soon as there is one not taken before; None: no leave any more."""
        await self._news.wait()
        self._news.clear()
        return None if self._is_out else self._frame


class Feed:
    """The frames of one environment, for all its viewers in this process."""

    def __init__(self, environment_id: int) -> None:
        self.environment_id = environment_id
        self.computed = 0  # frames made so far, for whoever measures
        self._trends = Trends(environment_id)
        self._viewers: set[Viewer] = set()
        self._newest: Frame | None = None
        self._sequence = 0
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._subscriptions: list[Callable[[], None]] = []

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def join(self, viewer: Viewer) -> None:
        """Send the newest frame to `viewer` now, and every later one."""
        self._viewers.add(viewer)
        if self._newest is not None and self._newest.age < INTERVAL_SECONDS:
            viewer.offer(self._newest)
        else:
            self._wake.set()
        if self._task is None:
            self._subscriptions = [bus.subscribe(topic, self._hear) for topic in TOPICS]
            self._task = self._loop.create_task(self._run())

    async def leave(self, viewer: Viewer) -> None:
        """Stop sending to `viewer`; the last one out switches the light off."""
        self._viewers.discard(viewer)
        if self._viewers or self._task is None:
            return
        task, self._task = self._task, None
        for cancel in self._subscriptions:
            cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def _hear(self, news: dict[str, Any]) -> None:
        if news.get("environment_id", self.environment_id) == self.environment_id:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self._compute()
            await asyncio.sleep(COALESCE_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), INTERVAL_SECONDS - COALESCE_SECONDS)

    async def _compute(self) -> None:
        """Make and show one frame; while the database hangs, repeat the last one."""
        self.computed += 1
        grants = {viewer.grant for viewer in self._viewers}
        looking = self._loop.run_in_executor(
            _threads, look, self.environment_id, grants, self._trends
        )
        while not (await asyncio.wait({looking}, timeout=PATIENCE_SECONDS))[0]:
            self._show(UNREADABLE)
        self._show(looking.result())

    def _show(self, found: Round) -> None:
        if found.granted is not None:
            for viewer in [each for each in self._viewers if each.grant not in found.granted]:
                viewer.show_out()
        content = found.picture or (self._newest.content if self._newest else None)
        if content is None:
            return  # the database has not been reached since the first viewer came
        self._sequence += 1
        self._newest = serialise(content, self._sequence, is_stale=found.picture is None)
        for viewer in self._viewers:
            viewer.offer(self._newest)

    @property
    def newest(self) -> Frame | None:
        return self._newest


def look(environment_id: int, grants: Iterable[Grant], trends: Trends) -> Round:
    """Read the database once for all viewers. Never raises: without a frame the wall freezes."""
    try:
        granted = selectors.still_granted(grants)
        remember_uses({grant.token_id for grant in granted if grant.token_id is not None})
        return Round(selectors.picture(environment_id, trends), granted)
    except (DatabaseError, InterfaceError) as error:
        log.warning("wall.database_failed", environment_id=environment_id, error=str(error))
        return UNREADABLE
    except Exception:
        log.exception("wall.failed", environment_id=environment_id)
        return UNREADABLE
    finally:
        connection.close()  # this thread's own; with a pool it goes back there


def serialise(content: dict[str, Any], sequence: int, *, is_stale: bool = False) -> Frame:
    """A frame of `content`. A stale one repeats older content with its old `as_of`."""
    whole = {
        **content,
        "type": "frame",
        "sequence": sequence,
        "interval": INTERVAL_SECONDS,
        "server_time": rules.stamp(clock.now()),
        "stale": is_stale,
    }
    text = msgspec.json.encode(whole).decode()
    return Frame(sequence, whole, text, time.monotonic())


_feeds: dict[asyncio.AbstractEventLoop, dict[int, Feed]] = {}
_lock = threading.Lock()


def of(environment_id: int) -> Feed:
    """The feed of an environment on the running event loop."""
    loop = asyncio.get_running_loop()
    with _lock:
        for ended in [each for each in _feeds if each.is_closed()]:
            del _feeds[ended]
        mine = _feeds.setdefault(loop, {})
        if environment_id not in mine:
            mine[environment_id] = Feed(environment_id)
        return mine[environment_id]
