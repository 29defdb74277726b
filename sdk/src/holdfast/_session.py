"""One client's life: starting, keeping its connection, forks, saying goodbye."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref

from msgspec.structs import replace

from holdfast._connection import Connection
from holdfast._engine import Engine
from holdfast._events import Event
from holdfast._failed import FailedCall
from holdfast._feed import Feed
from holdfast._letter import Capture, Limits, Unserialisable
from holdfast._pace import Backoff
from holdfast._redrive import Handlers
from holdfast._report import Requests
from holdfast._scope import running
from holdfast._settings import Settings, Timing, new_instance

log = logging.getLogger("holdfast")


class Session:
    """What a client is, once its code runs. Safe for threads, and over forks.

    Attributes:
        connection: To Holdfast; None before the first use, and where settings are missing.
    """

    def __init__(self, settings: Settings, timing: Timing, engine: Engine) -> None:
        self.settings = settings
        self.timing = timing
        self.instance = engine.instance
        self.engine = engine
        self.engine.on_use = self.ensure_started
        self.engine.on_event(self.on_event)
        self.engine.set_dead_letter_sink(self.take)
        self.handlers = Handlers()
        self.requests = Requests()
        self.connection: Connection | None = None
        self._has_said_uncaptured = False
        self._lock = threading.RLock()  # a log handler may use the client while it starts
        self._inherited: Feed | None = None  # of the parent process
        self._is_started = False
        self._is_closed = False
        self._hold_off = self._no_failures()
        self._try_at = float("-inf")  # monotonic; starting failed, and is not tried before
        _open.add(self)

    # -- beginning and end -------------------------------------------------------------------------

    def ensure_started(self) -> None:
        """Start, unless it is started or closed; tried again later if that fails."""
        if self.engine.clock.monotonic() < self._try_at:
            return
        with self.engine.held(), self._lock:  # others wait: no call goes before the stored policy
            if not self._is_started and not self._is_closed:
                self._is_started = True  # first, for a log handler that uses the client
                try:
                    self._connect()
                except Exception as error:  # noqa: BLE001 - no call may fail because of Holdfast
                    self._start_later(error)
                    return
            self.engine.on_use = None

    def _connect(self) -> None:
        if self.settings.problem is not None:
            log.warning("holdfast: %s; working on local defaults", self.settings.problem)
            return
        if self.connection is None:
            self.connection = self._new_connection()
        self.connection.start()

    def _start_later(self, error: Exception) -> None:
        """Leave starting to a later use: most likely the system has no thread left."""
        self._is_started = False
        self.engine.on_use = self.ensure_started
        if not self._hold_off.failures:
            log.warning(
                "holdfast: cannot start (%s: %s); calls go on, and it is tried again",
                type(error).__name__,
                error,
            )
        self._try_at = self.engine.clock.monotonic() + self._hold_off.next()

    def _no_failures(self) -> Backoff:
        return Backoff(self.timing.backoff_seconds, self.timing.backoff_max_seconds)

    def _new_connection(self) -> Connection:
        connection = Connection(
            self.settings,
            self.instance,
            self.engine,
            self.requests,
            self.handlers,
            self.engine.clock,
            self.timing,
        )
        if self._inherited is not None:
            connection.feed.inherit(self._inherited)
        return connection

    def close(self) -> None:
        """Send a last report and stop the threads."""
        connection = self.begin_close()
        if connection is not None:
            connection.end_close(self.timing.close_seconds)

    def begin_close(self) -> Connection | None:
        """Say that it is over; returns the connection that is still to be waited for."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            self.engine.on_use = None
            connection = self.connection
        if was_closed or connection is None:
            return None
        connection.begin_close()
        return connection

    def take(self, call: FailedCall) -> bool:
        """Make a dead letter of a guarded call."""
        letter = running.get()
        if letter is not None and letter.handler == call.handler:
            return False  # it is a dead letter already, and its redrive has just failed
        try:
            capture = call.capture(self.engine.clock.wall())
        except Unserialisable as problem:
            self.say_uncaptured(call.handler, str(problem))
            return False
        return self.capture(capture, call.limits)

    def capture(self, capture: Capture, limits: Limits) -> bool:
        """Keep a letter; False, and said once, if it cannot be kept."""
        self.ensure_started()
        connection = self.connection
        if connection is None:
            self.say_uncaptured(
                capture.handler, self.settings.problem or "the client is not running"
            )
            return False
        applied = connection.feed.applied
        revision = None if applied is None else applied.revision
        return connection.letters.capture(replace(capture, revision=revision), limits)

    def say_uncaptured(self, handler: str, why: str) -> None:
        if not self._has_said_uncaptured:
            self._has_said_uncaptured = True
            log.error("holdfast: dead letters for %s are not captured: %s", handler, why)

    def on_event(self, event: Event) -> None:
        connection = self.connection
        if connection is not None and event.type in _URGENT:
            connection.acknowledge()

    # -- forks -------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        if self.connection is not None:
            self.connection.feed.hold()

    def after_fork_in_parent(self) -> None:
        if self.connection is not None:
            self.connection.feed.release()

    def after_fork_in_child(self) -> None:
        """Another instance, with the parent's policy, and none of its threads, locks and counts."""
        if self.connection is not None:
            self._inherited = self.connection.feed
            self.connection.abandon()
        self.connection = None
        self._lock = threading.RLock()
        self.instance = self.engine.instance = new_instance()
        self.engine.reset_after_fork()
        self.requests = Requests()
        self._is_started = False
        self._hold_off, self._try_at = self._no_failures(), float("-inf")
        self.engine.on_use = None if self._is_closed else self.ensure_started


_URGENT = frozenset({"breaker.state_changed", "recovery.escalated"})
"""Events that are reported at once."""

_open: weakref.WeakSet[Session] = weakref.WeakSet()


def _close_all() -> None:
    """Say goodbye for every client still open, in the time of one: an exit never hangs."""
    closing = [(each, each.begin_close()) for each in list(_open)]
    longest = max((each.timing.close_seconds for each, _ in closing), default=0.0)
    deadline = time.monotonic() + longest
    for _, connection in closing:
        if connection is not None:
            connection.end_close(max(0.0, deadline - time.monotonic()))


def _before_fork() -> None:
    for each in list(_open):
        each.before_fork()


def _after_fork_in_parent() -> None:
    for each in list(_open):
        each.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for each in list(_open):
        each.after_fork_in_child()


atexit.register(_close_all)
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
