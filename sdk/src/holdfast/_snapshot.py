"""The last good policy on disk, for a start while Holdfast is down. Never the token."""

import contextlib
import hashlib
import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from holdfast._document import Document, Received
from holdfast._feed import Applied, Feed
from holdfast._settings import Settings
from holdfast._transport import MAX_DOCUMENT_BYTES
from holdfast.clock import Clock

log = logging.getLogger("holdfast")

_FORMAT = 2
_MAX_FILE_BYTES = 2 * MAX_DOCUMENT_BYTES
_STORE_GAP_SECONDS = 1.0
_STAMP_GAP_SECONDS = 60.0
_STAMPS_BEFORE_STALE = 5  # so that what was heard a moment before a restart is not stale after it


class SnapshotUnusable(Exception):
    """The file is not a snapshot of ours; the message says why and quotes nothing of it."""


class Stored(msgspec.Struct, frozen=True):
    """A policy as the disk has it.

    Attributes:
        server_time: The server's clock now, as far as the file lets us tell; never earlier than
            when it was written, so that a lease only ever shrinks. UTC timestamp.
        silence: Seconds since the server was last heard; never less than when it was written, so
            that a wall clock set back makes nothing fresh again.
    """

    body: Mapping[str, Any]
    etag: str | None
    server_time: float
    silence: float


class Snapshot:
    """One file per control plane, service and token; atomically replaced, readable by its owner.

    No method raises for what a disk can do: a full one, a read-only one, a file of somebody
    else's. The first trouble of each kind is logged.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._identity = _identity(settings)
        self._warned: set[str] = set()
        self.path = None if settings.cache_dir is None else settings.cache_dir / _name(settings)

    def load(self) -> Stored | None:
        """The stored policy; None if there is none, or none to be trusted."""
        if self.path is None:
            return None
        try:
            return self._read(self.path)
        except FileNotFoundError:
            return None
        except (OSError, SnapshotUnusable) as error:
            self._warn("ignored", error)
            return None

    def save(
        self, body: Mapping[str, Any], etag: str | None, server_time: float, *, silence: float
    ) -> bool:
        """Store the policy in force.

        Args:
            server_time: The server's clock now; UTC timestamp.
            silence: Seconds since the server was last heard.
        """
        if self.path is None:
            return False
        now = self._clock.wall()
        content = msgspec.json.encode(
            {
                "format": _FORMAT,
                "identity": self._identity,
                "saved_at": now,
                "heard_at": now - silence,
                "server_time": server_time,
                "etag": etag,
                "document": body,
            }
        )
        try:
            _replace(self.path, _checksum(content) + b"\n" + content)
        except OSError as error:
            self._warn("not written", error)
            return False
        self._warned.discard("not written")
        return True

    def _read(self, path: Path) -> Stored:
        checksum, _, content = _owned_bytes(path).partition(b"\n")
        if checksum != _checksum(content):
            raise SnapshotUnusable("it is damaged")
        try:
            stored = msgspec.json.decode(content, type=_File)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise SnapshotUnusable("it is of another format") from error
        if stored.format != _FORMAT or stored.identity != self._identity:
            raise SnapshotUnusable("it belongs to another service, server or token")
        away = max(0.0, self._clock.wall() - stored.saved_at)
        silence = max(0.0, stored.saved_at - stored.heard_at) + away
        return Stored(stored.document, stored.etag, stored.server_time + away, silence)

    def _warn(self, what: str, error: Exception) -> None:
        if what not in self._warned:
            self._warned.add(what)
            reason = error.strerror if isinstance(error, OSError) else error
            log.warning("holdfast: snapshot %s %s: %s", self.path, what, reason)


class _File(msgspec.Struct):
    format: int
    identity: str
    saved_at: float
    heard_at: float
    server_time: float
    etag: str | None
    document: dict[str, Any]


def _identity(settings: Settings) -> str:
    """Names the policy this client asks for. The selector tells environments apart: two of them
    may share machine, server and service name, and must not read each other's switches."""
    parts = "\0".join((settings.url, settings.service, settings.selector))
    return hashlib.sha256(parts.encode()).hexdigest()


