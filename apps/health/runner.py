"""Runs the checks that are due: a loop of every web process, embedded and distributed alike.

A web process and not a Celery task, because a check must tell that the broker is gone without going
through it, and because a task that waits for a hung server would hold up a worker. Several
processes share the checks by claiming them; see `services.runs`.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict

from apps.core import bus, clock, loops
from apps.health import prober, services
from apps.health.lookout import Lookout, Sight
from apps.health.probes import host
from apps.health.probes.outcomes import Outcome, failed
from apps.health.services.checks import UNOPENED

ROUND_SECONDS = 1.0
AHEAD_SECONDS = 1.5  # claimed so long before they are due, to start at the instant itself
GATHER_SECONDS = 0.25  # what ends within it is written down together
MOST_AT_ONCE = 512  # runs of one process, nearly all of which wait for a server
MOST_A_ROUND = 50  # begun together, if many are overdue
SPACING_SECONDS = 0.005  # between those, so that they do not distort each other's latency
TELL_SECONDS = 5.0  # between two words of a prober that is cut off
HOST_SECONDS = 15.0  # between two measurements of the host
NAME = f"prober {socket.gethostname()[:90]}:{os.getpid()}"


class Runner:
    """Claims what is due, has it probed elsewhere, and writes down what came of it."""

    def __init__(self, probing: prober.Prober, *, wake: Callable[[], None] | None = None) -> None:
        self._prober = probing
        self._running: dict[Future[Outcome], services.Claimed] = {}
        self._lookout = Lookout()
        self._told_at: float | None = None  # that it is cut off, by the monotonic clock
        self._told: Sight | None = None  # of what it is cut off
        self._cut_off_since = clock.now()
        self.wake = wake or (lambda: None)  # called when there is something to write down

    @property
    def under_way(self) -> int:
        return len(self._running)

    def round(self, stopping: threading.Event) -> None:
        """Write down what has ended, and begin what is due. Waits for no server."""
        if self._running:
            stopping.wait(GATHER_SECONDS)
        self.finish()
        if not stopping.is_set():
            self.begin()

    def begin(self) -> None:
        room = min(MOST_A_ROUND, MOST_AT_ONCE - len(self._running))
        due = services.claim_due(room, ahead=AHEAD_SECONDS)
        for number, claimed in enumerate(due):
            self._begin_one(claimed, at_least=number * SPACING_SECONDS)
        if len(due) == MOST_A_ROUND:  # there may be more
            self.wake()

    def _begin_one(self, claimed: services.Claimed, *, at_least: float) -> None:
        if claimed.target is None:
            services.record(claimed, failed(str(UNOPENED)))
            return
        until_due = (claimed.due_at - clock.now()).total_seconds()
        future = self._prober.submit(claimed.target, after=max(until_due, at_least))
        self._running[future] = claimed
        future.add_done_callback(lambda _done: self.wake())

    def finish(self) -> None:
        """What is not written down because the database is away is run again after its lease."""
        ended = [each for each in self._running if each.done()]
        runs = [(self._running.pop(each), each.result()) for each in ended]
        if runs:
            services.record_all(runs, self._lookout)
        self._tell()

    def _tell(self) -> None:
        """Say that this process is cut off, again and again, and once that it no longer is."""
        self._lookout.look_again()
        now = time.monotonic()
        if not self._lookout.is_cut_off:
            if self._told_at is not None:
                services.end_pulse(NAME)
                self._told_at = None
            return
        if self._told_at is None:
            self._cut_off_since = clock.now()
        sight = self._lookout.sight()
        if self._told_at is None or sight != self._told or now - self._told_at >= TELL_SECONDS:
            since = self._cut_off_since.isoformat()
            services.take_pulse(NAME, since=since, **asdict(sight))
            self._told_at, self._told = now, sight


def measure_host(stopping: threading.Event) -> None:
    """Note how this machine is."""
    measures = host.meter.read(host.LOOK_SECONDS)
    services.take_pulse(f"host {socket.gethostname()[:100]}", **asdict(measures))


current = Runner(prober.current)
started_at = time.monotonic()


def register() -> None:
    """Have web processes run the checks; called once, when apps are ready."""
    loop = loops.register(
        "health.checks", current.round, every=ROUND_SECONDS, keeps_connection=True
    )
    current.wake = loop.wake
    bus.subscribe("health", lambda data: loop.wake(), on_loop=False)  # a new check runs at once
    loops.register("health.host", measure_host, every=HOST_SECONDS)
