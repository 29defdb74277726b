"""Sending what is due, several channels at once: one that hangs delays no other.

A channel is told one thing at a time. An attempt is bounded, and repeated ever more slowly.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.db import connections

from apps.alerts.services import sending
from apps.alerts.services.sending import Claim
from apps.alerts.transports import carry
from apps.core import bus
from apps.core.loops import Loop

log = structlog.get_logger(__name__)

AT_ONCE = 16  # channels of this process that are being told something


class Dispatcher:
    """Takes due messages of the database in turns of `run`, and sends them on threads."""

    def __init__(self) -> None:
        self.loop: Loop | None = None  # that runs it, if one does
        self._busy: set[int] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="holdfast.notify")
        self._listens = False

    def run(self, stopping: threading.Event) -> None:
        """Hand over what is due; never waits for a receiver."""
        if not self._listens and self.loop is not None:
            loop = self.loop
            bus.subscribe("notifications", lambda _news: loop.wake(), on_loop=False)
            self._listens = True
        with self._lock:
            busy = frozenset(self._busy)
        if stopping.is_set() or len(busy) >= AT_ONCE:
            return
        for claim in sending.claim_due(busy=busy, most=AT_ONCE - len(busy)):
            with self._lock:
                self._busy.add(claim.channel_id)
            self._pool.submit(self._send, claim)

    def finish(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(wait=True)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="holdfast.notify")

    def _send(self, claim: Claim) -> None:
        try:
            sending.settle(claim, carry(claim.kind, claim.address, claim.message))
        except Exception as error:
            log.error("notification.unsettled", error=type(error).__name__, exc_info=error)
        finally:
            connections.close_all()
            with self._lock:
                self._busy.discard(claim.channel_id)
            if self.loop is not None:
                self.loop.wake()


current = Dispatcher()
