"""Handing records in at the control plane: kept until it has said that it has them."""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from holdfast._pace import Backoff, retry_after
from holdfast._poll import REFUSALS
from holdfast._settings import Timing
from holdfast._spool import SEGMENT_RECORDS, Label, Spool
from holdfast._transport import Answer, TransportFailed
from holdfast.clock import Clock

log = logging.getLogger("holdfast")

_MOST_BATCH_BYTES = 7 * 1024 * 1024  # the server takes 8 MiB
_MOST_IN_MEMORY = 1_000  # records, while the disk refuses
_MOST_MEMORY_BYTES = 16 * 1024 * 1024
_SYNC_GAP_SECONDS = 1.0
_UNFIT = frozenset({400, 413, 422})

Verdicts = Sequence[Any]
"""What the server said of each record of a batch, in their order."""


class Outbox:
    """Take records from any thread, and deliver them from one, in batches, oldest first.

    A batch is repeated until the server answers for it; what it answers for is forgotten then, and
    not before: a process that dies in between leaves records that arrive twice, which the server
    can tell by their keys.

    Args:
        what: In words, for logs.
        spool: None where there is no directory to keep anything in.
        post: Sends a batch: records, with commas between them.
        settle: Told of every record the server answered for, with its answer.
        refuse: Told of a record that the server cannot take, whatever its neighbours are.
        may_adopt: Whose records of dead processes are ours to deliver.

    Attributes:
        trouble: Why the last batch was not taken; None if it was.
        accepted: Records the server answered for.
        dropped: Records that could be kept nowhere.
    """

    def __init__(
        self,
        what: str,
        spool: Spool | None,
        post: Callable[[bytes], Answer],
        settle: Callable[[bytes, Any], None],
        refuse: Callable[[bytes, str], None],
        may_adopt: Label,
        clock: Clock,
        timing: Timing,
    ) -> None:
        self._what = what
        self._spool = spool
        self._post = post
        self._settle = settle
        self._refuse = refuse
        self._may_adopt = may_adopt
        self._clock = clock
        self._timing = timing
        self._backoff = Backoff(timing.backoff_seconds, timing.backoff_max_seconds)
        self._lock = threading.Lock()
        self._unsaved: deque[bytes] = deque()
        self._unsaved_bytes = 0
        self._pending: deque[bytes] = deque()  # this and the following: the worker's thread only
        self._segment: Path | None = None
        self._most_items = SEGMENT_RECORDS
        self._due_at = float("-inf")
        self._adopt_at = float("-inf")
        self._synced_at = float("-inf")
        self._disk_trouble: str | None = None
        self.trouble: str | None = None
        self.accepted = 0
        self.dropped = 0

    def put(self, record: bytes) -> bool:
        """Keep a record, on disk or else in memory; False if there is no room in either.

        Waits for a short local write at most.
        """
        try:
            if self._spool is not None and not self._unsaved:  # those came first
                self._spool.append(record)
                return True
        except OSError as error:
            self._note_disk(error)
        return self._remember(record)

    def step(self) -> float:
        """Do what is due; returns the seconds until something is again."""
        self._look_after_disk()
        now = self._clock.monotonic()
        is_idle = self._due_at == float("inf")
        if self._due_at <= now or (is_idle and not self.is_empty):
            self._due_at = now + self._send()
        until = min(self._due_at, self._adopt_at, self._sync_at())
        return max(0.0, until - self._clock.monotonic())

    def flush(self) -> bool:
        """Deliver all there is, unless the server is in trouble; True if nothing is left."""
        while not self.is_empty and (self.step() == 0.0 or self.trouble is None):
            pass
        return self.is_empty

    def finish(self) -> None:
        """One last attempt; then everything left is on disk for the next process."""
        if self.trouble is None:
            self._due_at = float("-inf")
            self._send()
        self._look_after_disk()

    def close(self, *, in_child: bool = False) -> None:
        """Leave what is on disk to others."""
        if self._unsaved and not in_child:
            log.error("holdfast: %d %s in memory are lost", len(self._unsaved), self._what)
        if self._spool is not None:
            self._spool.close(in_child=in_child)

    @property
    def is_empty(self) -> bool:
        """Whether the server has answered for everything."""
        on_disk = self._spool is not None and not self._spool.is_empty
        return not (self._pending or self._unsaved or on_disk)

    def stats(self) -> dict[str, Any]:
        """How it is doing, for people and probes."""
        return {
            "accepted": self.accepted,
            "dropped": self.dropped,
            "damaged": 0 if self._spool is None else self._spool.damaged,
            "bytes_on_disk": 0 if self._spool is None else self._spool.size,
            "in_memory": len(self._unsaved),
            "trouble": self.trouble,
        }

    # -- keeping -----------------------------------------------------------------------------------

    def _remember(self, record: bytes) -> bool:
        with self._lock:
            is_full = (
                len(self._unsaved) >= _MOST_IN_MEMORY
                or self._unsaved_bytes + len(record) > _MOST_MEMORY_BYTES
            )
            if not is_full:
                self._unsaved.append(record)
                self._unsaved_bytes += len(record)
                return True
            self.dropped += 1
            is_first = self.dropped == 1
        if is_first:
            log.error("holdfast: no room left for %s; the first was dropped", self._what)
        return False

    def _look_after_disk(self) -> None:
        if self._spool is None:
            return
        self._save_unsaved()
        now = self._clock.monotonic()
        if self._sync_at() <= now:
            self._synced_at = now
            with self._disk_noted():
                self._spool.sync()
        if self._adopt_at <= now:
            self._adopt_at = now + self._timing.adopt_seconds
            with self._disk_noted():
                if self._spool.adopt(self._may_adopt):
                    log.info("holdfast: %s of a process that is gone were found", self._what)

    def _sync_at(self) -> float:
        is_clean = self._spool is None or not self._spool.is_unsynced
        return float("inf") if is_clean else self._synced_at + _SYNC_GAP_SECONDS

    def _save_unsaved(self) -> None:
        """Bring what the disk refused to the disk, once it no longer does."""
        with self._disk_noted():
            while self._spool is not None and self._unsaved:
                self._spool.append(self._unsaved[0])
                self._forget_first()
            self._disk_trouble = None

    def _forget_first(self) -> bytes:
        with self._lock:
            record = self._unsaved.popleft()
            self._unsaved_bytes -= len(record)
            return record

    @contextlib.contextmanager
    def _disk_noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._note_disk(error)

    def _note_disk(self, error: OSError) -> None:
        told = error.strerror or str(error)
        if told != self._disk_trouble:
            self._disk_trouble = told
            log.warning("holdfast: %s are kept in memory only (%s)", self._what, told)

    # -- sending -----------------------------------------------------------------------------------

    def _send(self) -> float:
        """Send a batch if there is one; returns the seconds until the next attempt."""
        batch = self._next_batch()
        if not batch:
            return float("inf") if self.is_empty else 0.0
        try:
            answer = self._post(b",".join(batch))
        except TransportFailed as failure:
            return self._failed(failure.kind)
        return self._judge(answer, batch)

    def _judge(self, answer: Answer, batch: list[bytes]) -> float:
        if 200 <= answer.status < 300:
            return self._answered(answer, batch)
        if answer.status in _UNFIT:
            return self._unfit(answer, batch)
        if answer.status in REFUSALS:
            self._note(answer.said)
            return self._timing.refused_seconds
        return self._failed(str(answer.status), at_least=retry_after(answer.headers))

    def _answered(self, answer: Answer, batch: list[bytes]) -> float:
        verdicts = _verdicts(answer.body)
        if len(verdicts) != len(batch):
            return self._failed("an answer of another kind")
        for record, verdict in zip(batch, verdicts, strict=True):
            self._settle(record, verdict)
        self.accepted += len(batch)
        self._backoff.reset()
        self._most_items = SEGMENT_RECORDS
        self._note(None)
        self._done(len(batch))
        return 0.0

    def _unfit(self, answer: Answer, batch: list[bytes]) -> float:
        """Too large, or one of them breaks the envelope: halve it until that one is alone."""
        if len(batch) > 1:
            self._most_items = len(batch) // 2
            return 0.0
        self._refuse(batch[0], str(answer.status))
        self._done(1)
        return 0.0

    def _failed(self, kind: str, *, at_least: float = 0.0) -> float:
        self._note(kind)
        return self._backoff.next(at_least=at_least)

    def _note(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble is None:
            log.info("holdfast: %s are accepted again", self._what)
        else:
            log.warning("holdfast: %s not accepted (%s); they are kept", self._what, trouble)

    def _next_batch(self) -> list[bytes]:
        if not self._pending:
            self._load()
        batch: list[bytes] = []
        size = 0
        for record in self._pending:
            size += len(record) + 1
            if len(batch) >= self._most_items or (batch and size > _MOST_BATCH_BYTES):
                break
            batch.append(record)
        return batch

    def _load(self) -> None:
        while self._spool is not None and not self._pending:
            self._segment = self._spool.oldest()
            if self._segment is None:
                break
            self._pending.extend(self._records_of(self._spool, self._segment))
        if not self._pending:
            self._segment = None
            for _ in range(min(len(self._unsaved), SEGMENT_RECORDS)):
                self._pending.append(self._forget_first())

    def _records_of(self, spool: Spool, segment: Path) -> list[bytes]:
        damaged = spool.damaged
        try:
            records = spool.read(segment)
        except OSError as error:
            log.error("holdfast: kept %s cannot be read (%s)", self._what, error.strerror)
            spool.pass_over(segment)
            return []
        if spool.damaged != damaged:
            count = spool.damaged - damaged
            log.warning("holdfast: %d of the kept %s were torn, and are lost", count, self._what)
        if not records:
            spool.remove(segment)
        return records

    def _done(self, count: int) -> None:
        for _ in range(count):
            self._pending.popleft()
        if not self._pending and self._segment is not None and self._spool is not None:
            self._spool.remove(self._segment)
            self._segment = None


def _verdicts(body: bytes) -> Verdicts:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return ()
    items = decoded.get("items") if isinstance(decoded, dict) else None
    return items if isinstance(items, list) else ()
