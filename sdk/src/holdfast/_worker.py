"""Background threads that neither die of an error nor keep the process alive."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("holdfast")

_AFTER_ERROR_SECONDS = 5.0


class Worker:
    """A daemon thread that calls `step`, waits as long as it says, and calls it again.

    Args:
        step: Does what is due and returns the seconds until something is due again.
            It must stand being called early: `wake` cuts the wait short.
    """

    def __init__(self, name: str, step: Callable[[], float]) -> None:
        self._name = name
        self._step = step
        self._woken = threading.Event()
        self._is_stopping = False
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, unless it was started before.

        Raises:
            RuntimeError: the system has no thread left; it may be tried again.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
            self._thread = thread

    def wake(self) -> None:
        """Call `step` now, or once more if it runs."""
        self._woken.set()

    def stop(self) -> None:
        """End after the current step; does not wait for it."""
        self._is_stopping = True
        self._woken.set()

    def join(self, seconds: float) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        while not self._is_stopping:
            self._woken.clear()
            seconds = self._guarded_step()
            if seconds > 0:
                self._woken.wait(min(seconds, threading.TIMEOUT_MAX))

    def _guarded_step(self) -> float:
        try:
            return self._step()
        except Exception:  # the edge of a thread: an error here must not end it
            if not self._is_stopping:  # else the connection was closed under it
                log.exception("holdfast: %s failed; it goes on", self._name)
            return _AFTER_ERROR_SECONDS
