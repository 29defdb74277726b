"""One frame a second per environment, made once for everybody who looks.

A frame is computed on a thread of this module, with a database connection of its own, while at
least one viewer looks: at once when something is published or a breaker moves (not more often than
every `COALESCE_SECONDS`, nor for more than half of the time), else every `INTERVAL_SECONDS`. For a
vast fleet that takes long: what is switched comes before it, in a frame that is else as the last.

A viewer's first frame is whole. Later ones are what changed since the one it was sent before,
serialised once for all who were sent that. A viewer says which frame it has shown; with
`MOST_UNSHOWN` on their way it gets no other, and the newest as soon as it has caught up: what it
missed is gone, so nothing queues, however slow its line.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import structlog
from django.db import DatabaseError, InterfaceError, connection
from prometheus_client import Gauge, Summary

from apps.accounts.services import remember_uses
from apps.core import bus, clock
from apps.live import rules, selectors, watch
from apps.live.rules.deltas import difference
from apps.live.rules.rows import with_flip
from apps.live.selectors import Grant
from apps.live.watch import Watch

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 1.0
COALESCE_SECONDS = 0.1  # between two frames, whatever happens
REST = 1  # times as long as a frame took to make until the next one is begun
MOST_UNSHOWN = 2  # frames on their way to one viewer
KEPT = 10  # frames of which it is known what changed since
WHOLE = 0  # the base of a frame that builds on none; sequences begin with 1
PATIENCE_SECONDS = 2.0  # with a database that hangs, before the last frame is repeated
TOPICS = ("published", "telemetry", "fleet", "tokens", "epoch", "deadletters", "health", "alerts")

_viewers = Gauge("web_wall_viewers", "Viewers of the wall that this process serves.")
_cost = Summary("web_wall_frame_cpu_seconds", "CPU of computing a frame, once for all viewers.")
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="holdfast.wall")
_thread_of_flips = ThreadPoolExecutor(max_workers=1, thread_name_prefix="holdfast.wall.flips")


@dataclass(frozen=True)
class Frame:
    """A moment of one environment, ready to be sent."""

    sequence: int
    content: dict[str, Any]
    made_at: float  # monotonic seconds
    earlier: Mapping[int, dict[str, Any]] = field(default_factory=dict)  # by their sequence
    _texts: dict[int, str] = field(default_factory=dict)

    @property
    def age(self) -> float:
        return time.monotonic() - self.made_at

    @property
    def text(self) -> str:
        """The whole frame."""
        return self._serialised(WHOLE, self.content)

    def since(self, base: int) -> str:
        """What changed since the frame `base`; the whole one where that is too long ago."""
        if base not in self.earlier:
            return self.text
        if base in self._texts:
            return self._texts[base]
        change = difference(self.earlier[base], self.content)
        return self._serialised(base, {"type": "delta", "base": base, "change": change})

    def _serialised(self, base: int, message: dict[str, Any]) -> str:
        if base not in self._texts:
            self._texts[base] = msgspec.json.encode(message).decode()
        return self._texts[base]


@dataclass(frozen=True)
class Round:
    """What one computation found: the picture, and whose leave to look at it still holds."""

    picture: dict[str, Any] | None  # None: the database could not be read
    granted: set[Grant] | None


UNREADABLE = Round(None, None)
Found = TypeVar("Found")


class Viewer:
    """One place at the wall: what it was sent, what of that it has shown, what waits for it."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self._news = asyncio.Event()
        self._frame: Frame | None = None
        self._is_out = False
        self._sent: deque[int] = deque()  # sequences that it has not shown yet
        self._base = WHOLE  # the last one sent

    def offer(self, frame: Frame) -> None:
        """Replace whatever was not taken yet."""
        self._frame = frame
        self._news.set()

    def show_out(self) -> None:
        """End the view: the leave to look was withdrawn."""
        self._is_out = True
        self._news.set()

    def has_shown(self, sequence: int) -> bool:
        """Note that it shows a frame; False if that was not on its way."""
        if sequence not in self._sent:
            return False
        while self._sent and self._sent[0] <= sequence:
            self._sent.popleft()
        self._news.set()
        return True

    async def next(self) -> str | None:
        """The newest frame as this viewer needs it, when it is ready for one it has not taken.

        None: no leave any more.
        """
        while not self._is_out and (self._frame is None or len(self._sent) >= MOST_UNSHOWN):
            self._news.clear()
            await self._news.wait()
        frame, self._frame = self._frame, None
        if self._is_out or frame is None:
            return None
        text = frame.since(self._base)
        self._base = frame.sequence
        self._sent.append(frame.sequence)
        return text


