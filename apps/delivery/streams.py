"""GET /api/v1/policies/{service}/stream: changes as they are published, as server-sent events.

A raw ASGI application, in front of Django (see `door`). A stream keeps nothing but the document it
sent last, so a slow reader gets the newest state and never a queue.
"""

import asyncio
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from django.utils.translation import gettext as _

from apps.core import clock
from apps.core.bodies import Receive, Scope, Send
from apps.core.replies import Reply, send_reply
from apps.delivery import door, frames, state
from apps.delivery.answers import Admitted, Asked, admit, log_denial, refusal
from apps.delivery.rules import Document
from apps.delivery.snapshot import Key, Snapshot
from apps.delivery.state import State, Watched

log = structlog.get_logger(__name__)

PATH = re.compile(r"^/api/v1/policies/(?P<service>[^/]+)/stream/?$")
MOST_STREAMS = 5  # of one token and instance
MOST_OF_TOKEN = 2_000  # in this process, whatever instances it names: names can be made up
SEND_SECONDS = 60.0  # a reader that takes nothing for so long is cut
LOOK_SECONDS = 1.0  # between looks at what the clock does to streams
CUT_SECONDS = 1.5  # after its goodbye a stream has so long to end
DRAIN_SECONDS = 5.0
REVOKED_RETRY_SECONDS = 60.0
_INSTANCE = re.compile(r"^[A-Za-z0-9_-]{1,64}$")

Slot = tuple[str, str]  # token selector, instance


class Stream:
    """One open stream: whom it serves, what it sent last, and why it must end."""

    def __init__(
        self, key: Key, service: str, sent: Document, task: "asyncio.Task[Any]", lasts: float
    ) -> None:
        self.key = key
        self.watched: Watched = (key.environment_id, service)
        self.sent = sent
        self.task = task
        self.opened_at = time.monotonic()
        self.ends_at = self.opened_at + lasts
        self.news = asyncio.Event()
        self.wakeups = 0
        self.written_at = self.opened_at
        self.is_writing = False  # the last write is not taken yet
        self.is_quiet = False  # it is time for a comment
        self.is_gone = False  # the client left
        self.is_cut = False  # we gave it up
        self.farewell: tuple[str, float] | None = None  # reason, seconds until it may come back

    def wake(self) -> None:
        self.wakeups += 1
        self.news.set()

    async def write(self, send: Send, body: bytes, *, last: bool = False) -> None:
        """Send a piece; a reader that does not take it is cut by a look of `Streams`."""
        self.written_at, self.is_writing = time.monotonic(), True
        await send({"type": "http.response.body", "body": body, "more_body": not last})
        self.is_writing = False

    def end(self, reason: str, retry_after_seconds: float) -> None:
        """Have it say goodbye; one that does not even take that is cut a little later."""
        if self.farewell is None:
            self.farewell = (reason, round(retry_after_seconds, 2))
            self.news.set()
            asyncio.get_running_loop().call_later(CUT_SECONDS, self.cut)

    def cut(self) -> None:
        if not self.task.done():
            self.is_cut = True
            self.task.cancel()


