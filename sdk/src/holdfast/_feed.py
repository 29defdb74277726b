"""Which document is in force: the one place that decides, whatever arrives in whatever order."""

import enum
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from holdfast import _document
from holdfast._document import Document, Received
from holdfast.clock import Clock
from holdfast.errors import BadDocument

_LONGEST_DETAIL = 200
_HOLD_SECONDS = 1.0


class PolicySink(Protocol):
    """What the engine offers the feed."""

    def apply(self, document: Document, received: Received) -> None: ...

    def set_stale(self, stale: bool) -> None: ...

    def held(self) -> AbstractContextManager[None]:
        """Put off what listeners are told until the end."""


class Verdict(enum.Enum):
    """What became of an offered document."""

    APPLIED = "applied"
    SAME = "same"  # already in force
    OLD = "old"  # older than the one in force: never go back
    REFETCH = "refetch"  # cannot be judged or joined: ask for the whole document
    BAD = "bad"  # not a document


class Applied(msgspec.Struct, frozen=True):
    """The document in force. Never changed, only replaced.

    Attributes:
        adopted_at: When it came into force; monotonic seconds.
        applied_at: The same on the wall clock; UTC timestamp.
        from_server: False while it is known from the disk only.
    """

    document: Document
    etag: str | None
    received: Received
    adopted_at: float
    applied_at: float
    from_server: bool

    @property
    def epoch(self) -> str:
        return self.document.epoch

    @property
    def revision(self) -> int:
        return self.document.revision


class Change(msgspec.Struct, frozen=True):
    """A `changed` event: whole new members for a document at `base`."""

    epoch: str
    revision: int
    base: int
    etag: str | None
    published_at: str | None
    members: Mapping[str, Any]


