"""Dead letters of one process: captured at once, delivered whenever Holdfast can be reached."""

import contextlib
import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import Any

import msgspec

from holdfast._events import Events
from holdfast._feed import Feed
from holdfast._letter import Capture, Limits, Unserialisable, encode
from holdfast._outbox import Outbox
from holdfast._settings import Settings, Timing
from holdfast._spool import Spool
from holdfast._transport import Transport
from holdfast._worker import Worker
from holdfast.clock import Clock

log = logging.getLogger("holdfast")

_MOST_ASIDE = 100  # letters the server could not take, kept for people to look at


class Owner:
    """Whose records are on the disk: those of one environment must not end up in another."""

    def __init__(self, settings: Settings, feed: Feed) -> None:
        self._selector = settings.selector
        self._feed = feed

    @property
    def label(self) -> str:
        """To be kept with the records."""
        words = {"token": self._selector, "environment": self._environment}
        return msgspec.json.encode(words).decode()

    def may_adopt(self, label: str) -> bool:
        """Whether records with that label are delivered with our token, or in our environment."""
        try:
            words = msgspec.json.decode(label, type=dict[str, Any])
        except msgspec.MsgspecError:
            return False
        environment = self._environment
        is_same = environment is not None and words.get("environment") == environment
        return is_same or words.get("token") == self._selector

    @property
    def _environment(self) -> str | None:
        applied = self._feed.applied
        return None if applied is None else applied.document.environment


def spool_of(settings: Settings, kind: str, label: str) -> Spool | None:
    """The spool of a service for `kind` of records; None where there is no cache directory."""
    if settings.cache_dir is None:
        return None
    identity = f"{settings.url}\n{settings.service}".encode()
    digest = hashlib.sha256(identity).hexdigest()[:16]
    return Spool(settings.cache_dir / f"{kind}-{digest}", label=label)


class Letters:
    """Keep what failed for good, and hand it in.

    The thread that does so starts with the first letter, or if some are left from before.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        feed: Feed,
        events: Events,
        clock: Clock,
        timing: Timing,
    ) -> None:
        self._transport = transport
        self._events = events
        self._timing = timing
        self._owner = Owner(settings, feed)
        self._spool = spool_of(settings, "letters", self._owner.label)
        self._lock = threading.Lock()
        self._is_closing = False
        self._is_started = False
        self._unserialisable: set[str] = set()
        self.refused = 0
        self.outbox = Outbox(
            "dead letters",
            self._spool,
            self._post,
            self._settle,
            self._refuse,
            self._owner.may_adopt,
            clock,
            timing,
        )
        self._worker = Worker("holdfast-letters", self._step)

    def start(self) -> None:
        """Look for what is left from before; without that, there is nothing to do yet."""
        if self._spool is not None and self._spool.root.is_dir():
            self._ensure_started()

    def capture(self, capture: Capture, limits: Limits) -> bool:
        """Keep a letter; False, and said once, if it cannot be kept. Never raises for that."""
        try:
            record = encode(capture, limits)
        except Unserialisable as problem:
            self._cannot(capture, problem)
            return False
        if not self.outbox.put(record):
            self._tell_lost(capture, "full")
            return False
        self._ensure_started()
        self._worker.wake()
        return True

    def begin_close(self) -> None:
        """Make a last attempt; does not wait for it."""
        self._is_closing = True
        self._worker.wake()

    def end_close(self, seconds: float) -> None:
        """Wait for what `begin_close` began; the rest is left on disk."""
        if self._is_started:
            self._worker.join(seconds)
        self.outbox.close()

    def abandon(self) -> None:
        """In a child after a fork: leave everything to the parent."""
        self.outbox.close(in_child=True)

    def stats(self) -> dict[str, Any]:
        """How it is doing, for people and probes."""
        return {**self.outbox.stats(), "refused": self.refused}

    def _ensure_started(self) -> None:
        if self._is_started or self._is_closing:
            return
        with self._lock, contextlib.suppress(RuntimeError):  # no thread left: with the next letter
            if not self._is_started:
                self._worker.start()
                self._is_started = True

    def _step(self) -> float:
        if self._spool is not None:
            with contextlib.suppress(OSError):  # then with the old label
                self._spool.relabel(self._owner.label)
        if self._is_closing:
            self.outbox.finish()
            self._worker.stop()
            return 0.0
        return self.outbox.step()

    def _post(self, items: bytes) -> Any:
        seconds = self._timing.close_seconds / 2 if self._is_closing else None
        return self._transport.send_letters(items, seconds=seconds)

    def _settle(self, record: bytes, verdict: Any) -> None:
        if isinstance(verdict, dict) and verdict.get("status") == "invalid":
            self._refuse(record, str(verdict.get("errors"))[:500])

    def _refuse(self, record: bytes, why: str) -> None:
        """Set a letter aside that the server will never take."""
        self.refused += 1
        item = msgspec.json.decode(record)
        where = self._set_aside(record)
        log.error(
            "holdfast: the dead letter %s for %s was refused (%s); %s",
            item.get("dedup_key"),
            item.get("handler"),
            why,
            "it is lost" if where is None else f"it is kept in {where}",
        )
        self._events.emit_sampled("deadletter.dropped", item.get("dependency"), {"why": "refused"})

    def _set_aside(self, record: bytes) -> Path | None:
        if self._spool is None:
            return None
        directory = self._spool.root / "refused"
        path = directory / f"{hashlib.sha256(record).hexdigest()[:24]}.json"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if sum(1 for _ in directory.iterdir()) >= _MOST_ASIDE:
                return None
            with open(os.open(path, flags, 0o600), "wb") as file:
                file.write(record)
        except OSError:
            return None
        return path

    def _cannot(self, capture: Capture, problem: Exception) -> None:
        if capture.handler not in self._unserialisable:
            self._unserialisable.add(capture.handler)
            log.error(
                "holdfast: dead letters for %s are not captured: their body cannot be written "
                "down (%s); give `serialize`",
                capture.handler,
                problem,
            )
        self._tell_lost(capture, "unserialisable")

    def _tell_lost(self, capture: Capture, why: str) -> None:
        data = {"handler": capture.handler, "why": why}
        self._events.emit_sampled("deadletter.dropped", capture.dependency, data)
