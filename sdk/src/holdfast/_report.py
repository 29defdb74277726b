"""Reports: what happened here and which revision runs, counted once whatever the network does."""

import logging
import random
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from holdfast import _bounds, histogram
from holdfast._feed import Feed
from holdfast._pace import Backoff, Pace, retry_after
from holdfast._poll import REFUSALS
from holdfast._resources import Resources
from holdfast._settings import Timing
from holdfast._transport import Answer, Transport, TransportFailed
from holdfast.clock import Clock

log = logging.getLogger("holdfast")

MOST_EVENTS = 200  # of one report
MOST_REFUSED = 50
MOST_BYTES = 1024 * 1024  # the server answers 413 beyond it
_KEPT_EVENTS = 1_000  # while reports cannot be delivered; the oldest go first
_DROPPED = frozenset({400, 413, 422})  # repeating it would be refused again


class Collector(Protocol):
    """What the engine offers the reporter."""

    def collect(self) -> dict[str, Any]: ...


class Requests:
    """A service's own traffic, as its middlewares count it; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def count(self, status: int, seconds: float) -> None:
        """One request, answered with `status` after `seconds`."""
        index = histogram.index_of(seconds)
        with self._lock:
            self._count += 1
            self._client_errors += 400 <= status < 500
            self._server_errors += status >= 500
            self._latency[index] += 1

    def collect(self) -> dict[str, Any] | None:
        """The counts since the last time; None if there was no request."""
        with self._lock:
            if not self._count:
                return None
            collected = {
                "count": self._count,
                "4xx": self._client_errors,
                "5xx": self._server_errors,
                "latency": histogram.encode(self._latency),
            }
            self._clear()
            return collected

    def _clear(self) -> None:
        self._count = self._client_errors = self._server_errors = 0
        self._latency = [0] * histogram.SIZE


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who reports: the fixed members of every report."""

    service: str
    instance: str
    name: str
    sdk: str
    started_at: str