class Feed:
    """Order what poll, stream and disk deliver, and hand the newest to the engine.

    Within one epoch the revision never falls. Another epoch is always followed, but only on the
    word of an answer that was asked for after the document in force was adopted: an answer older
    than that may come from the epoch just left. Safe to use from several threads. Listeners are
    told, in order, once the lock is released and the news passed on: one that is slow holds up
    nobody but the thread that brought the document.

    Args:
        on_news: Called, outside the lock, after a document was applied or refused.
    """

    def __init__(self, engine: PolicySink, clock: Clock, on_news: Callable[[], None]) -> None:
        self._engine = engine
        self._clock = clock
        self._on_news = on_news
        self._lock = threading.Lock()
        self._heard_at = clock.monotonic()
        self._is_stale = False
        self._is_held = False
        self._is_behind = False  # something newer exists, and we do not have it yet
        self._bad: dict[str, Any] | None = None
        self._told: dict[str, Any] | None = None  # the bad document already passed on
        self.applied: Applied | None = None
        self.settled = threading.Event()  # a server's document, or word that there is none for us

    def offer(
        self, raw: bytes | str, *, etag: str | None, asked_at: float, received: Received
    ) -> Verdict:
        """Judge a whole document, and put it in force if it is news."""
        body = raw.encode() if isinstance(raw, str) else raw
        with self._engine.held():
            with self._lock:
                document = self._parsed(body)
                verdict = self._judge(document, asked_at)
                if document is not None and verdict is Verdict.APPLIED:
                    self._adopt(document, etag, received)
                elif verdict is Verdict.SAME and etag is not None and self.applied is not None:
                    # The stream's documents come without a validator; the poll brings it.
                    self.applied = msgspec.structs.replace(self.applied, etag=etag)
            return self._conclude(verdict)

    def offer_change(self, change: Change, *, received: Received) -> Verdict:
        """Join changed members onto the document in force, if it is the one they build on."""
        with self._engine.held():
            with self._lock:
                verdict = self._judge_change(change)
                if verdict is Verdict.APPLIED and self.applied is not None:
                    document = self._parsed(_joined(self.applied.document.body, change))
                    if document is None:
                        verdict = Verdict.BAD
                    else:
                        self._adopt(document, change.etag, received)
            return self._conclude(verdict)

    def restore(
        self, body: Mapping[str, Any], *, etag: str | None, received: Received, silence: float
    ) -> bool:
        """Put a document from the disk in force, last heard of `silence` seconds ago."""
        with self._engine.held(), self._lock:
            document = self._parsed(body) if self.applied is None else None
            self._bad = None  # what the disk holds is not the server's doing
            if document is None:
                return False
            self._adopt(document, etag, received, from_server=False)
            self._heard_at = self._clock.monotonic() - silence
            return True

    def inherit(self, parent: "Feed") -> None:
        """Go on from where a parent process stood; our engine runs its policy already."""
        self.applied = parent.applied
        self._heard_at, self._is_stale = parent._heard_at, parent._is_stale

    def hold(self) -> None:
        """Keep the policy still while the process forks: no child gets half a change.

        Gives up after a second, should the forking thread itself be in the middle of one.
        """
        self._is_held = self._lock.acquire(timeout=_HOLD_SECONDS)

    def release(self) -> None:
        """In the parent, after the fork."""
        if self._is_held:
            self._is_held = False
            self._lock.release()

    def heard(self) -> None:
        """Note contact. It does not count while we know of something newer than what we run."""
        with self._lock:
            if not self._is_behind:
                self._hear()

    def confirm(self) -> None:
        """Note that the server calls the document in force the current one."""
        self._conclude(Verdict.SAME)

    def give_up_waiting(self) -> None:
        """Let those who wait for a first policy go on: the server will not give us one now."""
        self.settled.set()

    def watch_staleness(self) -> float:
        """Tell the engine once contact has been missing for too long.

        Returns:
            Seconds until that happens; infinite if it has, or if there is nothing to get stale.
        """
        with self._lock:
            if self.applied is None or self._is_stale:
                return float("inf")
            stale_at = self._heard_at + self.applied.document.stale_after_seconds
            left = stale_at - self._clock.monotonic()
            if left > 0:
                return left
            self._is_stale = True
            self._engine.set_stale(True)
            return float("inf")

    @property
    def is_stale(self) -> bool:
        return self._is_stale

    @property
    def silence(self) -> float:
        """Seconds since the policy in force was last confirmed."""
        return self._clock.monotonic() - self._heard_at

    @property
    def event_id(self) -> str | None:
        """The stream position to resume from; None unless the server itself gave it to us."""
        applied = self.applied
        if applied is None or not applied.from_server:
            return None
        return f"{applied.epoch}:{applied.revision}"

    @property
    def etag(self) -> str | None:
        """The validator for the next poll. None for a document from disk: its leases are inexact,
        and only the whole document renews them."""
        applied = self.applied
        return applied.etag if applied is not None and applied.from_server else None

    def refused(self) -> list[dict[str, Any]]:
        """What could not be applied, as reports say it."""
        applied, bad = self.applied, self._bad
        entries = [] if applied is None else list(applied.document.refused)
        return [*entries, bad] if bad is not None else entries

    def _parsed(self, body: bytes | Mapping[str, Any]) -> Document | None:
        previous = self.applied.document if self.applied is not None else None
        try:
            return _document.parse(body, previous)
        except BadDocument as error:
            detail = error.detail[:_LONGEST_DETAIL]
            self._bad = {"path": "", "revision": 0, "code": error.code, "detail": detail}
            return None

    def _judge(self, document: Document | None, asked_at: float) -> Verdict:
        now = self.applied
        if document is None:
            return Verdict.BAD
        if now is None:
            return Verdict.APPLIED
        if document.epoch != now.epoch:
            return Verdict.APPLIED if asked_at >= now.adopted_at else Verdict.REFETCH
        if document.revision == now.revision:
            return Verdict.SAME if now.from_server else Verdict.APPLIED
        return Verdict.APPLIED if document.revision > now.revision else Verdict.OLD

    def _judge_change(self, change: Change) -> Verdict:
        now = self.applied
        if now is None or not now.from_server or change.epoch != now.epoch:
            return Verdict.REFETCH
        if change.revision <= now.revision:
            return Verdict.OLD
        return Verdict.APPLIED if change.base == now.revision else Verdict.REFETCH

    def _adopt(
        self, document: Document, etag: str | None, received: Received, *, from_server: bool = True
    ) -> None:
        self._engine.apply(document, received)
        self.applied = Applied(
            document=document,
            etag=etag,
            received=received,
            adopted_at=self._clock.monotonic(),
            applied_at=self._clock.wall(),
            from_server=from_server,
        )

    def _conclude(self, verdict: Verdict) -> Verdict:
        with self._lock:
            if verdict in {Verdict.APPLIED, Verdict.SAME}:
                self._is_behind = False
                self._bad = None
                self._hear()
                self.settled.set()
            elif verdict is Verdict.REFETCH:
                self._is_behind = True
            is_news = verdict is Verdict.APPLIED or self._bad != self._told
            self._told = self._bad
        if is_news:
            self._on_news()
        return verdict

    def _hear(self) -> None:
        self._heard_at = self._clock.monotonic()
        if self._is_stale:
            self._is_stale = False
            self._engine.set_stale(False)


def _joined(body: Mapping[str, Any], change: Change) -> Mapping[str, Any]:
    meta = {**body["meta"], "revision": change.revision}
    if change.published_at is not None:
        meta["published_at"] = change.published_at
    return {**body, **change.members, "meta": meta}