def _name(settings: Settings) -> str:
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", settings.service)[:60].lstrip(".")
    return f"{readable}-{_identity(settings)[:16]}.json"


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _owned_bytes(path: Path) -> bytes:
    """The file's bytes, if it is a plain file of this user's that no other could have written."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a fifo must not hold us
    descriptor = os.open(path, flags)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SnapshotUnusable("it is not a plain file")
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise SnapshotUnusable("others could have written it")
        if status.st_size > _MAX_FILE_BYTES:
            raise SnapshotUnusable("it is too large")
        return file.read(_MAX_FILE_BYTES)


def _replace(path: Path, content: bytes) -> None:
    """Put a new file in place of the old: whole, or not at all, also when the power fails."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.unlink(temporary)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Keeper:
    """Brings the stored policy in force at the start, and stores what comes in force later."""

    def __init__(self, snapshot: Snapshot, feed: Feed, clock: Clock) -> None:
        self._snapshot = snapshot
        self._feed = feed
        self._clock = clock
        self._stored: Applied | None = None
        self._stored_at = float("-inf")

    def restore(self) -> bool:
        """Put the stored policy in force, if there is one; False if there is none."""
        stored = self._snapshot.load()
        if stored is None:
            return False
        received = Received(
            monotonic=self._clock.monotonic(), server_time=stored.server_time, is_from_disk=True
        )
        is_good = self._feed.restore(
            stored.body, etag=stored.etag, received=received, silence=stored.silence
        )
        if is_good:
            self._stored, self._stored_at = self._feed.applied, received.monotonic
            log.info("holdfast: policy from disk in force, heard of %.0f s ago", stored.silence)
        return is_good

    def step(self) -> float:
        """Store what is new, at most once a second; returns the seconds until it is time again.

        A policy with leases, or with flags that end when nothing is heard, is stamped anew every
        minute: a wall clock set back later must not give a lease more time than it had, and a
        restart must neither forget a long silence nor take a short one for a long one.
        """
        applied, now = self._feed.applied, self._clock.monotonic()
        if applied is None:
            return float("inf")
        left = self._stored_at + self._gap(applied) - now
        if left > 0:
            return left
        self._store(applied)
        return self._gap(applied)

    def finish(self) -> None:
        """Store what has not been stored yet, and how long ago the server was heard."""
        applied = self._feed.applied
        if applied is not None and (applied is not self._stored or _is_timed(applied.document)):
            self._store(applied)

    def _store(self, applied: Applied) -> None:
        is_news = applied.from_server and applied is not self._stored
        self._stored, self._stored_at = applied, self._clock.monotonic()
        if not is_news and self._is_overtaken(applied):
            return
        elapsed = self._stored_at - applied.received.monotonic
        server_time = applied.received.server_time + elapsed
        body = _storable(applied.document)
        self._snapshot.save(body, applied.etag, server_time, silence=self._feed.silence)

    def _is_overtaken(self, applied: Applied) -> bool:
        """Whether another process of this service has stored what we have not heard of."""
        found = self._snapshot.load()
        meta = {} if found is None else found.body.get("meta")
        if not meta or not isinstance(meta, Mapping):
            return False
        revision = meta.get("revision")
        is_newer = isinstance(revision, int) and revision > applied.revision
        return is_newer or meta.get("epoch") != applied.epoch

    def _gap(self, applied: Applied) -> float:
        if applied is not self._stored:
            return _STORE_GAP_SECONDS
        if not _is_timed(applied.document):
            return float("inf")
        often = applied.document.stale_after_seconds / _STAMPS_BEFORE_STALE
        return min(_STAMP_GAP_SECONDS, max(_STORE_GAP_SECONDS, often))


def _storable(document: Document) -> Mapping[str, Any]:
    """The body; with what the last good document had in place of what this one had refused."""
    if not document.refused:
        return document.body
    kept = {"flags": document.flags, "dependencies": document.dependencies}
    return {**document.body, **kept}


def _is_timed(document: Document) -> bool:
    """Whether anything in it ends by itself: at the end of a lease, or of hearing of it."""
    overrides = [parts.get("override", {}) for parts in document.dependencies.values()]
    return any(
        entry.get("expires_at") is not None or entry.get("on_stale") == "revert"
        for entry in [*document.flags.values(), *overrides]
    )