class Streams:
    """All open streams of this process. Everything here runs on the event loop.

    Args:
        heartbeat_seconds: Between comments on a silent stream.
        max_age_seconds: After which a client is asked to come again, give or take a tenth, so
            that clients spread over the processes that are there now.
    """

    def __init__(
        self,
        known: State | None = None,
        *,
        heartbeat_seconds: float = 15.0,
        max_age_seconds: float = 3_600.0,
    ) -> None:
        self._state = known or state.get()
        self._heartbeat = heartbeat_seconds
        self._max_age = max_age_seconds
        self._by_document: dict[Watched, set[Stream]] = defaultdict(set)
        self._slots: Counter[Slot] = Counter()
        self._tokens: Counter[str] = Counter()  # streams by selector
        self._frame: tuple[tuple[str, str, float], bytes] = (("", "", 0.0), b"")
        self._stop_listening: Callable[[], None] | None = None
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow the state from now on; called on the loop that serves."""
        call = asyncio.get_running_loop().call_soon_threadsafe
        self._stop_listening = self._state.listen(
            lambda watched: call(self._wake, watched), lambda: call(self._check_keys)
        )
        self._looking = asyncio.create_task(self._look_again_and_again())

    def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None

    @property
    def open(self) -> list[Stream]:
        return [stream for streams in self._by_document.values() for stream in streams]

    async def drain(self) -> None:
        """Take no more streams, and end those that are open, each with its own time to return."""
        self._state.is_draining = True
        streams = self.open
        # Seconds: 25 returning clients a second. Longer than most restarts take, or all that were
        # refused meanwhile would come right after it.
        spread = max(2.0, len(streams) / 25)
        for place, stream in enumerate(random.sample(streams, len(streams))):
            stream.end("draining", spread * (place + random.random()) / len(streams))
        if streams:
            await asyncio.wait([stream.task for stream in streams], timeout=DRAIN_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = door.headers_of(scope)
        match = PATH.match(scope["path"])
        asked = door.asked_of(scope, headers, match.group("service") if match else "")
        admitted = await self._admit(asked, headers.get("host", ""))
        if not isinstance(admitted, Admitted):
            log_denial(asked, admitted[0])
            await send_reply(send, admitted)
            return
        slot = (admitted.key.selector, _instance(headers))
        if self._is_full(slot):
            await send_reply(send, too_many())
            return
        self._count(slot, 1)
        try:
            await self._serve(asked, admitted, headers.get("last-event-id", ""), receive, send)
        finally:
            self._count(slot, -1)

    def _is_full(self, slot: Slot) -> bool:
        return self._slots[slot] >= MOST_STREAMS or self._tokens[slot[0]] >= MOST_OF_TOKEN

    def _count(self, slot: Slot, change: int) -> None:
        self._slots[slot] += change
        self._tokens[slot[0]] += change
        if not self._slots[slot]:
            del self._slots[slot]
        if not self._tokens[slot[0]]:
            del self._tokens[slot[0]]

    # --- who may ----------------------------------------------------------------------------

    async def _admit(self, asked: Asked, host: str) -> Admitted | Reply:
        if not door.is_allowed_host(host):
            return refusal(400, "bad_host", _("This server does not answer to that host name."))
        if asked.method != "GET":
            return refusal(405, "method_not_allowed", _("Use GET."), Allow="GET")
        if self._state.is_draining:
            return draining()
        return admit(asked, await door.snapshot_for(self._state, asked.token))

    # --- news from the state ----------------------------------------------------------------

    def _wake(self, watched: Watched) -> None:
        for stream in self._by_document.get(watched, ()):
            stream.wake()

    def _check_keys(self) -> None:
        keys = self._state.snapshot.keys if self._state.snapshot else {}
        for stream in self.open:
            if stream.key.selector not in keys:
                stream.end("revoked", REVOKED_RETRY_SECONDS)

    # --- what the clock does ----------------------------------------------------------------

    async def _look_again_and_again(self) -> None:
        """One look at all, in place of timers of each: those of a thousand cost more than news."""
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self._heartbeat))
            now, moment = time.monotonic(), clock.now()
            for stream in self.open:
                self._look(stream, now, moment)

    def _look(self, stream: Stream, now: float, moment: datetime) -> None:
        silent_for = now - stream.written_at
        if not stream.key.is_live(moment):
            stream.end("revoked", REVOKED_RETRY_SECONDS)
        elif now >= stream.ends_at:
            stream.end("max_age", random.uniform(0.0, 2.0))
        elif stream.is_writing:
            if silent_for >= SEND_SECONDS:
                stream.cut()
        elif silent_for >= self._heartbeat:
            self._state.note_use(stream.key.selector)  # a stream that is open is in use
            stream.is_quiet = True
            stream.news.set()

    # --- one stream -------------------------------------------------------------------------

    async def _serve(
        self, asked: Asked, admitted: Admitted, last_event_id: str, receive: Receive, send: Send
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # we are in a coroutine
        lasts = self._max_age * random.uniform(0.9, 1.1)
        stream = Stream(admitted.key, asked.service, admitted.document, task, lasts)
        self._by_document[stream.watched].add(stream)
        self._state.watch(stream.watched)
        leaving = asyncio.create_task(_until_gone(receive, stream))
        try:
            await self._greet(stream, admitted.snapshot, last_event_id, send)
            await self._follow(stream, send)
        except asyncio.CancelledError:
            if not stream.is_cut:
                raise
        finally:
            leaving.cancel()
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self._state.unwatch(stream.watched)
        streams = self._by_document[stream.watched]
        streams.discard(stream)
        if not streams:
            del self._by_document[stream.watched]
        log.info(
            "stream.closed",
            service=stream.watched[1],
            environment_id=stream.watched[0],
            token=stream.key.selector,
            seconds=round(time.monotonic() - stream.opened_at, 1),
            reason="cut" if stream.is_cut else (stream.farewell or ("left",))[0],
        )

    async def _greet(
        self, stream: Stream, snapshot: Snapshot, last_event_id: str, send: Send
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        greeting = frames.hello(snapshot.epoch, snapshot.pace, clock.now())
        if last_event_id != stream.sent.event_id:
            greeting += frames.document(stream.sent)
        self._state.note_use(stream.key.selector)
        await stream.write(send, greeting)

    async def _follow(self, stream: Stream, send: Send) -> None:
        """Send what is newer than the last sent, until the client leaves or must."""
        while not stream.is_gone:
            if stream.farewell is not None:
                await stream.write(send, frames.goodbye(*stream.farewell), last=True)
                return
            newest = self._newest(stream)
            if newest.etag != stream.sent.etag:
                frame, stream.sent = self._changed(stream.sent, newest), newest
                await stream.write(send, frame)
            elif stream.is_quiet:
                await stream.write(send, frames.COMMENT)
            else:
                await stream.news.wait()
                stream.news.clear()
                continue
            stream.is_quiet = False

    def _newest(self, stream: Stream) -> Document:
        environment_id, service = stream.watched
        snapshot = self._state.snapshot
        place = snapshot.places.get(environment_id) if snapshot else None
        return place.document(service) if place else stream.sent

    def _changed(self, base: Document, newest: Document) -> bytes:
        """The frame between two documents, made once for all streams that go that way now."""
        way = (base.etag, newest.etag, round(time.monotonic(), 1))
        if self._frame[0] != way:
            self._frame = (way, frames.changed(base, newest, clock.now()))
        return self._frame[1]


_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


def too_many() -> Reply:
    text = _("This instance has %(most)d streams open already, or its token %(all)d.")
    text %= {"most": MOST_STREAMS, "all": MOST_OF_TOKEN}
    return refusal(429, "too_many_streams", text, **{"Retry-After": "15"})


def draining() -> Reply:
    text = _("This server is about to stop; come back in a moment.")
    return refusal(503, "draining", text, **{"Retry-After": "2"})


def _instance(headers: dict[str, str]) -> str:
    given = headers.get("holdfast-instance", "")
    return given if _INSTANCE.match(given) else ""


async def _until_gone(receive: Receive, stream: Stream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.is_gone = True
    stream.news.set()