class Feed:
    """The frames of one environment, for all its viewers in this process."""

    def __init__(self, environment_id: int) -> None:
        self.environment_id = environment_id
        self.computed = 0  # frames made so far, for whoever measures
        self._watch = watch.of(environment_id)
        self._viewers: set[Viewer] = set()
        self._newest: Frame | None = None
        self._kept: dict[int, dict[str, Any]] = {}  # contents of the last frames, by sequence
        self._flip: Mapping[str, Any] | None = None  # since the last picture was begun
        self._wake = asyncio.Event()
        self._flipped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._subscriptions: list[Callable[[], None]] = []

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def join(self, viewer: Viewer) -> None:
        """Send the newest frame to `viewer` now, and every later one."""
        self._viewers.add(viewer)
        _viewers.inc()
        if self._newest is not None and self._newest.age < INTERVAL_SECONDS:
            viewer.offer(self._newest)
        else:
            self._wake.set()
        if not self._tasks:
            self._subscriptions = [
                *(bus.subscribe(topic, self._setting(self._wake)) for topic in TOPICS),
                bus.subscribe("published", self._setting(self._flipped)),
            ]
            self._tasks = [self._loop.create_task(each) for each in (self._run(), self._flips())]

    async def leave(self, viewer: Viewer) -> None:
        """Stop sending to `viewer`; the last one out switches the light off."""
        self._viewers.remove(viewer)
        _viewers.dec()
        if self._viewers or not self._tasks:
            return
        tasks, self._tasks = self._tasks, []
        for cancel in self._subscriptions:
            cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _setting(self, event: asyncio.Event) -> Callable[[dict[str, Any]], None]:
        """What is told of news, and sets the event if they are of this environment or of all."""

        def hear(news: dict[str, Any]) -> None:
            if news.get("environment_id", self.environment_id) == self.environment_id:
                self._loop.call_soon_threadsafe(event.set)

        return hear

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            began = time.monotonic()
            await self._compute()
            rest = max(COALESCE_SECONDS, REST * (time.monotonic() - began))
            await asyncio.sleep(min(rest, INTERVAL_SECONDS))
            with contextlib.suppress(TimeoutError):
                left = began + INTERVAL_SECONDS - time.monotonic()
                await asyncio.wait_for(self._wake.wait(), max(0.0, left))

    async def _flips(self) -> None:
        while True:
            await self._flipped.wait()
            self._flipped.clear()
            flip = await self._loop.run_in_executor(
                _thread_of_flips, look_at_flip, self.environment_id
            )
            if flip is not None and self._newest is not None:
                self._flip = flip
                self._make(self._newest.content, is_stale=self._newest.content["stale"])
            await asyncio.sleep(COALESCE_SECONDS)

    async def _compute(self) -> None:
        """Make and show one frame; while the database hangs, repeat the last one."""
        self.computed += 1
        self._flip = None
        grants = {viewer.grant for viewer in self._viewers}
        looking = self._loop.run_in_executor(_threads, look, self._watch, grants)
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
        self._make(content, is_stale=found.picture is None)

    def _make(self, content: dict[str, Any], *, is_stale: bool) -> None:
        """Make the next frame, and offer it to everybody."""
        if self._flip is not None and self._flip["revision"] > content["revision"]:
            content = with_flip(content, self._flip)
        sequence = self._newest.sequence + 1 if self._newest else 1
        self._newest = frame_of(content, sequence, is_stale=is_stale, earlier=dict(self._kept))
        self._kept[sequence] = self._newest.content
        self._kept.pop(sequence - KEPT, None)
        for viewer in self._viewers:
            viewer.offer(self._newest)

    @property
    def newest(self) -> Frame | None:
        return self._newest


def look(watch: Watch, grants: Iterable[Grant]) -> Round:
    """Read the database once for all viewers. Never raises: without a frame the wall freezes."""
    began = time.thread_time()
    found = _read(watch.environment_id, lambda: _round(watch, grants)) or UNREADABLE
    _cost.observe(time.thread_time() - began)
    return found


def look_at_flip(environment_id: int) -> dict[str, Any] | None:
    """What is switched now; None if the database could not be read. Never raises."""
    return _read(environment_id, lambda: selectors.flipped(environment_id))


def _round(watch: Watch, grants: Iterable[Grant]) -> Round:
    granted = selectors.still_granted(grants)
    remember_uses({grant.token_id for grant in granted if grant.token_id is not None})
    picture = selectors.picture(watch.environment_id, watch)
    watch.keep(picture)
    return Round(picture, granted)


def _read(environment_id: int, read: Callable[[], Found]) -> Found | None:
    try:
        return read()
    except (DatabaseError, InterfaceError) as error:
        log.warning("wall.database_failed", environment_id=environment_id, error=str(error))
    except Exception:
        log.exception("wall.failed", environment_id=environment_id)
    finally:
        connection.close()  # this thread's own; with a pool it goes back there
    return None


def frame_of(
    content: dict[str, Any],
    sequence: int,
    *,
    is_stale: bool = False,
    earlier: Mapping[int, dict[str, Any]] | None = None,
) -> Frame:
    """A frame of `content`. A stale one repeats older content with its old `as_of`."""
    whole = {
        **content,
        "type": "frame",
        "sequence": sequence,
        "interval": INTERVAL_SECONDS,
        "server_time": rules.stamp(clock.now()),
        "stale": is_stale,
    }
    return Frame(sequence, whole, time.monotonic(), earlier or {})


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