class Reporter:
    """Send one report at a time; a lost answer repeats the same report under the same number.

    Counts go into a report once. It is kept until it is accepted or refused for good, so there is
    never more than one, however long Holdfast is away; meanwhile the counters just grow. After one
    that was refused for good comes a bare one: whatever is wrong with what was counted must not
    keep it from saying which revision runs.

    Attributes:
        trouble: What is wrong with the last report, in a few words; None if nothing is.
        accepted, dropped: Reports the server took, and those it refused for good.
        last_dropped: When the last of those was, and why.
    """

    def __init__(
        self,
        identity: Identity,
        engine: Collector,
        requests: Requests,
        resources: Resources,
        feed: Feed,
        transport: Transport,
        pace: Pace,
        clock: Clock,
        timing: Timing,
    ) -> None:
        self._identity = identity
        self._engine = engine
        self._requests = requests
        self._resources = resources
        self._feed = feed
        self._transport = transport
        self._pace = pace
        self._clock = clock
        self._timing = timing
        self._backoff = Backoff(timing.backoff_seconds, timing.backoff_max_seconds)
        self._events: deque[Any] = deque(maxlen=_KEPT_EVENTS)
        self._sequence = 0
        self._pending: bytes | None = None
        self._collected_at = clock.monotonic()
        self._due_at = self._collected_at + pace.vary(pace.report_seconds)
        self._not_before = float("-inf")
        self._is_urgent = False
        self._is_bare = False  # the report that waits
        self._is_next_bare = False
        self.trouble: str | None = None
        self.accepted = 0
        self.dropped = 0
        self.last_dropped: dict[str, Any] | None = None

    def acknowledge(self) -> None:
        """Report soon: a revision was applied or refused, or a breaker moved. Wake the thread."""
        self._is_urgent = True

    def step(self) -> float:
        """Report if it is time to; returns the seconds until the next."""
        self._hasten()
        if self._due_at <= self._clock.monotonic():
            self._due_at = self._clock.monotonic() + self._report()
            self._hasten()  # news that came meanwhile
        return max(0.0, self._due_at - self._clock.monotonic())

    def finish(self) -> None:
        """The last report, saying that this instance stops; tried once, and soon given up."""
        if self._pending is not None and not self._delivered(self._timing.close_seconds / 2):
            return
        self._pending = self._build(stopping=True)
        self._delivered(self._timing.close_seconds / 2)

    def _hasten(self) -> None:
        """Bring the next report forward, spread over half a second and once a second at most."""
        if not self._is_urgent or self._pending is not None:
            return  # a report that waits for its answer is repeated at its own pace
        self._is_urgent = False
        soon = self._clock.monotonic() + random.random() * self._timing.acknowledge_seconds
        self._due_at = min(self._due_at, max(soon, self._not_before))

    def _report(self) -> float:
        """Send what is due; returns the seconds until the next attempt."""
        if self._pending is None:
            self._pending = self._build()
        self._not_before = self._clock.monotonic() + self._timing.acknowledge_gap_seconds
        try:
            return self._judge(self._transport.send_report(self._pending))
        except TransportFailed as failure:
            return self._failed(failure.kind)

    def _delivered(self, seconds: float) -> bool:
        try:
            self._judge(self._transport.send_report(self._pending or b"", seconds=seconds))
        except TransportFailed as failure:
            self._failed(failure.kind)
        return self._pending is None

    def _judge(self, answer: Answer) -> float:
        if 200 <= answer.status < 300:
            return self._accepted(answer)
        if answer.status in _DROPPED:
            return self._dropped(answer)
        if answer.status in REFUSALS:
            self._note(answer.said)
            return self._pace.vary(self._timing.refused_seconds)
        return self._failed(str(answer.status), at_least=retry_after(answer.headers))

    def _accepted(self, answer: Answer) -> float:
        self._pending = None
        self.accepted += 1
        self._backoff.reset()
        self._is_next_bare = False
        if not self._is_bare:
            self._note(None)
        self._pace.learn_report(_report_seconds(answer.body))
        return self._next()

    def _dropped(self, answer: Answer) -> float:
        self._pending = None
        self.dropped += 1
        why = answer.reason
        self.last_dropped = {"at": utc(self._clock.wall()), "status": answer.status, "why": why}
        self._note(f"{answer.status}, dropped: {why}" if why else f"{answer.status}, dropped")
        self._is_next_bare = not self._is_bare
        return self._timing.acknowledge_gap_seconds if self._is_next_bare else self._next()

    def _next(self) -> float:
        if len(self._events):
            return self._timing.acknowledge_gap_seconds  # events that did not fit follow soon
        return self._pace.vary(self._pace.report_seconds)

    def _failed(self, kind: str, *, at_least: float = 0.0) -> float:
        self._note(kind)
        return self._backoff.next(at_least=at_least)

    def _note(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble is None:
            log.info("holdfast: reports are accepted again")
        else:
            log.warning("holdfast: report not accepted (%s)", trouble)

    def _build(self, *, stopping: bool = False) -> bytes:
        self._is_bare = self._is_next_bare
        self._sequence += 1
        report: dict[str, Any] = {
            **_bounds.numbered(self._fixed_members()),
            "sequence": self._sequence,
            "window_seconds": 0.0,
            **_policy_members(self._feed),
            "dependencies": {},
            "events": [],
        }
        if not self._is_bare:
            report |= self._counted_members()
        if stopping:
            report["stopping"] = True
        return self._fitting(report)

    def _counted_members(self) -> dict[str, Any]:
        now = self._clock.monotonic()
        window, self._collected_at = now - self._collected_at, now
        collected = self._engine.collect()
        self._events.extend(_bounds.event(each) for each in collected["events"])
        counted = {
            "window_seconds": round(max(0.0, window), 3),
            "dependencies": _bounds.counted(collected["dependencies"]),
            "events": self._next_events(),
        }
        if (requests := self._requests.collect()) is not None:
            counted["requests"] = _bounds.counted(requests)
        if resources := self._resources.collect():
            counted["resources"] = _bounds.counted(resources)
        return counted

    def _fitting(self, report: dict[str, Any]) -> bytes:
        """The report, without its bulk if need be: what it acknowledges matters more."""
        body = msgspec.json.encode(report)
        for member in ("events", "dependencies"):
            if len(body) > MOST_BYTES:
                log.warning("holdfast: a report was too large; its %s are lost", member)
                body = msgspec.json.encode({**report, "events": [], member: type(report[member])()})
        return body

    def _fixed_members(self) -> dict[str, str]:
        who = self._identity
        return {
            "service": who.service,
            "instance": who.instance,
            "name": who.name,
            "sdk": who.sdk,
            "started_at": who.started_at,
        }

    def _next_events(self) -> list[Any]:
        count = min(len(self._events), MOST_EVENTS)
        return [self._events.popleft() for _ in range(count)]


def _policy_members(feed: Feed) -> dict[str, Any]:
    applied = feed.applied
    return {
        "epoch": None if applied is None else _bounds.epoch(applied.epoch),
        "applied_revision": None if applied is None else applied.revision,
        "applied_at": None if applied is None else utc(applied.applied_at),
        "refused": _bounds.numbered(feed.refused()[:MOST_REFUSED]),
    }


def utc(timestamp: float) -> str:
    """RFC 3339 text of a UTC timestamp, to the millisecond."""
    text = datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _report_seconds(body: bytes) -> object:
    try:
        decoded = msgspec.json.decode(body or b"{}")
    except (msgspec.MsgspecError, RecursionError):
        return None  # accepted all the same: the status said so
    return decoded.get("report_seconds") if isinstance(decoded, Mapping) else None
