"""The event loop on which every probe runs, in a thread of its own, and its hard deadline."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from django.utils.translation import gettext as _

from apps.health.probes import PROBES
from apps.health.probes.outcomes import Outcome, Refused, failed, named
from apps.health.targets import Target

log = structlog.get_logger(__name__)

MOST_LOOKUPS = 16  # names resolved at once; a resolver that hangs takes a thread each
T = TypeVar("T")


class Prober:
    """Runs coroutines elsewhere, each with a deadline after which nobody waits for it.

    Its thread starts with the first one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._abandoned: set[asyncio.Task[Any]] = set()

    def submit(self, target: Target, *, after: float = 0.0) -> "Future[Outcome]":
        """Probe, in `after` seconds; the future holds an outcome within the target's timeout from
        then on, and no exception.
        """
        return self._start(self._outcome_of(target, after))

    def ask(self, work: Callable[[], Awaitable[Outcome]], *, within: float) -> "Future[Outcome]":
        """The same for something of our own, with `within` seconds."""
        return self._start(self._bounded(work, within))

    def _start(self, work: Any) -> "Future[Outcome]":
        with self._lock:
            if self._loop is None:
                self._loop = _new_loop()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _outcome_of(self, target: Target, after: float) -> Outcome:
        if after > 0:
            await asyncio.sleep(after)
        return await self._bounded(lambda: PROBES[target.kind](target), target.timeout)

    async def _bounded(self, work: Callable[[], Awaitable[Outcome]], within: float) -> Outcome:
        """What came of it. One that does not end is cancelled, and not waited for."""
        task = asyncio.ensure_future(work())
        done, _pending = await asyncio.wait({task}, timeout=within)
        if not done:
            task.cancel()
            self._abandoned.add(task)
            task.add_done_callback(self._bury)
            return failed(_("no answer within %g s") % within)
        if (error := task.exception()) is not None:
            if not isinstance(error, Refused | OSError):  # no fault of the server that was asked
                log.warning("probe.failed", error=type(error).__name__)
            return failed(named(error))
        return task.result()

    def _bury(self, task: "asyncio.Task[Any]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that it is not reported as lost


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(MOST_LOOKUPS, thread_name_prefix="holdfast.probe"))
    threading.Thread(target=loop.run_forever, name="holdfast.prober", daemon=True).start()
    return loop


current = Prober()
