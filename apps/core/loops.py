"""Background loops of a web process: supervised threads that restart, and tell their age."""

import threading
import time
from collections.abc import Callable

import structlog
from django.db import close_old_connections, connections

log = structlog.get_logger(__name__)

Body = Callable[[threading.Event], None]
RESTART_SECONDS = 1.0
STOP_SECONDS = 5.0
FINISH_SECONDS = 20.0  # for what has something to write down; less than orchestrators wait


class Loop:
    """A named thread that runs `body` again and again until it is stopped.

    A body that raises is logged and started again after a second, so one bad round (a lost
    database, a bug) never ends the loop. `age` is the time since the last round that ended well.
    """

    def __init__(
        self,
        name: str,
        body: Body,
        *,
        every: float,
        finishes: bool = False,
        keeps_connection: bool = False,
    ) -> None:
        self.name = name
        self.every = every  # seconds between rounds
        self.finishes = finishes  # one more round when it is told to stop
        self.keeps_connection = keeps_connection  # to the database, from one round to the next
        self._body = body
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._finished_at = time.monotonic()
        self._is_failing = False
        self.restarts = 0

    @property
    def age(self) -> float:
        """Seconds since a round last ended well."""
        return time.monotonic() - self._finished_at

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=f"holdfast.{self.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Run the next round now instead of at its time, unless the last one failed."""
        self._woken.set()

    def stop(self, timeout: float | None = None) -> None:
        """Ask the loop to end and wait for it, `timeout` seconds at most; longer if it finishes."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            usual = FINISH_SECONDS if self.finishes else STOP_SECONDS
            self._thread.join(usual if timeout is None else timeout)
            if self._thread.is_alive():
                log.warning("loop.abandoned", loop=self.name)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._round():
                self._woken.wait(self.every)
            else:  # news does not hurry it: with the database away, each would be one more failure
                self._stopping.wait(RESTART_SECONDS)
            self._woken.clear()
        if self.finishes:
            self._round()
        connections.close_all()

    def _round(self) -> bool:
        try:
            self._body(self._stopping)
        except Exception as error:  # noqa: BLE001 – logged; the loop outlives what its body does
            self._failed(error)
            connections.close_all()  # whatever is wrong with them, the next round gets new ones
            return False
        if not self.keeps_connection:
            close_old_connections()
        self._is_failing = False
        self._finished_at = time.monotonic()
        return True

    def _failed(self, error: Exception) -> None:
        """Log where it failed; while it goes on failing, only that it does."""
        self.restarts += 1
        log.error(
            "loop.failed",
            loop=self.name,
            restarts=self.restarts,
            error=type(error).__name__,
            exc_info=None if self._is_failing else error,
        )
        self._is_failing = True


_registered: list[Loop] = []


def register(
    name: str, body: Body, *, every: float, finishes: bool = False, keeps_connection: bool = False
) -> Loop:
    """Have every web process run `body` every `every` seconds; called from `AppConfig.ready`.

    With `finishes` it runs once more when the process stops, to write down what is left. One that
    must be quick `keeps_connection` to the database open.
    """
    loop = Loop(name, body, every=every, finishes=finishes, keeps_connection=keeps_connection)
    _registered.append(loop)
    return loop


def start_all() -> None:
    for loop in _registered:
        loop.start()


def stop_all() -> None:
    for loop in _registered:
        loop.stop()


def registered() -> tuple[Loop, ...]:
    """Every loop of this process, in the order they start."""
    return tuple(_registered)
