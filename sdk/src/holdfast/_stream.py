"""The event stream: changes arrive as they are published; polling goes on underneath."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast._document import Received
from holdfast._feed import Change, Feed, Verdict
from holdfast._pace import Backoff, Pace, instant, retry_after
from holdfast._poll import REFUSALS
from holdfast._settings import Timing
from holdfast._stream_parser import Event, EventParser, StreamBroken
from holdfast._transport import MAX_DOCUMENT_BYTES, EventStream, Transport, TransportFailed
from holdfast.clock import Clock

log = logging.getLogger("holdfast")

_MAX_EVENT_BYTES = MAX_DOCUMENT_BYTES + 64 * 1024
_STABLE_SECONDS = 10.0  # a stream that lived this long was a good one: its end is no failure
_RETRY_SECONDS = 2.0  # until the server says `retry:`
_LONGEST_RETRY_AFTER = 300.0
_JOINABLE = ("flags", "dependencies")


class Streamer:
    """Keep one stream open, hand its events to the feed, and reconnect when it ends.

    Reconnecting spreads over the server's `retry` time and doubles while streams keep failing.

    Args:
        on_health: Told True once a stream has greeted us, False when it has ended.
        on_gap: Called when an event cannot be joined: somebody must fetch the whole document.

    Attributes:
        trouble: Why the last stream ended or was refused; None while one is healthy.
    """

    def __init__(
        self,
        transport: Transport,
        feed: Feed,
        pace: Pace,
        clock: Clock,
        timing: Timing,
        *,
        on_health: Callable[[bool], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._feed = feed
        self._pace = pace
        self._clock = clock
        self._timing = timing
        self._on_health = on_health
        self._on_gap = on_gap
        self._lock = threading.Lock()
        self._open: EventStream | None = None
        self._is_closed = False
        self._backoff = Backoff(2 * _RETRY_SECONDS, timing.backoff_max_seconds)
        self._is_told_when = False  # by the server, when to come again
        self._begins_anew = False
        self.trouble: str | None = None

    def step(self) -> float:
        """Open a stream and follow it to its end.

        Returns:
            Seconds until it should be opened again.
        """
        if self._begins_anew:
            self._begins_anew = False
            self._backoff.reset()
            return self._backoff.next()
        try:
            with self._transport.open_stream(self._feed.event_id) as stream:
                return self._follow(stream)
        except (TransportFailed, StreamBroken) as failure:
            return self._failed(str(failure))
        finally:
            self._hold(None)

    def begin_anew(self) -> bool:
        """Forget earlier failures: the server answers again. Wake the thread as well, if True.

        The next attempt is as far away as after a first failure, so that a fleet scatters. False
        where a stream is open, or the server has said when to come again.
        """
        self._begins_anew = self.trouble is not None and not self._is_told_when
        return self._begins_anew

    def cut(self) -> None:
        """End the open stream and open no other."""
        with self._lock:
            self._is_closed = True
            if self._open is not None:
                self._open.cut()

    def _hold(self, stream: EventStream | None) -> bool:
        """Remember the stream so that it can be cut; False if it is too late for that."""
        with self._lock:
            self._open = stream
            return not self._is_closed

    def _follow(self, stream: EventStream) -> float:
        if stream.status in REFUSALS:
            self.trouble = str(stream.status)
            self._is_told_when = False
            return self._pace.vary(self._timing.refused_seconds)
        if stream.status != 200 or not _is_event_stream(stream.headers):
            return self._failed(str(stream.status), at_least=retry_after(stream.headers))
        if not self._hold(stream):
            return 0.0
        session = _Session(stream.asked_at, self._feed, self._pace, self._clock, self._on_gap)
        try:
            return self._ended(session, self._read(stream, session))
        finally:
            self._on_health(False)

    def _read(self, stream: EventStream, session: "_Session") -> str:
        parser = EventParser(_MAX_EVENT_BYTES)
        opened_at = self._clock.monotonic()
        try:
            for chunk in stream.chunks():
                for event in parser.feed(chunk):
                    if session.take(event):
                        self.trouble = None
                        self._begins_anew = False
                        self._on_health(True)
                    if session.goodbye is not None:
                        return "goodbye"
                if session.is_greeted:
                    self._feed.heard()  # a comment is contact too
            return "ended"
        finally:
            if parser.retry_seconds:
                # Twice the time, half of it on average: clients of a restarted server spread out.
                self._backoff.first = 2 * parser.retry_seconds
            if self._clock.monotonic() - opened_at >= _STABLE_SECONDS:
                self._backoff.reset()

    def _ended(self, session: "_Session", how: str) -> float:
        if session.goodbye is None:
            return self._failed(how)
        reason, seconds = session.goodbye
        self.trouble = f"goodbye: {reason}"
        self._is_told_when = reason != "revoked"  # a poll tells when the key is good again
        log.info("holdfast: stream ended by the server (%s)", reason)
        if reason == "revoked":
            return max(seconds, self._pace.vary(self._timing.refused_seconds))
        return seconds + self._backoff.next()

    def _failed(self, kind: str, *, at_least: float = 0.0) -> float:
        if self.trouble is None and not self._is_closed:
            log.info("holdfast: stream lost (%s); polling instead", kind)
        self.trouble = kind
        self._is_told_when = at_least > 0
        return self._backoff.next(at_least=at_least)


class _Session:
    """One open stream: what it has said so far.

    Attributes:
        is_greeted: Whether `hello` has come.
        goodbye: Reason and seconds, once the server has taken its leave.
    """

    def __init__(
        self, asked_at: float, feed: Feed, pace: Pace, clock: Clock, on_gap: Callable[[], None]
    ) -> None:
        self._asked_at = asked_at
        self._feed = feed
        self._pace = pace
        self._clock = clock
        self._on_gap = on_gap
        self._offset: float | None = None  # the server's clock minus our monotonic one
        self.is_greeted = False
        self.goodbye: tuple[str, float] | None = None

    def take(self, event: Event) -> bool:
        """Act on one event; True for the greeting. Unknown ones are ignored.

        Raises:
            StreamBroken: its data is not what this kind of event carries.
        """
        if event.name == "document":
            self._document(event)
        elif event.name == "changed":
            self._changed(event)
        elif event.name == "hello":
            self._hello(_object(event.data))
            return True
        elif event.name == "goodbye":
            self._goodbye(_object(event.data))
        return False

    def _hello(self, data: Mapping[str, Any]) -> None:
        self.is_greeted = True
        self._set_clock(data)
        self._pace.learn_poll(data.get("poll_seconds"))
        self._pace.learn_report(data.get("report_seconds"))

    def _document(self, event: Event) -> None:
        verdict = self._feed.offer(
            event.data, etag=None, asked_at=self._asked_at, received=self._received()
        )
        if verdict is Verdict.REFETCH:
            self._on_gap()

    def _changed(self, event: Event) -> None:
        data = _object(event.data)
        self._set_clock(data)
        change = _change(event.id, data)
        if self._feed.offer_change(change, received=self._received()) in {
            Verdict.REFETCH,
            Verdict.BAD,
        }:
            self._on_gap()

    def _goodbye(self, data: Mapping[str, Any]) -> None:
        seconds = data.get("retry_after_seconds")
        wait = 0.0
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            wait = min(max(float(seconds), 0.0), _LONGEST_RETRY_AFTER)
        self.goodbye = (str(data.get("reason"))[:40], wait)

    def _set_clock(self, data: Mapping[str, Any]) -> None:
        server_time = instant(data.get("server_time"))
        if server_time is not None:
            self._offset = server_time - self._clock.monotonic()

    def _received(self) -> Received:
        now = self._clock.monotonic()
        server_time = self._clock.wall() if self._offset is None else now + self._offset
        return Received(monotonic=now, server_time=server_time)


def _is_event_stream(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").split(";")[0].strip().lower() == "text/event-stream"


def _object(data: str) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StreamBroken("event data is not JSON") from error
    if not isinstance(decoded, dict):
        raise StreamBroken("event data is not an object")
    return decoded


def _change(event_id: str, data: Mapping[str, Any]) -> Change:
    epoch, _, number = event_id.rpartition(":")
    base, revision, changed = data.get("base"), data.get("revision"), data.get("changed")
    if not (epoch and isinstance(base, int) and isinstance(revision, int)):
        raise StreamBroken("changed without epoch, base or revision")
    if not isinstance(changed, dict) or str(revision) != number:
        raise StreamBroken("changed without its members, or of two revisions")
    etag, published_at = data.get("etag"), data.get("published_at")
    return Change(
        epoch=epoch,
        revision=revision,
        base=base,
        etag=etag if isinstance(etag, str) else None,
        published_at=published_at if isinstance(published_at, str) else None,
        members={name: changed[name] for name in _JOINABLE if name in changed},
    )
