"""Everything of one process that talks to the control plane: made on first use, and per process."""

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from holdfast._engine import Engine
from holdfast._feed import Feed
from holdfast._letters import Letters, Owner
from holdfast._pace import Pace
from holdfast._poll import Poller
from holdfast._redrive import Handlers, Redriver
from holdfast._report import Identity, Reporter, Requests, utc
from holdfast._resources import Resources
from holdfast._settings import Settings, Timing
from holdfast._snapshot import Keeper, Snapshot
from holdfast._stream import Streamer
from holdfast._transport import Transport
from holdfast._worker import Worker
from holdfast.clock import Clock

log = logging.getLogger("holdfast")


class Connection:
    """Poll, stream, snapshot and reports of one process, on three daemon threads.

    Dead letters have a thread once there is one, and redrives two once there is a handler.
    """

    def __init__(
        self,
        settings: Settings,
        instance: str,
        engine: Engine,
        requests: Requests,
        handlers: Handlers,
        clock: Clock,
        timing: Timing,
    ) -> None:
        self._timing = timing
        self.transport = Transport(settings, instance, clock, timing)
        self.pace = Pace.before_contact(timing)
        self.feed = Feed(engine, clock, self._on_news)
        self.keeper = Keeper(Snapshot(settings, clock), self.feed, clock)
        self.poller = Poller(
            self.transport, self.feed, self.pace, clock, timing, on_polled=self._on_polled
        )
        self.streamer = Streamer(
            self.transport,
            self.feed,
            self.pace,
            clock,
            timing,
            on_health=self._on_stream_health,
            on_gap=self._on_gap,
        )
        self.reporter = Reporter(
            _identity(settings, instance, clock),
            engine,
            requests,
            Resources(clock),
            self.feed,
            self.transport,
            self.pace,
            clock,
            timing,
        )
        self.letters = Letters(settings, self.transport, self.feed, engine.events, clock, timing)
        self.redriver = Redriver(
            settings, handlers, self.transport, Owner(settings, self.feed), clock, timing
        )
        self._polling = Worker("holdfast-poll", self._poll)
        self._streaming = Worker("holdfast-stream", self.streamer.step)
        self._reporting = Worker("holdfast-report", self._report)
        self._is_closing = False
        self._closed = threading.Event()

    def start(self) -> None:
        """Bring the stored policy in force, then start the threads; if that failed, go on.

        Raises:
            RuntimeError: the system has no thread left.
        """
        if self.feed.applied is None and self.keeper.restore():
            self.feed.watch_staleness()
        self._polling.start()
        self._reporting.start()
        self.letters.start()
        self.redriver.start()

    def acknowledge(self) -> None:
        """Report soon."""
        self.reporter.acknowledge()
        self._reporting.wake()

    def wait(self, seconds: float) -> bool:
        """Wait for the first word of the server; True if a policy is in force then."""
        self.feed.settled.wait(seconds)
        return self.feed.applied is not None

    def begin_close(self) -> None:
        """Stop, after a last report and a last look at the disk; does not wait for them."""
        self._is_closing = True
        self._polling.stop()
        self._streaming.stop()
        self.streamer.cut()
        self._reporting.wake()
        self.redriver.begin_close()
        self.letters.begin_close()

    def end_close(self, seconds: float) -> None:
        """Wait for what `begin_close` began, at most `seconds`."""
        deadline = time.monotonic() + seconds
        if self._reporting.is_alive:
            self._closed.wait(seconds)
        self._reporting.stop()
        for worker in (self._reporting, self._polling, self._streaming):
            worker.join(max(0.0, deadline - time.monotonic()))
        self.redriver.end_close(max(0.0, deadline - time.monotonic()))
        self.letters.end_close(max(0.0, deadline - time.monotonic()))
        self.transport.close()

    def abandon(self) -> None:
        """In a child after a fork: let go of what is the parent's."""
        self.letters.abandon()
        self.redriver.abandon()

    @property
    def threads_alive(self) -> dict[str, bool]:
        return {
            "poll": self._polling.is_alive,
            "stream": self._streaming.is_alive,
            "report": self._reporting.is_alive,
        }

    def stats(self) -> Mapping[str, Any]:
        """How the connection is doing, for people and probes."""
        applied = self.feed.applied
        return {
            "epoch": None if applied is None else applied.epoch,
            "revision": None if applied is None else applied.revision,
            "source": _source(self.feed),
            "applied_at": None if applied is None else utc(applied.applied_at),
            "age_seconds": None if applied is None else round(self.feed.silence, 3),
            "stale": self.feed.is_stale,
            "server_stale_seconds": self.pace.server_stale_seconds,
            "streaming": self.poller.is_streaming,
            "polls": self.poller.polls,
            "refused": self.feed.refused(),
            "reports": {
                "accepted": self.reporter.accepted,
                "dropped": self.reporter.dropped,
                "last_dropped": self.reporter.last_dropped,
            },
            "trouble": {
                "poll": self.poller.trouble,
                "stream": self.streamer.trouble,
                "report": self.reporter.trouble,
            },
        }

    def _poll(self) -> float:
        return min(self.poller.step(), self.keeper.step())

    def _report(self) -> float:
        if not self._is_closing:
            return self.reporter.step()
        self.keeper.finish()
        self.reporter.finish()
        self._reporting.stop()
        self._closed.set()
        return 0.0

    def _on_polled(self, is_recovered: bool) -> None:
        """After the first poll a stream is worth opening: it can say what it need not repeat."""
        if self._is_closing:
            return
        if is_recovered and self.streamer.begin_anew():
            self._streaming.wake()
        try:
            self._streaming.start()
        except RuntimeError as error:  # no thread left: polling goes on, and the next one tries
            self.streamer.trouble = str(error)

    def _on_news(self) -> None:
        self.acknowledge()
        self._polling.wake()  # to store it

    def _on_stream_health(self, is_healthy: bool) -> None:
        if self.poller.is_streaming != is_healthy:
            self.poller.is_streaming = is_healthy
            self._polling.wake()

    def _on_gap(self) -> None:
        self.poller.refetch()
        self._polling.wake()


def _source(feed: Feed) -> str:
    if feed.applied is None:
        return "local defaults"
    return "server" if feed.applied.from_server else "snapshot"


def _identity(settings: Settings, instance: str, clock: Clock) -> Identity:
    from holdfast import __version__

    return Identity(
        service=settings.service,
        instance=instance,
        name=f"{socket.gethostname()}:{os.getpid()}",
        sdk=f"holdfast-python/{__version__}",
        started_at=utc(clock.wall()),
    )
